"""Judge sounds that a region is predicted to want, by encoding models that were not climbed.

An encoding model that is a network (`readout_network`) predicts a region's response to any sound, so gradient ascent
finds a sound with a high prediction. The prediction of the climbed model says little about it: ascent climbs the errors
of the weights too. Models of other networks, fitted on other runs, share neither their features nor their noise, and
judge the sound. All values are in standard deviations of a model's predictions over real sounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_each, list_some
from brainmap.errors import InputError
from brainmap.features.evaluation.explain import compute_all_logits
from brainmap.features.layers.running import evaluating
from brainmap.features.maximization.maximize import Maximization, MaximizationSettings, maximize_activation
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.description import Checkpoint, read_description
from brainmap.features.networks.readout import Ensemble, ReadoutNetwork
from brainmap.features.networks.refeeding import feed_waveforms, refeed_sounds, takes_sounds
from brainmap.features.sounds.batches import Sounds, iterate_tensors
from brainmap.features.sounds.files import Sounds as LabelledSounds
from brainmap.features.sounds.inputs import make_waveforms

CHANCE = 0.05  # p above which a region is not said to be predicted
_FEW = 1  # sounds that go through a network together: the largest judge takes 12 MB for each, and gains nothing
OTHER, SAME = "other data", "same data"

REGION_COLUMNS = {
    "region": "region whose prediction was climbed",
    "predicted": "prediction of the climbed encoding model for the sound [SD of its predictions over real sounds]",
    "judged": "mean prediction of encoding models that were not climbed [SD of theirs]",
    "judges": "these models",
    "judged_on": "whether the judges were fitted on other data than the climbed model",
    "distance": "distance from the nearest real sound in the encoded layer, 1 where it is that between real sounds",
    "best_real": "judged value of the real sound with the highest prediction of the climbed model",
    "best_real_sound": "that real sound",
    "best_random": "judged value of the random pattern of the prior with the highest prediction of the climbed model",
}


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Hold an encoding model that is a network, and how well it predicts.

    Attributes
    ----------
    name : str
    model : ReadoutNetwork
        Its outputs are regions, named by its `classes`.
    scores : mapping of str to float
        Encoding score (correlation with held-out responses) of each region.
    p : mapping of str to float, optional
        p of each score by the maximum null over regions (and over layers, where several were tried).
    data : frozenset of str
        Names or digests of the data on which it was fitted, such as its runs; empty where they are not known.
    checkpoint : Checkpoint, optional
        How its network is fed, where that differs from the climbed one.
    """

    name: str
    model: nn.Module
    scores: Mapping[str, float]
    p: Mapping[str, float] | None = None
    data: frozenset[str] = frozenset()
    checkpoint: Checkpoint | None = None


def load_encoder(path: str | Path) -> Encoder:
    """Load an encoding model that is a network, with its scores and the data on which it was fitted.

    Parameters
    ----------
    path : path
        As `brainmap rsa encode --encoder` writes it.

    Returns
    -------
    Encoder

    Raises
    ------
    InputError
        The file holds no encoding model.
    """
    model, about = load_network(path), read_description(path)
    said = dict((about.training or {}).get("encoding") or {}) if about is not None else {}
    if about is None or not isinstance(model, ReadoutNetwork):
        raise InputError(
            f"encoder: {path} holds no encoding model; write one with brainmap rsa encode --encoder, or with "
            "features.readout_network and features.save_checkpoint"
        )
    return Encoder(
        name=Path(path).stem,
        model=model,
        scores={name: float("nan") if value is None else float(value) for name, value in said.get("r", {}).items()},
        p=None if "p" not in said else {name: 1.0 if p is None else float(p) for name, p in said["p"].items()},
        data=frozenset(said.get("data", ())),
        checkpoint=about,
    )


@dataclass(frozen=True, kw_only=True)
class RegionSounds:
    """Hold sounds that regions are predicted to want.

    Attributes
    ----------
    am : Maximization
        Patterns by region; `class_names` are the regions.
    table : DataFrame
        One row per region, as `REGION_COLUMNS` describes.
    judged_real : ndarray (n_items, n_regions)
        What the judges say of every real sound, in the units of `judged`.
    notes : tuple of str
    """

    am: Maximization
    table: pd.DataFrame
    judged_real: NDArray[np.float64]
    notes: tuple[str, ...]


