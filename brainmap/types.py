"""Define each closed choice once, and the types that several folders of the package share.

Functions, the study file and the command line take their choices from here. The first choice is not always the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rsatoolbox.data.dataset import Dataset as Dataset
    from rsatoolbox.rdm.rdms import RDMs as RDMs

    Floats = NDArray[np.float64]
else:

    def __getattr__(name: str) -> Any:
        """Load numpy for `Floats`, which the options of the command line do not need.

        `Dataset` and `RDMs` are those of rsatoolbox for type checkers only, because its import takes long.
        """
        if name in ("Dataset", "RDMs"):
            return Any
        if name != "Floats":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import numpy as np
        from numpy.typing import NDArray

        return NDArray[np.float64]


# RDMs and their comparison
Level = Literal["stimulus", "condition"]  # what the items of an RDM are
Dissimilarity = Literal["correlation", "euclidean", "crossnobis", "mahalanobis", "cosine", "poisson", "poisson_cv"]
SearchlightDissimilarity = Literal["correlation", "cosine", "euclidean", "crossnobis"]
RegionDissimilarity = Literal["crossnobis", "correlation", "euclidean", "mahalanobis"]  # of a study's regions
LayerDissimilarity = Literal["correlation", "euclidean", "cosine"]  # of layers and acoustic models
Measure = Literal["spearman", "rho-a", "tau-a", "tau-b", "pearson", "cosine", "corr_cov", "cosine_cov", "bures"]
StudyMeasure = Literal[
    "rho-a", "spearman", "tau-a", "tau-b", "pearson", "cosine", "corr_cov", "cosine_cov"
]  # bures needs every pair
MeasureAlias = Literal["corr", "kendall"]  # as rsatoolbox calls pearson and tau-b
AnyMeasure = Literal[Measure, MeasureAlias]
AnySearchlightMeasure = Literal[StudyMeasure, MeasureAlias]
SplineForm = Literal["ranks", "additive", "linear"]  # how controls are removed
PartialKind = Literal["partial", "semi-partial"]
Fit = Literal["ols", "nnls"]
Validation = Literal["participants", "none"]
Tested = Literal["only", "all"]
Balance = Literal["condition", "none"]  # whether every condition has equally many chosen items
ModelFit = Literal["fixed", "selected", "weighted", "interpolated"]
FlexibleFit = Literal["selected", "weighted", "interpolated"]
TableLayout = Literal["features", "square", "long"]  # of a table that tells an RDM
RunPairing = Literal["between", "average"]
Scaling = Literal["zscore", "none"]
OverTime = Literal["time"]

# Encoding models
FoldGroups = Literal["condition", "stimulus", "run"]  # what a fold never divides
ScanSampling = Literal["lanczos", "mean"]
StoryPairs = Literal["between", "all"]  # of windows: those of different stories, or of one story too
EncodingTarget = Literal["voxel", "roi"]  # what is predicted: each voxel, or the mean of each region
StudyPreset = Literal["words", "roi-rsa", "searchlight", "tuckute2023", "stories"]  # study files of common designs
EncodingScore = Literal["r", "r2", "r_corrected", "r2_corrected"]
PermutationCorrection = Literal["fdr", "max", "none"]

# Inference
Test = Literal["signed-rank", "t", "sign-flip"]
ZeroTest = Literal["relabeling", "bootstrap", "participants"]
DifferenceTest = Literal["bootstrap", "participants"]
GroupTest = Literal["sign-flip"]
TestKind = Literal["participants", "relabeling", "bootstrap", "permutation", "best-layer"]
Against = Literal["zero", "ceiling"]
Correction = Literal["none", "fdr", "bonferroni", "max-t"]
GroupCorrection = Literal["max-t", "cluster-mass", "tfce", "fdr"]
StudyGroupCorrection = Literal["max-t", "cluster-mass", "tfce"]
ClusterEnhancement = Literal["tfce", "cluster-mass"]
WordCorrection = Literal["fdr", "bonferroni", "none"]
Alternative = Literal["greater", "less", "two-sided"]
UpperAlternative = Literal["greater", "two-sided"]  # of tests by relabeling and by sign flips
Over = Literal["participants", "conditions", "both"]  # what a bootstrap resamples
Control = Literal["untrained", "permuted"]
ControlOrNone = Literal["none", "untrained", "permuted"]

# Patterns and their noise
Missing = Literal["error", "nan"]
FloatType = Literal["float64", "float32"]
Normalization = Literal["demean-runs", "cocktail-blank", "zscore-runs", "noise-runs"]
NormalizationLevel = Literal["condition", "stimulus_id"]
Shrinkage = Literal["diag", "eye", "none"]
NoiseMethod = Literal["diag", "shrinkage", "shrinkage-eye", "full"]
StudyNoiseMethod = Literal["shrinkage", "diag", "full"]
NoisePlace = Literal["voxel", "sphere"]
NoiseFrom = Literal["runs", "residuals", "none"]

# Images, regions, surfaces, inputs
Layout = Literal["files", "bids", "afni_proc", "spm"]
InputKind = Literal["betas", "bold"]
BrainKind = Literal["betas", "bold", "table", "stories"]
TableAxis = Literal["items", "voxels", "repetitions"]
ImageFormat = Literal["nifti", "afni"]
Interpolation = Literal["continuous", "label"]
Hemispheres = Literal["separate", "pooled"]
Orientation = Literal["LPI", "RAI"]
Overlap = Literal["error", "nearest"]
Metric = Literal["dijkstra", "geodesic"]

# The model of the BOLD signal
GlmModel = Literal["condition", "lsa", "lss"]
Hrf = Literal[
    "glover",
    "spm",
    "glover + derivative",
    "spm + derivative",
    "glover + derivative + dispersion",
    "spm + derivative + dispersion",
]
NoiseModel = Literal["auto", "ar1", "arma11", "ols"]
ArmaKind = Literal["ar1", "arma11"]
Others = Literal["all", "condition"]
Scale = Literal["signal", "percent", "noise"]
BucketKind = Literal["stimulus", "trials", "baseline", "contrast"]

# Sounds and networks
Loudness = Literal["rms", "peak", "none"]
Align = Literal["start", "center"]
LastWindow = Literal["drop", "pad"]  # what becomes of a window that reaches behind the end of a recording
Part = Literal["training", "validation", "testing"]
AnyPart = Literal["all", "training", "validation", "testing"]
VoicingKind = Literal["silent", "unvoiced", "voiced"]
Variant = Literal["plain", "do", "bn", "do+bn"]
Nonlinearity = Literal["relu", "elu", "tanh"]
Head = Literal["flatten", "gap", "gmp"]
Augment = Literal["channel", "voice", "none"]  # how training sounds are varied: as received, also as spoken, not at all
FrontEndKind = Literal["waveform", "log-mel", "cochleagram"]  # what a network takes; or module:function
MelScaling = Literal["log", "log10", "db", "power", "amplitude"]  # of the bands of a log-mel front end
InputLayout = Literal["bands-frames", "frames-bands", "bands-as-channels"]  # the axes of a spectrogram
Stage = Literal["after", "before"]  # the nonlinearity
Pooling = Literal["mean", "max", "rms", "none", "flatten"]
DType = Literal["float16", "float32", "float64"]
ReductionKind = Literal["sparse-projection", "pca"]
Reduce = Literal["none", "sparse-projection", "pca"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Backend = Literal["threads", "dask"]
SpeechFeature = Literal["sound-energy", "word-rate", "speech-onset"]  # of continuous speech
AcousticModel = Literal["waveform-envelope", "mel-spectrogram", "mfcc", "cochleagram", "modulation"]
AcousticPooling = Literal["flatten", "mean", "none"]

# What units answer to
Stimulus = Literal["tone", "noise"]
Spacing = Literal["octave", "erb"]
TuningMeasure = Literal["mean", "rms", "max"]
EmbeddingMethod = Literal["pca", "tsne"]
EmbeddingUnits = Literal["zscore", "raw"]
SoundMetric = Literal["correlation", "euclidean"]
Parameterization = Literal["auto", "spectrum", "noise-vocoder", "pixels", "1/f", "decoder"]
PatternPrior = Literal["audio", "decoder", "none"]  # what holds maximizing patterns to sounds
Objective = Literal["auto", "channel", "neuron", "layer", "logit", "direction"]
Optimizer = Literal["gradient-rms", "adam"]
Extent = Literal["auto", "receptive-field", "full"]
Decay = Literal["linear", "none"]
Preset = Literal["audio", "source", "generative", "metamer"]
PatternSpace = Literal["spectrum", "waveform"]
PatternAlign = Literal["onset", "none"]
PatternLevel = Literal["stimulus", "class", "unit"]

# What a decision rests on
CamMethod = Literal["cam", "grad-cam", "grad-cam++", "xgrad-cam", "layer-cam", "hires-cam", "score-cam"]
AttributionMethod = Literal[
    "saliency",
    "input-x-gradient",
    "integrated-gradients",
    "smoothgrad",
    "deconvolution",
    "guided-backpropagation",
    "guided-grad-cam",
    "lrp",
    "occlusion",
    "lime",
]
MapMethod = Literal[CamMethod, AttributionMethod]
VoicingMethod = Literal[CamMethod, "occlusion"]
RuleName = Literal["epsilon", "z", "z+", "gamma", "alpha-beta", "flat", "w2", "box", "winner"]
Bands = Literal["mel", "octave"] | Sequence[float]  # [Hz]
IntegrationRule = Literal["gauss-legendre", "trapezoid"]
Backward = Literal["guided", "deconvolution"]
CoverOrder = Literal["deletion", "insertion"]
Fill = Literal["zeros", "noise", "mean"]
FaithfulnessScore = Literal["probability", "logit"]
CoverMeasure = Literal["entropy", "area"]
CoverScale = Literal["map", "sound"]
Empty = Literal["zero", "leave-out"]
MapClass = Literal["predicted", "true"]
CamView = Literal["sounds", "attention", "top", "all"]
ControversyKind = Literal["classes", "predictions"]  # what two networks disagree about
ScoreKind = Literal["probability", "value"]  # of the outputs of a network
RelevanceView = Literal["waveform", "spectrogram"]  # what relevance is painted over
BrainView = Literal["slices", "glass", "surface", "best"]


@runtime_checkable
class FeatureSet(Protocol):
    """Hold features of the same items in several layers, as `features.extract_activations` returns them.

    `items` are the stimulus ids and `conditions` the word or category of each, both of length n_items;
    indexing with a layer name gives an array-like `(n_items, n_units)` (or `(n_items, ...)` when time is kept),
    read only when sliced.
    """

    @property
    def items(self) -> Sequence[str]: ...

    @property
    def conditions(self) -> Sequence[str]: ...

    @property
    def layers(self) -> Sequence[str]: ...

    def __getitem__(self, layer: str) -> NDArray[np.floating]: ...

    def __iter__(self) -> Iterator[str]: ...


@runtime_checkable
class TimedFeatureSet(FeatureSet, Protocol):
    """Hold features with a time axis, the last one of layers `(n_items, ..., n_frames)` that `frame_times` names.

    `frame_times(layer)` is the center of each frame [s] from the beginning of the sound, or None for a layer without
    time.
    """

    def frame_times(self, layer: str) -> NDArray[np.floating] | None: ...
