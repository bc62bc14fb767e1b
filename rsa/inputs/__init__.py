"""Find the inputs of a study: runs, BIDS names, and the output of fMRIPrep and afni_proc.py."""
