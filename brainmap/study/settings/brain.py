"""Define the brain part of a study file: participants, files and regions, and find the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from brainmap.rsa.images.names import ARRAY_ENDINGS, CIFTI_ENDINGS, REGION_TABLE_ENDING, SURFACE_ENDINGS
from brainmap.types import (
    BrainKind,
    Correction,
    DifferenceTest,
    GlmModel,
    Hemispheres,
    Hrf,
    Layout,
    Missing,
    NoiseFrom,
    NoiseModel,
    Normalization,
    Orientation,
    Others,
    Over,
    Scale,
    StudyNoiseMethod,
    TableAxis,
    Test,
    ZeroTest,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
Band = Annotated[str, Field(pattern=r"^[^:]+(:[^:]+)?$", max_length=160)]  # a network, or NETWORK:LAYER
Center = tuple[float, float, float]


class Section(BaseModel):
    """Represent a table of the study file; an unknown key raises an error and is never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Regions(Section):
    """Describe ROIs: a label image with its table, a mask per region, spheres at coordinates, or a table of voxels."""

    image: str | None = None
    table: str | None = None
    masks: dict[str, str] = {}
    centers: Literal["auditory"] | dict[str, Center] | None = None
    radius_mm: float | None = Field(default=None, gt=0)
    orientation: Orientation = "LPI"
    coordinates: str | None = None  # space of the centers
    names: tuple[str, ...] | None = None
    hemispheres: Hemispheres = "separate"
    minimum_voxels: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Regions:
        given = [key for key in ("image", "masks", "centers") if getattr(self, key)]
        alone = self.table is not None or self.names is not None  # a table of voxels, or the names of columns
        if len(given) != 1 and (given or not alone):
            got = " and ".join(given) or "none of them"
            raise ValueError(f"expected one of image, masks and centers, got {got}; give exactly one")
        if self.centers and self.radius_mm is None:
            raise ValueError("lacks the key 'radius_mm', which centers need; add it")
        if isinstance(self.centers, dict) and self.coordinates is None:
            raise ValueError(
                "lacks the key 'coordinates', which centers need; add their space: 'MNI', 'TLRC', 'TT_N27' or 'ORIG'"
            )
        return self


class Screen(Section):
    """Select voxels of the regions that are reliable, or that respond to sound."""

    reliability: float | None = Field(default=None, gt=-1, lt=1)  # smallest correlation of odd with even runs
    sound: str | None = None  # statistic image of sound > silence, one sub-brick
    p: float = Field(default=0.001, gt=0, lt=1)  # one-sided threshold for `sound`


class Glm(Section):
    """Describe how betas are estimated from BOLD, by arguments of `rsa.fit_betas` (`noise_model` is its `noise`)."""

    model: GlmModel = "condition"
    column: str = "trial_type"  # column of the events that names betas
    hrf: Hrf = "glover"
    noise_model: NoiseModel = "auto"  # auto: arma11 for single trials, ar1 for conditions
    afni_grid: int | None = Field(default=None, ge=3, le=7)  # 3dREMLfit's -Grid, per voxel; for arma11
    high_pass: Annotated[float, Field(gt=0)] | Literal["design", "none"] = "design"  # s
    polort: Annotated[int, Field(ge=0, le=20)] | Literal["A"] | None = None
    others: Others = "all"
    strategy: str | tuple[str, ...] | None = None  # columns of the confounds
    t_r: float | None = Field(default=None, gt=0)  # s
    slice_time_ref: float | None = Field(default=None, ge=0, le=1)
    duration: float | dict[str, float] | None = None  # s; of events that have none: n/a, or in stim_times
    leave_out: tuple[str, ...] = ()
    nuisance: tuple[str, ...] = ()
    scale: Scale = "signal"


def check_flips(test: Test, correction: Correction) -> None:
    """Refuse the correction by the largest statistic for tests that do not flip signs."""
    if correction == "max-t" and test != "sign-flip":
        raise ValueError(
            f"correction = 'max-t' flips signs: expected test = 'sign-flip', got {test!r}; change one of them"
        )


