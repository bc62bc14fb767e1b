"""Find the inputs of a study: runs, BIDS names, and the output of fMRIPrep, afni_proc.py and SPM."""