def maximize_regions(
    encoders: Sequence[Encoder],
    sounds: Sounds,
    *,
    regions: Sequence[str],
    judges: Sequence[Encoder],
    decoder: nn.Module | None = None,
    settings: MaximizationSettings | None = None,
    draws: int = 192,
    gate: bool = True,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> RegionSounds:
    """Find the sound that each region is predicted to want, and let other encoding models judge it.

    Parameters
    ----------
    encoders : sequence of Encoder
        The encoding models that are climbed: one, or several whose mean is.
    sounds : Sounds
        Real sounds, as all networks take them.
    regions : sequence of str
    judges : sequence of Encoder
        Models of networks that are not climbed.
    decoder : torch.nn.Module, optional
        A generative prior; without it, predictions are climbed far beyond all real sounds.
    settings : MaximizationSettings, optional
        A free level (`level=None`) is refused.
    draws : int
        Random patterns of the prior of which the best one of each region is judged beside.
    gate : bool
        Refuse regions whose encoding score does not exceed the maximum null.
    rng : numpy.random.Generator, optional
    device : str
        Where the network runs, as torch names it.
    threads : int, optional
        Number of threads; by default the number of cores that this process may use.

    Returns
    -------
    RegionSounds

    Raises
    ------
    InputError
        An unknown region, by nearest name; a region that is not predicted above chance; a free level; no judge; a
        judge that is climbed too.
    """
    if not encoders or not judges:
        raise InputError("maximize_regions: expected at least one encoding model to climb and one to judge, got none")
    if {id(one.model) for one in encoders} & {id(one.model) for one in judges}:
        raise InputError("maximize_regions: a judge is climbed too; give encoding models of other networks as judges")
    _check_regions(encoders, judges, regions, gate=gate)
    recipe = settings or (MaximizationSettings() if decoder is None else MaximizationSettings.of("generative"))
    if recipe.level is None:
        raise InputError(
            "maximize_regions: expected a level, got level=None: a free level is climbed without end; leave it at "
            "'sounds'"
        )
    climbed = [pick_regions(one, regions) for one in encoders]
    names = [tuple(regions)] * len(climbed)
    model = climbed[0] if len(climbed) == 1 else Ensemble(climbed, names)
    am = maximize_activation(
        model,
        settings=replace(recipe, draws=draws),
        sounds=sounds,
        class_names=list(regions),
        decoder=decoder,
        rng=rng,
        device=device,
        threads=threads,
    )
    judging = [pick_regions(one, regions) for one in judges]
    table, real = _judge_regions(am, model, climbed, judging, judges, sounds, regions, device)
    fitted_on = frozenset().union(*(one.data for one in encoders))
    shared = [one.name for one in judges if not (one.data and fitted_on) or one.data & fitted_on]
    table.insert(3, "judges", ", ".join(one.name for one in judges))
    table.insert(4, "judged_on", SAME if shared else OTHER)
    notes = [f"sounds that regions are predicted to want; judged by {list_some(one.name for one in judges)}"]
    if shared:
        notes.append(
            f"{list_some(shared)}: fitted on the same data as the climbed model (or on data that are not known), with "
            "which it shares noise, so that its judgement is too high; fit judges on other runs"
        )
    return RegionSounds(am=replace(am, notes=(*am.notes, *notes)), table=table, judged_real=real, notes=tuple(notes))


def _check_regions(
    encoders: Sequence[Encoder], judges: Sequence[Encoder], regions: Sequence[str], *, gate: bool
) -> None:
    for one in (*encoders, *judges):
        known = tuple(getattr(one.model, "classes", ()))
        check_each(regions, known, f"maximize_regions: region of the encoding model {one.name!r}")
    if not gate:
        return
    for one in encoders:
        if one.p is None:
            raise InputError(
                f"maximize_regions: the encoding model {one.name!r} does not say which scores chance gives; write it "
                "with permutations (rsa encode --encoder --permutations), or say gate=False and expect nonsense"
            )
        for name in regions:
            p = one.p.get(name, 1.0)
            if not p <= CHANCE:
                score = one.scores.get(name, float("nan"))
                raise InputError(
                    f"maximize_regions: the encoding model {one.name!r} predicts {name!r} no better than chance (r = "
                    f"{score:.3f}, p = {p:.3g} by the maximum null), so that no sound can be said to drive it; choose "
                    "another region or layer"
                )


def pick_regions(one: Encoder, regions: Sequence[str]) -> ReadoutNetwork:
    """Return the encoding model of some regions alone, in their order."""
    model = one.model
    assert isinstance(model, ReadoutNetwork)
    rows = [model.classes.index(name) for name in regions]
    linear = nn.Linear(model.readout.in_features, len(rows)).to(model.readout.weight)
    with torch.no_grad():
        linear.weight.copy_(model.readout.weight[rows])
        linear.bias.copy_(model.readout.bias[rows])
    chosen = ReadoutNetwork(
        model.network,
        model.layer,
        linear,
        center=model.center,
        names=tuple(regions),
        pooling=model.pooling,
        stage=model.stage,
        pool_frequency=model.pool_frequency,
    )
    return chosen.eval()


def _judge_regions(
    am: Maximization,
    model: nn.Module,
    climbed: Sequence[nn.Module],
    judges: Sequence[nn.Module],
    named: Sequence[Encoder],
    sounds: Sounds,
    regions: Sequence[str],
    device: str,
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Build one row per region: predictions for its pattern, the best real sound and the best random pattern.

    Return also what the judges say of all real sounds `(n_items, n_regions)`.
    """
    own = _Scale.of(model, sounds, device)
    others = [_Scale.of(judge, sounds, device, fed=one.checkpoint) for judge, one in zip(judges, named, strict=True)]
    assert am.random is not None
    rows = np.arange(len(regions))
    predicted = own.predict(am, am.patterns)[rows, rows]
    judged = np.mean([one.predict(am, am.patterns)[rows, rows] for one in others], axis=0)
    real = np.mean([one.real for one in others], axis=0)
    best = own.real.argmax(axis=0)
    random = np.mean([one.predict(am, am.random)[rows, rows] for one in others], axis=0)
    items = getattr(sounds, "items", None)
    table = pd.DataFrame(
        {
            "region": list(regions),
            "predicted": predicted,
            "judged": judged,
            "distance": np.mean([_measure_distance(one, am.patterns, sounds, device) for one in climbed], axis=0),
            "best_real": real[best, rows],
            "best_real_sound": [str(k if items is None else items[k]) for k in best],
            "best_random": random,
        }
    )
    return table, real


@dataclass(frozen=True)
class _Scale:
    """Hold a model with the mean and the spread of its predictions over real sounds."""

    model: nn.Module
    real: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    device: str
    fed: Checkpoint | None

    @classmethod
    def of(cls, model: nn.Module, sounds: Sounds, device: str, *, fed: Checkpoint | None = None) -> _Scale:
        given = sounds
        if isinstance(sounds, LabelledSounds):
            fed = None if fed is None or takes_sounds(fed, sounds) else fed
            given = sounds if fed is None else refeed_sounds(sounds, fed)
        raw = compute_all_logits(model, given, batch_size=_FEW, device=device).astype(np.float64)
        mean, spread = raw.mean(axis=0), raw.std(axis=0, ddof=1)
        if not (spread > 0).all():
            raise InputError(
                "maximize_regions: an encoding model predicts the same response to all sounds; leave it out"
            )
        return cls(model, (raw - mean) / spread, mean, spread, device, fed)

    def predict(self, am: Maximization, patterns: NDArray[np.float32]) -> NDArray[np.float64]:
        given: Sounds = patterns
        if self.fed is not None:
            waves, rate = make_waveforms(patterns, am.axes, am.rate)
            given = feed_waveforms(waves, self.fed, rate=rate)
        raw = compute_all_logits(self.model, given, batch_size=_FEW, device=self.device).astype(np.float64)
        return (raw - self.mean) / self.spread


def _measure_distance(
    model: nn.Module, patterns: NDArray[np.float32], sounds: Sounds, device: str
) -> NDArray[np.float64]:
    """Measure the distance of each pattern from the nearest real sound in z-scored units of the encoded layer.

    It is relative to the median of that distance of real sounds from each other.
    """
    assert isinstance(model, ReadoutNetwork)

    def pooled(given: Sounds) -> NDArray[np.float64]:
        with evaluating(model, device), torch.no_grad():
            parts = [model.pooled(batch).double().cpu() for batch in iterate_tensors(given, _FEW, device=device)]
        return torch.cat(parts).numpy()

    real = pooled(sounds)
    center, spread = real.mean(axis=0), real.std(axis=0)
    used = spread > 0
    z = (real[:, used] - center[used]) / spread[used]
    mine = (pooled(patterns)[:, used] - center[used]) / spread[used]
    between = np.sqrt(np.maximum(np.add.outer((z**2).sum(1), (z**2).sum(1)) - 2 * z @ z.T, 0))
    np.fill_diagonal(between, np.inf)
    nearest = np.median(between.min(axis=1))
    to_real = np.sqrt(np.maximum(np.add.outer((mine**2).sum(1), (z**2).sum(1)) - 2 * mine @ z.T, 0)).min(axis=1)
    return np.asarray(to_real / max(float(nearest), 1e-12))
