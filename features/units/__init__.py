"""What single units respond to: filters, tuning, exemplars, nearest sounds and embeddings."""
