"""Feed a Hugging Face network as its own feature extractor does, and find its hidden states.

Feed a Hugging Face network as its own feature extractor does: waveforms normalized, or turned into spectrograms.
Networks on waveforms are fed by a few torch operations, so that gradients reach the samples. Networks on spectrograms
are fed by the folder's feature extractor itself, one sound at a time, so that no sound depends on the others of its
batch; gradients reach the spectrogram, which such a network takes as its input too.

Find where in a Hugging Face network its hidden states arise, and let them pass through modules named `hidden.k`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.layers.layer import FREQUENCY, TIME, TOKEN

_EPSILON = 1e-7  # of Wav2Vec2FeatureExtractor, beside the variance
_WINDOW = 400  # samples of a window of ASTFeatureExtractor
_WAVEFORMS = ("Wav2Vec2FeatureExtractor", "EncodecFeatureExtractor")
_SPECTROGRAMS = ("WhisperFeatureExtractor", "ASTFeatureExtractor", "ClapFeatureExtractor")


@dataclass(frozen=True)
class Waveforms:
    """Feed waveforms, normalized to zero mean and unit variance where the extractor does so.

    Attributes
    ----------
    extractor : object
        The feature extractor of transformers.
    argument : str
        Name under which the network takes its input.
    channels : bool
        True where the network wants an axis of channels, `(n, 1, t)`.
    """

    extractor: Any
    argument: str
    channels: bool
    longest: int = 0  # samples; 0 means any length

    @property
    def rate(self) -> int:
        """Rate of the sounds [Hz]."""
        return int(self.extractor.sampling_rate)

    def arguments(self, sounds: Tensor) -> dict[str, Any]:
        """Compute the arguments of the network for sounds `(n, 1, t)`."""
        x = sounds if self.channels else sounds[:, 0]
        if getattr(self.extractor, "do_normalize", False):
            normalized = nn.functional.layer_norm(x, x.shape[-1:], eps=_EPSILON)  # over time, by the biased variance
            # the values are the extractor's own, bit by bit; gradients and receptive fields are those of the operation
            x = normalized + self._run_extractor(x).sub_(normalized.detach())
        return {self.argument: x}

    def _run_extractor(self, x: Tensor) -> Tensor:
        # as many operations for any batch, since activation maximization counts them
        rows = self.extractor.zero_mean_unit_var_norm(list(x.detach().float().cpu().numpy()), None)
        return torch.as_tensor(np.stack(rows), dtype=x.dtype, device=x.device)

    def real(self, n_samples: int, positions: tuple[int, ...]) -> Tensor | None:
        """Tell which positions hold sound; None means all of them, because nothing is padded."""
        return None

    def frames(self, positions: tuple[int, ...]) -> None:
        """Return nothing, because the operations of the network tell the frames of its layers."""


@dataclass(frozen=True)
class Spectrograms:
    """Feed the spectrograms of the folder's feature extractor, which pads every sound to the same length.

    Attributes
    ----------
    extractor : object
        The feature extractor of transformers.
    kind : str
        Name of its class.
    config : object
        Configuration of the network.
    """

    extractor: Any
    kind: str
    config: Any

    @property
    def rate(self) -> int:
        """Rate of the sounds [Hz]."""
        return int(self.extractor.sampling_rate)

    @property
    def argument(self) -> str:
        """Name under which the network takes spectrograms."""
        return str(self.extractor.model_input_names[0])

    @property
    def hop(self) -> int:
        """Step between frames [samples]."""
        return int(getattr(self.extractor, "hop_length", 0)) or round(0.01 * self.rate)  # AST's is fixed at 10 ms

    @property
    def bands(self) -> int:
        """Number of frequency bands."""
        name = "num_mel_bins" if self.kind == "ASTFeatureExtractor" else "feature_size"
        return int(getattr(self.extractor, name))

    @property
    def longest(self) -> int:
        """Length of the longest sound that is not cut [samples]."""
        if self.kind == "ASTFeatureExtractor":
            return int(self.extractor.max_length - 1) * self.hop + _WINDOW + self.hop - 1
        return int(self.extractor.nb_max_samples if self.kind == "ClapFeatureExtractor" else self.extractor.n_samples)

    def arguments(self, sounds: Tensor) -> dict[str, Any]:
        """Compute the arguments of the network for sounds `(n, 1, t)`, or for spectrograms `(n, c, bands, frames)`."""
        if sounds.ndim == 3:
            return self._extract(sounds)
        if sounds.shape[2] != self.bands:
            raise InputError(
                f"network: expected spectrograms (n, 1, {self.bands} bands, frames), or waveforms (n, 1, samples), got "
                f"{tuple(sounds.shape)}"
            )
        if self.kind == "WhisperFeatureExtractor":
            return {self.argument: sounds[:, 0]}
        if self.kind == "ASTFeatureExtractor":
            return {self.argument: sounds[:, 0].transpose(1, 2)}
        longer = torch.ones(len(sounds), 1, dtype=torch.bool, device=sounds.device)
        return {self.argument: sounds.transpose(2, 3), "is_longer": longer & self._fused}

    def spectrograms(self, sounds: Tensor) -> Tensor:
        """Compute the spectrograms `(n, c, bands, frames)` that the network receives for sounds `(n, 1, t)`."""
        found = cast(Tensor, self._extract(sounds)[self.argument])
        if self.kind == "WhisperFeatureExtractor":
            return found[:, None]
        return (found[:, None] if self.kind == "ASTFeatureExtractor" else found).transpose(2, 3)

    def real(self, n_samples: int, positions: tuple[int, ...]) -> Tensor | None:
        """Tell which positions of a layer hold sound and not padding: those whose center lies within the sound.

        Parameters
        ----------
        n_samples : int [samples]
        positions : tuple of int
            Lengths of the axes of positions of a layer.

        Returns
        -------
        Tensor of bool, shaped as `positions`, or None
            None where nothing is padded.

        Raises
        ------
        InputError
            The layer's positions are in no known relation to time.
        """
        if n_samples >= self.longest or not positions:
            return None
        if self.kind == "WhisperFeatureExtractor":
            return self._mark_share(positions, n_samples / self.longest)
        if self.kind == "ASTFeatureExtractor":
            return self._mark_patches(n_samples, positions)
        return self._mark_folded(n_samples, positions)

    def frames(self, positions: tuple[int, ...]) -> tuple[tuple[str, ...], int | None, float | None] | None:
        """Return the names of the axes of positions, the step of frames and the center of the first one [samples].

        Frames of Whisper are centered on the windows of its spectrogram, the first of which lies at sample 0; patches
        of AST begin with windows of 400 samples. The time of CLAP is folded, so that none of its axes is time.
        """
        if self.kind == "WhisperFeatureExtractor" and len(positions) == 1 and not self.longest % positions[0]:
            return (TIME,), self.longest // positions[0], 0.0
        if self.kind == "ASTFeatureExtractor" and positions == self._grid:
            size = int(self.config.patch_size)
            center = (size - 1) / 2 * self.hop + (_WINDOW - 1) / 2
            return (FREQUENCY, TIME), int(self.config.time_stride) * self.hop, center
        if self.kind != "WhisperFeatureExtractor" and positions:
            return (TOKEN,) * len(positions), None, None
        return None

    def sounding_frames(self, n_samples: int) -> int:
        """Count the frames of the spectrogram that hold sound and no padding."""
        if self.kind == "ASTFeatureExtractor":
            return max(1 + (n_samples - _WINDOW) // self.hop, 1)
        return -(-self._count_filled(n_samples) // self.hop)

    def _count_filled(self, n_samples: int) -> int:
        """Count the samples that hold sound, after the repetitions of CLAP."""
        padding = str(self.extractor.padding) if self.kind == "ClapFeatureExtractor" else ""
        repeats = {"repeatpad": self.longest // max(n_samples, 1), "repeat": self.longest}.get(padding, 1)
        return min(self.longest, max(repeats, 1) * n_samples)

    @property
    def _grid(self) -> tuple[int, int]:
        """Number of patches of AST along frequency and time."""
        size, about = int(self.config.patch_size), self.config
        high = (int(about.num_mel_bins) - size) // int(about.frequency_stride) + 1
        return high, (int(about.max_length) - size) // int(about.time_stride) + 1

    def _mark_share(self, positions: tuple[int, ...], share: float) -> Tensor:
        times = torch.arange(positions[-1]) < max(1.0, round(share * positions[-1], 6))
        return times.expand(positions)

    def _mark_patches(self, n_samples: int, positions: tuple[int, ...]) -> Tensor:
        """Tell which patches of AST begin with a real half; its two special tokens count as real."""
        size, step = int(self.config.patch_size), int(self.config.time_stride)
        high, wide = self._grid
        frames = self.sounding_frames(n_samples)
        within = torch.arange(wide) * step + (size - 1) / 2 < frames
        within[0] = True
        if positions == (high, wide):
            return within.expand(high, wide)
        tokens = within.expand(high, wide).flatten()
        if positions == (high * wide,):
            return tokens
        if positions == (high * wide + 2,):
            return torch.cat([torch.ones(2, dtype=torch.bool), tokens])
        raise self._make_unknown_error(positions)

    def _mark_folded(self, n_samples: int, positions: tuple[int, ...]) -> Tensor | None:
        """Tell which patches of CLAP hold sound: its time is folded into parts that lie below one another."""
        share = self._count_filled(n_samples) / self.longest
        if share == 1.0:
            return None
        size = round(np.prod(positions) ** 0.5)
        folds = int(self.config.spec_size) // int(self.config.num_mel_bins)
        if size * size != np.prod(positions) or size % folds or len(positions) > 2:
            raise self._make_unknown_error(positions)
        row, column = torch.arange(size)[:, None], torch.arange(size)[None]
        time = (row // (size // folds) + (column + 0.5) / size) / folds
        return (time < share).reshape(positions)

    def _make_unknown_error(self, positions: tuple[int, ...]) -> InputError:
        return InputError(
            f"network: its feature extractor pads sounds to {self.longest / self.rate:g} s, and which of the positions "
            f"{positions} of this layer are padding is not known; name a hidden state (hidden.0), or give sounds of "
            "that length"
        )

    @property
    def _fused(self) -> bool:
        return str(getattr(self.extractor, "truncation", "")) == "fusion"

    def _extract(self, sounds: Tensor) -> dict[str, Any]:
        if sounds.shape[2] > self.longest:
            raise InputError(
                f"network: expected sounds of at most {self.longest / self.rate:g} s, as its feature extractor takes, "
                f"got {sounds.shape[2] / self.rate:.4g} s, which it would cut; give shorter sounds, or the seconds to "
                "keep"
            )
        found = []
        for sound in sounds.detach().cpu().numpy()[:, 0]:
            given = self.extractor(sound.astype(np.float32), sampling_rate=self.rate, return_tensors="pt")
            found.append({name: value for name, value in given.items() if name in (self.argument, "is_longer")})
        return {name: torch.cat([one[name] for one in found]).to(sounds.device) for name in found[0]}


def find_feeding(extractor: Any, config: Any, argument: str) -> Waveforms | Spectrograms:
    """Find how the feature extractor of a folder feeds its network.

    Raises
    ------
    InputError
        An extractor that is not known, or that wants stereo.
    """
    kind = type(extractor).__name__
    if kind not in _WAVEFORMS + _SPECTROGRAMS:
        known = list_some(_WAVEFORMS + _SPECTROGRAMS)
        raise InputError(
            f"checkpoint: expected a feature extractor that brainmap knows ({known}), got {kind}; load the network "
            "yourself and give a module that takes waveforms (n, 1, samples)"
        )
    if kind in _SPECTROGRAMS:
        return Spectrograms(extractor, kind, getattr(config, "audio_config", config))
    channels = int(getattr(config, "audio_channels", 1))
    if kind == "EncodecFeatureExtractor" and (extractor.feature_size != 1 or channels != 1):
        raise InputError(
            f"checkpoint: the network takes {max(extractor.feature_size, channels)} channels (stereo), and brainmap "
            "reads sounds as one channel; use the version of the network for mono"
        )
    return Waveforms(extractor, argument, kind == "EncodecFeatureExtractor")
