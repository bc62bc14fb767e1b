"""Relate class activation maps to words and to voicing."""
