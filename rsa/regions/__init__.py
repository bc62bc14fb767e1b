"""Regions of interest: label images, masks, and spheres at coordinates."""
