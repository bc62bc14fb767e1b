"""What lies in a folder of files: runs, BIDS names, and the output of fMRIPrep and afni_proc.py."""
