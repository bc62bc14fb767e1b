"""Generate model metamers: noise is optimized until a layer responds to it as to a given sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.layers.inputs import SpectrogramSounds, make_differentiable
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.layers.running import count_workers, run_side_by_side, use_one_thread
from brainmap.features.maximization.ascent import ascend
from brainmap.features.maximization.jitter import draw_shifts, limit_jitter, roll_patterns
from brainmap.features.maximization.plan import convert_sounds
from brainmap.features.maximization.priors import Prior, compute_fourier_scale, compute_penalty
from brainmap.features.maximization.quality import save_waveforms
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.features.maximization.site import Site, find_site, freeze, read
from brainmap.features.sounds.batches import Sounds, SoundSource, get_labels
from brainmap.features.sounds.inputs import InputAxes, compute_input_rate, describe_input, make_waveforms
from brainmap.progress import log, progress

BATCH = 16  # sounds that go through the network together where nothing is optimized


@dataclass(frozen=True, kw_only=True)
class Metamers:
    """Hold sounds with the same activation of a layer as given sounds.

    Attributes
    ----------
    layer : str
    items, conditions : tuple of str
        Ids and conditions of the sounds that were matched.
    references, patterns : ndarray float32 (n, c, t)
        The sounds, and their metamers.
    distance : ndarray (n_steps, n)
        Norm of the difference between the two activations, relative to that of the sound's activation, at every step.
    null : ndarray (n, n_others)
        Correlation of each sound's activation with that of every other sound.
    table : DataFrame
        One row per sound: `correlation` of the layer's activation between sound and metamer, `null_highest` and
        `null_mean` of the other sounds, `distance` at the end, `waveform_correlation` and `spectrum_correlation` of the
        two sounds, `label` and `label_of_metamer` (the classes that the network predicts), and `matched`, which is true
        where the correlation exceeds that of every other sound and the label is the same.
    rate : int [Hz]
    settings : MaximizationSettings
    axes : InputAxes, optional
        What the axes of the input mean, where the sounds say it.
    """

    layer: str
    items: tuple[str, ...]
    conditions: tuple[str, ...]
    references: NDArray[np.float32]
    patterns: NDArray[np.float32]
    distance: NDArray[np.float32]
    null: NDArray[np.float64]
    table: pd.DataFrame
    rate: int
    settings: MaximizationSettings
    axes: InputAxes | None = None

    def save_wav(self, folder: str | Path) -> list[Path]:
        """Write every sound and its metamer: `<layer>_<item>_original.wav` and `..._metamer.wav`."""
        written = []
        for sounds, what in ((self.references, "original"), (self.patterns, "metamer")):
            names = [(self.layer, f"{item}_{what}") for item in self.items]
            waves, rate = make_waveforms(sounds, self.axes, self.rate)
            written += save_waveforms(waves, folder, names, rate=rate)
        return written


def match_activation(
    model: nn.Module,
    sounds: Sounds,
    *,
    layer: str,
    items: Sequence[int | str] | None = None,
    settings: MaximizationSettings | None = None,
    rate: int | None = None,
    class_names: Sequence[str] | None = None,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Metamers:
    """Optimize noise until the whole activation of a layer matches that of a given sound.

    Parameters
    ----------
    model : torch.nn.Module
        Its mode, `requires_grad` and device are restored afterwards.
    sounds : Sounds, array or tensor (n, c, t) or (n, c, h, w)
    layer : str
        A module's name, or "output" for the logits.
    items : sequence of int or str, optional
        Rows or ids of the sounds to match; by default all. The other sounds form the null distribution.
    settings : MaximizationSettings, optional
        Default: `MaximizationSettings.of("metamer")`. Steps, optimizer, parameterization, band, jitter, penalties and
        stage are used; the pattern has the length of the sound and a free level.
    rate : int, optional [Hz]
        Default: the rate of the sounds, else 16000.
    class_names : sequence of str, optional
    rng : numpy.random.Generator, optional
    device : str
    threads : int, optional
        Number of micro-batches that run side by side; the results do not depend on it.

    Returns
    -------
    Metamers

    Raises
    ------
    InputError
        There is no such layer or item, the network refuses the sounds, or the parameterization is by a decoder or
        a noise vocoder.
    RunError
        A gradient is not finite.

    References
    ----------
    Feather, Durango, Gonzalez and McDermott (2019), Metamers of neural networks reveal divergence from human
    perceptual systems (NeurIPS 32); Feather et al. (2023), doi:10.1038/s41593-023-01442-0

    Examples
    --------
    >>> from brainmap.features import build_network
    >>> noise = np.random.default_rng(0).standard_normal((2, 1, 16_000), np.float32)
    >>> few = MaximizationSettings.of("metamer", steps=3)
    >>> match_activation(build_network("ch32"), noise, layer="conv1", items=[1], settings=few).patterns.shape
    (1, 1, 16000)
    """
    settings = settings or MaximizationSettings.of("metamer")
    if settings.parameterization == "auto":
        settings = replace(settings, parameterization="spectrum")
    if settings.parameterization in ("decoder", "noise-vocoder"):
        raise InputError(
            f"match_activation: parameterization {settings.parameterization!r} cannot become any sound; use "
            "'spectrum', 'pixels' or '1/f'"
        )
    sounds = make_differentiable(model, sounds)
    waveforms = convert_sounds(sounds)
    assert waveforms is not None
    if rate is None:
        rate = round(compute_input_rate(sounds, waveforms.shape[1:]) or 16_000)
    rng = rng or np.random.default_rng(0)
    ids, conditions = get_labels(sounds if isinstance(sounds, SoundSource) else waveforms)
    rows = _find_items(items, ids)
    jitter, cut = limit_jitter(round(rate * settings.jitter_ms / 1000), waveforms.shape[-1])
    for note in cut:
        log.warning("match_activation: %s", note)
    sounding = np.array(sounds.sounding) if isinstance(sounds, SpectrogramSounds) else None
    with freeze(model, device) as net, use_one_thread():
        example = torch.zeros(1, *waveforms.shape[1:], device=device)
        site = find_site(net, layer, example)
        head = find_site(net, OUTPUT, example)
        match = _Match(net, site, head, settings, waveforms, rate, jitter, device, sounding)
        patterns, distance = match.grow(rows, rng, threads=count_workers(device, threads, "activation maximization"))
        table, null = match.judge(rows, patterns)
    names = dict(enumerate(class_names or ()))
    for column in ("label", "label_of_metamer"):
        table[column] = [names.get(int(k), str(k)) for k in table[column]]
    table.insert(0, "item", [ids[row] for row in rows])
    table.insert(1, "condition", [conditions[row] for row in rows])
    table["distance"] = distance[-1]
    return Metamers(
        layer=layer,
        items=tuple(table["item"]),
        conditions=tuple(table["condition"]),
        references=waveforms[rows],
        patterns=patterns,
        distance=distance,
        null=null,
        table=table,
        rate=rate,
        settings=settings,
        axes=describe_input(sounds),
    )


def _find_items(items: Sequence[int | str] | None, ids: Sequence[str]) -> list[int]:
    if items is None:
        return list(range(len(ids)))
    lacking = [i for i in items if (i not in ids if isinstance(i, str) else not 0 <= i < len(ids))]
    if lacking or not len(items):
        hint = suggest_word(str(lacking[0]), ids) if lacking else ""
        raise InputError(
            f"items: expected ids or rows of the {len(ids)} sounds, got {list_some(lacking) or 'none'}{hint}"
        )
    return [ids.index(i) if isinstance(i, str) else int(i) for i in items]


@dataclass(frozen=True)
class _Match:
    """Hold one layer, and the sounds whose activation is matched.

    `sounding` (n,) is the number of frames of each spectrogram behind which the network's own padding begins. It is
    left as it is in metamers, and frames of the layer behind that of the longest sound do not count.
    """

    model: nn.Module
    site: Site
    head: Site
    settings: MaximizationSettings
    waveforms: NDArray[np.float32]
    rate: int
    jitter: int
    device: str
    sounding: NDArray[np.intp] | None = None

    def hear(self, patterns: Tensor) -> Tensor:
        """Compute the activation of the layer, (b, n_units)."""
        place = self.site.before if self.settings.stage == "before" else self.site.after
        found = read(self.model, patterns, place, fast=self.site.fast)[0]
        if self.sounding is not None:
            arranged = self.site.arrange(found)
            if arranged.ndim == 3:  # positions are times alone
                found = arranged[..., : -int(-arranged.shape[2] * self.sounding.max() // patterns.shape[-1])]
        return found.flatten(1)

    def _keep_padding(self, patterns: Tensor, goal: Tensor, rows: Sequence[int]) -> Tensor:
        if self.sounding is None:
            return patterns
        ends = torch.as_tensor(self.sounding[list(rows)], device=patterns.device)
        heard = torch.arange(patterns.shape[-1], device=patterns.device) < ends[:, None, None, None]
        return torch.where(heard, patterns, goal)

    def grow(
        self, rows: Sequence[int], rng: np.random.Generator, *, threads: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Generate metamers (n, c, t), with the remaining distance at every step (n_steps, n)."""
        settings, size = self.settings, self.settings.micro_batch
        rngs = rng.spawn(len(rows))
        parts = [(rows[i : i + size], rngs[i : i + size]) for i in range(0, len(rows), size)]
        with progress(f"metamers of {self.site.layer}", total=len(rows) * settings.steps) as step:
            grown = run_side_by_side(
                lambda own, part, advance: own._grow(*part, advance),
                self,
                parts,
                modules=[self.model],
                threads=min(threads, len(parts)),
                advance=step.advance,
            )
            patterns, distances = zip(*grown, strict=True)
        return np.concatenate(patterns), np.concatenate(distances, axis=1)

    def _grow(
        self, rows: Sequence[int], rngs: Sequence[np.random.Generator], advance: Callable[[int], None]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        settings, shape = self.settings, self.waveforms.shape[1:]
        goal = torch.as_tensor(self.waveforms[list(rows)], device=self.device)
        flat = len(shape) == 2
        center = 0.0 if flat else float(self.waveforms.mean(dtype=np.float64))
        scale = compute_fourier_scale(
            settings.parameterization,
            shape[1:],
            rate=self.rate,
            waveforms=self.waveforms if flat else self.waveforms - np.float32(center),
            band=(settings.low_hz, settings.high_hz),
        )
        loudness = float(np.sqrt(np.mean((self.waveforms.astype(np.float64) - center) ** 2)))
        prior = Prior(scale, shape, level=None, peak=None, gain=loudness or 1.0, center=center, device=self.device)
        with torch.no_grad():
            wanted = self.hear(goal)
        length = wanted.norm(dim=1).clamp_min(1e-12)
        shifts = np.stack([draw_shifts(one, self.jitter, settings.steps) for one in rngs], axis=1)
        distance = torch.empty(settings.steps, len(rows), device=self.device)

        def gain(_: Tensor, patterns: Tensor, step: int) -> Tensor:
            left: Tensor = (self.hear(roll_patterns(patterns, shifts[step])) - wanted).norm(dim=1) / length
            distance[step] = left.detach()
            cost = compute_penalty(patterns, settings)
            return -left if cost is None else -left - cost

        def name_rows(wrong: list[int]) -> str:
            return f"layer {self.site.layer!r}, sound {list_some(rows[i] for i in wrong)}"

        start = torch.tensor(np.stack([prior.start(one) for one in rngs]), device=self.device)
        patterns, _ = ascend(
            start,
            lambda free, _: self._keep_padding(prior.decode(free), goal, rows),
            gain,
            settings,
            model=self.model,
            name_rows=name_rows,
            advance=advance,
        )
        return patterns.cpu().numpy(), distance.cpu().numpy()

    def judge(self, rows: Sequence[int], patterns: NDArray[np.float32]) -> tuple[pd.DataFrame, NDArray[np.float64]]:
        """Measure how well the metamers match, against all other sounds, and which class the network predicts."""
        wanted = _standardize_rows(self._hear_all(self.waveforms[list(rows)]))
        own = (wanted * _standardize_rows(self._hear_all(patterns))).sum(1)
        every = (
            torch.cat(
                [
                    wanted @ _standardize_rows(self._hear_all(self.waveforms[i : i + BATCH])).T
                    for i in range(0, len(self.waveforms), BATCH)
                ],
                dim=1,
            )
            .cpu()
            .numpy()
        )
        others = np.arange(len(self.waveforms))[None] != np.asarray(rows)[:, None]
        null = every[others].reshape(len(rows), -1)
        label, mine = self._classify(self.waveforms[list(rows)]), self._classify(patterns)
        found = own.cpu().numpy()
        alone = not null.shape[1]
        table: dict[str, Any] = {
            "correlation": found,
            "null_highest": np.full(len(rows), np.nan) if alone else null.max(1),
            "null_mean": np.full(len(rows), np.nan) if alone else null.mean(1),
            "label": label,
            "label_of_metamer": mine,
        }
        table["matched"] = (label == mine) & (alone or found > table["null_highest"])
        table["waveform_correlation"] = _correlate_rows(self.waveforms[list(rows)], patterns)
        axes = tuple(range(2, patterns.ndim))
        spectra = [np.abs(np.fft.rfftn(x, axes=axes)) for x in (self.waveforms[list(rows)], patterns)]
        table["spectrum_correlation"] = _correlate_rows(*spectra)
        return pd.DataFrame(table), null

    def _hear_all(self, sounds: NDArray[np.float32]) -> Tensor:
        with torch.no_grad():
            return torch.cat(
                [
                    self.hear(torch.as_tensor(sounds[i : i + BATCH], device=self.device))
                    for i in range(0, len(sounds), BATCH)
                ]
            )

    def _classify(self, sounds: NDArray[np.float32]) -> NDArray[np.intp]:
        with torch.no_grad():
            parts = [
                read(self.model, torch.as_tensor(sounds[i : i + BATCH], device=self.device), self.head.after)[0]
                for i in range(0, len(sounds), BATCH)
            ]
        return torch.cat(parts).flatten(1).argmax(1).cpu().numpy()


def _standardize_rows(values: Tensor) -> Tensor:
    """Center rows and scale them to length 1, in float64; a constant row becomes 0."""
    centered = values.double() - values.double().mean(1, keepdim=True)
    unit: Tensor = centered / centered.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def _correlate_rows(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    pairs = [_standardize_rows(torch.as_tensor(x).flatten(1)) for x in (left, right)]
    return (pairs[0] * pairs[1]).sum(1).numpy()
