"""Check the arguments of an activation maximization, and plan it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_choice, list_some
from brainmap.errors import InputError
from brainmap.features.layers.inputs import find_longest_input
from brainmap.features.layers.listing import list_layers
from brainmap.features.maximization.jitter import limit_jitter, measure_jitter
from brainmap.features.maximization.priors import (
    LatentPrior,
    Prior,
    compute_color_mixing,
    compute_fourier_scale,
    mark_band,
)
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.features.maximization.site import Site, find_site
from brainmap.features.maximization.task import LEVEL_WITHOUT_SOUNDS, Task
from brainmap.features.maximization.vocoder import SHORTEST, NoiseVocoder
from brainmap.features.sounds.batches import Sounds, SoundSource
from brainmap.features.sounds.inputs import compute_input_rate, describe_input
from brainmap.features.sounds.joining import join_batches, pad_batches

Shape: TypeAlias = tuple[int, ...]
Directions: TypeAlias = "Mapping[str, NDArray[np.floating]] | NDArray[np.floating] | Tensor"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Hold the arguments of the caller other than settings; shorter sounds, of `lengths` (n,), end in zeros."""

    waveforms: NDArray[np.float32] | None
    lengths: NDArray[np.intp] | None = None
    rate: float | None
    time_axis: int = -1
    units: int | Sequence[int] | Literal["all"] = "all"
    length: int | tuple[int, ...] | None = None
    directions: Directions | None = None
    decoder: nn.Module | None = None
    latent: int | tuple[int, ...] | None = None
    device: str = "cpu"


def convert_sounds(sounds: Sounds | None) -> NDArray[np.float32] | None:
    """Convert sounds of one length to one float32 array (n, c, ...), as the network takes them."""
    if sounds is None:
        return None
    if isinstance(sounds, SoundSource):
        given: Any = join_batches(list(sounds.batches(64)), rate=getattr(sounds, "rate", None)) if len(sounds) else None
    else:
        given = getattr(sounds, "waveforms", sounds)
    return _check_sounds(given)


