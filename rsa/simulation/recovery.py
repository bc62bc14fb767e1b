"""Compare the layers recovered by an analysis of simulated participants with the planted layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainmap.checks import list_some, refuse_some
from brainmap.errors import InputError
from brainmap.rsa.images.files import ImageLike, ensure_image
from brainmap.rsa.inference.sign_flips import sign_flip_test
from brainmap.types import Floats

Mask = NDArray[np.bool_]

RECOVERY_COLUMNS = {
    "region": "region of interest",
    "planted": "layer whose geometry was planted; empty for a control",
    "best_layer": "layer with the highest mean score over participants",
    "recovered": "the same where the region is significant; empty where nothing is",
    "distance": "layers between the best layer and the planted one; empty for a control",
    "score": "mean score of the best layer over participants [units of the measure]",
    "ceiling_lower": "lower noise ceiling [units of the measure]",
    "ceiling_upper": "upper noise ceiling [units of the measure]",
    "p_corrected": "p of the region's largest t, sign flips with max-t over layers x regions",
    "agrees": "planted: significant at alpha and within one layer; control: not significant",
    "voxels": "voxels of the region",
    "voxels_significant": "voxels of the region above the searchlight's threshold",
    "share_within_one": "share of those whose best layer is within one of the planted; empty for a control",
    "peak_x": "peak of the planted layer's mean map, LPI [mm]",
    "peak_y": "as peak_x [mm]",
    "peak_z": "as peak_x [mm]",
    "peak_region": "planted region within one voxel of that peak; empty where there is none",
}
"""Descriptions of the columns of `recovery_table`, for the sidecar."""


def recovery_table(
    scores: ArrayLike,
    *,
    layers: Sequence[str],
    planted: Mapping[str, str | None],
    ceilings: Mapping[str, tuple[float, float]],
    mean_maps: Mapping[str, ImageLike] | None = None,
    significant: ImageLike | None = None,
    regions: Mapping[str, ArrayLike] | None = None,
    alpha: float = 0.05,
    permutations: int = 5000,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Compare the layer found in each region, by ROI and by searchlight, with the layer planted there.

    Parameters
    ----------
    scores : array_like (n_participants, n_layers, n_regions)
        Scores of each layer's RDM in each region.
    layers : sequence of str
        The layers in order of depth, as in `scores`.
    planted : mapping of region to layer, or None for a control
        The planted layers in the order of the regions in `scores`.
    ceilings : mapping of region to (lower, upper)
    mean_maps : mapping of layer to Nifti1Image or path, optional
        Searchlight scores averaged over participants; NaN outside the mask.
    significant : Nifti1Image or path, optional
        An image that is neither 0 nor NaN in suprathreshold voxels, such as `GroupResult.best`; it must be given
        together with `mean_maps` and `regions`.
    regions : mapping of region to array_like of bool, on the grid of the maps
    alpha : float
        Significance level for `agrees`.
    permutations : int
        Number of sign flips; all are enumerated if there are at most this many.
    rng : numpy.random.Generator, optional
        Used only when flips are drawn.

    Returns
    -------
    DataFrame
        One row per region; `RECOVERY_COLUMNS` describes the columns. Without maps the last seven are left out.

    Raises
    ------
    InputError
        Shapes do not fit, a planted layer or a region is unknown, or only some of the maps are given.

    Examples
    --------
    >>> scores = np.array([[[0.1], [0.3]], [[0.1], [0.4]], [[0.2], [0.3]]])
    >>> layers, ceilings = ["conv1", "conv2"], {"A1": (0.3, 0.5)}
    >>> table = recovery_table(scores, layers=layers, planted={"A1": "conv2"}, ceilings=ceilings)
    >>> table.loc[0, ["best_layer", "recovered"]].tolist(), float(table.loc[0, "p_corrected"])
    (['conv2', None], 0.125)
    """
    x = np.asarray(scores, dtype=np.float64)
    names = list(planted)
    _check_inputs(x, layers, planted, ceilings)
    means = x.mean(axis=0)
    found = sign_flip_test(x.reshape(len(x), -1), permutations=permutations, rng=rng)
    p_corrected = np.nanmin(found.p_corrected.reshape(means.shape), axis=0)
    best = means.argmax(axis=0)
    rows = []
    for k, region in enumerate(names):
        layer = planted[region]
        away = None if layer is None else abs(int(best[k]) - list(layers).index(layer))
        clear = bool(p_corrected[k] <= alpha)
        lower, upper = ceilings[region]
        rows.append(
            {
                "region": region,
                "planted": layer,
                "best_layer": layers[best[k]],
                "recovered": layers[best[k]] if clear else None,
                "distance": away,
                "score": means[best[k], k],
                "ceiling_lower": lower,
                "ceiling_upper": upper,
                "p_corrected": p_corrected[k],
                "agrees": not clear if away is None else clear and away <= 1,
            }
        )
    table = pd.DataFrame(rows).astype({"distance": "Int64"})
    given = [mean_maps is not None, significant is not None, regions is not None]
    if not any(given):
        return table
    if mean_maps is None or significant is None or regions is None:
        raise InputError("recovery_table: expected mean_maps, significant and regions together, or none of them")
    maps = _describe_maps(layers, planted, mean_maps=mean_maps, significant=significant, regions=regions)
    return pd.concat([table, maps], axis=1)


