"""
A Hugging Face network to a best-layer map
==========================================

A folder that ``save_pretrained`` wrote is a checkpoint: its configuration, its weights and its feature extractor.
Nothing is downloaded and no code of the folder runs. To keep this example small, the folder is made here, with a
wav2vec 2.0 of random weights; name the folder of your own network instead.
"""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
from transformers.utils.logging import disable_progress_bar

from brainmap import data, features, rsa, viz

disable_progress_bar()
folder = Path(tempfile.mkdtemp()) / "wav2vec2-tiny"
torch.manual_seed(0)
sizes = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}
convolutions = {"conv_dim": (32, 32, 32), "conv_kernel": (10, 8, 8), "conv_stride": (5, 8, 8)}
weights = {"initializer_range": 0.5, "num_conv_pos_embedding_groups": 4}  # layers of larger weights differ more
Wav2Vec2Model(Wav2Vec2Config(**sizes, **convolutions, **weights)).save_pretrained(folder)
_ = Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(folder)

# %%
# The network and its sounds. The folder gives the rate, and its own feature extractor feeds the network; each sound
# keeps its length, since padding would change a network that normalizes over time.
words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
words["path"] = [str(data.folder() / "words" / name) for name in words["path"]]
words = words[words["voice"].isin(["v01", "v05"])]
checkpoint = features.load_checkpoint(folder)
network = features.load_network(folder)
sounds = checkpoint.load_sounds(words)
activations = features.extract_activations(network, sounds, layers=["hidden.0", "hidden.2", "hidden.4"])
{layer: activations[layer].shape for layer in activations.layers}

# %%
# How alike are the layers? The more, the less a brain can tell them apart. Layers of a trained network differ more.
layers = rsa.compute_rdms(activations, units="zscore")
names = list(activations.layers)
viz.plot_correlation_matrix(pd.DataFrame(rsa.compare_rdms(layers, layers), index=names, columns=names))

# %%
# A brain with an answer: hidden.0 is planted in one half of a box, hidden.4 in the other. Spread of the weights (.5 in
# place of .02) and signal (.8) were chosen after a first try, in which the layers were too alike to be told apart.
corner = np.diag([4.0, 4, 4, 1]) + np.array([[0, 0, 0, v] for v in (-76, -46, -16, 0)])
box = nib.Nifti1Image(np.ones((12, 16, 10), np.uint8), corner)
halves = {name: np.zeros(box.shape, bool) for name in ("back", "front")}
halves["back"][2:10, 1:7, 2:8], halves["front"][2:10, 9:15, 2:8] = True, True
planted = {"back": activations["hidden.0"][:], "front": activations["hidden.4"][:]}
maps = []
for k in range(8):
    person = rsa.simulate_participant(planted, halves, mask=box, rng=np.random.default_rng(k), signal=0.8)
    volumes = np.zeros((*box.shape, person.betas.shape[0] * person.betas.shape[1]), np.float32)
    volumes[np.ones(box.shape, bool)] = person.betas.reshape(-1, person.betas.shape[2]).T
    patterns = rsa.load_patterns(
        nib.Nifti1Image(volumes, box.affine),
        mask=box,
        conditions=list(sounds.items) * 4,
        runs=[run for run in "1234" for _ in sounds.items],
    )
    maps.append(rsa.searchlight(patterns, layers, mask=box, radius_mm=9.0, dissimilarity="crossnobis"))

# %%
# Where each layer scores above 0 over participants, and which one scores highest there.
result = rsa.group_test(maps, correction="max-t")
viz.plot_best_layer(result.best, list(result.names), title="Best layer where any layer is significant")

# %%
# The share of voxels of each half whose best layer is each of the three.
best = np.asarray(result.best.dataobj)
table = {name: [np.mean(best[where] == k + 1) for k in range(3)] for name, where in halves.items()}
pd.DataFrame(table, index=result.names).round(2)
