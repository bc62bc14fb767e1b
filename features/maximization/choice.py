"""Choose what holds maximizing patterns to sounds: nothing, the spectrum of the sounds, or a decoder of speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import nn

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.features.maximization.decoder import SpeechDecoder, list_decoder_words, load_decoder
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.types import PatternPrior, Preset

RECIPES: dict[PatternPrior, Preset] = {"audio": "audio", "decoder": "generative", "none": "source"}
_SPEECH = 0.5  # share of the classes that a decoder must be able to say


@dataclass(frozen=True, kw_only=True)
class ChosenPrior:
    """Hold a prior of maximizing patterns, and its decoder where it has one."""

    prior: PatternPrior
    decoder: nn.Module | None = None

    def settings(self, **changes: Any) -> MaximizationSettings:
        """Return the recipe that goes with the prior, with changes."""
        return MaximizationSettings.of(RECIPES[self.prior], **changes)


def choose_priors(
    prior: PatternPrior | None,
    *,
    decoder: str | Path | None = None,
    class_names: Sequence[str] = (),
    rate: int,
    n_samples: int,
    on_waveforms: bool = True,
) -> tuple[ChosenPrior, ...]:
    """Choose the priors of class patterns: one that is asked for, or the one that suits the network.

    A network that knows mainly words that the included decoder can say, at its rate and length, gets patterns by the
    decoder, and beside them patterns without it; every other network gets the audio prior alone.

    Parameters
    ----------
    prior : {"audio", "decoder", "none"}, optional
        "audio" is the spectrum of the sounds with a jitter, "none" the source study's recipe of plain samples.
    decoder : path, optional
        A file of a decoder in place of the included one; "words" is the included one. It asks for the prior "decoder".
    class_names : sequence of str
    rate, n_samples : int [Hz], int [samples]
        Input of the network.
    on_waveforms : bool
        Whether the network takes waveforms.

    Returns
    -------
    tuple of ChosenPrior
        The first is the main one.

    Raises
    ------
    InputError
        A decoder with another prior, or one whose sounds the network does not take.

    Examples
    --------
    >>> [one.prior for one in choose_priors(None, class_names=["zero", "six"], rate=16_000, n_samples=16_000)]
    ['decoder', 'audio']
    >>> [one.prior for one in choose_priors(None, class_names=["rain", "wind"], rate=16_000, n_samples=16_000)]
    ['audio']
    """
    if prior is not None:
        check_choice(prior, get_args(PatternPrior), "prior")
    if decoder is not None and prior not in (None, "decoder"):
        raise InputError(f"prior: {prior!r} takes no decoder; leave the decoder out, or say prior = 'decoder'")
    if prior is None and decoder is None:
        included = load_decoder() if on_waveforms and class_names else None
        if included is None or not _fits(included, class_names, rate, n_samples):
            return (ChosenPrior(prior="audio"),)
        return ChosenPrior(prior="decoder", decoder=included), ChosenPrior(prior="audio")
    if prior in ("audio", "none"):
        return (ChosenPrior(prior=prior),)
    found = load_decoder(None if decoder in (None, "words") else decoder)
    if not on_waveforms:
        raise InputError("prior: expected a network on waveforms for a decoder, got one on spectrograms; take 'audio'")
    if (found.about.rate, found.about.n_samples) != (rate, n_samples):
        raise InputError(
            f"decoder: gives {found.about.n_samples} samples at {found.about.rate} Hz, shape (1, "
            f"{found.about.n_samples}); the network takes {n_samples} at {rate} Hz, shape (1, {n_samples}); give a "
            "decoder of that rate and length, or prior = 'audio'"
        )
    return (ChosenPrior(prior="decoder", decoder=found),)


def _fits(decoder: SpeechDecoder, class_names: Sequence[str], rate: int, n_samples: int) -> bool:
    words = list_decoder_words(decoder)
    known = sum(str(name).lower() in words for name in class_names)
    same = (decoder.about.rate, decoder.about.n_samples) == (rate, n_samples)
    return same and known >= 2 and known >= _SPEECH * len(class_names)


def describe_priors(priors: Sequence[ChosenPrior]) -> str:
    """Say in a line which priors are taken, where there are several.

    Examples
    --------
    >>> describe_priors([ChosenPrior(prior="decoder"), ChosenPrior(prior="audio")])
    'patterns by the decoder prior, and beside them by the audio prior'
    """
    main, *others = [f"the {one.prior} prior" for one in priors]
    return f"patterns by {main}" + (f", and beside them by {', '.join(others)}" if others else "")
