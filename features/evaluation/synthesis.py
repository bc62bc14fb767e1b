"""Synthesize sounds about which two networks disagree, with a decoder of speech.

Random latents of the decoder are a pool, of which the most controversial ones are picked. From there an ascent raises
the lead that each network gives its own class over the other's (Golan, Raju and Kriegeskorte 2020). The decoder and a
fixed level hold the sounds to speech. In every step the sounds are shifted and made quieter at random, so that the
ascent does not lean on single samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from brainmap.errors import InputError
from brainmap.features.evaluation.controversial import (
    QUIETER_DB,
    SHIFT_MS,
    Controversial,
    compare_networks,
    compute_probabilities,
    pick_controversial,
)
from brainmap.features.evaluation.explain import compute_all_logits
from brainmap.features.evaluation.judges import Judge
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.layers.running import use_one_thread
from brainmap.features.maximization.ascent import ascend
from brainmap.features.maximization.decoder import SpeechDecoder
from brainmap.features.maximization.jitter import roll_patterns
from brainmap.features.maximization.priors import LatentPrior
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.features.maximization.site import find_site, freeze, read
from brainmap.features.networks.refeeding import refeed_sounds
from brainmap.features.sounds.files import RMS_LEVEL, Sounds, sounds_from_array

PULL = 0.02  # weight of the latent's mean square, which keeps it where the decoder was trained
_TOGETHER = 8


def synthesize_controversial(
    one: Judge,
    other: Judge,
    decoder: SpeechDecoder,
    *,
    n: int = 16,
    draws: int = 256,
    steps: int = 100,
    raters: Sequence[Judge] = (),
    rng: np.random.Generator | None = None,
    device: str = "cpu",
) -> tuple[Controversial, Sounds]:
    """Synthesize sounds about whose class two networks disagree.

    Parameters
    ----------
    one, other : Judge
        Networks on waveforms of the decoder's rate and length.
    decoder : SpeechDecoder
    n : int
        Number of sounds.
    draws : int
        Random sounds of the decoder, of which the `n` most controversial ones are where the ascent starts.
    steps : int
        Steps of the ascent; a sound that it does not make more controversial stays as it was drawn.
    raters : sequence of Judge
        Networks that took no part, whose certainty is the column `natural`.
    rng : numpy.random.Generator, optional
        By default a generator with seed 0.
    device : str
        Where the networks run, as torch names it.

    Returns
    -------
    found : Controversial
        Its table has the columns of `SYNTHESIZED_COLUMNS` too; `median` is that of the random sounds.
    sounds : Sounds
        What `found.rows` counts; `save_stimuli` takes both.

    Raises
    ------
    InputError
        Networks whose classes differ, or that take other sounds than the decoder makes; fewer sounds than asked for
        about which they disagree.

    References
    ----------
    Golan T, Raju PC, Kriegeskorte N (2020), doi:10.1073/pnas.1912334117
    """
    _check_input((one, other), decoder)
    rng = rng or np.random.default_rng(0)
    shape = (1, decoder.about.n_samples)
    with freeze(one.model, device), freeze(other.model, device), freeze(decoder, device), use_one_thread():
        prior = LatentPrior(decoder, decoder.latent_shape, shape, level=RMS_LEVEL, peak=1.0, device=device)
        latents = np.stack([prior.start(rng) for _ in range(draws)])
        drawn = _decode(prior, latents, decoder.about.rate, device)
        start = pick_controversial(one, other, drawn, n=n, device=device)
        furthest = _count_shift(decoder.about.rate)
        changes = _Changes(
            rng.integers(-furthest, furthest + 1, (steps, n)),
            torch.as_tensor(10 ** (-rng.uniform(0, QUIETER_DB, (steps, n)) / 20), dtype=torch.float32, device=device),
        )
        climbed = _climb((one, other), prior, latents[start.rows], start, changes, device)
    before, after = drawn.take(start.rows), sounds_from_array(climbed, rate=decoder.about.rate)
    table = compare_networks(one, other, after, device=device)
    better = (table["controversy"] > start.table["controversy"]).to_numpy()
    waves = np.where(better[:, None, None], after.waveforms, before.waveforms)
    items = [f"synthesized-{k:02d}" for k in range(1, n + 1)]
    conditions = [f"{a}-or-{b}" for a, b in zip(start.table["one"], start.table["other"], strict=True)]
    sounds = sounds_from_array(waves, rate=decoder.about.rate, items=items, conditions=conditions)
    found = pick_controversial(one, other, sounds, n=n, device=device)
    chosen = sounds.take(found.rows)
    told = found.table.assign(
        origin="synthesized",
        worst=_find_worst((one, other), chosen, found, device),
        natural=_rate_naturalness(raters, chosen, device),
    )
    return replace(found, table=told, median=start.median), sounds


def _check_input(judges: Sequence[Judge], decoder: SpeechDecoder) -> None:
    made = (decoder.about.rate, decoder.about.n_samples)
    for judge in judges:
        fed = judge.checkpoint
        if not fed.front_end.is_waveform or (fed.rate, fed.n_samples) != made:
            raise InputError(
                f"controversial: expected networks on waveforms of {made[1]} samples at {made[0]} Hz, which the "
                f"decoder makes, got {judge.name!r} on {fed.front_end.describe()} of {fed.n_samples} at {fed.rate} Hz; "
                "pick sounds in place of synthesis, or give another decoder"
            )


def _count_shift(rate: int) -> int:
    return round(rate * SHIFT_MS / 1000)


@dataclass(frozen=True)
class _Changes:
    """Hold what is done to the sounds in each step `(n_steps, n)`: shifts [samples], and factors of the level."""

    shifts: NDArray[np.int64]
    levels: Tensor


def _decode(prior: LatentPrior, latents: NDArray[np.float32], rate: int, device: str) -> Sounds:
    starts = range(0, len(latents), _TOGETHER)
    with torch.no_grad():
        parts = [prior.decode(torch.as_tensor(latents[i : i + _TOGETHER], device=device)).cpu() for i in starts]
    return sounds_from_array(torch.cat(parts).numpy(), rate=rate)


def _climb(
    judges: tuple[Judge, Judge],
    prior: LatentPrior,
    latents: NDArray[np.float32],
    start: Controversial,
    changes: _Changes,
    device: str,
) -> NDArray[np.float32]:
    """Raise the leads that the networks give their own classes over the other's, from where they disagree already."""
    settings = MaximizationSettings.of("generative", steps=len(changes.shifts))
    example = prior.decode(torch.as_tensor(latents[:1], device=device))
    sites = [find_site(judge.model, OUTPUT, example) for judge in judges]
    found = []
    for first in range(0, len(latents), _TOGETHER):
        rows = slice(first, first + _TOGETHER)
        pairs = start.table.iloc[rows]
        leads = [_place_lead(judge, pairs, own) for judge, own in zip(judges, ("one", "other"), strict=True)]

        def gain(free: Tensor, patterns: Tensor, step: int) -> Tensor:
            heard = roll_patterns(patterns, changes.shifts[step, rows])  # noqa: B023  # it is called within this round
            heard = heard * changes.levels[step, rows, None, None]  # noqa: B023
            total = -PULL * free.square().flatten(1).mean(1)
            for judge, site, (own, others) in zip(judges, sites, leads, strict=True):  # noqa: B023
                logits = site.arrange(read(judge.model, heard, site.after, fast=site.fast)[0])
                at = torch.arange(len(logits), device=logits.device)
                total = total + functional.logsigmoid(logits[at, own] - logits[at, others])
            return total

        patterns, _ = ascend(
            torch.as_tensor(latents[rows], device=device),
            lambda free, _: prior.decode(free),
            gain,
            settings,
            model=judges[0].model,
            name_rows=lambda at: f"sounds {at}",
            advance=lambda _: None,
        )
        found.append(patterns.cpu().numpy())
    return np.concatenate(found)


