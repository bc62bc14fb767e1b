"""Hold the study files of common designs that `brainmap init --preset` writes, ready to fill in."""

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
# bands = ["first:conv4", "acoustics"]   # fitted together: what the layer adds to acoustic models, and they to it
"""

_FIRST_LINES = """\
# Fill in the paths (read from the folder of this file), then:
#   brainmap check THIS_FILE    look at every input, compute nothing
#   brainmap run THIS_FILE      compute what is not yet computed, and make the page
# brainmap init without --preset writes every key with its meaning.
schema = 1
"""

_WORDS = f"""\
# Spoken words: several tokens of each word, one network that knows the words, RSA in regions and what layers hear. 48
# sounds of 16 words, 8 participants, 6 runs.
{_FIRST_LINES}
[study]
name = "words"
question = "Which layer of a network that recognizes words orders them as auditory cortex does?"
out = "derivatives/brainmap"
seed = 0

[stimuli]
table = "stimuli.tsv"            # stimulus_id, condition (the word), path

[[network]]
name = "ch32"
checkpoint = "ch32.safetensors"  # `brainmap train` makes one; or .pt, .pt2, .keras, .h5, or a Hugging Face folder
layers = "all"
pooling = "mean"
dissimilarity = "correlation"
units = "zscore"
controls = ["untrained"]         # what the same network does before it has learned anything

[[brain]]
participants = ["01", "02", "03", "04", "05", "06", "07", "08"]
kind = "betas"                   # or "bold", with events: a GLM of each run comes first
files = "sub-{{participant}}/betas_run-{{run}}.nii.gz"   # one image a run, a volume a sound
labels = "sub-brick"             # or a TSV: stimulus_id, volume, run
mask = "sub-{{participant}}/mask.nii.gz"
rois = {{ image = "sub-{{participant}}/rois.nii.gz", table = "rois.tsv" }}
space = "native"

[baselines]                      # what any claim about the network has to beat
models = ["cochleagram", "modulation"]

[rsa]
items = "stimulus"               # single sounds; "condition": words, whose tokens are averaged first
dissimilarity = "crossnobis"     # between runs: noise alone has a distance of 0
measure = "rho-a"
# Sounds are tokens of words, so that whole words are relabeled: layers that only tell words apart are not significant
inference = {{ test = "signed-rank", correction = "fdr", splits = 20 }}

[explain]                        # what the best layers hear, and where in time a word is heard
maximization = {{ steps = 150, classes = "all", channels = 8, best_layers = 2 }}
cam = {{ method = "grad-cam", layer = "last-conv" }}
"""

_ROI_RSA = f"""\
# RSA in regions of interest: one network, its controls and acoustic models against the RDMs of regions. 60 sounds,
# each of its own condition, 12 participants, 4 runs.
{_FIRST_LINES}
[study]
name = "roi-rsa"
question = "Which layer has the representational geometry of each region?"
out = "derivatives/brainmap"
seed = 0

[stimuli]
table = "stimuli.tsv"            # stimulus_id, condition, path

[[network]]                      # repeat the block for each network
name = "first"
checkpoint = "first.safetensors" # or .pt, .pt2, .keras, .h5, or a Hugging Face folder
layers = "all"
pooling = "mean"
dissimilarity = "correlation"
units = "zscore"
controls = ["untrained", "permuted"]

[[brain]]
participants = ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"]
kind = "betas"
files = "sub-{{participant}}/betas_run-{{run}}.nii.gz"
labels = "sub-brick"             # or a TSV: stimulus_id, volume, run
mask = "sub-{{participant}}/mask.nii.gz"
rois = {{ image = "sub-{{participant}}/rois.nii.gz", table = "rois.tsv" }}
# rois = {{ centers = "auditory", radius_mm = 8 }}   # images in MNI space and no label image
space = "native"
# noise = "residuals"            # of the GLM, in place of the differences between runs

[baselines]
models = ["cochleagram", "modulation"]

[rsa]
items = "stimulus"
dissimilarity = "crossnobis"     # needs runs; "correlation" does with one
measure = "rho-a"
# control_for = ["cochleagram"]  # partialled out of every score and ceiling
inference = {{ test = "signed-rank", correction = "fdr", splits = 20, bootstrap = 1000 }}
"""

_SEARCHLIGHT = f"""\
# A searchlight over the whole brain: every sphere against every layer, and group maps. 60 sounds, 12 participants,
# 4 runs, all images in one template space.
{_FIRST_LINES}
[study]
name = "searchlight"
question = "Where in the brain lies the representational geometry of each layer?"
out = "derivatives/brainmap"
seed = 0

[stimuli]
table = "stimuli.tsv"            # stimulus_id, condition, path

