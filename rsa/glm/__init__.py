"""From BOLD time series and events to betas: designs, drifts, noise models and estimators."""
