"""Activations of every layer: extraction, stores on disk, reduction and acoustic baselines."""
