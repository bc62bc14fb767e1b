"""Simulated data with a known answer: participants, BOLD, RDMs, power and recovery."""
