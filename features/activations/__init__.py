"""Extract the activations of layers, store them on disk, reduce them, and compute acoustic baselines."""
