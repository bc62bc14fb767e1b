"""Figures of what a network hears."""
