"""Figures of RDMs, scores and brain maps."""
