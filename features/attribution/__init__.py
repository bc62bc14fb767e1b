"""Explain logits by the samples of a sound: class activation maps, gradients, LRP, LIME and occlusion."""
