"""Compare maximizing patterns of the same classes in several networks: their similarity, and how noisy they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import welch
from torch import Tensor, nn

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.maximization.quality import HIGH_HZ, compute_spectral_moments
from brainmap.features.maximization.site import find_site, freeze, read
from brainmap.features.sounds.batches import Sounds, iterate_tensors

WINDOW = 512  # samples
TONE_DB = 6.0  # a line this far above its surroundings counts as a tone


@dataclass(frozen=True, kw_only=True)
class PatternComparison:
    """Hold the comparison of patterns of the same classes in several networks.

    Attributes
    ----------
    networks, class_names : tuple of str
    frequencies : ndarray (n_bands,) [Hz]
    profiles : ndarray (n_networks, n_classes, n_bands) [dB]
        Power in bands evenly spaced on a logarithmic axis, with the mean of each pattern subtracted.
    similarity : ndarray (n_networks * n_classes, n_networks * n_classes)
        Correlation of the profiles after each network's mean profile is subtracted, so that only differences between
        its classes remain. Networks are the outer, classes the inner order.
    pairs : DataFrame
        One row per pair of networks: mean similarity of the same class (`same_class`) and of different classes.
    table : DataFrame
        One row per network and class: `flatness` (geometric over arithmetic mean of the power spectrum: 1 is white
        noise), `tonal_share` (power in lines 6 dB above their surroundings), `above_4khz` (share of the power),
        `centroid_hz`, `bandwidth_hz`, and `confidence` and `gain` where the patterns have them.
    """

    networks: tuple[str, ...]
    class_names: tuple[str, ...]
    frequencies: NDArray[np.float64]
    profiles: NDArray[np.float64]
    similarity: NDArray[np.float64]
    pairs: pd.DataFrame
    table: pd.DataFrame


def compare_patterns(patterns: Mapping[str, Any], *, bands: int = 48) -> PatternComparison:
    """Compare the maximizing patterns of the same classes in two or more networks.

    Parameters
    ----------
    patterns : mapping of str to Maximization (or anything with `patterns` (n, c, t), `labels`, `rate`)
        Patterns by name of network, also as `open_maximizations` returns them. Classes are matched by label.
    bands : int
        Number of bands of a profile.

    Returns
    -------
    PatternComparison

    Raises
    ------
    InputError
        Fewer than two networks, patterns that are not sounds or differ in rate, or fewer than two labels in common.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> rng = np.random.default_rng(0)
    >>> one, two = (SimpleNamespace(patterns=rng.standard_normal((2, 1, 1600)), labels=("a", "b"), rate=16_000)
    ...             for _ in range(2))
    >>> compare_patterns({"one": one, "two": two}).similarity.shape
    (4, 4)
    """
    names, rate = _check_patterns(patterns)
    waves = np.stack([_select_patterns(one, names) for one in patterns.values()])  # (n_networks, n_classes) of (c, t)
    frequencies, profiles = _compute_profiles(waves, rate, bands)
    centered = profiles - profiles.mean(axis=1, keepdims=True)
    flat = centered.reshape(-1, bands)
    flat = flat - flat.mean(axis=1, keepdims=True)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    return PatternComparison(
        networks=tuple(patterns),
        class_names=names,
        frequencies=frequencies,
        profiles=profiles,
        similarity=similarity,
        pairs=_tabulate_pairs(tuple(patterns), similarity, len(names)),
        table=_tabulate_patterns(patterns, names, waves, rate),
    )


def _check_patterns(patterns: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    if len(patterns) < 2:
        raise InputError(
            f"compare_patterns: expected at least two networks, got {list_some(patterns) or 'no networks'}"
        )
    for name, one in patterns.items():
        if np.ndim(one.patterns) != 3:
            raise InputError(f"compare_patterns: expected patterns (n, c, t), got {np.shape(one.patterns)} of {name!r}")
    lengths = {name: (int(one.rate), np.shape(one.patterns)[2]) for name, one in patterns.items()}
    if len(set(lengths.values())) > 1:
        said = "; ".join(f"{name} {size} samples at {rate} Hz" for name, (rate, size) in lengths.items())
        raise InputError(
            f"compare_patterns: expected patterns of one rate and length, got {said}; compare the same layer, such as "
            "output"
        )
    labels = [[str(label) for label in one.labels] for one in patterns.values()]
    shared = tuple(name for name in labels[0] if all(name in others for others in labels))
    if len(shared) < 2:
        held = "; ".join(list_some(found, 4) for found in labels)
        raise InputError(
            f"compare_patterns: expected networks that share two labels or more, got {list_some(shared) or 'none'} of "
            f"{held}"
        )
    return shared, int(next(iter(patterns.values())).rate)


def _select_patterns(one: Any, names: Sequence[str]) -> NDArray[np.float64]:
    place = {str(label): i for i, label in enumerate(one.labels)}
    return np.asarray(one.patterns, dtype=np.float64)[[place[name] for name in names]]


def _compute_power_density(waves: NDArray[np.float64], rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    frequency, power = welch(waves, fs=rate, nperseg=min(WINDOW, waves.shape[-1]), axis=-1)
    return frequency[1:], power.sum(axis=-2)[..., 1:]


def _compute_profiles(
    waves: NDArray[np.float64], rate: float, bands: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    frequency, power = _compute_power_density(waves, rate)
    centers = np.geomspace(60.0, 0.95 * rate / 2, bands)
    level = 10 * np.log10(np.maximum(power, 1e-8 * power.max(axis=-1, keepdims=True)))
    flat = level.reshape(-1, level.shape[-1])
    at = np.stack([np.interp(np.log(centers), np.log(frequency), row) for row in flat])
    profiles = at.reshape(*level.shape[:-1], bands)
    return centers, profiles - profiles.mean(axis=-1, keepdims=True)


def measure_noise(waves: NDArray[np.floating], rate: float) -> dict[str, NDArray[np.float64]]:
    """Measure how noisy sounds `(n, c, t)` are by `flatness` and `tonal_share` of their power spectra, `(n,)` each.

    Examples
    --------
    >>> hiss = np.random.default_rng(0).standard_normal((1, 1, 16_000))
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)[None, None]
    >>> [bool(m["flatness"][0] > 0.8) for m in (measure_noise(hiss, 16_000), measure_noise(tone, 16_000))]
    [True, False]
    """
    _, power = _compute_power_density(np.asarray(waves, dtype=np.float64), rate)
    power = np.maximum(power, 1e-12 * power.max(axis=-1, keepdims=True) + 1e-30)
    around = median_filter(power, size=(1, 21), mode="nearest")
    lines = np.where(power > around * 10 ** (TONE_DB / 10), power - around, 0.0)
    return {
        "flatness": np.exp(np.log(power).mean(axis=-1)) / power.mean(axis=-1),
        "tonal_share": lines.sum(axis=-1) / power.sum(axis=-1),
    }


def _tabulate_patterns(
    patterns: Mapping[str, Any], names: tuple[str, ...], waves: NDArray[np.float64], rate: float
) -> pd.DataFrame:
    parts = []
    for (network, one), mine in zip(patterns.items(), waves, strict=True):
        part = pd.DataFrame({"network": network, "class_name": list(names)})
        moments = compute_spectral_moments(mine, rate)
        for name, values in {**measure_noise(mine, rate), **moments}.items():
            part[name] = values
        quality = getattr(one, "quality", None)
        place = {str(label): i for i, label in enumerate(one.labels)}
        for name in ("confidence", "gain"):
            if quality is not None and name in quality:
                part[name] = quality[name].to_numpy()[[place[n] for n in names]]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _tabulate_pairs(networks: tuple[str, ...], similarity: NDArray[np.float64], n: int) -> pd.DataFrame:
    blocks = similarity.reshape(len(networks), n, len(networks), n)
    rows = []
    for i, j in combinations(range(len(networks)), 2):
        block = blocks[i, :, j]
        rows.append(
            {
                "one": networks[i],
                "other": networks[j],
                "same_class": np.diag(block).mean(),
                "different_class": block[~np.eye(n, dtype=bool)].mean(),
            }
        )
    return pd.DataFrame(rows)


def gradient_share(
    model: nn.Module,
    sounds: Sounds,
    *,
    layer: str = "output",
    rate: float = 16_000,
    above_hz: float = HIGH_HZ,
    directions: int = 4,
    rng: np.random.Generator | None = None,
    batch_size: int = 8,
    device: str = "cpu",
) -> float:
    """Compute the share of a layer's input gradient above a frequency: how much hiss one step of ascent adds.

    The gradient is that of random mixtures of the layer's units and frames, so that no class is preferred. On real
    sounds, it shows how far high frequencies reach in a network; white noise would give (rate/2 - above)/(rate/2).

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or tensor (n, c, t) or (n, c, h, w)
        For `(h, w)`, frequencies are those along the last axis, which are modulations of a spectrogram's bands.
    layer : str
    rate, above_hz : float [Hz]
    directions : int
        Number of mixtures per sound.
    rng : numpy.random.Generator, optional
    batch_size : int
        Number of sounds in one forward pass.
    device : str
        Where the network runs, as torch names it.

    Returns
    -------
    float
        Mean over sounds and mixtures, 0 to 1.

    Examples
    --------
    >>> net = nn.Sequential(nn.AvgPool1d(16, 1), nn.Conv1d(1, 2, 1))
    >>> gradient_share(net, np.ones((1, 1, 64), np.float32), layer="1") < 0.1
    True
    """
    rng = rng or np.random.default_rng(0)
    shares: list[float] = []
    with freeze(model, device) as net:
        site = None
        for batch in iterate_tensors(sounds, batch_size, device=device):
            site = site or find_site(net, layer, batch[:1])
            heard = batch.detach().clone().requires_grad_()
            values = site.arrange(read(net, heard, site.after)[0])
            for _ in range(directions):
                weights = torch.as_tensor(rng.standard_normal(values.shape[1:], dtype=np.float32), device=device)
                (gradient,) = torch.autograd.grad((values * weights).sum(), heard, retain_graph=True)
                shares += _compute_share_above(gradient, rate, above_hz)
    return float(np.mean(shares))


def _compute_share_above(gradient: Tensor, rate: float, above_hz: float) -> list[float]:
    power = np.abs(np.fft.rfft(gradient.cpu().numpy())) ** 2
    high = np.fft.rfftfreq(gradient.shape[-1], 1 / rate) > above_hz
    whole = power.reshape(len(power), -1).sum(axis=1)
    return [float(p[..., high].sum() / w) for p, w in zip(power, whole, strict=True) if w > 0]
