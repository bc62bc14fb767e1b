"""Activations of every layer for a set of sounds, streamed to disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import nearest, one_of, some
from brainmap.errors import InputError, RunError
from brainmap.features import store as stores
from brainmap.features.layers import Stage, select_layers, tap
from brainmap.features.running import Sounds, evaluating, forward, labels, tensors
from brainmap.progress import progress
from brainmap.record import content_key

Pooling = Literal["mean", "max", "rms", "none", "flatten"]
DType = Literal["float16", "float32", "float64"]

KIND = "activations"
_VERSION = 1  # raised when the meaning of the numbers changes


@dataclass(frozen=True)
class Activations:
    """Activations of the same items in several layers; a `brainmap.types.FeatureSet`.

    `acts["conv3"]` is a zarr array `(n_items, n_units)`, or `(n_items, channels, frames)` where time was
    kept: it is read when it is sliced or given to `numpy.asarray`.

    Attributes
    ----------
    items, conditions : tuple of str
        Stimulus ids, and the word or category of each.
    layers : tuple of str
    network, pooling, stage : str
    """

    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    layers: tuple[str, ...]
    network: str
    pooling: str
    stage: str
    _arrays: Mapping[str, zarr.Array[Any]] = field(repr=False)

    def __getitem__(self, layer: str) -> NDArray[np.floating[Any]]:
        if layer not in self._arrays:
            hint = nearest(str(layer), self.layers)
            raise InputError(f"activations: no layer {layer!r}{hint}; there are {some(self.layers, 24)}")
        return cast(NDArray[np.floating[Any]], self._arrays[layer])

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __enter__(self) -> Activations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; arrays already read stay."""
        for array in self._arrays.values():
            array.store.close()


def extract_activations(
    model: nn.Module,
    sounds: Sounds,
    *,
    layers: str | Sequence[str] = "all",
    pooling: Pooling = "mean",
    stage: Stage = "after",
    store: str | Path | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    dtype: DType = "float32",
    network: str = "network",
    key: str | None = None,
) -> Activations:
    """Run sounds through a model and keep what its layers say.

    Parameters
    ----------
    model : torch.nn.Module
        Run in eval mode; afterwards it is as it was.
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    layers : str or sequence of str
        "all" (every convolution and linear layer, the logits as "output"), names, globs, "last-conv".
    pooling : {"mean", "max", "rms", "none", "flatten"}
        Over time, or height and width; "none" keeps `(channels, frames)`, "flatten" makes one row of it.
    stage : {"after", "before"}
        The nonlinearity; "after" is what the next layer gets, before pooling.
    store : path, optional
        A zarr folder that is made or added to. Layers that lie there complete are not computed again; memory
        then does not grow with the number of sounds. Without it the arrays are kept in memory.
    batch_size : int
    device : str
    dtype : {"float16", "float32", "float64"}
    network : str
        A name, kept as a label.
    key : str, optional
        A hash of weights and sounds by the caller; made here from their contents otherwise.

    Returns
    -------
    Activations

    Raises
    ------
    InputError
        An unknown layer or setting, a sound the network refuses.
    RunError
        A non-finite activation: which layer, which item.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    >>> acts = extract_activations(net, np.zeros((2, 1, 8), np.float32))
    >>> acts.layers, acts["0"].shape
    (('0', 'output'), (2, 4))
    """
    one_of(pooling, get_args(Pooling), "pooling")
    one_of(stage, get_args(Stage), "stage")
    one_of(dtype, get_args(DType), "dtype")
    items, conditions = labels(sounds)
    root = stores.open_store(store)
    with evaluating(model, device), torch.no_grad():
        names = select_layers(model, sounds, layers)
        if key is None and store is not None:
            heard = stores.sounds_digest(sounds, batch_size=batch_size)
            key = content_key(stores.weights_digest(model), heard)
        about = {"items": items, "conditions": conditions, "pooling": pooling, "stage": stage, "dtype": dtype,
                 "version": _VERSION}  # fmt: skip
        keys = {name: content_key(KIND, key, name, about) for name in names}
        todo = [name for name in names if stores.find_array(root, KIND, name, keys[name]) is None]
        if todo:
            new = _Extraction(root, {name: keys[name] for name in todo}, about)
            new.run(model, tensors(sounds, batch_size, device=device))
    stores.set_current(root, KIND, keys, network=network)
    return _opened(root)


def open_activations(path: str | Path) -> Activations:
    """Open what `extract_activations` put in a store last.

    Raises
    ------
    InputError
        No store there, or an unfinished one.
    """
    return _opened(stores.open_store(path, create=False))


def _opened(root: zarr.Group) -> Activations:
    arrays = stores.current_arrays(root, KIND)
    about = next(iter(arrays.values())).attrs
    return Activations(
        items=tuple(cast(list[str], about["items"])),
        conditions=tuple(cast(list[str], about["conditions"])),
        layers=tuple(arrays),
        network=str(root[KIND].attrs["network"]),
        pooling=str(about["pooling"]),
        stage=str(about["stage"]),
        _arrays=arrays,
    )


class _Extraction:
    """One pass of sounds through a model, into the store."""

    def __init__(self, root: zarr.Group, keys: Mapping[str, str], about: Mapping[str, Any]) -> None:
        self.root, self.keys, self.about = root, keys, about
        self.items: Sequence[str] = about["items"]
        self.writers: dict[str, stores.ArrayWriter] = {}

    def run(self, model: nn.Module, batches: Iterator[Tensor]) -> None:
        done = 0
        with ExitStack() as stack:
            heard = stack.enter_context(tap(model, list(self.keys), stage=self.about["stage"]))
            step = stack.enter_context(progress("activations", len(self.items)))
            for batch in batches:
                forward(model, batch)
                for layer in self.keys:
                    self._write(layer, pool(heard[layer], self.about["pooling"]), done)
                done += len(batch)
                step.advance(len(batch))
        for writer in self.writers.values():
            writer.finish()

    def _write(self, layer: str, pooled: Tensor, done: int) -> None:
        with np.errstate(over="ignore"):  # an overflow is told below, with its item
            rows = pooled.cpu().numpy().astype(self.about["dtype"])
        finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
        if not finite.all():
            item = self.items[done + int(np.argmin(finite))]
            raise RunError(
                f"activations: layer {layer!r} is not finite for item {item!r}; look at the sound and weights"
                + ("; float16 holds values up to 65504 only" if rows.dtype == np.float16 else "")
            )
        if layer not in self.writers:
            self.writers[layer] = stores.ArrayWriter(
                self.root,
                (KIND, layer, self.keys[layer]),
                shape=(len(self.items), *rows.shape[1:]),
                dtype=self.about["dtype"],
                attributes={**self.about, "layer": layer, "key": self.keys[layer]},
            )
        self.writers[layer].write(rows)


def pool(activation: Tensor, pooling: Pooling) -> Tensor:
    """Pool `(n, c, t)` or `(n, c, h, w)` over its positions; `(n, units)` has none and stays.

    Examples
    --------
    >>> pool(torch.tensor([[[3.0, -4.0]]]), "rms").tolist()
    [[3.535533905029297]]
    """
    if activation.ndim == 2 or pooling == "none":
        return activation
    flat = activation.flatten(2)
    match pooling:
        case "mean":
            return flat.mean(2)
        case "max":
            return flat.amax(2)
        case "rms":
            return flat.square().mean(2).sqrt()
        case "flatten":
            return flat.flatten(1)