class Inference(Section):
    """Describe the tests of scores against 0 and of differences, and their correction over layers x ROIs.

    The test over participants treats the sounds as fixed, and is reported beside every other test.
    """

    zero: ZeroTest = "relabeling"
    differences: DifferenceTest = "bootstrap"
    test: Test = "signed-rank"  # over participants
    correction: Correction = "fdr"
    splits: int = Field(default=20, ge=1)  # random halves of the stimuli, to choose the best layer and to score it
    bootstrap: int = Field(default=1000, ge=0)  # number of resamples; 0 for no bootstrap
    over: Over = "both"  # what the bootstrap resamples
    permutations: int = Field(default=2000, ge=0)  # relabelings of sounds, jointly for all participants; 0 for none

    @property
    def asks_for_bootstrap(self) -> bool:
        """Tell whether the study file requests a bootstrap, which is then made even with few sounds."""
        said = self.model_fields_set
        differ = "differences" in said and self.differences == "bootstrap"
        return self.bootstrap > 0 and ("bootstrap" in said or self.zero == "bootstrap" or differ)

    @model_validator(mode="after")
    def _tests_that_can_be_made(self) -> Inference:
        said = self.model_fields_set
        asks = self.zero == "bootstrap" or ("differences" in said and self.differences == "bootstrap")
        if asks and not self.bootstrap:
            raise ValueError(
                "bootstrap: expected at least 100 resamples for a test by bootstrap, got 0; set bootstrap = 1000"
            )
        if not self.permutations and "zero" in said and self.zero == "relabeling":
            raise ValueError(
                "permutations: expected at least 100 for zero = 'relabeling', got 0; set permutations = 2000"
            )
        for what, n in (("bootstrap", self.bootstrap), ("permutations", self.permutations)):
            if 0 < n < 100:
                raise ValueError(f"{what}: expected at least 100, or 0 for none, got {n}; set one of these")
        check_flips(self.test, self.correction)
        return self


def _refuse_first(wrong: Mapping[str, bool], beside: str) -> None:
    """Refuse the first of the settings that do not go with others."""
    for key in (key for key, is_there in wrong.items() if is_there):
        raise ValueError(f"{key} does not go with {beside}; leave it out")


