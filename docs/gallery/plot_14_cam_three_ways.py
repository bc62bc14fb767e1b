"""
Class activation maps in three ways, and average against maximum
================================================================

Zhou et al. (2016, doi:10.1109/CVPR.2016.319) pool the last convolution over positions and put a linear layer behind it.
The same map comes out of three networks: pooled, then linear; linear at every position, then pooled; and a convolution
with kernels of one position, then pooled. The order does not matter, since averages and linear layers commute.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn

from brainmap import data, features, viz

networks = data.folder() / "networks"
checkpoint = features.load_checkpoint(networks / "ch32-gap.safetensors")
average = features.load_network(networks / "ch32-gap.safetensors")
words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
words["path"] = [str(data.folder() / "words" / name) for name in words["path"]]
sounds = checkpoint.load_sounds(words[words["voice"].isin(["v01", "v02"])])

# %%
# The activations of the last convolution, and the weights W (classes x channels) and biases b of the linear layer.
layer = features.list_layers(average, sounds)[-2].name
stored = features.extract_activations(average, sounds, layers=[layer], pooling="none")
activations = torch.as_tensor(stored[layer][:], dtype=torch.float32)
linear = next(module for module in reversed(list(average.modules())) if isinstance(module, nn.Linear))
weight, bias = linear.weight.detach(), linear.bias.detach()
print(f"{layer}: {tuple(activations.shape)}, sounds x channels x positions; W is {tuple(weight.shape)}")

# %%
# **Pooled, then linear**, as the network does it. The map of class c is the sum over channels k of W[c, k] A[k, p].
pooled_first = activations.mean(dim=2) @ weight.T + bias
maps_first = torch.einsum("ck,nkp->ncp", weight, activations)

# %%
# **Linear, then pooled**: the linear layer gives a score for every class at every position; the logit is their mean.
scores = (activations.transpose(1, 2) @ weight.T + bias).transpose(1, 2)
pooled_last, maps_second = scores.mean(dim=2), scores - bias[None, :, None]

# %%
# **As a convolution** whose kernels see one position.
convolution = nn.Conv1d(weight.shape[1], weight.shape[0], 1)
with torch.no_grad():
    convolution.weight.copy_(weight[:, :, None])
    convolution.bias.copy_(bias)
    convolved = convolution(activations)
by_convolution, maps_third = convolved.mean(dim=2), convolved - bias[None, :, None]

# %%
# They agree to the rounding of 32 bits, with each other, with the network and with ``class_activation_maps``.
cams = features.class_activation_maps(average, sounds, method="cam", layer=layer, upsample=False)
scale = float(maps_first.abs().max())
differences = {
    "logits, linear then pooled": (pooled_last - pooled_first).abs().max(),
    "logits, convolution": (by_convolution - pooled_first).abs().max(),
    "logits, the network": (torch.as_tensor(cams.logits) - pooled_first).abs().max(),
    "maps, linear then pooled": (maps_second - maps_first).abs().max(),
    "maps, convolution": (maps_third - maps_first).abs().max(),
    "maps, class_activation_maps": (torch.as_tensor(cams.maps) - maps_first).abs().max(),
}
assert all(float(value) < 1e-5 * scale for value in differences.values())
pd.Series({name: float(value) / scale for name, value in differences.items()}, name="largest difference / largest map")

# %%
# With maximum pooling the logit is that of one position, and only the map at the maxima of the channels takes part. In
# images, networks with average pooling locate objects better, since they must see all of an object (Zhou et al.). Words
# in noise give the opposite: 32 words planted in two seconds of background, and the share of them that the map finds
# (overlap of half or more).
from brainmap.features.sounds.intervals import plant_sounds  # noqa: E402

maximum = features.load_network(networks / "ch32-gmp.safetensors")
planted, truth = plant_sounds(sounds, seconds=2.0, background_db=-20.0, rng=np.random.default_rng(0))
pair = {"average": average, "maximum": maximum}
found = features.localize(pair, planted, truth, methods=["cam"], class_names=checkpoint.classes)
print(found.groupby(["network", "method"])[["hit", "iou", "error_ms"]].mean().round(2))
viz.plot_localization(planted, found, title="Words in noise, found by class activation maps")
