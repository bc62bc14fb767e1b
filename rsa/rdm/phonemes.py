"""Describe the phonemes of English by articulatory features.

Places, manners, heights and backness follow the chart of the International Phonetic Association (2015) for the sounds
of General American, which have their ARPAbet names here.
"""

from __future__ import annotations

import re

import numpy as np

from brainmap.checks import suggest_word
from brainmap.errors import InputError
from brainmap.types import Floats

_PLACES = ("labial", "dental", "alveolar", "postalveolar", "palatal", "velar", "glottal")

_MANNERS = ("stop", "fricative", "nasal", "approximant", "lateral")

_VOWELS = ("high", "low", "front", "back", "rounded", "tense", "rhotic")

FEATURES = ("syllabic", "voiced", *_PLACES, *_MANNERS, *_VOWELS)

_CONSONANTS = {
    "P": "labial stop",
    "B": "labial stop voiced",
    "T": "alveolar stop",
    "D": "alveolar stop voiced",
    "K": "velar stop",
    "G": "velar stop voiced",
    "CH": "postalveolar stop fricative",
    "JH": "postalveolar stop fricative voiced",
    "F": "labial fricative",
    "V": "labial fricative voiced",
    "TH": "dental fricative",
    "DH": "dental fricative voiced",
    "S": "alveolar fricative",
    "Z": "alveolar fricative voiced",
    "SH": "postalveolar fricative",
    "ZH": "postalveolar fricative voiced",
    "HH": "glottal fricative",
    "M": "labial nasal voiced",
    "N": "alveolar nasal voiced",
    "NG": "velar nasal voiced",
    "L": "alveolar approximant lateral voiced",
    "R": "postalveolar approximant rhotic voiced",
    "W": "labial velar approximant rounded voiced",
    "Y": "palatal approximant voiced",
}

_MONOPHTHONGS = {
    "IY": "high front tense",
    "IH": "high front",
    "EH": "front",
    "AE": "low front",
    "AA": "low back tense",
    "AO": "back rounded tense",
    "UH": "high back rounded",
    "UW": "high back rounded tense",
    "AH": "back",
    "ER": "rhotic tense",
}

_DIPHTHONGS = {"EY": ("EH", "IY"), "AY": ("AA", "IH"), "OY": ("AO", "IH"), "AW": ("AA", "UH"), "OW": ("AO", "UH")}


def list_phoneme_features(phonemes: str, word: str) -> Floats:
    """Return the features of each phoneme of a word, `(n_phonemes, n_features)`, in the order of `FEATURES`.

    Raises
    ------
    InputError
        A phoneme is not in the ARPAbet of General American, or the word has no phonemes.

    Examples
    --------
    >>> found = list_phoneme_features("K AE1 T", "cat")
    >>> [name for name, has in zip(FEATURES, found[1], strict=True) if has]
    ['syllabic', 'voiced', 'low', 'front']
    """
    said = [re.sub(r"\d$", "", phoneme).upper() for phoneme in phonemes.split()]
    if not said:
        raise InputError(
            f"phonetic_rdm: expected ARPAbet phonemes as 'K AE T' for {word!r}, got an empty pronunciation"
        )
    known = [*_CONSONANTS, *_MONOPHTHONGS, *_DIPHTHONGS]
    for phoneme in said:
        if phoneme not in known:
            raise InputError(
                f"phonetic_rdm: {word!r} has a phoneme {phoneme!r} that the ARPAbet "
                f"lacks{suggest_word(phoneme, known)}; write it as 'K AE T'"
            )
    return np.stack([_encode_phoneme(phoneme) for phoneme in said])


def _encode_phoneme(phoneme: str) -> Floats:
    if phoneme in _DIPHTHONGS:
        first, second = _DIPHTHONGS[phoneme]
        return np.asarray((_encode_phoneme(first) + _encode_phoneme(second)) / 2.0)
    words = _CONSONANTS.get(phoneme) or f"syllabic voiced {_MONOPHTHONGS[phoneme]}"
    return np.array([float(feature in words.split()) for feature in FEATURES])