def _check_inputs(
    x: Floats,
    layers: Sequence[str],
    planted: Mapping[str, str | None],
    ceilings: Mapping[str, tuple[float, float]],
) -> None:
    if x.ndim != 3 or x.shape[1:] != (len(layers), len(planted)):
        raise InputError(
            f"recovery_table: expected scores of shape (participants, {len(layers)} layers, {len(planted)} regions), "
            f"got {x.shape}"
        )
    if not np.isfinite(x).all():
        raise InputError(
            "recovery_table: expected finite scores, got NaN or infinity; leave such participants out first"
        )
    refuse_some(
        [layer for layer in planted.values() if layer is not None and layer not in layers],
        f"recovery_table: expected planted layers among {list_some(layers)}, got ",
    )
    refuse_some(
        [region for region in planted if region not in ceilings],
        "recovery_table: there is no noise ceiling for ",
    )


def _describe_maps(
    layers: Sequence[str],
    planted: Mapping[str, str | None],
    *,
    mean_maps: Mapping[str, ImageLike],
    significant: ImageLike,
    regions: Mapping[str, ArrayLike],
) -> pd.DataFrame:
    """Compute the columns about the searchlight, with one row per region."""
    images = [ensure_image(mean_maps[layer], f"recovery_table: mean_maps of {layer!r}") for layer in layers]
    maps = np.stack([np.asarray(image.dataobj, dtype=np.float64) for image in images])
    tested = ensure_image(significant, "recovery_table: significant")
    above = np.nan_to_num(np.asarray(tested.dataobj, dtype=np.float64)) != 0
    masks = {region: np.asarray(regions[region], dtype=bool) for region in planted}
    refuse_some(
        {grid.shape for grid in (above, *masks.values())} - {maps.shape[1:]},
        f"recovery_table: expected regions on the grid {maps.shape[1:]} of the maps, got ",
    )
    valid = np.isfinite(maps).all(axis=0)
    best = np.where(valid, np.where(valid, maps, 0).argmax(axis=0), -1)
    affine = np.asarray(images[0].affine)
    with_signal = {region: masks[region] for region, layer in planted.items() if layer is not None}
    rows = []
    for region, layer in planted.items():
        use = masks[region] & above & valid
        row: dict[str, object] = {"voxels": masks[region].sum(), "voxels_significant": use.sum()}
        if layer is None:
            rows.append(row)
            continue
        depth = list(layers).index(layer)
        peak = np.unravel_index(np.argmax(np.where(valid, maps[depth], -np.inf)), above.shape)
        place = affine[:3, :3] @ peak + affine[:3, 3]
        share = np.mean(np.abs(best[use] - depth) <= 1) if use.any() else np.nan
        rows.append(
            row
            | {
                "share_within_one": share,
                "peak_x": place[0],
                "peak_y": place[1],
                "peak_z": place[2],
                "peak_region": _find_region_near(np.array(peak), with_signal),
            }
        )
    return pd.DataFrame(rows, columns=list(RECOVERY_COLUMNS)[list(RECOVERY_COLUMNS).index("voxels") :])


def _find_region_near(voxel: NDArray[np.intp], masks: Mapping[str, Mask]) -> str | None:
    """Return the region that contains a voxel or one of its 26 neighbors, the nearest if there are several."""
    away: dict[str, float] = {}
    for region, mask in masks.items():
        steps = np.argwhere(mask) - voxel
        near = steps[np.abs(steps).max(axis=1) <= 1]
        if len(near):
            away[region] = float(np.linalg.norm(near, axis=1).min())
    return min(away, key=lambda region: away[region]) if away else None
