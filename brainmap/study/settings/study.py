"""Read a study file (TOML) and return checked settings and the files that they name."""

from __future__ import annotations

import json
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from brainmap.checks import check_file, list_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError, name_place
from brainmap.names import slug
from brainmap.study.settings.brain import Brain as Brain, Inference as Inference, Name, Section
from brainmap.study.settings.encoding import EncodingModels
from brainmap.study.settings.explain import Explain
from brainmap.study.settings.hypotheses import HYPOTHESES, Hypotheses, Hypothesis, check_hypothesis_names
from brainmap.study.settings.participant import Participant as Participant, find_participant
from brainmap.study.settings.problems import describe_problems
from brainmap.study.settings.renamed import replace_old_keys
from brainmap.study.settings.stories import StoryModels
from brainmap.types import (
    AcousticModel,
    Align,
    Control,
    ImageFormat,
    LayerDissimilarity,
    Level,
    Loudness,
    Metric,
    NoisePlace,
    Pooling,
    RegionDissimilarity,
    Scaling,
    Shrinkage,
    StudyGroupCorrection,
    StudyMeasure,
    Variant,
)


class About(Section):
    """Describe the title of the study, the folder of its results, and the seed of all random numbers."""

    name: Name
    question: str = ""
    out: str = "derivatives/brainmap"
    seed: int = Field(default=0, ge=0)
    simulated: bool = False  # every page and file states it
    maps: ImageFormat = "nifti"
    grid_tolerance: float | None = Field(default=None, ge=0, lt=0.5)  # voxels; None: as `rsa.grid_tolerance`


class Stimuli(Section):
    """Describe the table of sounds: stimulus_id, condition, path."""

    table: str
    selected: bool = False  # sounds were chosen so that models or brains differ, and are no random sample


class Network(Section):
    """Describe one trained network, and how its layers become RDMs."""

    name: Name
    checkpoint: str
    architecture: str | None = None  # a name of the zoo or "module:function"; checkpoints of brainmap know it
    variant: Variant | None = None
    classes: tuple[str, ...] | None = None
    rate: int | None = Field(default=None, gt=0)  # Hz
    seconds: float | None = Field(default=None, gt=0)
    level: Loudness | None = None
    align: Align | None = None
    own_lengths: bool | None = None  # sounds are not padded; seconds is then the longest
    input: str | None = None  # kind and settings, as log-mel,mels=40,hop_ms=10, or as a table
    layers: Literal["all"] | tuple[str, ...] = "all"
    pooling: Pooling = "mean"
    pool_frequency: bool = False  # of layers of spectrograms; time is always pooled
    units_axis: int | None = None  # for layers where it is not known; -1 is the last
    dissimilarity: LayerDissimilarity = "correlation"
    units: Scaling = "zscore"
    controls: tuple[Control, ...] = ()
    seed_of: Name | None = None  # the network of which this is one training; its seeds are also compared as one network

    @field_validator("layers", mode="before")
    @classmethod
    def _several_patterns(cls, value: object) -> object:
        """Take names and patterns separated by commas, as `--layers` does."""
        if not isinstance(value, str) or value == "all":
            return value
        return tuple(name for part in value.split(",") if (name := part.strip())) or value

    @field_validator("input", mode="before")
    @classmethod
    def _one_line(cls, value: object) -> object:
        """Write a table in one line, as options take it."""
        if not isinstance(value, dict):
            return value
        if not isinstance(value.get("kind"), str):
            raise ValueError("expected a kind, as in input = { kind = 'log-mel', mels = 40 }")
        settings = [f"{key}={one}" for key, one in value.items() if key != "kind"]
        return ",".join([str(value["kind"]), *settings])


class Baselines(Section):
    """Describe acoustic models, the baselines of every claim about a network; they are compared like a network."""

    models: tuple[AcousticModel, ...] = Field(min_length=1)
    name: Name = "acoustics"
    dissimilarity: LayerDissimilarity = "correlation"
    units: Scaling = "zscore"

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the models, which take the place of layers."""
        return self.models

    @property
    def pooling(self) -> Literal["flatten"]:
        """Return "flatten", because the models keep time."""
        return "flatten"

    @model_validator(mode="after")
    def _models_once(self) -> Baselines:
        twice = sorted({m for m in self.models if self.models.count(m) > 1})
        if twice:
            raise ValueError(f"models: expected each model once, got {list_some(twice)} more than once; name each once")
        return self


PARTIAL = ("rho-a", "spearman", "pearson")
"""Measures that `[rsa] control_for` goes with, as `brainmap.rsa.comparison.splines` says."""
OF_DESIGN = ("noise-only", "elapsed-time")
"""What `[rsa] control_for` takes beside acoustic models: RDMs of each participant's own order of events."""


