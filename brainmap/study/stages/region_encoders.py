"""Fit encoding models of regions to halves of a study's data: one half for what is climbed, the other for judges.

Models that are fitted to the same responses share their noise, so that each calls a sound good that the other chose.
Participants are therefore halved, or the runs of a single one; where neither is possible, the page says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.activations.extract import extract_activations
from brainmap.features.evaluation.judges import load_judges
from brainmap.features.evaluation.regions import Encoder, RegionSounds, maximize_regions
from brainmap.features.maximization.decoder import AUDIO, ChosenPrior
from brainmap.features.networks.description import Checkpoint
from brainmap.features.networks.readout import readout_network
from brainmap.features.networks.refeeding import refeed_sounds
from brainmap.features.sounds.files import Sounds
from brainmap.progress import log, progress
from brainmap.rsa.encoding.encode import fit_layers
from brainmap.rsa.encoding.fits import EncodingSettings, fit_weights_of_layer
from brainmap.rsa.encoding.folds import Folds
from brainmap.rsa.encoding.responses import FeatureSpace, Responses
from brainmap.study.results.context import Context, make_rng
from brainmap.study.settings.explain import Maximizing
from brainmap.study.settings.study import Network
from brainmap.study.stages.encoding import EncodedPerson, yield_encoded
from brainmap.study.stages.explain import DRAWS, choose_class_priors
from brainmap.study.stages.networks import Loaded, Version
from brainmap.types import Floats, Pooling

FEW = 2  # sounds that go through a judge together: the largest one takes 12 MB for each, in each thread


@dataclass(frozen=True, eq=False)
class Half:
    """Hold the mean responses of one half of the data `(n_items, n_regions)`, and the names of what is in it."""

    names: frozenset[str]
    mean: Floats


@dataclass(frozen=True, eq=False)
class RegionData:
    """Hold the responses of regions in two halves of the data, with the rows of the sounds of each item.

    Attributes
    ----------
    items, conditions, regions : tuple of str
    climbed, judging : Half
        The same half twice, where the data cannot be divided.
    folds : Folds
    rows : tuple of array
        Rows of the sounds that each item is the mean of.
    settings : EncodingSettings
    spaces : tuple of FeatureSpace
        The layers of all networks of the study, in the order of the items.
    """

    items: tuple[str, ...]
    conditions: tuple[str, ...]
    regions: tuple[str, ...]
    climbed: Half
    judging: Half
    folds: Folds
    rows: tuple[np.ndarray, ...]
    settings: EncodingSettings
    spaces: tuple[FeatureSpace, ...]

    @property
    def divided(self) -> bool:
        """Tell whether judges see other data."""
        return not self.climbed.names & self.judging.names

    def respond(self, half: Half) -> Responses:
        """Return the responses of a half as those of one repetition."""
        none = pd.array([pd.NA] * len(self.regions), dtype="Int64")
        targets = pd.DataFrame({"roi": list(self.regions), "voxel": none})
        return Responses(half.mean[None], self.items, self.conditions, ("1",), targets)


@dataclass(frozen=True, eq=False)
class _Means:
    """Hold the mean responses of the regions of a participant: over runs, and in each run, `(n_items, n_regions)`."""

    label: str
    items: tuple[str, ...]
    runs: tuple[str, ...]
    regions: tuple[str, ...]
    whole: Floats
    by_run: Sequence[Floats]

    @classmethod
    def of(cls, label: str, responses: Responses) -> _Means:
        """Average the responses over the voxels of each region."""
        roi = responses.targets["roi"].to_numpy()
        regions = tuple(dict.fromkeys(roi))

        def average(values: Floats) -> Floats:
            return np.stack([values[:, roi == name].mean(axis=1) for name in regions], axis=1)

        by_run = [average(one) for one in responses.values]
        return cls(label, responses.items, responses.runs, regions, average(responses.mean), by_run)

    def choose(self, values: Floats, items: Sequence[str], regions: Sequence[str]) -> Floats:
        """Return values of some items and regions, z-scored over the items."""
        rows, columns = [self.items.index(one) for one in items], [self.regions.index(one) for one in regions]
        mean = values[np.ix_(rows, columns)]
        there = np.isfinite(mean)
        n = np.maximum(there.sum(axis=0), 1)
        center = np.where(there, mean, 0.0).sum(axis=0) / n
        spread = np.sqrt(np.where(there, (mean - center) ** 2, 0.0).sum(axis=0) / n)
        return np.asarray((mean - center) / np.where(spread > 0, spread, 1.0))


def collect_region_data(people: Iterable[EncodedPerson], total: int) -> RegionData:
    """Average the responses of regions over halves of the participants, or of the runs of a single one.

    Responses of each participant (or run) are z-scored over the items first. Items and regions that some participant
    lacks are left out. Participants are read one after another, and only the means of their regions are kept;
    `total` is their number.
    """
    every: list[_Means] = []
    with progress("reading responses", total) as step:
        for one in people:
            if not every:
                (spaces, responses), folds, settings = one.aligned, one.folds, one.settings
            every.append(_Means.of(one.label, one.aligned[1]))
            step.advance()
    items = [item for item in responses.items if all(item in one.items for one in every)]
    regions = tuple(roi for roi in every[0].regions if all(roi in one.regions for one in every))
    if len(every) > 1:
        parts = [(f"sub-{one.label}", one.choose(one.whole, items, regions)) for one in every]
    else:
        values = zip(every[0].runs, every[0].by_run, strict=True)
        parts = [(f"sub-{every[0].label} run-{run}", every[0].choose(one, items, regions)) for run, one in values]
    halves = [_join(parts[k::2]) for k in range(min(2, len(parts)))]
    if len(halves) < 2 or any(np.isnan(half.mean).any() for half in halves):
        halves = [Half(frozenset(name for name, _ in parts), _join(parts).mean)] * 2
    at = [responses.items.index(item) for item in items]
    fold, group = (np.unique(part[at], return_inverse=True)[1] for part in (folds.fold, folds.group))
    rows = tuple(np.asarray(spaces[0].members[k]) for k in at)
    return RegionData(
        items=tuple(items),
        conditions=tuple(responses.conditions[k] for k in at),
        regions=regions,
        climbed=halves[0],
        judging=halves[1],
        folds=replace(folds, fold=fold, group=group),
        rows=rows,
        settings=settings,
        spaces=tuple(replace(space, members=rows) for space in spaces),
    )


def _join(parts: Sequence[tuple[str, Floats]]) -> Half:
    """Average over parts; an item that no part has is NaN."""
    values = np.stack([one for _, one in parts])
    n = np.isfinite(values).sum(axis=0)
    total = np.where(np.isfinite(values), values, 0.0).sum(axis=0)
    return Half(frozenset(name for name, _ in parts), np.where(n > 0, total / np.maximum(n, 1), np.nan))


@dataclass(frozen=True, eq=False)
class Reader:
    """Hold a network whose layers encoding models read: its sounds, its features, and how these were pooled."""

    name: str
    model: nn.Module
    checkpoint: Checkpoint
    sounds: Sounds
    spaces: tuple[FeatureSpace, ...]
    pooling: Pooling
    pool_frequency: bool

    def fit(self, layer: str, data: RegionData, half: Half) -> nn.Module:
        """Fit a layer to all items of a half, and make the encoding model of all regions a network."""
        space = next(space for space in self.spaces if space.layer == layer)
        found = fit_weights_of_layer(space, data.respond(half), data.folds.group, data.settings)
        return readout_network(
            self.model,
            self.sounds,
            layer=layer,
            weights=found.weights,
            mean=found.mean,
            sd=found.sd,
            intercept=found.intercept,
            names=data.regions,
            pooling="flatten" if self.pooling == "none" else self.pooling,
            pool_frequency=self.pool_frequency,
        )


def make_reader(one: Loaded, version: Version, data: RegionData) -> Reader:
    """Take the features of a network of the study."""
    network = version.heard
    spaces = tuple(space for space in data.spaces if space.network == version.name)
    frequency = isinstance(network, Network) and network.pool_frequency
    return Reader(version.name, one.model, one.checkpoint, one.sounds, spaces, network.pooling, frequency)


def list_readers(context: Context, loaded: Mapping[str, Loaded], climbed: Version, data: RegionData) -> list[Reader]:
    """List the networks whose encoding models judge: the others of the study, or those of `[explain] judges`."""
    own = loaded[climbed.network.name]
    others = [network for network in context.study.settings.network if network.name != climbed.network.name]
    others = [network for network in others if loaded[network.name].digest != own.digest]
    if others:
        return [make_reader(loaded[network.name], Version(network, ""), data) for network in others]
    settings = context.study.settings.explain
    asked = "package" if settings is None else settings.maximization.judges
    if asked == "none":
        return []
    paths = None if asked == "package" else [context.study.resolve(path) for path in asked]
    readers = []
    for judge in load_judges(paths, climbed=own.model)[0]:
        sounds = refeed_sounds(own.sounds, judge.checkpoint)
        acts = extract_activations(
            judge.model, sounds, batch_size=FEW, device=context.device, network=judge.name, threads=context.threads
        )
        spaces = tuple(FeatureSpace(judge.name, layer, np.asarray(acts[layer][:]), data.rows) for layer in acts.layers)
        readers.append(Reader(judge.name, judge.model, judge.checkpoint, sounds, spaces, "mean", False))
    return readers


def fit_judges(readers: Sequence[Reader], data: RegionData, wanted: Sequence[str]) -> dict[str, list[Encoder]]:
    """Fit judges of each region to the other half of the data: of each network the layer that predicts it best.

    A network none of whose layers predicts a region in that half (r above 0, cross-validated) does not judge it.
    """
    judges: dict[str, list[Encoder]] = {roi: [] for roi in wanted}
    for reader in readers:
        scores, _, _ = fit_layers(reader.spaces, data.respond(data.judging), data.folds, data.settings)
        fitted: dict[str, nn.Module] = {}
        for roi in wanted:
            here = scores[scores["roi"] == roi].dropna(subset="r")
            if not len(here) or here["r"].max() <= 0:
                continue
            best = here.sort_values("r", ascending=False, kind="stable").iloc[0]
            layer = str(best["layer"])
            try:
                if layer not in fitted:
                    fitted[layer] = reader.fit(layer, data, data.judging)
            except InputError as error:
                log.info("note: %s does not judge %s: %s", reader.name, roi, error)
                continue
            judges[roi].append(
                Encoder(
                    name=f"{reader.name} {layer}",
                    model=fitted[layer],
                    scores={roi: float(best["r"])},
                    data=data.judging.names,
                    checkpoint=reader.checkpoint,
                )
            )
    if silent := [roi for roi, own in judges.items() if not own]:
        log.info("note: no other network predicts %s, so that no sound is made for it", list_some(silent))
    return judges


@dataclass(frozen=True)
class RegionSearch:
    """Hold what the search for the sounds of regions needs: the network that is climbed, the data, and the judges.

    Attributes
    ----------
    context : Context
    one : Loaded
        The network that is climbed.
    own : Reader
    data : RegionData
    readers : sequence of Reader
        The networks that judge.
    prior : ChosenPrior
    """

    context: Context
    one: Loaded
    own: Reader
    data: RegionData
    readers: Sequence[Reader]
    prior: ChosenPrior

    @classmethod
    def prepare(cls, context: Context, loaded: Mapping[str, Loaded], version: Version) -> RegionSearch:
        """Read the participants and the features of the networks of the study."""
        people, one = list(context.study.participants()), loaded[version.network.name]
        data = collect_region_data(yield_encoded(context, regions_only=True), len(people))
        readers = list_readers(context, loaded, version, data)
        return cls(context, one, make_reader(one, version, data), data, readers, _choose_prior(context, one))

    def judge(self, regions: Sequence[str]) -> dict[str, list[Encoder]]:
        """Fit the judges of some regions; a region that no network predicts has none."""
        return fit_judges(self.readers, self.data, regions)

    def climb(self, row: Mapping[Any, Any], judges: Sequence[Encoder], **changes: Any) -> tuple[Encoder, RegionSounds]:
        """Find the sound that a region is predicted to want, through one layer.

        Parameters
        ----------
        row : mapping
            `roi`, `layer`, and `mean` and `p_corrected` of its score.
        judges : sequence of Encoder
        **changes
            Changes of the settings of the ascent.

        Raises
        ------
        InputError
            Features that no network can be cut of, such as reduced ones.
        """
        context, roi = self.context, str(row["roi"])
        settings = context.study.settings.explain
        asked = Maximizing() if settings is None else settings.maximization
        encoder = Encoder(
            name=self.own.name,
            model=self.own.fit(str(row["layer"]), self.data, self.data.climbed),
            scores={roi: float(row["mean"])},
            p={roi: float(row["p_corrected"])},
            data=self.data.climbed.names,
        )
        found = maximize_regions(
            [encoder],
            self.one.sounds,
            regions=[roi],
            judges=judges,
            decoder=self.prior.decoder,
            settings=self.prior.settings(steps=asked.steps, **changes),
            draws=DRAWS,
            rng=make_rng(context, f"sound of {roi}"),
            device=context.device,
            threads=context.threads,
        )
        return encoder, found


def _choose_prior(context: Context, one: Loaded) -> ChosenPrior:
    """Choose the prior as for classes; without any prior the level is free, and predictions are climbed without end."""
    first = choose_class_priors(context, one)[0]
    return first if first.prior != "none" else AUDIO
