"""
AFNI betas to ROI RSA
=====================

A bucket of ``3dDeconvolve`` or ``3dREMLfit`` is read as it is: by its name, with selectors, its labels and its space.
Here one image a run holds a beta for each of 48 words, as ``-stim_times_IM`` gives them. The data are simulated, and
written as AFNI writes.
"""

import tempfile
from pathlib import Path

import pandas as pd

from brainmap import features, rsa, viz
from brainmap.study.demo import DemoSettings, write_demo

folder = Path(tempfile.mkdtemp()) / "study"
write_demo(folder, DemoSettings(participants=4, bold=False))
person = folder / "sub-01"
info = rsa.image_info(person / "betas_run-1+tlrc")
info.labels[:4], info.space, info.shape

# %%
# Selectors are those of AFNI: one sub-brick, a range, a label.
rsa.load_image(f"{person}/betas_run-1+tlrc[0..3]").shape

# %%
# Labels of sub-bricks are stimuli. ``stimuli.tsv`` says which word each of them is, and a label image says where the
# regions are. Grids that differ would be refused; ``rsa.resample`` is a step of your own.
participants = []
for label in ("01", "02"):
    files = [f"{folder}/sub-{label}/betas_run-{run}+tlrc.HEAD" for run in (1, 2, 3, 4)]
    participants.append(
        rsa.load_patterns(
            files,
            mask=f"{folder}/sub-{label}/mask+tlrc.HEAD",
            rois=rsa.load_rois(folder / "rois.nii.gz", table=folder / "rois.tsv"),
            stimuli=folder / "stimuli.tsv",
            participant=label,
        )
    )
rsa.voxel_report(participants[0])

# %%
# An RDM for each region. Crossnobis multiplies patterns of different runs only, so that noise that neighboring trials
# share does not enter; voxels are weighted by their noise, for each run from the other runs.
brains = rsa.stack_rdms(
    [rsa.compute_rdms(data, dissimilarity="crossnobis", rois="all", noise_precision="runs") for data in participants]
)

# %%
# The network's side: the mean activation of each unit of each layer, and an RDM a layer.
sounds = features.load_sounds(folder / "stimuli.tsv", rate=16_000, seconds=1.0)
network = features.load_network(folder / "ch32.safetensors")
layers = rsa.compute_rdms(features.extract_activations(network, sounds), units="zscore")
viz.plot_rdm_pair(layers.subset("layer", "conv4"), brains.subset("roi", "left-pstg"))

# %%
# Each layer with each region. conv2 was planted in Heschl's gyrus, conv4 in the posterior and conv7 in the anterior
# superior temporal gyrus, and nothing in the calcarine control.
scores = rsa.compare_rdms(layers, brains, measure="rho-a")
table = pd.DataFrame(scores, index=layers.rdm_descriptors["layer"])
table.T.groupby(list(brains.rdm_descriptors["roi"])).mean().round(2)
