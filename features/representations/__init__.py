"""Patterns and maps as features: explanations as representations, and their files."""
