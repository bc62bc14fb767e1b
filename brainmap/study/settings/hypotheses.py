"""Define the hypotheses of a study file: RDMs of the user, which are compared like a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import field_validator, model_validator

from brainmap.checks import list_some
from brainmap.names import slug
from brainmap.study.settings.brain import Name, Section
from brainmap.types import LayerDissimilarity

HYPOTHESES = "hypotheses"
"""The name of all hypotheses together in the column `network` of tables."""
KINDS = ("category", "features", "phonetic", "rdm")
"""The keys that say where the RDM of a hypothesis comes from, of which each has one."""


class Hypothesis(Section):
    """Describe one hypothesis, whose RDM comes from the table of sounds or from a file; it is compared like a layer."""

    name: Name
    category: str | None = None  # column of the table of sounds: 0 within a category, 1 between categories
    features: tuple[str, ...] = ()  # columns of numbers, such as ratings
    phonetic: bool | str = False  # of the words in `condition`; or the column of their phonemes (ARPAbet)
    rdm: str | None = None  # a file of RDMs: HDF5 of brainmap or rsatoolbox, or a matrix as CSV, TSV or npy
    labels: str | None = None  # a file that names the rows of a matrix without labels, one a line
    dissimilarity: LayerDissimilarity = "euclidean"  # of features, each z-scored over items

    @field_validator("features", mode="before")
    @classmethod
    def _one_feature(cls, value: object) -> object:
        """Take the name of one column as a list of one."""
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> Hypothesis:
        given = [key for key in KINDS if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(
                f"{self.name}: expected one of {list_some(KINDS)}, which says where the RDM comes from, got "
                f"{list_some(given) or 'none'}; make a [[hypothesis]] of each"
            )
        for key, of in (("labels", "rdm"), ("dissimilarity", "features")):
            if key in self.model_fields_set and given != [of]:
                raise ValueError(f"{self.name}: {key} goes with {of}, got {given[0]}; leave {key} out")
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"{self.name}: expected each of the features once, got {list_some(self.features)}")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """List the columns of the table of sounds that the RDM comes from."""
        named = (self.category, self.phonetic if isinstance(self.phonetic, str) else None)
        return (*self.features, *(name for name in named if name))


@dataclass(frozen=True)
class Hypotheses:
    """Hold all hypotheses of a study, which take the place of the layers of a network."""

    entries: tuple[Hypothesis, ...]

    @property
    def name(self) -> str:
        """Return the name in tables."""
        return HYPOTHESES

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the names of the hypotheses, which take the place of layers."""
        return tuple(one.name for one in self.entries)

    def model_dump(self) -> list[dict[str, Any]]:
        """Return the settings of each hypothesis, without keys at their defaults."""
        return [one.model_dump(exclude_defaults=True) for one in self.entries]


def check_hypothesis_names(
    hypotheses: Sequence[str], networks: Sequence[Any], baselines: Any | None, design: Sequence[str]
) -> None:
    """Refuse hypotheses with the name of another model, which nobody could tell apart in tables and figures.

    Parameters
    ----------
    hypotheses : sequence of str
    networks : sequence of Network
    baselines : Baselines or None
    design : sequence of str
        Names of the models of the design.

    Raises
    ------
    ValueError
    """
    others = {f"{n.name}{c}": f"the {c} control of the [[network]] {n.name!r}" for n in networks for c in n.controls}
    others |= {n.seed_of: f"seed_of of the [[network]] {n.name!r}" for n in networks if n.seed_of}
    others |= {n.name: f"the [[network]] {n.name!r}" for n in networks}
    if baselines is not None:
        others |= {baselines.name: f"[baselines] name = {baselines.name!r}"}
        others |= {name: f"the acoustic model {name!r} of [baselines]" for name in baselines.models}
    others |= {name: f"{name!r}, a model of the design" for name in design}
    in_files = {slug(name): what for name, what in others.items()}
    for name in hypotheses:
        if slug(name) in in_files:
            raise ValueError(f"[[hypothesis]] name: {name!r} is taken by {in_files[slug(name)]}; choose another name")
