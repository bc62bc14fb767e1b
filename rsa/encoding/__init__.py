"""Predict voxels from features by ridge regression: folds, scores, noise correction, tests, bands and CKA."""
