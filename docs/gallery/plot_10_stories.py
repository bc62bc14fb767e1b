"""
Encoding models of stories, and why shuffled folds lie
======================================================

Predict the time course of a voxel while long sounds are heard. Scans that follow each other are alike, so that a model
is tested on stories it has never seen. Shuffled scans as test folds find correlations in pure noise.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from brainmap import data, features, rsa, viz

# %%
# Six stories of 90 s: the words of one voice after those of another. Activations of windows of 4 s, every 0.5 s.
words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
rng, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
for k in range(6):
    spoken = [
        words[words["voice"] == voice].sample(frac=1, random_state=k)
        for voice in rng.permutation(words["voice"].unique())
    ]
    waves = [soundfile.read(data.folder() / "words" / name)[0] for name in pd.concat(spoken)["path"]]
    soundfile.write(folder / f"story{k}.wav", np.concatenate(waves)[: 90 * 16_000], 16_000)
stories = features.load_sounds(sorted(folder.glob("*.wav")), rate=16_000, seconds=None)
network = features.load_network(data.folder() / "networks" / "ch32-gap.safetensors")  # it takes any length
activations = features.extract_activations(network, stories, layers=["conv2", "conv5"], window=4.0, hop=0.5)
activations.table.head(3)

# %%
# The first five seconds of one of them.
viz.plot_sound(soundfile.read(folder / "story0.wav")[0][: 5 * 16_000], rate=16_000)

# %%
# Two brains that hear them: one in which conv5 is planted with a delay of 4 s, and one of slow noise, in which there is
# nothing to find. TR 2 s, 45 scans a story, 20 voxels each. Windows of 4 s and noise that is alike over 20 scans were
# chosen after shorter ones, so that what follows is plain to see: features and noise that are both slow are what leaks.
t_r, scans, voxels = 2.0, 45, 20
kernel = np.hanning(22)[1:-1]


def slow_noise() -> np.ndarray:
    """Return noise whose neighboring scans are alike."""
    white = rng.normal(size=(scans + len(kernel) - 1, voxels))
    found = np.stack([np.convolve(white[:, v], kernel, "valid") for v in range(voxels)], axis=1)
    return found / found.std()


weights = rng.normal(size=(activations["conv5"].shape[1], voxels))
names = list(dict.fromkeys(activations.table["sound"]))
noise = {name: slow_noise() for name in names}
signal = {}
for name in names:
    x = activations["conv5"][:][(activations.table["sound"] == name).to_numpy()]
    heard = x[np.minimum(np.arange(scans) * 4, len(x) - 1)] @ weights
    heard = (heard - heard.mean(axis=0)) / heard.std(axis=0)
    signal[name] = np.vstack([np.zeros((2, voxels)), heard[:-2]]) + noise[name]

# %%
# Whole stories are left out: the planted layer predicts, and noise is not predicted.
fits = {what: rsa.encode_stories(activations, one, t_r=t_r) for what, one in (("planted", signal), ("noise", noise))}
pd.DataFrame({what: fit.scores.groupby("layer")["r"].mean() for what, fit in fits.items()}).round(2)

# %%
# The same features and the same noise, with shuffled scans as folds, by scikit-learn. Each scan of the test lies
# between two of the training, and the correlation is far from 0; how far depends on how slow features and noise are.
# brainmap has no option that divides a story.
x, y = fits["noise"].spaces[1].array, fits["noise"].responses.mean
shuffled = KFold(5, shuffle=True, random_state=0)
predicted = cross_val_predict(RidgeCV(alphas=np.logspace(-1, 6, 8)), x, y, cv=shuffled)
r = np.mean([np.corrcoef(predicted[:, v], y[:, v])[0, 1] for v in range(voxels)])
f"shuffled folds: r = {r:.2f} in pure noise"
