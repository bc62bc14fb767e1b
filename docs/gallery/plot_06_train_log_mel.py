"""
A log-mel network, from training to class activation maps
=========================================================

Train a small network on spectrograms, look at whether it has learned the words, and see where in frequency and time it
looks. Four words by twelve voices are few; take Speech Commands, or any folder with a folder for each class.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap import data, features, viz

work = Path(tempfile.mkdtemp())
words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
for row in words[words["condition"].isin(["cat", "seven", "zero", "house"])].itertuples():
    folder = work / "sounds" / row.condition
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(data.folder() / "words" / row.path, folder / f"{row.voice}_nohash_0.flac")
sorted(file.name for file in (work / "sounds" / "cat").iterdir())[:3]

# %%
# ``base-2d`` takes the spectrogram that you describe. Voices are dealt to training, validation and testing by their
# name, so that no voice is in two parts; the checkpoint keeps the epoch that was best in validation.
front_end = features.read_front_end("log-mel,mels=40,hop_ms=10,window_ms=25")
settings = features.TrainingSettings(network="base-2d", variant="bn", input=front_end, epochs=12, augmentation=None)
test = features.train_network(work / "sounds", work / "mine.safetensors", settings=settings)
f"{test.accuracy:.0%} of {test.n} test sounds, of voices that were never heard, are called by their word"

# %%
# The checkpoint describes itself: what it takes, its rate, its length, its classes.
checkpoint = features.load_checkpoint(work / "mine.safetensors")
network = features.load_network(work / "mine.safetensors")
sounds = checkpoint.load_sounds(work / "sounds")
layers = features.list_layers(network, sounds)
pd.DataFrame([{"layer": layer.name, "kind": layer.kind, "shape": layer.shape} for layer in layers])

# %%
# Where the evidence for its own word lies in one sound of each class, by Grad-CAM at the last convolution.
maps = features.class_activation_maps(network, sounds, method="grad-cam", class_names=checkpoint.classes)
first = [list(sounds.conditions).index(word) for word in checkpoint.classes]
viz.plot_cam(sounds, maps, items=first, title="Grad-CAM of the own word")

# %%
# Whether a map is to be believed is a question of its own: deleting what it marks should take the word away sooner than
# deleting at random.
own = np.arange(len(first))[:, None]  # the sounds stand in the order of the classes
maps_of_own = maps.maps[first, own[:, 0]][:, None]
curves = features.deletion_curves(network, sounds.take(first), maps_of_own, targets=own, class_names=checkpoint.classes)
viz.plot_deletion({"grad-cam": curves})
