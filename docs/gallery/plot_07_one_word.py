"""
One word: CAM, LRP, saliency, and whether they are to be believed
=================================================================

Three methods answer the same question, which part of a sound made the network say its word, and they disagree. Deleting
what each of them marks tells which one the network agrees with.
"""

import numpy as np
import pandas as pd

from brainmap import data, features, viz

words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
words["path"] = [str(data.folder() / "words" / name) for name in words["path"]]
checkpoint = features.load_checkpoint(data.folder() / "networks" / "ch32.safetensors")
network = features.load_network(data.folder() / "networks" / "ch32.safetensors")
sounds = checkpoint.load_sounds(words[words["voice"] == "v01"])
six = list(sounds.items).index("six_v01")
viz.play_sounds(sounds, items=[six])

# %%
# Class activation maps weight the channels of a convolution by what they do for a class. ``sounds`` are 16 words, and
# the picture shows one of them: the map of its own class in color over the wave.
cams = features.class_activation_maps(network, sounds, method="layer-cam", class_names=checkpoint.classes)
viz.plot_cam(sounds, cams, items=[six], columns=1)

# %%
# Attributions are for single samples. LRP hands the output back layer by layer, and what arrives at the samples sums
# to it; saliency is the size of the gradient.
results = [
    features.attribute(network, sounds, method=method, classes="true", class_names=checkpoint.classes)
    for method in ("lrp", "saliency")
]
viz.plot_attribution(sounds, results, items=[six])

# %%
# Samples are replaced by silence in windows of 50 ms, those with the highest values first. A good map makes the
# probability of the word fall fast; the gray curve deletes windows at random.
own = np.array([checkpoint.classes.index(word) for word in sounds.conditions])[:, None]
maps = {"layer-cam": cams.maps[np.arange(16)[:, None], own]}
maps |= {result.method: result.maps.reshape(16, 1, -1) for result in results}
given = {"targets": own, "class_names": checkpoint.classes, "windows": 20, "random_orders": 2}
curves = {name: features.deletion_curves(network, sounds, found, **given) for name, found in maps.items()}
viz.plot_deletion(curves, title="Deletion, 16 words")

# %%
# The area under each curve, small where a map is faithful. Report it with the map, and say for how many sounds.
pd.DataFrame(
    {name: {"deletion": found.auc.mean(), "at random": found.random_auc.mean()} for name, found in curves.items()}
).T.round(3)

# %%
# A map that stays the same when the network forgets what it has learned shows the sound and not the network. Layers
# lose their weights one after the other, from the output down.
few = sounds.take([six, 0, 5, 10])
of_few = own[[six, 0, 5, 10], 0]
checks = [
    features.cascading_randomization(network, few, method=method, targets=of_few, rng=np.random.default_rng(0))
    for method in ("grad-cam", "saliency")
]
viz.plot_randomization(checks)
