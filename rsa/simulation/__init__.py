"""Simulate data with a known ground truth: participants, BOLD, RDMs, power and recovery."""
