"""Choose the best layer of a network on one half of the sounds, and score it on the other."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import compare_vectors
from brainmap.rsa.comparison.partial import align_controls, compare_vectors_partial
from brainmap.rsa.inference.scores import compute_mean_and_error, run_t_test
from brainmap.rsa.inference.seeds import Seeds, average_rows, list_rows
from brainmap.rsa.rdm.alignment import align_vectors, list_groups, split_pairs
from brainmap.types import Floats, Level, Measure, RDMs

BEST_COLUMNS = {
    "network": "network",
    "roi": "region of interest",
    "layer": "layer chosen most often on one half of the stimuli",
    "chosen_share": "share of the splits in which it was chosen",
    "score": "score of the chosen layers on the other half, median over splits, mean over participants",
    "standard_error": "of that mean",
    "p": "of the score above 0, one-sided t test over participants (these sounds only), uncorrected",
    "position": "mean relative depth of the layers chosen over splits, 0 first to 1 last; n/a where p is above .05",
    "position_sd": "standard deviation of that depth over splits",
    "position_low": "least depth of a layer that was chosen in a split",
    "position_high": "greatest depth of a layer that was chosen in a split",
    "n": "participants",
}

POSITION_P = 0.05
"""If p of the best layer's score is above this value, its position is NaN."""


def split_half_best_layer(
    model_rdms: RDMs,
    data_rdms: RDMs,
    *,
    measure: Measure | str = "rho-a",
    splits: int = 20,
    rng: np.random.Generator,
    by: Level = "condition",
    control_rdms: RDMs | None = None,
    seeds: Seeds | None = None,
) -> pd.DataFrame:
    """Find the best layer of each ROI on one half of the items, and score it on the other half.

    The score of the best layer is biased upwards on the data on which the layer was selected. Here the layer with the
    highest mean score over participants on a random half of the items is scored on the other half; the score is the
    median over splits for each participant, averaged over participants.

    Parameters
    ----------
    model_rdms : rsatoolbox RDMs
        One RDM per layer in order of depth (RDM descriptor `layer`).
    data_rdms : rsatoolbox RDMs
        One RDM per participant and ROI (RDM descriptors `participant` and `roi`).
    measure : str
        As in `brainmap.rsa.compare_rdms`.
    splits : int
        Number of random splits, which are the same for all ROIs and participants.
    rng : numpy Generator
    by : {"condition", "stimulus"}
        The units that are split. With "condition" all tokens of a word are in the same half.
    control_rdms : rsatoolbox RDMs, optional
        RDMs that are removed from layers and data, within each half (`brainmap.rsa.compare_rdms_partial`).
    seeds : mapping of str to sequence of str, optional
        One network that was trained several times, with the names (RDM descriptor `network`) of its trainings. Layers
        are then chosen and scored by the means over the seeds.

    Returns
    -------
    DataFrame
        One row per ROI: roi, layer (chosen most often), chosen_share (share of splits), score and standard_error
        over participants on the half not used to choose, p (one-sided t test over participants of score above 0),
        position (from 0 for the first to 1 for the last layer, mean over splits) with its spread over splits
        (position_sd, position_low and position_high, the lowest and the highest layer chosen), n (participants).
        Positions are NaN where the score is not above 0 (p above .05, or with one participant a score of 0 or less),
        since the best of several unrelated layers has no meaning. If two distant layers are equally good, the mean
        position lies between them, and the spread is large. An ROI without any score is left out with a
        `BrainmapWarning`; splits without a score (because of missing pairs) do not count.

    Raises
    ------
    InputError
        There are fewer than two layers or fewer than six items to split, the RDMs differ in level or items, or seeds of
        a network are unknown or differ in their layers.

    References
    ----------
    Tuckute et al. 2023, doi:10.1371/journal.pbio.3002366

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng = np.random.default_rng(0)
    >>> items = {"stimulus_id": list("abcdefgh")}
    >>> layers = {name: rng.normal(size=(8, 20)) for name in ("conv1", "conv2")}
    >>> models = stack_rdms([
    ...     compute_rdms(x, descriptors={**items, "layer": name}) for name, x in layers.items()])
    >>> brains = stack_rdms([
    ...     compute_rdms(layers["conv2"] + 0.5 * rng.normal(size=(8, 20)),
    ...                  descriptors={**items, "participant": p, "roi": "HG"}) for p in ("01", "02", "03")])
    >>> split_half_best_layer(models, brains, by="stimulus", rng=rng)["layer"].tolist()
    ['conv2']
    """
    check_enough(splits, 1, "split_half_best_layer", "split")
    models = align_vectors(model_rdms, data_rdms, names=("models", "data"))
    layers = [str(name) for name in model_rdms.rdm_descriptors.get("layer", range(len(models)))]
    places = [[k] for k in range(len(models))]
    if seeds:
        places = list_rows(model_rdms, seeds).places[len(models) :]
        layers = [layers[own[0]] for own in places]
    check_enough(len(layers), 2, "split_half_best_layer", "layers")
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    rois = [str(roi) for roi in data_rdms.rdm_descriptors.get("roi", ["all voxels"] * len(data))]
    controls = None if control_rdms is None else align_controls(control_rdms, data_rdms)
    halves = _draw_halves(data_rdms, splits=splits, by=by, rng=rng)
    chosen = {roi: np.empty(splits, dtype=np.intp) for roi in dict.fromkeys(rois)}
    tested = {roi: np.empty((splits, rois.count(roi))) for roi in chosen}
    for k, (train, test) in enumerate(halves):
        on_train, on_test = (
            average_rows(
                compare_vectors(models[:, half], data[:, half], measure=measure)
                if controls is None
                else compare_vectors_partial(models[:, half], data[:, half], controls[..., half], measure=measure),
                places,
            )
            for half in (train, test)
        )
        for roi in chosen:
            mine = [name == roi for name in rois]
            chosen[roi][k] = _find_best(on_train[:, mine])
            tested[roi][k] = on_test[chosen[roi][k], mine]
    rows = []
    for roi, every in chosen.items():
        there = every >= 0
        if not there.any():
            warnings.warn(
                f"split_half_best_layer: {roi!r} is left out, because no layer has a score in any half (pairs are "
                "missing)",
                BrainmapWarning,
                stacklevel=2,
            )
            continue
        picks = every[there]
        counts = np.bincount(picks, minlength=len(layers))
        scores = _compute_median(tested[roi][there])
        mean, error = compute_mean_and_error(scores[None])
        p = float(run_t_test(scores[None], "greater")["p"][0])
        depth = picks / (len(layers) - 1) if mean[0] > 0 and not p > POSITION_P else np.full(len(picks), np.nan)
        rows.append(
            {
                "roi": roi,
                "layer": layers[counts.argmax()],
                "chosen_share": counts.max() / len(picks),
                "score": mean[0],
                "standard_error": error[0],
                "p": p,
                "position": depth.mean(),
                "position_sd": depth.std(ddof=1) if len(depth) > 1 else np.nan,
                "position_low": depth.min(),
                "position_high": depth.max(),
                "n": int(np.isfinite(scores).sum()),
            }
        )
    return pd.DataFrame(rows)


