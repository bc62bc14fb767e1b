"""Whether a map can be believed: deletion curves, randomized weights and localization."""
