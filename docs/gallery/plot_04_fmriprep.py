"""
An fMRIPrep folder to a searchlight and a group map
===================================================

Start where fMRIPrep stopped: preprocessed BOLD, masks, confounds, and the events of the BIDS folder around them. Six
participants are simulated in a small box around the left auditory cortex; layer conv4 of a network is planted in it.
"""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from brainmap import data, features, rsa, viz

words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
words = words[words["voice"] == "v01"].assign(
    path=[str(data.folder() / "words" / p) for p in words["path"][words["voice"] == "v01"]]
)
network = features.load_network(data.folder() / "networks" / "ch32.safetensors")
activations = features.extract_activations(network, features.load_sounds(words, rate=16_000, seconds=1.0))
layers = rsa.compute_rdms(activations, layers=["conv1", "conv4", "conv8"], units="zscore")

# %%
# The folder, as fMRIPrep and BIDS name things. Skip this block with your own data.
bids, space = Path(tempfile.mkdtemp()) / "words", "MNI152NLin2009cAsym"
box = nib.Nifti1Image(
    np.ones((12, 14, 10), np.uint8), np.diag([3.0, 3, 3, 1]) + np.array([[0, 0, 0, v] for v in (-72, -42, -8, 0)])
)
center = np.zeros(box.shape, bool)
center[3:9, 4:10, 3:7] = True
for k in range(6):
    rng = np.random.default_rng(k)
    person = rsa.simulate_participant(
        {"A1": activations["conv4"][:]}, {"A1": center}, mask=box, rng=rng, n_runs=3, signal=0.4
    )
    bold = rsa.simulate_bold(person, list(words["stimulus_id"]), mask=box, rng=rng, spacing=6.0)
    for run, (image, events) in enumerate(zip(bold.images, bold.events, strict=True), start=1):
        stem = f"sub-0{k + 1}_task-words_run-{run}"
        own, raw = (bids / part / f"sub-0{k + 1}" / "func" for part in ("derivatives/fmriprep", "."))
        for folder in (own, raw):
            folder.mkdir(parents=True, exist_ok=True)
        rsa.save_image(image, own / f"{stem}_space-{space}_desc-preproc_bold.nii.gz", space="MNI")
        rsa.save_image(box, own / f"{stem}_space-{space}_desc-brain_mask.nii.gz", space="MNI")
        events.to_csv(raw / f"{stem}_events.tsv", sep="\t", index=False)

# %%
# What is there, a row a run. Nothing is guessed: where two spaces or tasks are there, you are asked which one.
found = rsa.find_inputs(bids / "derivatives" / "fmriprep", layout="bids", kind="bold", space=space, task="words")
rsa.inputs_table(found).head(3)

# %%
# A beta for each word and run, by generalized least squares, and a searchlight a participant: each sphere of 7 mm
# against every layer, in one pass.
maps = []
for label in sorted({one.participant for one in found}):
    runs = [one for one in found if one.participant == label]
    betas = rsa.fit_betas([one.image for one in runs], [one.events for one in runs], mask=runs[0].masks[0], t_r=2.0)
    patterns = rsa.load_patterns(betas.image, mask=betas.mask, conditions=betas.labels, runs=betas.runs)
    maps.append(rsa.searchlight(patterns, layers, mask=betas.mask, radius_mm=7.0, dissimilarity="crossnobis"))
viz.plot_brain(maps[0]["conv4"], title="sub-01, conv4")

# %%
# The test over participants flips signs; p hold for all layers and voxels together. It takes these sounds as fixed:
# the map says where other participants who hear the same words would show it.
result = rsa.group_test(maps, correction="tfce")
result.clusters.round(3)