def _check_sounds(given: Any) -> NDArray[np.float32]:
    values = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if values.ndim not in (3, 4) or not len(values):
        raise InputError(
            f"activation maximization: expected sounds (n, c, t) or (n, c, h, w) with n > 0, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise InputError("activation maximization: sounds hold NaN or infinite samples; check the files")
    return values.astype(np.float32, copy=False)


def describe_wish(sounds: Sounds | None, *, rate: float | None, **given: Any) -> Wish:
    """Gather the arguments of the caller; the rate is that of the input's axis of time."""
    axes, lengths = describe_input(sounds), None
    if getattr(sounds, "own_lengths", False) and axes is not None and axes.is_waveform:
        parts = list(cast(SoundSource, sounds).batches(64))
        waveforms: NDArray[np.float32] | None = _check_sounds(pad_batches(parts))
        own = np.concatenate([np.full(len(part), part.shape[-1]) for part in parts])
        lengths = own if own.min() < own.max() else None
    else:
        waveforms = convert_sounds(sounds)
    if rate is None and waveforms is not None:
        rate = compute_input_rate(sounds, waveforms.shape[1:])
    time_axis = -1 if axes is None else axes.time_axis
    return Wish(waveforms=waveforms, lengths=lengths, rate=rate, time_axis=time_axis, **given)


def find_input(model: nn.Module, layer: str, wish: Wish, *, compiled: bool = True) -> tuple[Shape, Site]:
    """Find the shape (c, t) or (c, h, w) of a whole input, and the layer's site in the network.

    The sounds give the shape; without them it is `length` where the network takes that, else one second.
    """
    length = wish.length
    asked = [] if length is None else [(1, *(length if isinstance(length, tuple) else (length,)))]
    own: Any = getattr(model, "rate", None)
    rate = wish.rate or float(own or 16_000)
    second = find_longest_input(model) or (1, round(rate))
    shapes = [*asked, second] if wish.waveforms is None else [wish.waveforms.shape[1:]]
    for shape in shapes[:-1]:
        try:
            return shape, find_site(model, layer, torch.zeros(1, *shape, device=wish.device), compiled=compiled)
        except InputError:
            continue  # it is shorter than the whole input, as the pattern of an early layer may be
    return shapes[-1], find_site(model, layer, torch.zeros(1, *shapes[-1], device=wish.device), compiled=compiled)


def plan(
    model: nn.Module, site: Site, settings: MaximizationSettings, *, full: Shape, wish: Wish
) -> tuple[Task, tuple[str, ...]]:
    """Plan what is maximized, on which input and from which start; return also the names of directions, if any."""
    directions, names = _normalize_directions(site, wish)
    settings = replace(settings, objective=_choose_objective(site, settings, directions is not None))
    if wish.decoder is not None:
        settings = replace(settings, parameterization="decoder")
    elif settings.parameterization == "decoder":
        raise InputError(
            "parameterization 'decoder': no decoder was given; give decoder=, a module from latents to "
            "sounds (brainmap.features.load_decoder() is one)"
        )
    elif settings.latent_l2:
        raise InputError("latent_l2: there is no decoder whose latent it pulls to 0; give decoder=, or leave it out")
    flat = len(full) == 2
    rate = wish.rate or 16_000
    jitter, none = measure_jitter(settings.jitter_ms, wish.rate, flat=flat, time_axis=wish.time_axis)
    shape, notes = _choose_shape(model, site, settings, full, jitter, wish)
    if settings.parameterization == "auto":
        courses = flat and len(site.shape) == 1 and shape[-1] >= SHORTEST * rate
        settings = replace(settings, parameterization="noise-vocoder" if courses else "spectrum")
    jitter, cut = limit_jitter(jitter, shape[-1])
    notes += (*none, *cut)
    if wish.lengths is not None:
        notes += (
            f"sounds of {wish.lengths.min()} to {wish.lengths.max()} samples: the longest one gives the length of an "
            "input, zeros follow shorter ones in the mean spectrum and the level, and each is heard at its own length",
        )
    if settings.diversity and site.texture is None:
        notes += (f"diversity: nothing up to {site.layer!r} has positions; patterns differ in the layer's vector",)
    center = 0.0
    if not flat and wish.waveforms is not None:  # a picture has no zero of its own, as silence is that of a waveform
        center = float(wish.waveforms.mean(dtype=np.float64))
        wish = replace(wish, waveforms=wish.waveforms - np.float32(center))
    level, heard = settings.level, LEVEL_WITHOUT_SOUNDS
    if wish.waveforms is not None and (level is None or level == "sounds"):
        heard = compute_loudest_level(wish.waveforms, shape)
    if level == "sounds":
        level = heard
    peak = settings.peak if settings.peak != "auto" else 1.0 if flat else None
    prior, said = _make_prior(settings, shape, rate, wish, level=level, peak=peak, gain=heard, center=center)
    units = _check_units(site, settings.objective, wish.units, names)
    vectors = None if directions is None else torch.as_tensor(directions, device=wish.device)
    known = round(rate if flat else wish.rate or 0)
    said = site.notes + notes + said
    return Task(
        model, site, settings, prior, units, known, jitter, level, wish.device, said, vectors, wish.lengths
    ), names


def _choose_objective(site: Site, settings: MaximizationSettings, directed: bool) -> Any:
    objective = settings.objective
    if directed != (objective == "direction") and objective != "auto":
        raise InputError(
            f"objective {objective!r}: "
            + (
                "directions were given; use 'direction' or 'auto'"
                if directed
                else "needs directions=, vectors in the layer's channel space"
            )
        )
    if objective == "auto":
        objective = "direction" if directed else "logit" if len(site.shape) == 1 else "channel"
    if objective == "logit" and len(site.shape) != 1:
        raise InputError(
            f"objective 'logit': expected a layer of one number for each unit, got maps {site.shape} of layer "
            f"{site.layer!r}; use 'channel'"
        )
    return objective


def _normalize_directions(site: Site, wish: Wish) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    """Return unit vectors (n, n_units) and their names."""
    given = wish.directions
    if given is None:
        return None, ()
    if isinstance(given, Mapping):
        names, listed = tuple(given), [np.asarray(v, dtype=np.float64) for v in given.values()]
        if not names or any(v.shape != listed[0].shape for v in listed):
            raise InputError(
                "directions: expected one vector for each name, all of one length, got none, or vectors of different "
                "lengths"
            )
        vectors = np.stack(listed)
    else:
        plain = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
        vectors = np.atleast_2d(np.asarray(plain, dtype=np.float64))
        names = tuple(f"direction-{i}" for i in range(len(vectors)))
    if vectors.ndim != 2 or vectors.shape[1] != site.shape[0]:
        raise InputError(
            f"directions: expected (n, {site.shape[0]}), a number for each unit of layer {site.layer!r}, got "
            f"{vectors.shape}"
        )
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    wrong = [name for name, s in zip(names, size[:, 0], strict=True) if not 0 < s < np.inf]
    if wrong:
        raise InputError(
            f"directions: expected finite vectors longer than 0, got {list_some(wrong)}, which is 0 or holds NaN"
        )
    return (vectors / size).astype(np.float32), names


def _check_units(
    site: Site, objective: str, units: int | Sequence[int] | Literal["all"], directions: tuple[str, ...]
) -> tuple[int, ...]:
    if objective in ("layer", "direction"):
        if not (isinstance(units, str) and units == "all"):
            driven = "the whole layer" if objective == "layer" else "its directions"
            raise InputError(f"objective {objective!r} drives {driven}; leave units='all'")
        return tuple(range(len(directions) or 1))
    if isinstance(units, str):
        check_choice(units, ("all",), "units")
        return tuple(range(site.shape[0]))
    given = np.atleast_1d(units)
    if given.size and given.dtype.kind not in "iu":
        raise InputError(f"units: expected 'all', or numbers from 0 to {site.shape[0] - 1}, got {units!r:.80}")
    chosen = tuple(int(u) for u in given)
    wrong = [u for u in chosen if not 0 <= u < site.shape[0]]
    if wrong or not chosen or len(set(chosen)) < len(chosen):
        raise InputError(
            f"units: expected different units from 0 to {site.shape[0] - 1} of layer {site.layer!r}, got "
            f"{list_some(wrong or chosen) or 'none'}"
        )
    return chosen


def _choose_shape(
    model: nn.Module, site: Site, settings: MaximizationSettings, full: Shape, jitter: int, wish: Wish
) -> tuple[Shape, tuple[str, ...]]:
    """Choose a pattern's shape: the caller's, else the receptive field with room for jitter, else the whole input."""
    fields = {one.name: one.receptive_field for one in list_layers(model, torch.zeros(1, *full, device=wish.device))}
    field = fields.get(site.layer)
    sizes = None if field is None else (field,) if isinstance(field, int) else field
    if wish.length is not None:
        asked = wish.length if isinstance(wish.length, tuple) else (wish.length,)
        if len(asked) != len(full) - 1 or min(asked) < 1:
            raise InputError(
                f"length: expected {len(full) - 1} number{'s'[: len(full) > 2]} of 1 or more, got {wish.length}"
            )
        least = [min(s, n) for s, n in zip(sizes or asked, full[1:], strict=True)]
        if len(site.shape) > 1 and any(a < s for a, s in zip(asked, least, strict=True)):
            raise InputError(
                f"length: {wish.length} is shorter than the receptive field of layer {site.layer!r}, "
                f"{' x '.join(map(str, least))} samples; give at least that, or no length"
            )
        return (full[0], *asked), ()
    if settings.extent == "full" or len(site.shape) == 1 or settings.parameterization == "decoder":
        return full, ()
    if sizes is None:
        return full, (f"receptive field of {site.layer!r} is not known: patterns have the whole length",)
    room = [0] * (len(sizes) - 1) + [2 * jitter]
    return (full[0], *(min(s + r, n) for s, r, n in zip(sizes, room, full[1:], strict=True))), ()


def _make_prior(
    settings: MaximizationSettings,
    shape: Shape,
    rate: float,
    wish: Wish,
    *,
    level: float | None,
    peak: float | None,
    gain: float,
    center: float,
) -> tuple[Prior, tuple[str, ...]]:
    band = (settings.low_hz, settings.high_hz)
    if wish.decoder is not None:
        latent = wish.latent if wish.latent is not None else getattr(wish.decoder, "latent_shape", None)
        if latent is None:
            raise InputError("decoder: does not say what latents it takes (no attribute latent_shape); give latent=")
        size = (latent,) if isinstance(latent, int) else tuple(int(n) for n in latent)
        inside = mark_band(shape[1:], rate, band)
        return LatentPrior(wish.decoder, size, shape, level=level, peak=peak, inside=inside, device=wish.device), ()
    if wish.latent is not None:
        raise InputError("latent: there is no decoder that would take it; give decoder= too")
    voiced_by_noise = settings.parameterization == "noise-vocoder"
    kind = "spectrum" if voiced_by_noise else settings.parameterization
    scale = compute_fourier_scale(kind, shape[1:], rate=rate, waveforms=wish.waveforms, band=band)
    said = wish.waveforms is None and kind == "spectrum" and len(shape) == 2
    note = "no sounds given: the long-term average spectrum of speech (Byrne 1994) is the prior"
    if voiced_by_noise:
        assert scale is not None
        vocoder = NoiseVocoder(scale, shape, rate=rate, level=level, peak=peak, gain=gain, device=wish.device)
        return vocoder, (note,) if said else ()
    colors = len(shape) == 3 and shape[0] > 1 and scale is not None and wish.waveforms is not None
    mixing = compute_color_mixing(wish.waveforms) if colors and wish.waveforms is not None else None
    prior = Prior(scale, shape, level=level, peak=peak, gain=gain, center=center, mixing=mixing, device=wish.device)
    return prior, (note,) if said else ()


def compute_loudest_level(waveforms: NDArray[np.float32], shape: Shape) -> float:
    """Compute the median over sounds of the RMS of their loudest stretch as long as the pattern."""
    power = np.mean(waveforms.astype(np.float64) ** 2, axis=1)
    if len(shape) == 2 and shape[-1] < power.shape[-1]:
        total = np.cumsum(np.pad(power, ((0, 0), (1, 0))), axis=1)
        loudest = (total[:, shape[-1] :] - total[:, : -shape[-1]]).max(axis=1) / shape[-1]
    else:
        loudest = power.reshape(len(power), -1).mean(axis=1)
    level = float(np.median(np.sqrt(loudest)))
    if level <= 0:
        raise InputError("activation maximization: half of the sounds are silent; give sounds with a level, or level=")
    return level
