"""Fit encoding models of each participant (stage 2): every layer of all networks, controls and baselines to regions.

Write the tables of encoding models of each participant, from pieces that may have been computed elsewhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.encoding.counts import COUNT_COLUMNS, warn_of_participants
from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
from brainmap.rsa.encoding.fits import EncodingSettings
from brainmap.rsa.encoding.folds import Folds, group_items, make_fold_rng, make_folds
from brainmap.rsa.encoding.responses import FeatureSpace, Responses, align_items, divide_items, keep_targets
from brainmap.rsa.encoding.ridge import check_alphas, find_device
from brainmap.rsa.patterns.table import Pattern
from brainmap.study.results.context import Context, make_parent
from brainmap.study.settings.encoding import EncodingModels
from brainmap.study.stages.brains import load_region_patterns, load_regions, screen_patterns
from brainmap.study.stages.encoding_pieces import PARTICIPANT, Modeled, ModelPieces, run_models
from brainmap.study.stages.networks import store_path, yield_heard
from brainmap.study.stages.participants import Person, yield_people
from brainmap.tables import read_results_table

VERSION = 1
FEW_REFITS = 100  # permutations that are taken without a note on their time


@dataclass(frozen=True)
class EncodedPerson(Modeled):
    """Hold the layers and the responses of a participant, aligned when a stage first needs them.

    With `regions_only` no voxel outside of the regions is read.
    """

    asked: EncodingModels
    regions_only: bool = False
    kind = "encoding"
    band_iterations = 50
    orders_for = "encoding test"

    @cached_property
    def one(self) -> Person:
        """Return the participant with its data."""
        return Person(self.context, self.person)

    @cached_property
    def networks(self) -> list[str]:
        """List the networks, their controls, and the baselines."""
        return [version.name for version in yield_heard(self.context)]

    @cached_property
    def n_voxels_of_regions(self) -> int:
        """Count the voxels of all regions before data are read."""
        return sum(load_regions(self.person).sizes.values())

    @property
    def spaces(self) -> list[FeatureSpace]:
        """Return the layers of all networks."""
        return self.aligned[0]

    @property
    def responses(self) -> Responses:
        """Return the responses of the voxels of the regions, or of their means."""
        return self.aligned[1]

    @cached_property
    def aligned(self) -> tuple[list[FeatureSpace], Responses]:
        """Align the layers of all networks with the responses of the voxels of the regions."""
        from brainmap.features.activations.stored import open_activations

        context = self.context
        networks = {version.name: open_activations(store_path(context, version)) for version in yield_heard(context)}
        items = context.study.settings.rsa.items
        person = self.person
        data = (
            load_region_patterns(person, context.stimuli, self.one.rois)
            if self.regions_only
            else screen_patterns(person, self.one.data)
        )
        spaces, found = align_items(networks, data, items=items, targets=self.asked.targets)
        return spaces, replace(keep_targets(found, (found.targets["roi"] != "").to_numpy()), participant=self.label)

    @cached_property
    def folds(self) -> Folds:
        """Divide the sounds into folds, which are the same in all participants with the same sounds."""
        asked, rng = self.asked, make_fold_rng(self.context.study.settings.study.seed)
        return divide_items(self.responses, asked.groups, folds=asked.folds, few_items=asked.few_items, rng=rng)

    @property
    def settings(self) -> EncodingSettings:
        """Return how ridge regression is fitted."""
        found = find_device("auto" if self.context.device == "cuda" else "cpu")
        return EncodingSettings(alphas=check_alphas(self.asked.alphas), device=found)

    @cached_property
    def key(self) -> str:
        """Return the key of everything that the scores depend on."""
        context, brain = self.context, self.person.brain
        heard = [[v.name, context.ledger.read(f"network-{v.name}")["key"]] for v in yield_heard(context)]
        own = self.asked.model_dump(exclude={"permutations", "bands"})
        cut = [brain.rois.model_dump(), brain.screen.model_dump()]
        return self.one.key(self.one.inputs, "", VERSION, heard, own, cut, context.study.settings.study.seed)


def yield_encoded(context: Context, only: Sequence[str] = (), *, regions_only: bool = False) -> Iterator[EncodedPerson]:
    """Yield all or some participants, where the study asks for encoding models.

    With `regions_only` no voxel outside of the regions is read, and voxels are numbered within the regions.
    """
    asked = context.study.settings.encoding
    if asked is not None:
        yield from (EncodedPerson(context, one.person, asked, regions_only) for one in yield_people(context, only))


def check_encoding(context: Context, plan: Sequence[Pattern]) -> None:
    """Refuse too few sounds, groups or folds before anything is computed, from the patterns of a participant.

    Raises
    ------
    InputError
        As in `brainmap.rsa.encode`.
    """
    asked, items = context.study.settings.encoding, context.study.settings.rsa.items
    if asked is None:
        return
    if asked.targets == "voxel" and asked.permutations > FEW_REFITS:
        warnings.warn(
            f"[encoding] refits every voxel in each of {asked.permutations} permutations, which takes about "
            f"{asked.permutations * 0.1:.0f} s a layer and participant for 165 sounds and 1,000 voxels; means "
            "of regions (targets = 'roi') take less than a second",
            BrainmapWarning,
            stacklevel=2,
        )
    conditions: dict[str, str] = {}
    runs: dict[str, list[str]] = {}
    for row in plan:
        if row.source >= 0:
            item = row.stimulus_id if items == "stimulus" else row.condition
            conditions[item] = row.condition
            runs.setdefault(item, [])
            runs[item] += [row.run] if row.run not in runs[item] else []
    try:
        group, by = group_items(list(conditions), list(conditions.values()), runs, asked.groups)
        rng = make_fold_rng(context.study.settings.study.seed)
        make_folds(
            group,
            by,
            n_folds=asked.folds,
            rng=rng,
            few_items=asked.few_items,
        )
    except InputError as error:
        said = str(error).replace("few_items=True (--few-items)", "few_items = true").removeprefix("encoding: ")
        raise InputError(f"[encoding] {said}") from None


def run_encoding(context: Context, only: Sequence[str] = ()) -> None:
    """Fit the encoding models of all participants, or of some, where the study asks for them."""
    run_models(yield_encoded(context, only), _write_scores)
    if only:  # the stage of the group warns of all participants
        warn_of_participants(read_counts(list(yield_encoded(context, only))))


def read_counts(people: Sequence[EncodedPerson]) -> dict[str, pd.DataFrame]:
    """Read what has no score in each participant, by their labels."""
    return {one.label: read_results_table(_build_counts_path(one)) for one in people}


def _build_counts_path(one: EncodedPerson) -> Path:
    return one.context.build_subject_path(one.person, "counts.tsv", desc="encoding")


def _write_scores(one: EncodedPerson) -> Iterator[Path]:
    context = one.context
    scores, counts, _ = ModelPieces(one).join()
    asked = {"encoding": one.asked.model_dump(), "brain": one.person.brain.model_dump()}
    about = {
        "Items": len(one.responses.items),
        "Folds": one.folds.n_folds,
        "Groups": one.folds.by,
        "FoldOfItem": one.folds.name_folds(one.responses.items),
        "Alphas": one.settings.alphas.tolist(),
        **context.build_provenance(asked, one.one.inputs),
    }
    for table in (scores, counts):
        table.insert(0, "participant", one.label)
    yield from context.save_table(scores, make_parent(one.path), columns=PARTICIPANT | ENCODING_COLUMNS, about=about)
    yield from context.save_table(counts, _build_counts_path(one), columns=PARTICIPANT | COUNT_COLUMNS, about=about)
