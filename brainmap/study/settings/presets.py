"""Hold the study files of published designs that `brainmap init --preset` writes, ready to fill in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from brainmap.types import StudyPreset

_TUCKUTE2023 = """\
# Natural sounds, several networks, RSA beside encoding models, as in Tuckute et al. 2023
# (doi:10.1371/journal.pbio.3002366): 165 sounds of 2 s, 8 participants, 3 repetitions. Fill in the paths (read from
# the folder of this file), then:
#   brainmap check THIS_FILE    look at every input, compute nothing
#   brainmap run THIS_FILE      compute what is not yet computed, and make the page
# brainmap init without --preset writes every key with its meaning.
schema = 1

[study]
name = "natural-sounds"
question = "Which networks, and which of their layers, order and predict natural sounds as auditory cortex does?"
out = "derivatives/brainmap"
seed = 0

[stimuli]
table = "stimuli.tsv"            # stimulus_id, condition, path. Sounds that are no tokens of one word have a
#                                  condition each, so that a fold may divide any two of them

[[network]]                      # repeat the block for each network
name = "first"
checkpoint = "first.safetensors" # or .pt, .pt2, .keras, .h5, or a Hugging Face folder
layers = "all"
pooling = "mean"                 # over time; frequency is kept
dissimilarity = "correlation"
units = "zscore"                 # over sounds
controls = ["permuted"]          # the same network with the weights of each layer in another order; "untrained" as well

[[network]]
name = "second"
checkpoint = "second.safetensors"
layers = "all"
pooling = "mean"
dissimilarity = "correlation"
units = "zscore"
controls = ["permuted"]

[[brain]]
participants = ["01", "02", "03", "04", "05", "06", "07", "08"]
kind = "betas"
files = "sub-{participant}/betas_run-{run}.nii.gz"   # one image a repetition, a volume a sound
labels = "sub-brick"             # or a TSV: stimulus_id, volume, run
mask = "sub-{participant}/mask.nii.gz"
rois = { image = "sub-{participant}/rois.nii.gz", table = "rois.tsv" }   # primary, anterior, lateral, posterior
space = "native"
# screen = { reliability = 0.1 } # voxels whose responses repeat; the study took those with a split-half r of .3

[baselines]                      # what any claim about a network has to beat
models = ["cochleagram", "modulation"]

[rsa]
items = "stimulus"
dissimilarity = "correlation"    # 1 - Pearson, as the study took it; crossnobis is free of the noise's bias
measure = "spearman"
inference = { test = "signed-rank", correction = "fdr", splits = 10 }   # the best layer: on one half of the sounds

[encoding]                       # ridge regression from every layer to the responses of every region
targets = "roi"                  # "voxel", as in the study, averages the scores of voxels; its permutations take hours
groups = "condition"
folds = 5                        # the study took 10 splits into 83 and 82 sounds
reliability_floor = 0.1          # regions that hardly repeat have no noise-corrected score, and are counted
permutations = 1000              # of the sounds, the same for all participants
"""

PRESETS: Mapping[StudyPreset, str] = MappingProxyType({"tuckute2023": _TUCKUTE2023})
"""The text of each preset."""
