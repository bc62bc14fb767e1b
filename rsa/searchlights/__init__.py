"""Compute searchlight maps in volumes and on surfaces, with noise normalization and noise ceilings."""
