"""
Read the page of a study
========================

``brainmap demo`` simulates a study with a known answer, runs it, and writes a page. This example runs a small one and
reads the tables and maps that the page is made of, in the order in which the page shows them.
"""

import tempfile
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import soundfile

from brainmap import rsa, viz
from brainmap.study.demo import DemoSettings, write_demo
from brainmap.study.results.context import Context
from brainmap.study.run import run_study
from brainmap.study.settings.study import load_study

folder = Path(tempfile.mkdtemp()) / "demo-study"
study = write_demo(folder, DemoSettings.quick())
page = run_study(Context(load_study(study)))
out = page.parent

# %%
# The first table of the page is the answer: which layer was planted in each region, and which one the study found.
# The best layer is chosen on one half of the words and scored on the other. ``p_corrected`` holds for all layers and
# regions together.
pd.read_csv(out / "group" / "recovery.tsv", sep="\t").round(3)

# %%
# The profile shows every layer in every region. The gray band is the noise ceiling: no model can be expected to score
# above it, and one within it explains what participants share. A layer with a star is above 0.
scores = pd.concat(pd.read_csv(file, sep="\t") for file in sorted(out.glob("sub-*/func/*_scores.tsv")))
ceilings = pd.read_csv(out / "group" / "ceilings.tsv", sep="\t")
statistics = pd.read_csv(out / "group" / "statistics.tsv", sep="\t")
viz.plot_layer_profile(scores, ceilings, statistics=statistics)

# %%
# The control region, calcarine, has nothing in it: its lower ceiling is 0, and no layer has a star. A study without
# such a region cannot show that its tests can say no.
#
# The searchlight asks the same of the sphere around every voxel, one map a layer. This is the mean over participants
# of the layer that was planted in Heschl's gyrus.
(mean_map,) = out.glob("group/*trainedconv2_*mean*.nii.gz")
viz.plot_glass_brain(rsa.load_image(mean_map), title="conv2, mean over 6 participants")

# %%
# What does the network want to hear for its words? By a decoder of speech as prior, and by a prior of audio, which
# nobody asked to sound like speech (:ref:`another example <sphx_glr_examples_plot_08_maximization.py>` compares them).
waves = sorted(out.glob("features/*maximization/output*.wav"))
read = [soundfile.read(file)[0] for file in waves]
shortest = min(map(len, read))
viz.play_sounds([wave[:shortest] for wave in read], rate=16_000, labels=[unquote(file.stem) for file in waves])
