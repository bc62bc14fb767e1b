"""Pick the sounds about which two networks disagree most, from a pool: controversial stimuli.

A sound on which two models agree cannot tell them apart in an experiment. Controversial stimuli are those for which
their predictions differ most; which model is right, the measurement decides (Golan, Raju and Kriegeskorte 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges, list_some
from brainmap.errors import InputError
from brainmap.features.evaluation.explain import compute_all_logits
from brainmap.features.evaluation.judges import Judge
from brainmap.features.maximization.quality import save_waveforms
from brainmap.features.networks.refeeding import refeed_sounds
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.inputs import read_padded
from brainmap.names import file_name
from brainmap.record import write_table
from brainmap.types import ControversyKind

CONTROVERSIAL_COLUMNS = {
    "stimulus_id": "sound",
    "condition": "condition of the sound in the pool",
    "path": "file of the sound, beside this table",
    "one": "class that the first network hears, or its prediction [SD over the pool]",
    "other": "class that the second network hears, or its prediction [SD over the pool]",
    "controversy": "how much they differ: the smaller of the two leads that each gives its own class over the other's, "
    "or the difference of predictions [SD]; the measurement decides which is right",
}
SHIFT_MS = 10.0  # largest shift [ms], in the synthesis of sounds and where they are tried
QUIETER_DB = 6.0
SYNTHESIZED_COLUMNS = {
    "origin": "synthesized: made with a decoder, by an ascent on the disagreement of the two networks",
    "worst": f"smallest controversy of the sound shifted by {SHIFT_MS / 2:g} and {SHIFT_MS:g} ms either way, and "
    f"{QUIETER_DB:g} dB quieter; negative where one network changes its class",
    "natural": "highest probability of a class, mean over networks that took no part",
}


@dataclass(frozen=True, kw_only=True)
class Controversial:
    """Hold the sounds about which two networks disagree most.

    Attributes
    ----------
    rows : ndarray (n,)
        Rows of the pool, the most controversial first.
    table : DataFrame
        One row per sound, as `CONTROVERSIAL_COLUMNS` describes, without `path`.
    kind : {"classes", "predictions"}
    names : tuple of two str
        The networks.
    median : float
        Controversy of the median sound of the pool.
    """

    rows: NDArray[np.intp]
    table: pd.DataFrame
    kind: ControversyKind
    names: tuple[str, str]
    median: float


def pick_controversial(
    one: Judge,
    other: Judge,
    pool: Sounds,
    *,
    n: int = 16,
    output: str | None = None,
    per_condition: int | None = None,
    device: str = "cpu",
) -> Controversial:
    """Pick the sounds of a pool about which two networks disagree most.

    Parameters
    ----------
    one, other : Judge
        Networks, each of which hears the sounds at its own rate, length and level.
    pool : Sounds
    n : int
        Number of sounds.
    output : str, optional
        Name of an output of both networks (a region of two encoding models, say) whose predictions are compared, in
        standard deviations over the pool. By default class decisions are compared: a sound that the first network hears
        as a and the second as b counts with the smaller of p1(a) - p1(b) and p2(b) - p2(a).
    per_condition : int, optional
        Largest number of sounds of one condition.
    device : str
        Where the network runs, as torch names it.

    Returns
    -------
    Controversial

    Raises
    ------
    InputError
        Networks whose classes differ, an output that one of them does not have, fewer sounds than asked for, or fewer
        about which they disagree at all.

    References
    ----------
    Golan T, Raju PC, Kriegeskorte N (2020), doi:10.1073/pnas.1912334117
    """
    check_ranges("controversial", (f"1 to {len(pool)} sounds, as the pool has", n, 1 <= n <= len(pool)))
    table = compare_networks(one, other, pool, output=output, device=device)
    table.insert(0, "stimulus_id", [str(item) for item in pool.items])
    table.insert(1, "condition", [str(condition) for condition in pool.conditions])
    order = table["controversy"].to_numpy().argsort(kind="stable")[::-1]
    rows = _limit(order, table["condition"], per_condition)[:n]
    differ = int((table["controversy"].to_numpy()[rows] > 0).sum())
    if differ < n:
        raise InputError(
            f"controversial: expected {n} sounds about which {one.name!r} and {other.name!r} disagree, found {differ}; "
            "ask for fewer, or give a larger pool"
        )
    return Controversial(
        rows=rows,
        table=table.iloc[rows].reset_index(drop=True),
        kind="classes" if output is None else "predictions",
        names=(one.name, other.name),
        median=float(table["controversy"].median()),
    )


def compare_networks(
    one: Judge, other: Judge, sounds: Sounds, *, output: str | None = None, device: str = "cpu"
) -> pd.DataFrame:
    """Compare what two networks hear in each sound: `one`, `other` and `controversy`, as in `CONTROVERSIAL_COLUMNS`.

    Raises
    ------
    InputError
        Networks whose classes differ, or an output that one of them does not have.
    """
    found = [compute_all_logits(j.model, refeed_sounds(sounds, j.checkpoint), device=device) for j in (one, other)]
    names = [tuple(map(str, judge.checkpoint.classes)) for judge in (one, other)]
    if output is None:
        return _compare_classes(found, names, (one.name, other.name))
    return _compare_predictions(found, names, (one.name, other.name), output)


def _compare_classes(
    found: Sequence[NDArray[np.float32]], names: Sequence[tuple[str, ...]], called: tuple[str, str]
) -> pd.DataFrame:
    if sorted(names[0]) != sorted(names[1]) or not names[0]:
        apart = sorted(set(names[0]) ^ set(names[1]))
        raise InputError(
            f"controversial: expected networks of the same classes, got {list_some(apart, 4) or 'none'} in one of "
            f"{called[0]!r} and {called[1]!r} only; name an output of both"
        )
    shares = []
    for logits, own in zip(found, names, strict=True):
        ordered = logits[:, [own.index(name) for name in names[0]]].astype(np.float64)
        shares.append(compute_probabilities(ordered))
    rows = np.arange(len(shares[0]))
    mine, theirs = (share.argmax(axis=1) for share in shares)
    first = shares[0][rows, mine] - shares[0][rows, theirs]
    second = shares[1][rows, theirs] - shares[1][rows, mine]
    return pd.DataFrame(
        {
            "one": [names[0][k] for k in mine],
            "other": [names[0][k] for k in theirs],
            "controversy": np.minimum(first, second),
        }
    )


def compute_probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the softmax of logits `(n_items, n_classes)` in double precision.

    Examples
    --------
    >>> compute_probabilities(np.log([[1.0, 3.0]])).round(2).tolist()
    [[0.25, 0.75]]
    """
    raised = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _compare_predictions(
    found: Sequence[NDArray[np.float32]], names: Sequence[tuple[str, ...]], called: tuple[str, str], output: str
) -> pd.DataFrame:
    values = []
    for logits, own, name in zip(found, names, called, strict=True):
        check_choice(output, own, f"controversial: output of {name!r}")
        column = logits[:, own.index(output)].astype(np.float64)
        spread = column.std(ddof=1)
        if not spread > 0:
            raise InputError(f"controversial: {name!r} predicts the same {output!r} for all sounds; take another")
        values.append((column - column.mean()) / spread)
    return pd.DataFrame({"one": values[0], "other": values[1], "controversy": np.abs(values[0] - values[1])})


