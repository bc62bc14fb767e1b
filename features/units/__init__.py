"""Describe the responses of single units: filters, tuning, exemplars, nearest sounds and embeddings."""
