"""Find out what networks make of the first sound; nothing is run again that was found out before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from brainmap.errors import InputError
from brainmap.features.layers.layer import Layer, restore_layer
from brainmap.references import first_line
from brainmap.study.stages.versions import Loaded

if TYPE_CHECKING:
    from brainmap.features.sounds.files import Sounds


def find_layers(
    loaded: Loaded, first: Sounds, asked: str | Sequence[str], *, refused: str
) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Run a sound through a network, and return its layers and those that are asked for, as `choose_layers` does.

    Parameters
    ----------
    loaded : Loaded
    first : Sounds
        One sound.
    asked : str or sequence of str
        As `[network] layers`.
    refused : str
        The message where the network refuses the sound, with {shape} of what it is given and {why}.

    Raises
    ------
    InputError
        The network refuses the sound, or lacks a layer.
    """

    def hear() -> dict[str, Any]:
        import torch

        from brainmap.features.layers.running import evaluating, explain_refusal
        from brainmap.features.layers.selection import choose_layers
        from brainmap.features.sounds.batches import iterate_tensors

        given = next(iterate_tensors(first, 1))
        with evaluating(loaded.model), torch.no_grad():
            try:
                loaded.model(given.clone())
            except Exception as error:  # a user's network may raise anything
                why = explain_refusal(loaded.model, given) or first_line(error)
                raise InputError(refused.format(shape=tuple(given.shape), why=why)) from None
        listed, chosen = choose_layers(loaded.model, first, asked)
        return {"listed": [asdict(layer) for layer in listed], "chosen": [asdict(layer) for layer in chosen]}

    found = loaded.keep("layers", [first.digest, asked], hear)
    return tuple(map(restore_layer, found["listed"])), tuple(map(restore_layer, found["chosen"]))


def check_acoustic_models(loaded: Loaded, first: Sounds) -> None:
    """Refuse a sound that the acoustic models do not take.

    Raises
    ------
    InputError
    """

    def hear() -> bool:
        import torch

        loaded.model(torch.from_numpy(first.waveforms.copy()))
        return True

    loaded.keep("acoustic", first.digest, hear)
