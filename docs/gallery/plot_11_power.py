"""
Power, and the choice of sounds for the next experiment
=======================================================

A pilot says how reliable a region is. How many participants does it take to tell two layers apart in it, and which
sounds are the best for that?
"""

import numpy as np
import pandas as pd

from brainmap import data, features, rsa, viz

checkpoint = features.load_checkpoint(data.folder() / "networks" / "ch32.safetensors")
network = features.load_network(data.folder() / "networks" / "ch32.safetensors")
sounds = checkpoint.load_sounds(data.folder() / "words" / "stimuli.tsv")
layers = rsa.compute_rdms(features.extract_activations(network, sounds, layers=["conv2", "conv4"]), units="zscore")

# %%
# How alike are the two layers? The more, the harder to tell apart.
alike = rsa.compare_rdms(layers, layers)[0, 1]
f"conv2 and conv4 correlate {alike:.2f}"

# %%
# Studies of a region with the geometry of conv4 are simulated at the signal that gave the pilot (12 participants, 4
# runs, 32 sounds) a lower noise ceiling of .2, and tested as yours would be. ``explained`` is the share of the common
# geometry that is the layer's; 1 is the best case.
design = {"a": "conv4", "b": "conv2", "ceiling": 0.2, "pilot": (12, 4, 32), "explained": 0.35, "simulations": 100}
found = rsa.power_analysis(
    layers, participants=(8, 16, 24), runs=(4, 8), conditions=(32,), rng=np.random.default_rng(0), **design
)
viz.plot_power(found)

# %%
# 32 of the 192 words, equally many of each, chosen so that the two layers disagree most about them.
chosen = rsa.choose_items(layers, a="conv4", b="conv2", n=32, rng=np.random.default_rng(0))
print(chosen.describe())

# %%
# The same studies with the chosen words. Chosen sounds are no sample of sounds: say so (``[stimuli] selected = true``),
# and expect no advantage for other layers or networks.
better = rsa.power_analysis(
    layers, participants=(8, 16, 24), runs=(4,), items=chosen.items, rng=np.random.default_rng(0), **design
)
power = {"random words": found.table[found.table["runs"] == 4], "chosen words": better.table}
pd.concat(power)[["participants", "comparison", "power"]].round(2)