def _limit(order: NDArray[np.intp], conditions: pd.Series, most: int | None) -> NDArray[np.intp]:
    """Keep at most so many sounds of each condition, the first ones of an order."""
    if most is None:
        return order
    names = conditions.astype(str).iloc[order].reset_index(drop=True)
    return order[(names.groupby(names).cumcount() < most).to_numpy()]


def save_stimuli(found: Controversial, pool: Sounds, folder: str | Path, *, about: dict[str, object]) -> Path:
    """Write the sounds as 16-bit WAV with a `stimuli.tsv`, which is a stimulus folder that every command takes.

    Parameters
    ----------
    found : Controversial
    pool : Sounds
        The sounds among which they were found.
    folder : str or Path
    about : mapping of str to object
        What the sidecar of the table says.

    Returns
    -------
    Path
        The `stimuli.tsv`.

    Raises
    ------
    InputError
        The folder holds a `stimuli.tsv`.
    """
    folder = Path(folder)
    path = folder / "stimuli.tsv"
    if path.exists():
        raise InputError(f"controversial: {path} exists; name another folder")
    chosen = pool.take(found.rows)
    names = [(item,) for item in chosen.items]
    save_waveforms(read_padded(chosen), folder, names, rate=chosen.rate)
    table = found.table.copy()
    table.insert(2, "path", [f"{file_name(*name)}.wav" for name in names])
    columns = {**CONTROVERSIAL_COLUMNS, **{k: v for k, v in SYNTHESIZED_COLUMNS.items() if k in table}}
    write_table(table, path, columns=columns, about=about)
    return path