[[network]]
name = "first"
checkpoint = "first.safetensors" # or .pt, .pt2, .keras, .h5, or a Hugging Face folder
layers = "all"
pooling = "mean"
dissimilarity = "correlation"
units = "zscore"

[[brain]]
participants = ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"]
kind = "betas"
files = "sub-{{participant}}/betas_run-{{run}}.nii.gz"
labels = "sub-brick"             # or a TSV: stimulus_id, volume, run
mask = "sub-{{participant}}/mask.nii.gz"
rois = {{ image = "rois.nii.gz", table = "rois.tsv" }}   # in the template: one for all, which names the clusters
space = "MNI152NLin2009cAsym"    # the template of the images; for native images see [searchlight] warped

[rsa]
items = "stimulus"
dissimilarity = "crossnobis"
measure = "rho-a"
inference = {{ test = "signed-rank", correction = "fdr", splits = 20 }}

[searchlight]
radius_mm = 9.0
dissimilarity = "crossnobis"     # correlation, euclidean, crossnobis
measure = "spearman"
minimum_voxels = 10
# warped = "warped/{{name}}.nii.gz"                   # maps that were made in native space and brought to a template
# warped_space = "MNI152NLin2009cAsym"
ceilings = true                  # how well a layer could do in each sphere
group = {{ test = "sign-flip", permutations = 5000, correction = "max-t" }}   # or "cluster-mass", "tfce"
"""

_STORIES = f"""\
# Encoding models of stories: windows of each layer predict the BOLD of regions while long sounds are heard, as in Huth
# et al. 2016 (doi:10.1038/nature17637). 10 stories of 10 minutes (300 scans of 2 s), 3 participants.
{_FIRST_LINES}
[study]
name = "stories"
question = "Which layer predicts each region while stories are heard?"
out = "derivatives/brainmap"
seed = 0

[stimuli]
table = "stories.tsv"            # stimulus_id, condition, path: a row per story, whose sound file has any length

[[network]]                      # repeat the block for each network
name = "first"
checkpoint = "first.safetensors" # or .pt, .pt2, .keras, .h5, or a Hugging Face folder
layers = "all"
pooling = "mean"                 # over the time of a window
controls = ["untrained"]         # the same network without what it learned

[[brain]]
participants = ["01", "02", "03"]
kind = "stories"
files = "sub-{{participant}}/{{sound}}_run-{{run}}_bold.nii.gz"   # {{sound}}: a stimulus_id; runs are repetitions
# confounds = "sub-{{participant}}/{{sound}}_run-{{run}}_confounds.tsv"   # fMRIPrep's, another TSV, or AFNI's .1D
mask = "sub-{{participant}}/mask.nii.gz"
rois = {{ image = "sub-{{participant}}/rois.nii.gz", table = "rois.tsv" }}
space = "native"
# On the surface files end in .dtseries.nii or _{{hemi}}.func.gii, and rois.image in .dlabel.nii or _{{hemi}}.label.gii.
# Tables of regions (.tsv) have neither mask nor image: rois = {{ names = ["A1"] }} names the columns to take.

[stories]
# window = 2.0                   # s that a network hears at once; without it, what the network was trained on
hop = 0.5                        # s from one window to the next; at most the time between scans
# t_r = 2.0                      # s between scans, where the images do not tell
silence = [0, 0]                 # s scanned before the sound began and after it ended
# delays = [2, 4, 6, 8]          # s, multiples of the time between scans; without it, all up to 8 s or more
sampling = "lanczos"             # how windows become scans: a low-pass filter, or "mean"
high_pass = 120                  # s; slower changes of the BOLD are removed in each story; or "none"
# strategy = "motion6"           # columns of the confounds
trim = [0, 0]                    # scans left out at both ends of each story
speech = ["sound-energy"]        # what any claim about a network has to beat; with word times also "word-rate",
#                                  "speech-onset", and words = "words/{{sound}}.TextGrid"
# bands = ["first:conv4", "speech"]   # fitted together: what the layer adds to simple features, and they to it
targets = "roi"                  # the mean of each region, or "voxel": each voxel, whose scores are averaged
# folds = 5                      # of whole stories; without it, each story is left out alone
permutations = 1000              # of blocks within stories, the same for all participants, each refitted
# segment = 10                   # s; RDMs of segments of the stories beside encoding models
# lag = 5                        # s from a sound to the response to it, of these RDMs
block = 20                       # s, or more: neighboring scans resemble each other
"""

PRESETS: Mapping[StudyPreset, str] = MappingProxyType(
    {
        "words": _WORDS,
        "roi-rsa": _ROI_RSA,
        "searchlight": _SEARCHLIGHT,
        "tuckute2023": _TUCKUTE2023,
        "stories": _STORIES,
    }
)
"""The text of each preset."""
