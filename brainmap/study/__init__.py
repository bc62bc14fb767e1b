"""Run a study from its study file to its results and page."""
