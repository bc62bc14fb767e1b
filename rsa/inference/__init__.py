"""Test scores over participants, by bootstrap, and by permuting the stimuli."""
