"""The networks of the zoo as a table: what distinguishes them, and what they take. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from brainmap.features.sounds.front_ends import WAVEFORM, FrontEnd
from brainmap.features.sounds.spectrogram import HOP, MELS, RATE, WINDOW
from brainmap.types import Variant

WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "bed", "bird", "tree", "cat", "house", "dog",
)  # fmt: skip
N_SAMPLES = 16_000


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Describe one network of the zoo by what distinguishes it from the others."""

    channels: tuple[int, ...]
    kernel: int
    pool: int
    pools: int  # number of stages that end in pooling
    per_pool: int = 1  # convolutions before each pooling
    same: bool = True  # zero padding that keeps the length
    ceil_mode: bool = False
    hidden: tuple[int, ...] = ()
    dims: int = 1  # 2: kernel and pool are the sides of a square
    dropout: float = 0.5
    accuracy: Mapping[Variant, float] = field(default_factory=dict)  # in the source study, on Speech Commands


ARCHITECTURES = {
    "base": Architecture(
        channels=(8, 16, 32, 64, 128),
        kernel=25,
        pool=4,
        pools=5,
        same=False,
        ceil_mode=True,
        hidden=(1024, 512),
        accuracy={"do": 0.9090, "bn": 0.9072, "do+bn": 0.9240},
    ),
    "ch32": Architecture(
        channels=(32,) * 4 + (64,) * 4,
        kernel=5,
        pool=3,
        pools=7,
        dropout=0.75,
        accuracy={"do": 0.9533, "bn": 0.9285, "do+bn": 0.9391},
    ),
    "ch64": Architecture(
        channels=(64,) * 4 + (128,) * 4,
        kernel=5,
        pool=3,
        pools=7,
        dropout=0.75,
        accuracy={"do": 0.9589, "do+bn": 0.9497},
    ),
    "vgg": Architecture(
        channels=(64,) * 8 + (128,) * 8,
        kernel=3,
        pool=3,
        pools=7,
        per_pool=2,
        dropout=0.75,
        accuracy={"do": 0.9620, "bn": 0.9423, "do+bn": 0.9136},
    ),
    "ch128": Architecture(
        channels=(128,) * 4 + (256,) * 4 + (512,),
        kernel=5,
        pool=3,
        pools=8,
        dropout=0.25,
        accuracy={"do": 0.9535, "do+bn": 0.9701},
    ),
    "base-2d": Architecture(channels=(8, 16, 32, 64, 128), kernel=5, pool=2, pools=5, dims=2, hidden=(1024, 512)),
}


def network_names() -> tuple[str, ...]:
    """List the names of the networks of the zoo.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> network_names()
    ('base', 'ch32', 'ch64', 'vgg', 'ch128', 'base-2d')
    """
    return tuple(ARCHITECTURES)


def get_zoo_front_end(name: str, *, rate: int = RATE) -> FrontEnd:
    """Return what a network of the zoo takes; `base-2d` has a frame every 125 samples at any rate [Hz].

    Examples
    --------
    >>> get_zoo_front_end("ch32").kind, get_zoo_front_end("base-2d").kind
    ('waveform', 'log-mel')
    """
    if ARCHITECTURES[name].dims == 1:
        return WAVEFORM
    return FrontEnd(kind="log-mel", hop_ms=1000 * HOP / rate, window_ms=1000 * WINDOW / rate)


def compute_input_shape(spec: Architecture, n_samples: int) -> tuple[int, ...]:
    """Compute the length of a waveform, or the bands and frames of a spectrogram, that a network takes."""
    return (n_samples,) if spec.dims == 1 else (MELS, n_samples // HOP)
