"""What a study computes, one module a stage."""
