"""Predict time courses from several bands of features at once, and say what each of them adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_ranges
from brainmap.rsa.encoding.band_fits import fit_bands
from brainmap.rsa.encoding.bands import (
    BAND_ALPHAS,
    BandedEncoding,
    BandSettings,
    name_bands,
)
from brainmap.rsa.encoding.responses import Features
from brainmap.rsa.encoding.ridge import check_alphas, find_device
from brainmap.rsa.encoding.stories import align_stories
from brainmap.types import Device


def encode_story_bands(
    bands: Features,
    responses: Mapping[str, NDArray[np.floating] | Sequence[NDArray[np.floating]]],
    *,
    t_r: float,
    alphas: Sequence[float] | NDArray[np.floating] | None = None,
    inner_folds: int = 5,
    n_iter: int = 20,
    seeds: Sequence[int] = (0,),
    device: Device = "auto",
    **settings: Any,
) -> BandedEncoding:
    """Predict time courses from several bands of windows at once, and tell what each band alone explains.

    The layers of a network and simple features of speech (`brainmap.features.speech_features`) are bands with a
    penalty each, as in `encode_bands`; stories are as in `encode_stories`. Where units (times delays) are fewer than
    the training scans, weights of units are fitted, else those of scans; the predictions are the same.

    Parameters
    ----------
    bands : mapping of band to feature set, or feature set
        Of several feature sets each is a band with all its layers; of one, each layer is a band.
    responses, t_r
        As in `encode_stories`.
    alphas
        As in `encode_bands`.
    inner_folds
        As in `encode_stories`.
    n_iter, seeds
        As in `encode_bands`.
    device, **settings
        As in `encode_stories`.

    Returns
    -------
    BandedEncoding
        `.scores`, `.test()`, `.preference()`; items are scans.

    Raises
    ------
    InputError
        As in `encode_stories`, or there are no seeds, or `n_iter` is below 1.

    References
    ----------
    Dupré la Tour et al. 2022, doi:10.1016/j.neuroimage.2022.119728
    """
    check_ranges(
        "encode_story_bands",
        ("n_iter of 1 or more", n_iter, n_iter >= 1),
        ("at least one seed", list(seeds), len(seeds) > 0),
    )
    found = align_stories(bands, responses, t_r=t_r, **settings)
    asked = BandSettings(
        alphas=check_alphas(BAND_ALPHAS if alphas is None else alphas),
        inner_folds=inner_folds,
        device=find_device(device),
        n_iter=n_iter,
        seeds=tuple(int(seed) for seed in seeds),
    )
    return fit_bands(name_bands(found.spaces), found.responses, found.folds, asked)
