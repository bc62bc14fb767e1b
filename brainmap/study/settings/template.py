"""Hold the study file that `brainmap init` writes: every key with its meaning, ready to fill in."""

TEMPLATE = """\
# A study for brainmap. Fill in the paths (read from the folder of this file), then:
#   brainmap check THIS_FILE    look at every input, compute nothing
#   brainmap run THIS_FILE      compute what is not yet computed, and make the page
# A line that begins with # is not read; keys shown behind one are optional, with the value they have without it.
schema = 1

[study]
name = "my-study"
question = ""                    # stands at the top of the page
out = "derivatives/brainmap"     # an empty or new folder; or the results of this study
seed = 0                         # of everything random
# simulated = false              # true: said on every page and in every file
# maps = "nifti"                 # or "afni": maps as BRIK and HEAD
# grid_tolerance = 0.01          # share of a voxel; grids less than this far apart are taken for one, and it is said

[stimuli]
table = "stimuli.tsv"            # columns stimulus_id (unique), condition, path; or a folder with a folder a class
# selected = false               # true: chosen to differ, and no sample of sounds; said beside every test

[[network]]                      # repeat the block for more networks
name = "ch32"
checkpoint = "ch32.safetensors"  # or .pt, .pt2, .keras, .h5, or a Hugging Face folder
# architecture = "ch32"          # for checkpoints of others: a name of `brainmap networks`, or "module:function"
# variant = "plain"              # plain, do, bn or do+bn
# classes = ["yes", "no"]        # names of the outputs, in order
# rate = 16000                   # Hz; these four only where the checkpoint does not say how it was fed
# seconds = 1.0
# input = { kind = "log-mel", mels = 64, hop_ms = 10 }  # what it takes: or waveform, cochleagram, module:function
# level = "rms"                  # level to which each sound is scaled: rms, peak or none
# align = "start"                # or center
# own_lengths = true             # sounds are not padded; for networks that take any length
layers = "all"                   # or names and patterns, "conv1, fc*" or a list; see `brainmap networks ch32`
pooling = "mean"                 # over time, never over units: mean, max, rms; or flatten, which keeps time
# pool_frequency = true          # average layers of spectrograms over frequency as over time
# units_axis = -1                # of layers of which it cannot be told which axis holds the units; -1 is the last
dissimilarity = "correlation"    # the network's own geometry: correlation, euclidean or cosine
units = "zscore"                 # over items; or none
controls = ["untrained"]         # the same network without what it learned: untrained, permuted
# seed_of = "ch32"               # of one of several trainings of a network, which are also compared as one network

[[brain]]                        # repeat the block where participants' files are named otherwise
participants = ["01", "02"]
kind = "betas"                   # or "bold": a GLM of each run comes first; or "table": items x voxels (x repetitions)
files = "sub-{participant}/betas_run-{run}.nii.gz"   # or AFNI: "sub-{participant}/betas_run-{run}+tlrc.HEAD"
# Paths may hold {participant}, {session}, {task} and {run}. Instead of files, and mostly of mask:
# layout = "bids"                # fMRIPrep's or another pipeline's derivatives in folder; or "afni_proc"; or "spm":
#                                  folder = "sub-{participant}/first_level", with SPM.mat, its betas and mask.nii
# folder = "derivatives/fmriprep"
# task = "words"                 # these five choose among what the layout finds
# sessions = ["1", "2"]
# desc = "preproc"               # afni_proc: REML or OLS
# entities = { res = "2" }
# raw = "."                      # BOLD: the BIDS folder that holds the events
# events = "sub-{participant}_run-{run}_events.tsv"  # BOLD, where no layout finds them; confounds likewise
# glm = { model = "condition" }  # BOLD: condition, lsa or lss. Further keys: column ("trial_type"), hrf ("glover"),
#                                  noise_model ("auto": "arma11" for single trials, "ar1" for conditions; "ols"),
#                                  afni_grid (3dREMLfit's -Grid), high_pass ("design", or s), polort, t_r,
#                                  strategy (of the confounds), slice_time_ref, duration (1.5: s, of events whose
#                                  duration is n/a), nuisance (["button"]: events modelled without betas), leave_out
#                                  (["rest"]: not modelled; both may be absent for some participants), others, scale
labels = "sub-brick"             # labels inside the images; or a TSV: stimulus_id or condition, volume, run; with
#                                  {run} in its name, or ["a.tsv", "b.tsv"]: one a run
# key = "betas"                  # "table": the array, where the file (.npy, .npz, .mat, .h5, .nc) holds several;
#                                  labels is a TSV with a row per item, rois = { table = "voxels.tsv" } has a row per
#                                  voxel (roi, participant), there is no mask and no [searchlight]
# axes = ["items", "voxels", "repetitions"]  # "table": only where the lengths of these lists do not tell the axes
mask = "sub-{participant}/mask.nii.gz"
rois = { image = "sub-{participant}/rois.nii.gz", table = "rois.tsv" }   # the table: index, name
# rois = { masks = { A1 = "a1.nii.gz", belt = "belt.nii.gz" } }
# rois = { centers = "auditory", radius_mm = 8 }     # or { A1 = [-45, -21, 7] } with coordinates = "MNI" and
#                                                      orientation = "LPI" (or "RAI", as AFNI shows them)
# rois also takes names = ["A1"], hemispheres = "separate" (or "pooled") and minimum_voxels = 10
space = "native"                 # or a template's name; group maps need one grid for all
# missing = "error"              # or "nan": a condition may be missing in a run
# normalize = []                 # in order: demean-runs, cocktail-blank, zscore-runs; noise-runs where there is one run
# noise = "runs"                 # noise is estimated from the differences between runs (3 or more; each run by what the
#                                  others tell), "residuals" of the GLM, or "none"
# covariance = "shrinkage"       # estimator of the noise covariance of a region: shrinkage, diag or full
# residuals = "sub-{participant}/errts+tlrc"         # where no layout finds them
# screen = { reliability = 0.1 } # of ROIs' voxels: split-half; sound = "stats+tlrc[sound#0_Tstat]", p = 0.001

# [baselines]                    # acoustic models that any claim has to beat, compared as one more network
# models = ["waveform-envelope", "mel-spectrogram", "mfcc", "cochleagram", "modulation"]
# name = "acoustics"             # in tables; dissimilarity and units as for a network

# [[hypothesis]]                 # an RDM of your own, compared beside the networks; repeat the block for more
# name = "category"              # in tables and on the page; then one of four:
# category = "category"          # a column of the table of sounds: 0 within a category, 1 between
# features = ["valence"]         # columns of numbers, z-scored; with dissimilarity = "euclidean", correlation, cosine
# phonetic = true                # articulatory features of the words in condition, or of a column of ARPAbet phonemes
# rdm = "ratings.csv"            # a file, matched by label: a matrix with labels (CSV, TSV), pairs, or RDMs as HDF5 of
#                                  which the one called name is taken; npy, CSV without labels: labels = "order.txt"

[rsa]
items = "stimulus"               # rows of the RDMs: stimulus, or condition (tokens averaged first)
dissimilarity = "crossnobis"     # the brain's geometry; crossnobis needs runs; correlation, euclidean, mahalanobis
measure = "rho-a"                # how RDMs are compared: rho-a, spearman, tau-a, pearson, cosine
# control_for = []               # models of [baselines] or names of [[hypothesis]] that are partialled out of scores
#                                  and ceilings of regions;
#                                  "noise-only", "elapsed-time": what each participant's own order of events explains.
#                                  rho-a, spearman: by splines, one control from 12 items, two from 20; of three
#                                  (from 19) Pearson's correlation is taken. pearson: by straight lines
inference = { test = "signed-rank", correction = "fdr", splits = 20 }
# test is over participants: signed-rank, t or sign-flip; correction: fdr, bonferroni, max-t or none.
# inference also takes
#   zero = "relabeling"          # scores against 0: sounds relabeled jointly for all participants, whole conditions
#                                  where sounds are their tokens; or "bootstrap"; or "participants": these sounds only
#   differences = "bootstrap"    # of layers and networks, from 16 sounds on (fewer: "participants", these sounds only)
#   permutations = 2000          # relabelings; 0 for none
#   bootstrap = 1000             # resamples; 0 for none. Asked for, it is made of fewer than 16 sounds too
#   over = "both"                # what is drawn anew: both, "participants", "conditions"

# [encoding]                     # ridge regression from each layer to each region, beside RSA; 40 sounds or more
# targets = "roi"                # the mean response of a region, or "voxel": each voxel, whose scores are averaged
# groups = "condition"           # what a fold never divides: words are new in the test. "stimulus": sounds are, words
#                                  are not; "run": where no sound is in two runs
# folds = 5                      # 8 sounds or more in each; scores are compared only where the number is equal
# alphas = [0.1, 10, 1000]       # penalties to choose from; 13 from 0.1 to 1e8 by default
# reliability_floor = 0.0        # at or below it a region or voxel has no noise-corrected score, and is counted
# few_items = false              # true: fewer than 40 sounds, of which predictions are mostly noise
# permutations = 1000            # of the sounds, the same for all participants, each refitted
# bands = ["ch32:conv4", "acoustics"]  # networks, or a layer of one, that are fitted together: what each adds

# [stories]                      # BOLD while long sounds are heard: [[brain]] kind = "stories", files with {sound}, and
#                                  none of [rsa], [encoding], [searchlight], [explain] (brainmap init --preset stories).
#                                  Files: volumes; surfaces (.dtseries.nii, .func.gii); arrays of scans x voxels (.npy)
#                                  with rois = { table = "voxels.tsv" }; tables (.tsv) with rois = { names = ["A1"] }
# window = 1.0                   # s that a network hears at once; without it, what the network was trained on
# hop = 0.5                      # s from one window to the next; sampling = "lanczos" (or "mean") makes scans of them
# t_r = 2.0                      # s between scans, where the images do not tell
# silence = [0, 0]               # s scanned before the sound began and after it ended
# delays = [2, 4, 6, 8]          # s; without it, all multiples of the time between scans up to 8 s or more
# high_pass = 120                # s; slower changes of the BOLD are removed in each story; or "none"
# strategy = "motion6"           # columns of [[brain]] confounds
# trim = [0, 0]                  # scans left out at both ends of each story
# folds = 5                      # of whole stories; without it, each is left out alone; inner_folds = 5 choose alphas
# speech = ["sound-energy"]      # simple features, compared like acoustic models; "word-rate" and "speech-onset" need
#                                  words = "words/{sound}.TextGrid" (or a TSV of onset and duration of each word)
# components = 50                # principal components of training that stand for a layer; without it, all units
# segment = 10                   # s; RDMs of segments of the stories beside encoding models, and
# lag = 5                        # s from a sound to the response to it, of these RDMs
# block = 20                     # s of scans that permutations exchange together, within stories
# test = "signed-rank"           # over participants, of these stories only; with correction and splits as in inference;
#                                  targets, alphas, reliability_floor, permutations, bands as in [encoding]

[searchlight]                    # leave the block out for ROIs only
radius_mm = 9.0
# mesh = "fsaverage5"            # of GIFTI files ({hemi} in [brain] files): discs on it; or {hemi}.mid.surf.gii
# metric = "dijkstra"            # on a mesh: along its edges, or "geodesic": straight across its triangles
dissimilarity = "correlation"    # correlation, euclidean, crossnobis
measure = "spearman"             # spearman, rho-a, tau-a, pearson, cosine, corr_cov, cosine_cov
minimum_voxels = 10
# noise_per = "voxel"            # the variance of each voxel (for crossnobis), or of each "sphere" its covariance,
# shrinkage = "diag"             # shrunk to its diagonal (diag), to the identity (eye), or not (none)
# warped = "warped/{name}.nii.gz"  # native maps that were brought to a template: {participant}, {network}, {layer}
# warped_space = "MNI152NLin2009cAsym"
ceilings = true                  # noise ceilings of every sphere, where patterns of all participants share a grid
group = { test = "sign-flip", permutations = 5000, correction = "max-t" }   # or "cluster-mass", "tfce"
# group also takes differences = [["conv4", "conv2"]] (or "all-pairs"), neighbors = 6 (18, 26: voxels that touch), and
#                                  cluster_p = 0.001 (p of one voxel, which makes the clusters of cluster-mass)

[explain]                        # what the layers hear; leave the block out to skip it
# network = "ch32"               # the first one
maximization = { steps = 150, classes = "all", channels = 8, best_layers = 2 }
# maximization also takes prior = "decoder" (of speech), "audio" (of noise) or "none" for classes (by
#                                  default the decoder for words, and audio beside it); decoder = "mine.safetensors";
#                                  judges = ["other.safetensors"], networks that judge the patterns of classes (default:
#                                  those of brainmap; "none"); regions = 6, with [encoding]: so many regions, those that
#                                  are predicted best, whose real and predicted sounds are shown (0: none)
cam = { method = "grad-cam", layer = "last-conv" }
"""
