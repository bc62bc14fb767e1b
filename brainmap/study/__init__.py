"""A study file in, results and a page out."""
