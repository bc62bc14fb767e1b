"""
Controls, baselines and unique variance
=======================================

A layer that is like a region has shown little: an untrained network may be as like, and so may the sounds' envelopes.
Three questions, in the order in which a reviewer asks them.
"""

import numpy as np
import pandas as pd

from brainmap import data, features, rsa, viz

words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
words["path"] = [str(data.folder() / "words" / name) for name in words["path"]]
checkpoint = features.load_checkpoint(data.folder() / "networks" / "ch32.safetensors")
network = features.load_network(data.folder() / "networks" / "ch32.safetensors")
sounds = checkpoint.load_sounds(words[words["voice"].isin(["v01", "v02", "v03"])])

# %%
# One network, the same network without what it learned (new random weights, with normalization calibrated on the same
# sounds), and acoustic models that know no words.
rng = np.random.default_rng(0)
untrained = features.control_network(network, "untrained", rng=rng, sounds=sounds)
sets = {
    "trained": features.extract_activations(network, sounds, layers="conv*", network="trained"),
    "untrained": features.extract_activations(untrained, sounds, layers="conv*", network="untrained"),
    "acoustics": features.acoustic_features(sounds, models=["waveform-envelope", "mel-spectrogram", "modulation"]),
}
rdms = {name: rsa.compute_rdms(one, units="zscore") for name, one in sets.items()}

# %%
# A region of twelve participants whose geometry is half that of conv5 and half its own, at a lower noise ceiling of .3.
layer = rdms["trained"].subset("layer", "conv5")
brains = rsa.simulate_rdms(layer, ceiling=0.3, n_participants=12, explained=0.5, rng=rng)
ceiling = rsa.noise_ceiling(brains)
f"noise ceiling: {ceiling.lower:.2f} to {ceiling.upper:.2f}"

# %%
# Is the trained network ahead? Mean scores over participants, layer by layer.
rows = []
for name, models in rdms.items():
    for model, values in zip(models.rdm_descriptors["layer"], rsa.compare_rdms(models, brains), strict=True):
        rows.append({"set": name, "layer": model, "score": values.mean()})
scores = pd.DataFrame(rows)
scores.pivot_table(index="set", columns="layer", values="score").round(2)

# %%
# What does the trained layer explain that acoustics and the untrained network do not? Shares of variance sum to what
# all explain together; a share of one set alone is below 0 where noise made it so, and is shown as it is.
parts = {
    "trained": rdms["trained"].subset("layer", "conv5"),
    "untrained": rdms["untrained"].subset("layer", "conv5"),
    "acoustics": rdms["acoustics"],
}
partition = rsa.partition_variance(parts, brains)
viz.plot_partition(partition, rsa.partition_statistics(partition))

# %%
# The score that is left once the acoustics are partialled out of model and data. With ranks, the control is removed by
# a spline, since a plain partial rank correlation is not 0 where model and data share nothing but the control.
left = rsa.compare_rdms_partial(layer, brains, rdms["acoustics"].subset("layer", "mel-spectrogram"))
f"conv5: {rsa.compare_rdms(layer, brains).mean():.2f}, less the mel spectrogram: {left.mean():.2f}"
