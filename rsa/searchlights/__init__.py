"""Spheres and discs against every model in one pass, with their noise and their ceilings."""