def _find_best(scores: Floats) -> int:
    """Return the layer with the highest mean of `(n_layers, n_participants)` over participants; -1 without scores."""
    mean, _ = compute_mean_and_error(scores)
    return -1 if np.isnan(mean).all() else int(np.nanargmax(mean))


def _compute_median(scores: Floats) -> Floats:
    """Compute the median over splits of `(n_splits, n_participants)`, ignoring NaN; NaN where there is no score."""
    there = np.isfinite(scores).any(axis=0)
    median = np.full(scores.shape[1], np.nan)
    median[there] = np.nanmedian(scores[:, there], axis=0)
    return median


def _draw_halves(
    rdms: RDMs, *, splits: int, by: str, rng: np.random.Generator
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the positions of the pairs within each random half of the items (train and test)."""
    check_choice(by, ("condition", "stimulus"), "by")
    labels = list_groups(rdms, by)  # type: ignore[arg-type]
    names, member = np.unique(labels, return_inverse=True)
    if len(names) < 6:
        way_out = "; choose by='stimulus'" if by == "condition" and rdms.n_cond >= 6 else ""
        raise InputError(
            f"split_half_best_layer: expected at least 6 groups by {by}, three in each half, got {len(names)}{way_out}"
        )
    firsts = [rng.permutation(len(names))[: (len(names) + 1) // 2] for _ in range(splits)]
    return [split_pairs(np.isin(member.reshape(-1), first)) for first in firsts]