class Rsa(Section):
    """Describe the items of the RDMs, the geometry of the brain, and the comparison of RDMs."""

    items: Level = "stimulus"
    dissimilarity: RegionDissimilarity = "crossnobis"
    measure: StudyMeasure = "rho-a"
    # models of [baselines], or RDMs in OF_DESIGN for each participant: partialled out of every comparison in regions
    control_for: tuple[str, ...] = ()
    inference: Inference = Inference()

    @model_validator(mode="after")
    def _partial_scores_of_what_has_parts(self) -> Rsa:
        if self.control_for and self.measure not in PARTIAL:
            raise ValueError(
                f"control_for: expected measure {list_some(PARTIAL)}, got {self.measure!r}, which has no partial form "
                "that is 0 where layer and brain share the controls only; choose one of these"
            )
        asked = self.inference.asks_for_bootstrap and "bootstrap"
        asked = asked or ("zero" in self.inference.model_fields_set and self.inference.zero == "relabeling" and "zero")
        if self.control_for and asked:
            how = "by bootstrap" if asked == "bootstrap" else "by relabeling"
            raise ValueError(
                f"control_for: partial scores are tested over participants, not {how}; leave out either control_for or "
                f"{asked}"
            )
        return self

    @property
    def score(self) -> str:
        """Name the scores of regions, for tables and figures."""
        if not self.control_for:
            return self.measure
        from brainmap.rsa.comparison.splines import name_partial

        return name_partial(self.measure, len(self.control_for))


class GroupTest(Section):
    """Describe the test of the searchlight maps over participants."""

    test: Literal["sign-flip"] = "sign-flip"
    permutations: int = Field(default=5000, ge=100)
    correction: StudyGroupCorrection = "max-t"
    differences: Literal["all-pairs"] | tuple[tuple[str, str], ...] = ()  # the first layer minus the second
    cluster_p: float = Field(default=0.001, gt=0, lt=0.5)  # threshold of one voxel that forms clusters (cluster-mass)
    neighbors: Literal[6, 18, 26] = 6  # voxels that touch a voxel

    @model_validator(mode="after")
    def _two_layers_once(self) -> GroupTest:
        pairs = [] if isinstance(self.differences, str) else [frozenset(pair) for pair in self.differences]
        if any(len(pair) < 2 for pair in pairs) or len(set(pairs)) < len(pairs):
            raise ValueError(
                "differences: expected pairs of two layers, each pair once; write them as in [['conv4', 'conv2']]"
            )
        return self


class Searchlight(Section):
    """Describe the sphere around every voxel, or the disc around every vertex."""

    radius_mm: float = Field(default=9.0, gt=0)
    mesh: str | None = None  # for surface data: fsaverage5, or files with {hemi}; default: the brain's space
    metric: Metric = "dijkstra"  # along the edges of the mesh, or across its triangles
    dissimilarity: Literal["correlation", "euclidean", "crossnobis"] = "correlation"
    measure: StudyMeasure = "spearman"
    minimum_voxels: int = Field(default=10, ge=2)
    noise_per: NoisePlace = "voxel"  # a variance of each voxel (for crossnobis), or a covariance of each sphere
    shrinkage: Shrinkage = "diag"  # shrinkage of a sphere's covariance
    warped: str | None = None  # maps warped to a template: {participant}, {network}, {layer} or {name}
    warped_space: str | None = None
    ceilings: bool = True  # noise ceilings of every sphere, where participants' patterns share a grid
    group: GroupTest = GroupTest()

    @model_validator(mode="after")
    def _a_warped_map_each(self) -> Searchlight:
        if (self.warped is None) != (self.warped_space is None):
            raise ValueError(
                "warped and warped_space go together: the names of files, and the template they are in; give both"
            )
        if self.warped is not None and "{name}" not in self.warped:
            lacking = [place for place in ("{participant}", "{layer}") if place not in self.warped]
            if lacking:
                raise ValueError(
                    f"warped: expected a name with {lacking[0]}, got {self.warped!r}; name a file for each of them"
                )
        return self


class Truth(Section):
    """Describe the truth of a simulated study: the layer that was planted in each region."""

    table: str