class Brain(Section):
    """Describe participants with similar files; `{participant}`, `{session}`, `{task}` and `{run}` stand for labels."""

    participants: tuple[Name, ...] = Field(min_length=1)
    layout: Layout = "files"
    folder: str | None = None
    kind: BrainKind = "betas"
    files: str | None = None
    events: str | dict[str, str] | None = None  # events of BOLD: events.tsv, or AFNI's stim_times by condition
    confounds: str | None = None
    raw: str | None = None  # BIDS folder with the events, where it is not the one around `folder`
    glm: Glm = Glm()
    labels: str | tuple[str, ...] = "sub-brick"  # several entries: one per run, in their order
    mask: str | None = None
    key: str | None = None  # name of the array in a response table
    axes: tuple[TableAxis, ...] | None = None  # of a response table whose lengths do not tell them
    rois: Regions
    task: str | None = None
    sessions: tuple[str, ...] | None = None
    desc: str | None = None
    entities: dict[str, str] = {}
    space: str = "native"
    missing: Missing = "error"
    normalize: tuple[Normalization, ...] = ()
    noise: NoiseFrom = "runs"  # what the noise is estimated from
    covariance: StudyNoiseMethod = "shrinkage"  # how the noise covariance of a region is estimated
    residuals: str | None = None
    screen: Screen = Screen()

    @property
    def of_stories(self) -> bool:
        """Tell whether the data are time courses of BOLD, a file for each story."""
        return self.kind == "stories"

    @property
    def on_surface(self) -> bool:
        """Tell whether the data lie on the cortical surface: GIFTI files, one per hemisphere, or CIFTI files."""
        return self.files is not None and self.files.endswith(SURFACE_ENDINGS)

    @property
    def on_table(self) -> bool:
        """Tell whether the data are arrays of voxels that have regions and no place, as a voxel table says."""
        return self.kind == "table" or (self.of_stories and str(self.files).endswith(ARRAY_ENDINGS))

    @property
    def on_region_table(self) -> bool:
        """Tell whether the data are tables of time courses with a named column for each region."""
        return self.of_stories and str(self.files).endswith(REGION_TABLE_ENDING)

    @model_validator(mode="after")
    def _stories(self) -> Brain:
        if not self.of_stories:
            return self
        used = {"participants", "kind", "files", "mask", "rois", "confounds", "space", "key"}
        idle = sorted(self.model_fields_set - used)
        _refuse_first(dict.fromkeys(idle, True), f"kind = 'stories', which takes {', '.join(sorted(used))}")
        if "{sound}" not in str(self.files):
            raise ValueError(
                f"files: expected names with {{sound}}, which stands for the stimulus_id of a story, got "
                f"{self.files!r}; write {{sound}} where it stands"
            )
        if self.key is not None and not self.on_table:
            raise ValueError(f"key is of files of arrays (.npy, .mat, ...), got files = {self.files!r}; leave it out")
        return self

    @model_validator(mode="after")
    def _story_regions(self) -> Brain:
        """Check that mask and regions go with the kind of files of stories that are no volumes and not on surfaces."""
        if not (self.of_stories and (self.on_table or self.on_region_table)):
            return self
        rois, wanted = self.rois, "table" if self.on_table else "names"
        what = (
            "arrays, whose rois.table has a row per voxel"
            if self.on_table
            else "tables, whose columns rois.names names"
        )
        wrong = {
            "mask": self.mask is not None,
            "rois.image": rois.image is not None,
            "rois.masks": bool(rois.masks),
            "rois.centers": rois.centers is not None,
            "rois.table": rois.table is not None and self.on_region_table,
        }
        _refuse_first(wrong, f"files of {what}")
        if getattr(rois, wanted) is None:
            raise ValueError(f"rois: lacks the key {wanted!r}, which files of {what} need; add it")
        return self

    @model_validator(mode="after")
    def _table(self) -> Brain:
        rois = self.rois
        if self.of_stories and (self.on_table or self.on_region_table):
            return self
        if self.kind != "table":
            of_table = [key for key in ("key", "axes") if getattr(self, key) is not None]
            if of_table:  # of stories, files of arrays were looked at before
                raise ValueError(f"{of_table[0]}: expected kind = 'table' beside it, got {self.kind!r}; leave it out")
            if not (rois.image or rois.masks or rois.centers):
                raise ValueError("rois: expected one of image, masks and centers, got none of them; give exactly one")
            return self
        wrong = {
            f"layout = {self.layout!r}": self.layout != "files",
            "mask": self.mask is not None,
            "noise = 'residuals'": self.noise == "residuals",
            "screen.sound": self.screen.sound is not None,
            "rois.image": rois.image is not None,
            "rois.masks": bool(rois.masks),
            "rois.centers": rois.centers is not None,
        }
        _refuse_first(wrong, "kind = 'table', whose voxels have no place and whose rois.table has a row per voxel")
        if "labels" not in self.model_fields_set:
            raise ValueError("lacks the key 'labels', which kind = 'table' needs; add the TSV of its items")
        if rois.table is None:
            raise ValueError("rois: lacks the key 'table', which kind = 'table' needs; add the TSV of its voxels")
        return self

    @model_validator(mode="after")
    def _surface(self) -> Brain:
        if not self.on_surface:
            return self
        if "{hemi}" not in str(self.files) and not str(self.files).endswith(CIFTI_ENDINGS):
            raise ValueError(
                f"files: expected a name with {{hemi}}, which stands for L and R, or lh and rh; got {self.files!r}; "
                "write {hemi} in their place"
            )
        wrong = {
            "kind = 'bold'": self.kind == "bold",
            "noise = 'residuals'": self.noise == "residuals",
            "screen.sound": self.screen.sound is not None,
            "rois.masks": bool(self.rois.masks),
            "rois.centers": self.rois.centers is not None,
            "rois.table": self.rois.table is not None,
        }
        _refuse_first(
            wrong,
            "files on the surface, whose data are .func.gii, .dscalar.nii or .dtseries.nii and whose rois.image is "
            ".label.gii or .dlabel.nii",
        )
        return self

    @model_validator(mode="after")
    def _where(self) -> Brain:
        placed = not (self.on_surface or self.on_table or self.on_region_table)
        of_files = ("files", "mask") if placed else ("files",)
        needs = of_files if self.layout == "files" else ("folder",)
        lacking = [key for key in needs if getattr(self, key) is None]
        if lacking:
            raise ValueError(f"lacks the key {lacking[0]!r}, which layout = {self.layout!r} needs; add it")
        if self.layout == "spm":
            of_others = {"kind = 'bold'": self.kind == "bold", "labels": "labels" in self.model_fields_set}
            _refuse_first(of_others, "layout = 'spm', whose betas have the names of SPM's regressors")
        if self.kind == "bold" and self.layout == "files" and self.events is None:
            raise ValueError(
                "lacks the key 'events', which kind = 'bold' needs; add the events.tsv, or stim_times by condition"
            )
        if self.of_stories:
            return self._check_placeholders()
        of_bold = [key for key in ("events", "confounds", "raw", "glm") if key in self.model_fields_set]
        of_betas = [key for key in ("labels", "residuals") if key in self.model_fields_set]
        wrong = of_betas if self.kind == "bold" else of_bold
        if wrong:
            other = "betas" if self.kind == "bold" else "bold"
            raise ValueError(f"{wrong[0]}: expected kind = {other!r} beside it, got {self.kind!r}; change one of them")
        return self._check_placeholders()

    def _check_placeholders(self) -> Brain:
        """Refuse one file, or one folder of SPM, for several participants."""
        several = len(self.participants) > 1 and self.kind != "table"  # a table of voxels tells whose they are
        if self.files is not None and several and "{participant}" not in self.files:
            raise ValueError(
                f"files: expected a name with {{participant}} for {len(self.participants)} participants, got "
                f"{self.files!r}; write {{participant}} where their labels stand"
            )
        if self.layout == "spm" and several and "{participant}" not in str(self.folder):
            raise ValueError(
                f"folder: expected a name with {{participant}} for {len(self.participants)} participants of SPM, got "
                f"{self.folder!r}; write {{participant}} where their labels stand"
            )
        return self
