"""Compute the stages of a study, with one module per stage."""