class StudySettings(Section):
    """Describe a whole study file."""

    version: Literal[1] = Field(alias="schema")
    study: About
    stimuli: Stimuli
    network: tuple[Network, ...] = Field(min_length=1)
    brain: tuple[Brain, ...] = Field(min_length=1)
    baselines: Baselines | None = None
    hypothesis: tuple[Hypothesis, ...] = ()
    rsa: Rsa = Rsa()
    encoding: EncodingModels | None = None
    stories: StoryModels | None = None
    searchlight: Searchlight | None = None
    explain: Explain | None = None
    truth: Truth | None = None

    @property
    def hypotheses(self) -> Hypotheses | None:
        """Return all hypotheses, which are compared like the layers of a network; None where there are none."""
        return Hypotheses(self.hypothesis) if self.hypothesis else None

    def dump(self) -> dict[str, Any]:
        """Return all settings under the keys of the file; what was added later is there only where it is used."""
        return self.model_dump(by_alias=True, exclude=None if self.hypothesis else {"hypothesis"})

    @property
    def light(self) -> Searchlight:
        """Return the settings of the searchlight, for what is computed only where there is one."""
        assert self.searchlight is not None
        return self.searchlight

    @property
    def explained(self) -> Explain:
        """Return what is explained, for what is computed only where the study asks for it."""
        assert self.explain is not None
        return self.explain

    @model_validator(mode="after")
    def _stories_alone(self) -> StudySettings:
        of_stories = [brain.of_stories for brain in self.brain]
        if self.stories is None:
            if any(of_stories):
                raise ValueError("lacks the section [stories], which [[brain]] kind = 'stories' needs; add it")
            return self
        if not all(of_stories):
            kinds = sorted({brain.kind for brain in self.brain} - {"stories"})
            raise ValueError(
                f"[stories] expected kind = 'stories' in each [[brain]], got {list_some(kinds)}; change it"
            )
        beside = [
            name
            for name in ("rsa", "encoding", "searchlight", "explain", "truth", "hypothesis")
            if name in self.model_fields_set
        ]
        if beside:
            raise ValueError(
                f"[{beside[0]}] does not go with [stories], whose items are scans and not sounds; leave it out"
            )
        tables = [str(brain.files) for brain in self.brain if brain.on_region_table]
        if self.stories.segment is not None and tables:
            raise ValueError(
                f"[stories] segment: expected files of voxels, whose patterns make RDMs, got tables of regions "
                f"({tables[0]}); leave segment out"
            )
        models = [*self.network, *([self.baselines] if self.baselines else [])]
        of_rdms = sorted({key for one in models for key in ("dissimilarity", "units") if key in one.model_fields_set})
        if of_rdms:
            raise ValueError(f"[network] {of_rdms[0]} is of RDMs, which a study of stories does not make; leave it out")
        return self

    @model_validator(mode="after")
    def _bands_of_networks(self) -> StudySettings:
        for section, bands in (("encoding", self.encoding), ("stories", self.stories)):
            asked = () if bands is None else bands.bands
            known = [f"{n.name}{c}" for n in self.network for c in ("", *(f"-{c}" for c in n.controls))]
            known += [self.baselines.name] if self.baselines else []
            known += ["speech"] if self.stories is not None and self.stories.speech else []
            wrong = [one for one in asked if one.partition(":")[0] not in known]
            if wrong:
                raise ValueError(
                    f"[{section}] bands: expected NETWORK or NETWORK:LAYER of {list_some(known)}, got "
                    f"{list_some(wrong)}{suggest_word(wrong[0], known)}"
                )
            if len(asked) == 1 or len(set(asked)) < len(asked):
                raise ValueError(f"[{section}] bands: expected two or more that differ, got {list_some(asked)}")
        return self

    @model_validator(mode="after")
    def _names_once(self) -> StudySettings:
        networks = [n.name for n in self.network]
        versions = [f"{n.name}{c}" for n in self.network for c in ("", *n.controls)]
        versions += [self.baselines.name] if self.baselines else []
        versions += ["speech"] if self.stories is not None and self.stories.speech else []
        versions += [HYPOTHESES] if self.hypothesis else []
        people = [p for b in self.brain for p in b.participants]
        whole = [n.seed_of for n in self.network if n.seed_of]
        versions += [f"{name}{c}" for name in dict.fromkeys(whole) for c in ("", "untrained", "permuted")]
        lone = [name for name in whole if whole.count(name) == 1]
        if lone:
            raise ValueError(
                f"[[network]] seed_of: expected several seeds of {lone[0]!r}, got one; name it for each of them"
            )
        hypotheses = [one.name for one in self.hypothesis]
        named = (("network", networks), ("participant", people), ("network", versions), ("hypothesis", hypotheses))
        for what, names in named:
            in_files = [slug(n) for n in names]  # file names hold letters and digits only
            twice = sorted({n for n, s in zip(names, in_files, strict=True) if in_files.count(s) > 1})
            if twice:
                raise ValueError(f"{what} {list_some(twice)}: {_advise_on_names(names, twice)}")
        if len(people) == 1 and self.rsa.inference.asks_for_bootstrap and self.rsa.inference.over != "conditions":
            raise ValueError(
                f"[rsa] inference: a bootstrap over {self.rsa.inference.over} expects several participants, "
                "got one; set over = 'conditions'"
            )
        if len({brain.on_surface for brain in self.brain}) > 1:
            raise ValueError(
                "[[brain]] expected files on the surface (.gii) or volumes, got both; make a study of each"
            )
        if self.searchlight is not None and any(brain.on_table for brain in self.brain):
            raise ValueError(
                "[searchlight] expected images, got [[brain]] kind = 'table', which does not tell where voxels lie; "
                "leave [searchlight] out, or make images of the table ('From a matrix to maps' in the guide to betas)"
            )
        known = self.baselines.models if self.baselines else ()
        check_hypothesis_names(hypotheses, self.network, self.baselines, OF_DESIGN)
        for name in self.rsa.control_for:
            if name not in known and name not in OF_DESIGN and name not in hypotheses:
                of = f"a [[hypothesis]] ({list_some(hypotheses)}) or " if hypotheses else ""
                hint = suggest_word(name, (*known, *OF_DESIGN, *hypotheses))
                raise ValueError(
                    f"[rsa] control_for: expected a model of [baselines] ({list_some(known) or 'there are none'}) or "
                    f"{of}of the design ({list_some(OF_DESIGN)}), got {name!r}{hint}"
                )
        chosen = self.explain.network if self.explain else None
        if chosen is not None and chosen not in networks:
            hint = suggest_word(chosen, networks)
            raise ValueError(f"[explain] network: expected one of {list_some(networks)}, got {chosen!r}{hint}")
        return self