def _place_lead(judge: Judge, pairs: pd.DataFrame, own: str) -> tuple[list[int], list[int]]:
    """Return the outputs of a network that are its own class and the other's, for each sound."""
    names = [str(name) for name in judge.checkpoint.classes]
    theirs = "other" if own == "one" else "one"
    return [names.index(name) for name in pairs[own]], [names.index(name) for name in pairs[theirs]]


def _find_worst(judges: tuple[Judge, Judge], sounds: Sounds, found: Controversial, device: str) -> NDArray[np.float64]:
    """Find the smallest controversy of each sound when it is shifted or quieter, with the classes that it is for."""
    waves, furthest = sounds.waveforms, _count_shift(sounds.rate)
    tried = [_shift(waves, by) for by in (-furthest, -furthest // 2, furthest // 2, furthest)]
    tried.append(waves * 10 ** (-QUIETER_DB / 20))
    worst = found.table["controversy"].to_numpy()
    for one in tried:
        leads = []
        for judge, own in zip(judges, ("one", "other"), strict=True):
            shares = _compute_shares(judge, one, device)
            mine, theirs = _place_lead(judge, found.table, own)
            at = np.arange(len(shares))
            leads.append(shares[at, mine] - shares[at, theirs])
        worst = np.minimum(worst, np.minimum(*leads))
    return worst


def _shift(waves: NDArray[np.float32], by: int) -> NDArray[np.float32]:
    """Shift sounds (n, 1, t) by some samples, with silence where nothing comes from."""
    moved = np.zeros_like(waves)
    if by >= 0:
        moved[..., by:] = waves[..., : waves.shape[-1] - by]
    else:
        moved[..., :by] = waves[..., -by:]
    return moved


def _rate_naturalness(raters: Sequence[Judge], sounds: Sounds, device: str) -> NDArray[np.float64]:
    """Average the highest probability of a class over networks; NaN without any."""
    tops = []
    for judge in raters:
        logits = compute_all_logits(judge.model, refeed_sounds(sounds, judge.checkpoint), device=device)
        tops.append(compute_probabilities(logits).max(axis=1))
    return np.mean(tops, axis=0) if tops else np.full(len(sounds), np.nan)


def _compute_shares(judge: Judge, waves: NDArray[np.float32], device: str) -> NDArray[np.float64]:
    """Compute the probabilities of the classes for waveforms as they are, whatever their level."""
    return compute_probabilities(compute_all_logits(judge.model, waves, device=device))
