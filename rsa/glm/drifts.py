"""Drift terms: cosines or polynomials, and the strongest high-pass filter that a design tolerates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.glm.timing import Timing
from brainmap.types import Floats

USUAL = 0.10  # largest share of a regressor's variance that drift terms may take from half of the conditions

_MOST = 0.25  # and from any condition

_SHORTEST = 128.0  # [s]; the default cutoff of SPM and fMRIPrep


def compute_cosines(timing: Timing, order: int) -> Floats:
    """Compute the first cosines of the discrete cosine transform, `(n_volumes, order)`, each of length 1.

    Column k at volume i of n evenly spaced volumes is `sqrt(2 / n) * cos(pi * k * (i + 1 / 2) / n)`, i from 0.
    """
    n = len(timing.frame_times)
    step = np.ptp(timing.frame_times) / (n - 1)
    where = (timing.frame_times - timing.frame_times[0] + step / 2) / (n * step)
    return np.asarray(np.sqrt(2 / n) * np.cos(np.pi * np.outer(where, np.arange(1, order + 1))))


def compute_legendre(timing: Timing, order: int) -> Floats:
    """Compute Legendre polynomials of degree 1 to `order` over the run, as AFNI's polort, `(n_volumes, order)`.

    Their argument is the time of a volume, scaled so that the run spans -1 to 1.
    """
    times = timing.frame_times - timing.frame_times[0]
    return np.asarray(np.polynomial.legendre.legvander(2 * times / times[-1] - 1, order)[:, 1:])


def _measure_span(timing: Timing) -> float:
    """Return the length of a run that the cosines span [s]."""
    n = len(timing.frame_times)
    return float(np.ptp(timing.frame_times) * n / (n - 1))


def choose_drift_orders(
    tasks: Sequence[Floats],
    timings: Sequence[Timing],
    *,
    high_pass: float | Literal["design"] | None,
    polort: int | Literal["A"] | None,
) -> tuple[list[int], str]:
    """Choose the number of drift terms of each run, and explain the choice.

    Parameters
    ----------
    tasks : sequence of ndarray (n_volumes, n_betas)
        Regressors of the betas, one array per run.
    timings : sequence of Timing
    high_pass, polort
        As in `fit_betas`.
    """
    spans = [_measure_span(timing) for timing in timings]
    if polort is not None:
        orders = [1 + int(t / 150) if polort == "A" else int(polort) for t in spans]
        return orders, f"drifts: polynomials up to degree {list_some(dict.fromkeys(orders))} (polort {polort})"
    if high_pass is None:
        return [0] * len(spans), "drifts: none but the constant"
    if high_pass != "design":
        for timing, span in zip(timings, spans, strict=True):
            if high_pass <= 2 * span / len(timing.frame_times):
                raise InputError(f"high_pass: expected a period longer than two volumes [s], got {high_pass:g} s")
        orders = [int(np.floor(2 * span / high_pass)) for span in spans]
        return orders, f"drifts: high-pass at {high_pass:g} s, {_format_terms(orders)}"
    return _choose_cutoff(tasks, timings, spans)


def _choose_cutoff(tasks: Sequence[Floats], timings: Sequence[Timing], spans: Sequence[float]) -> tuple[list[int], str]:
    """Find the shortest cutoff period, at least 128 s, that leaves enough variance to the conditions.

    Half of the regressors keep 90 % of their variance and all keep 75 %. Every run has at least one cosine, because
    scanners drift.
    """

    def at(period: float) -> tuple[list[int], Floats]:
        orders = [max(1, int(np.floor(2 * span / period + 1e-9))) for span in spans]
        taken = [explain_variance(x, compute_cosines(t, n)) for x, t, n in zip(tasks, timings, orders, strict=True)]
        return orders, np.concatenate(taken)

    longest = max(spans)
    chosen, period = at(2 * longest), 2 * longest
    for n in range(2, int(2 * longest / _SHORTEST) + 1):
        orders, taken = at(2 * longest / n)
        if np.median(taken) > USUAL or taken.max() > _MOST:
            fixed = at(_SHORTEST)[1]
            why = f"{_SHORTEST:g} s would take {np.median(fixed):.0%} (up to {fixed.max():.0%})"
            break
        chosen, period = (orders, taken), 2 * longest / n
    else:
        why = "runs are short" if period > 2 * _SHORTEST else "the design leaves low frequencies alone"
    said = (
        f"drifts: high-pass at {period:.0f} s, {_format_terms(chosen[0])}, chosen from the design; it takes "
        f"{np.median(chosen[1]):.0%} of a condition's variance (up to {chosen[1].max():.0%}); {why}"
    )
    return chosen[0], said


def _format_terms(orders: Sequence[int]) -> str:
    few, many = min(orders), max(orders)
    return f"{few if few == many else f'{few} to {many}'} cosine{'' if many == 1 else 's'} a run"


def explain_variance(columns: Floats, drift: Floats) -> Floats:
    """Compute the share of each column's variance that drift terms explain, `(n_columns,)`.

    For a centered column x and an orthonormal basis Q of the centered drift terms, this is `|Q' x|^2 / |x|^2`.
    """
    centered = columns - columns.mean(axis=0)
    basis = np.linalg.qr(drift - drift.mean(axis=0))[0] if drift.shape[1] else np.zeros((len(columns), 0))
    total = np.maximum((centered**2).sum(axis=0), np.finfo(float).tiny)
    return np.asarray(((basis.T @ centered) ** 2).sum(axis=0) / total)