@dataclass(frozen=True)
class Study:
    """Hold the settings, and the folder to which their paths are relative."""

    settings: StudySettings
    path: Path

    @property
    def out(self) -> Path:
        """Return the folder of the results."""
        return self.folder / self.settings.study.out

    @property
    def folder(self) -> Path:
        """Return the folder of the study file."""
        return self.path.parent

    def resolve(self, name: str) -> str:
        """Resolve a path relative to the study file's folder; AFNI names with selectors stay as typed."""
        return str(self.folder / name)

    def participants(self) -> Iterator[Participant]:
        """Yield every participant with the files that match the patterns.

        Raises
        ------
        InputError
            A pattern matches no file.
        """
        for brain in self.settings.brain:
            for label in brain.participants:
                yield self.participant(brain, label)

    def participant(self, brain: Brain, label: str) -> Participant:
        """Find one participant of a group, with the files of its layout."""
        return find_participant(brain, label, self.resolve)


def load_study(path: str | Path) -> Study:
    """Read and check a study file; each key that has a new name is taken, with a `BrainmapWarning`.

    Raises
    ------
    InputError
        The file does not exist or is not TOML, or a key or value is not known; the message gives the nearest one.
    """
    path = check_file(path, "study")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid TOML: {error}; correct it there") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    with name_place(str(path)):
        content, notes = replace_old_keys(content)
    for note in notes:
        warnings.warn(f"{path}: {note}", BrainmapWarning, stacklevel=2)
    try:
        return Study(StudySettings.model_validate(content), path.resolve())
    except ValidationError as error:
        lines = describe_problems(error.errors(), text, content, StudySettings)
        raise InputError("\n".join(f"{path}{line}" for line in lines)) from None


def study_of(folder: Path) -> Path:
    """Find the study file whose results lie in a folder.

    Raises
    ------
    InputError
        The folder holds no results of brainmap.
    """
    description = folder / "dataset_description.json"
    try:
        name: str = json.loads(description.read_text(encoding="utf-8"))["StudyFile"]
        return folder / name
    except (OSError, ValueError, KeyError, TypeError):
        if (folder / "study.toml").is_file():
            return folder / "study.toml"
        raise InputError(
            f"expected a folder with results of brainmap, got {folder}; give the study file instead"
        ) from None


def _advise_on_names(names: Sequence[str], twice: Sequence[str]) -> str:
    """Say what to do about names that occur twice, are reserved, or would share the names of their files."""
    if HYPOTHESES in twice:
        return f"named more than once, as {HYPOTHESES!r} is the name of the results of hypotheses; choose another one"
    if any(list(names).count(name) > 1 for name in twice):
        return "named more than once; list each one once"
    return "alike in letters and digits, of which names of files are made; choose names whose letters and digits differ"
