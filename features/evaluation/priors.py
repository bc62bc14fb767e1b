"""Compare priors of activation maximization by what other networks make of the patterns of the same classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.evaluation.judges import Judge, Judgement, judge_patterns, make_class_noise
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation
from brainmap.features.networks.description import Checkpoint
from brainmap.features.sounds.batches import get_labels
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.inputs import read_padded
from brainmap.types import Preset

REAL, NOISE, SOURCE, AUDIO, DECODER = "real sounds", "class noise", "source study", "audio prior", "decoder prior"
RANDOM = "best random latent"
RANDOM_NOISE = "best random noise"
_OWN_RANDOM = {AUDIO: RANDOM_NOISE, DECODER: RANDOM}

PRIOR_COLUMNS = {
    "pattern": "what was played: real sounds, noise with the class's mean spectrum, or patterns by their prior",
    "n": "number of sounds played",
    "own": "share that the network of the ascent calls by its class",
    "transfer": "share that the other networks call by its class, mean over them",
    "margin": "transfer minus that of the best random patterns of the same prior: noise, or latents of the decoder",
    "real_correlation": "mean correlation of log-mel spectrograms with the mean one of the class's sounds",
    "voiced": "mean share of sounding frames that are voiced",
}


@dataclass(frozen=True, kw_only=True)
class PriorComparison:
    """Hold patterns of the same classes by several priors, and what other networks make of them.

    Attributes
    ----------
    table : DataFrame
        One row for each kind of sound, as `PRIOR_COLUMNS` describes; a column for each judge holds the share of the
        sounds that it calls by their class.
    by_class : DataFrame
        `pattern`, `class_name`, `transfer`, `real_correlation`, `voiced`: means over seeds, noises or recordings.
    class_names, judges : tuple of str
    """

    table: pd.DataFrame
    by_class: pd.DataFrame
    class_names: tuple[str, ...]
    judges: tuple[str, ...]


def compare_priors(
    model: nn.Module,
    sounds: Sounds,
    *,
    checkpoint: Checkpoint,
    judges: Sequence[Judge],
    classes: Sequence[str] | None = None,
    decoder: nn.Module | None = None,
    steps: int = 150,
    seeds: int = 1,
    draws: int = 192,
    noises: int = 8,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> PriorComparison:
    """Play class patterns by several priors, real sounds and noise of each class to networks that were not climbed.

    Parameters
    ----------
    model : torch.nn.Module
        The network that is climbed; it takes waveforms.
    sounds : Sounds
        Real sounds, as the network takes them, whose conditions are classes.
    checkpoint : Checkpoint
        How the network is fed; its `classes` name its outputs.
    judges : sequence of Judge
    classes : sequence of str, optional
        Classes to compare; by default those of which there are sounds.
    decoder : torch.nn.Module, optional
        Its prior is compared too.
    steps : int
    seeds : int
        Ascents of each class from different noise; every one of them counts, not the best alone.
    draws, noises : int
        Random patterns of a prior of which the best one is taken for each class and seed, and noises of each class.
    rng : numpy.random.Generator, optional
    device : str
        Where the network runs, as torch names it.
    threads : int, optional
        Number of threads; by default the number of cores that this process may use.

    Returns
    -------
    PriorComparison

    Raises
    ------
    InputError
        A class that the network or the sounds do not have, a network on spectrograms, or no judge knows a class.
    """
    names = _choose_classes(checkpoint, sounds, classes)
    if not checkpoint.front_end.is_waveform:
        raise InputError(f"compare_priors: expected a network on waveforms, got {checkpoint.front_end.describe()}")
    rng = rng or np.random.default_rng(0)
    own = Judge(name="own", model=model, checkpoint=checkpoint)
    how: dict[str, Any] = {"names": names, "checkpoint": checkpoint, "device": device, "threads": threads}
    rows, parts = [], []
    kinds = _iterate_kinds(
        model, sounds, rng=rng, decoder=decoder, steps=steps, seeds=seeds, draws=draws, noises=noises, **how
    )
    for kind, waves, labels, taken in kinds:
        found = judge_patterns(
            waves, labels, rate=checkpoint.rate, judges=judges, sounds=sounds, rows=taken, device=device
        )
        mine = judge_patterns(waves, labels, rate=checkpoint.rate, judges=[own], device=device)
        rows.append(_summarize(kind, found, mine))
        parts.append(_tabulate_classes(kind, labels, found))
    table = pd.DataFrame(rows)
    random = table["pattern"].map(_OWN_RANDOM).map(table.set_index("pattern")["transfer"])
    table.insert(4, "margin", table["transfer"] - random)
    return PriorComparison(
        table=table,
        by_class=pd.concat(parts, ignore_index=True),
        class_names=tuple(names),
        judges=tuple(judge.name for judge in judges),
    )


def _choose_classes(checkpoint: Checkpoint, sounds: Sounds, classes: Sequence[str] | None) -> list[str]:
    there = list(dict.fromkeys(get_labels(sounds)[1]))
    known = list(checkpoint.classes)
    names = [name for name in known if name in there] if classes is None else list(classes)
    wrong = [name for name in names if name not in known or name not in there]
    if wrong or not names:
        raise InputError(
            f"compare_priors: expected classes of the network that have sounds, got {list_some(wrong) or 'none'}; the "
            f"network knows {list_some(known, 6)}, the sounds are {list_some(there, 6)}"
        )
    return names


def _iterate_kinds(
    model: nn.Module,
    sounds: Sounds,
    *,
    names: list[str],
    checkpoint: Checkpoint,
    decoder: nn.Module | None,
    steps: int,
    seeds: int,
    draws: int,
    noises: int,
    rng: np.random.Generator,
    device: str,
    threads: int | None,
) -> Iterator[tuple[str, NDArray[np.float32], list[str], NDArray[np.intp] | None]]:
    """Yield each kind of sound with its waveforms, the class of each, and for real sounds their rows."""
    conditions = np.array(get_labels(sounds)[1])
    real = np.flatnonzero(np.isin(conditions, names))
    yield REAL, read_padded(sounds.take(real)), [str(c) for c in conditions[real]], real
    length = sounds.n_samples
    made = [make_class_noise(sounds, name, (1, length), n=noises, rng=rng) for name in names]
    yield NOISE, np.concatenate(made), [name for name in names for _ in range(noises)], None
    units = [checkpoint.classes.index(name) for name in names]
    again = [name for _ in range(seeds) for name in names]
    common: dict[str, Any] = {"units": units, "sounds": sounds, "device": device, "threads": threads}
    source = MaximizationSettings.of("source", steps=steps, seeds=seeds)
    am = maximize_activation(model, settings=source, rng=rng, **common)
    yield SOURCE, am.by_seed.reshape(-1, *am.patterns.shape[1:]), again, None
    recipes: list[tuple[str, Preset, dict[str, Any]]] = [(AUDIO, "audio", {})]
    if decoder is not None:
        recipes.append((DECODER, "generative", {"decoder": decoder}))
    for kind, preset, held in recipes:
        grown, best = [], []
        settings = MaximizationSettings.of(preset, steps=steps, draws=draws)
        for _ in range(seeds):  # each has its own draws, of which the best one is its start
            am = maximize_activation(model, settings=settings, rng=rng, **held, **common)
            assert am.random is not None
            grown.append(am.patterns)
            best.append(am.random)
        yield kind, np.concatenate(grown), again, None
        yield _OWN_RANDOM[kind], np.concatenate(best), again, None


def _summarize(kind: str, found: Judgement, mine: Judgement) -> dict[str, Any]:
    shares = {judge: _mean(column) for judge, column in zip(found.judges, found.recognized.T, strict=True)}
    return {
        "pattern": kind,
        "n": len(found.voiced),
        "own": _mean(mine.recognized[:, 0]),
        "transfer": _mean(found.transfer),
        "real_correlation": _mean(found.real_correlation),
        "voiced": _mean(found.voiced),
        **shares,
    }


def _mean(values: NDArray[np.float64]) -> float:
    """Compute the mean of the values that are there; NaN where there is none."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _tabulate_classes(kind: str, labels: Sequence[str], found: Judgement) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "class_name": list(labels),
            "transfer": found.transfer,
            "real_correlation": found.real_correlation,
            "voiced": found.voiced,
        }
    )
    means = table.groupby("class_name", sort=False).mean().reset_index()
    means.insert(0, "pattern", kind)
    return means
