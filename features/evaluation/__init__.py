"""Evaluate the faithfulness of maps by deletion curves, randomized weights and localization."""
