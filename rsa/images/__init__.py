"""Images in and out: NIfTI and AFNI files, their grids, their sub-bricks and their labels."""
