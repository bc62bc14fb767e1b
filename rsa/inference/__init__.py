"""Tests of scores: over participants, by bootstrap, and by exchanging sounds."""
