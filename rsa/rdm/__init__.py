"""Representational dissimilarity matrices: how patterns, layers and hypotheses become RDMs, and their files."""
