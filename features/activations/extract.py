"""Extract the activations of the layers of a network for a set of sounds, and write them to disk batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_literals, list_some
from brainmap.errors import InputError, RunError
from brainmap.features.activations import store as stores
from brainmap.features.activations.batching import check_memory, say_cost
from brainmap.features.activations.reduction import Reducer, Reduction, make_reducer
from brainmap.features.activations.stored import (
    KIND,
    Activations,
    cut_asked_windows,
    get_window_columns,
    note_times,
    read_store,
    say_wide_layers,
    skip_windows,
)
from brainmap.features.layers.batching import choose_batch_size
from brainmap.features.layers.ear import tap
from brainmap.features.layers.inputs import fit_sounds
from brainmap.features.layers.layer import OUTPUT, TOKEN, Layer, place_units
from brainmap.features.layers.listing import leave_out_unknown_axes, say_taken_off
from brainmap.features.layers.pooling import pool_layer
from brainmap.features.layers.running import Advance, count_workers, evaluating, forward, run_side_by_side
from brainmap.features.layers.selection import choose_layers
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors, number_batches
from brainmap.features.sounds.inputs import compute_input_rate
from brainmap.features.sounds.windows import Windows
from brainmap.progress import Progress, log, progress
from brainmap.record import content_key
from brainmap.types import DType, LastWindow, Pooling, ReductionKind, Stage

_MOST_BATCHES = 4  # batches that run side by side
_VERSION = 3  # raised when the meaning of the numbers changes


def extract_activations(
    model: nn.Module,
    sounds: Sounds,
    *,
    layers: str | Sequence[str] = "all",
    pooling: Pooling = "mean",
    stage: Stage = "after",
    reduce: ReductionKind | Reduction | None = None,
    store: str | Path | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: DType = "float32",
    network: str = "network",
    origin: Mapping[str, Any] | None = None,
    key: str | None = None,
    rate: float | None = None,
    threads: int | None = None,
    units_axis: int | Mapping[str, int] | None = None,
    window: float | None = None,
    hop: float | None = None,
    last: LastWindow = "drop",
    pool_frequency: bool = False,
) -> Activations:
    """Run sounds through a model and store the activations of its layers.

    Parameters
    ----------
    model : torch.nn.Module
        It runs in eval mode; afterwards each module is back in the mode that it had.
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    layers : str or sequence of str
        "all" (every convolution and linear layer; the logits are called "output"), or names, globs, kinds, places and
        depths, as `brainmap.features.layers.selection` describes.
    pooling : {"mean", "max", "rms", "none", "flatten"}
        Pool over time, never over units or frequency bands, whichever axes of the network's own tensors these are, nor
        over padding that the network adds itself; a layer with bands gives one row of channels x bands. "none" keeps
        `(channels, frames)`, "flatten" gives one row for each item.
    stage : {"after", "before"}
        Record before or after the nonlinearity; "after" is what the next layer receives, before pooling.
    reduce : {"sparse-projection", "pca"} or Reduction, optional
        Reduce the dimensions after pooling, to rows `(n_items, n_dimensions)`, for every layer that has more units.
        "pca" runs the sounds twice, to fit and to transform; memory does not grow with the number of sounds.
    store : path, optional
        A zarr folder that is created or extended. Layers that it holds complete are not computed again, and memory does
        not grow with the number of sounds. Without it the arrays are kept in memory.
    batch_size : int, optional
        By default at most 32, and 8 for windows of recordings; fewer where an activation would take 32 MiB or more.
    device : str
    dtype : {"float16", "float32", "float64"}
        Type on disk. float16 halves the size, keeps three digits and is refused above 65504.
    network : str
        A name, kept as a label.
    origin : mapping, optional
        JSON values that say what the activations are computed from; kept with each array that is computed.
    key : str, optional
        A hash of weights and sounds that the caller supplies; by default it is computed from their contents.
    rate : float [Hz], optional
        Steps per second along the last axis of the network's input, from which the times of frames follow. `Sounds`
        carry it; for arrays it must be given (for spectrograms: sampling rate / hop).
    threads : int, optional
        Number of batches that run side by side, by default the number of cores and at most four, since each takes
        memory. The results do not depend on it, because every batch runs on one torch thread. On a GPU batches run in
        sequence.
    units_axis : int or mapping of str to int, optional
        Axis of the network's own tensor that holds the units, counted as in Python, with the items as axis 0. An int
        applies to every layer whose axis is not known; a mapping names the layers.
    window, hop : float, optional [s]
        Cut sounds of any length into windows, each an item such as `story@12.5`, which begins 12.5 s after the sound;
        `hop` is the time from one onset to the next, by default a window. Recordings are streamed, and their level is
        set once for each recording.
    last : {"drop", "pad"}
        Whether a window that reaches behind the end of a sound is left out or filled with zeros.
    pool_frequency : bool
        Pool over frequency as over time, where layers have bands.

    Returns
    -------
    Activations

    Raises
    ------
    InputError
        An unknown layer or setting, a sound that the network refuses, a window longer than a sound, or a layer of which
        the axis of the units is not known.
    RunError
        An activation is not finite; the message names the layer and the item.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    >>> acts = extract_activations(net, np.zeros((2, 1, 8), np.float32))
    >>> acts.layers, acts["0"].shape
    (('0', 'output'), (2, 4))
    """
    check_literals((pooling, Pooling, "pooling"), (stage, Stage, "stage"), (dtype, DType, "dtype"))
    reduction = Reduction(kind=reduce) if isinstance(reduce, str) else reduce
    if last == "pad" and getattr(model, "own_lengths", False):
        raise InputError("last: expected 'drop', as the network takes no padding, got 'pad'; leave out last")
    sounds = cut_asked_windows(fit_sounds(model, sounds), window=window, hop=hop, last=last, rate=rate)
    items, conditions = get_labels(sounds)
    root = stores.open_store(store)
    with evaluating(model, device), torch.no_grad():
        listed, chosen = choose_layers(model, sounds, layers, only=True)
        size = choose_batch_size(model, [*listed, *chosen], sounds) if batch_size is None else batch_size
        if layers == "all" and units_axis is None:
            chosen = leave_out_unknown_axes(chosen)
        names = [one.name for one in chosen]
        if key is None and store is not None:
            heard = stores.hash_sounds(sounds, batch_size=size)
            key = content_key(stores.hash_weights(model), heard)
        about: dict[str, Any] = {
            "items": items,
            "conditions": conditions,
            "pooling": pooling,
            "stage": stage,
            "dtype": dtype,
            "version": _VERSION,
        }
        chosen_only = {
            "reduction": None if reduction is None else reduction.as_dict(),
            "units_axis": units_axis,
            "windows": get_window_columns(sounds) or None,
            "pool_frequency": pool_frequency or None,
        }
        about |= {name: value for name, value in chosen_only.items() if value is not None}
        keys = {name: content_key(KIND, key, name, about) for name in names}
        about |= {} if origin is None else {"provenance": dict(origin)}  # it changes no key
        todo = [name for name in names if not stores.is_kept(root, KIND, name, keys[name])]
        timed = pooling == "none" and reduction is None
        found = place_units(chosen, units_axis)
        for one in chosen:
            if found[one.name].order != one.order:
                log.warning("note: units_axis: %s; pooling is over time", found[one.name].describe_axes())
        say_wide_layers(found.values(), sounds)
        if OUTPUT in found:
            say_taken_off(found[OUTPUT])
        if todo and store is None:
            check_memory([found[name] for name in todo], about, pooling)
        if todo:
            new = _Extraction(root, {name: keys[name] for name in todo}, about, reduction, found)
            count = min(count_workers(device, threads, "activations"), _MOST_BATCHES)
            new.resume(sounds, size)
            new.run(model, lambda: iterate_tensors(skip_windows(sounds, new.start), size, device=device), threads=count)
        if timed:
            shape = tuple(next(iterate_tensors(sounds, 1)).shape[1:])
            note_times(root, keys, found, rate=compute_input_rate(sounds, shape) or rate)
    stores.set_current(root, KIND, keys, network=network)
    return read_store(root)


class _Extraction:
    """Run sounds through a model into the store: once, or twice where a reduction is fitted first."""

    def __init__(
        self,
        root: stores.Group,
        keys: Mapping[str, str],
        about: Mapping[str, Any],
        reduction: Reduction | None,
        layers: Mapping[str, Layer],
    ) -> None:
        self.root, self.keys, self.about, self.reduction, self.layers = root, keys, about, reduction, layers
        self.items: Sequence[str] = about["items"]
        self.writers: dict[str, stores.ArrayWriter] = {}
        self.reducers: dict[str, Reducer] = {}
        self.units: dict[str, int] = {}
        self.start, self.most_rows = 0, 0

    def resume(self, sounds: Sounds, size: int) -> None:
        """Write windows in small chunks, and begin behind those of an earlier run, at the beginning of a batch."""
        self.most_rows = stores.RESUMED_ROWS if isinstance(sounds, Windows) else 0
        if self.most_rows and self.reduction is None:
            where = [(KIND, layer, key) for layer, key in self.keys.items()]
            self.start = stores.find_start(self.root, where, n_items=len(self.items), batch=size)

    def run(self, model: nn.Module, batches: Callable[[], Iterator[Tensor]], *, threads: int) -> None:
        if self.reduction is not None:
            with tap(model, list(self.keys), stage=self.about["stage"]) as heard:
                first = next(batches())[:1]
                forward(model, first)
                self._make_reducers(self.reduction, model, heard, first)
        fitted = {layer: reducer for layer, reducer in self.reducers.items() if reducer.passes}
        if self.most_rows:
            first = next(batches())
            hear = lambda: next(self._hear_batches(model, iter([first]), list(self.keys), None, 1))  # noqa: E731
            say_cost(hear, self.about, done=self.start, threads=threads)
        with progress("activations", len(self.items) * (2 if fitted else 1), done=self.start) as step:
            if fitted:
                for rows in self._hear_batches(model, batches(), list(fitted), step, threads):
                    for layer, reducer in fitted.items():
                        reducer.fit(rows[layer])
            for reducer in fitted.values():
                reducer.finish()
            done = self.start
            for rows in self._hear_batches(model, batches(), list(self.keys), step, threads):
                for layer in self.keys:
                    self._write_rows(layer, rows[layer], done)
                done += len(next(iter(rows.values())))
        for writer in self.writers.values():
            writer.finish()

    def _hear_batches(
        self, model: nn.Module, batches: Iterator[Tensor], layers: list[str], step: Progress | None, threads: int
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the pooled activations, batch by batch."""
        start, advance = self.start, step.advance if step else lambda *_: None
        tapped: dict[int, dict[str, Tensor]] = {}

        def hear(own: nn.Module, item: tuple[int, Tensor], advance: Advance) -> dict[str, NDArray[Any]]:
            done, batch = item
            with torch.no_grad():
                if id(own) not in tapped:  # once for each copy, since a tap looks at all modules by name
                    tapped[id(own)] = stack.enter_context(tap(own, layers, stage=self.about["stage"]))
                heard = tapped[id(own)]
                forward(own, batch)
                rows = {layer: self._make_rows(own, layer, heard[layer], done, batch) for layer in layers}
                heard.clear()
            advance(len(batch))
            return rows

        with ExitStack() as stack:
            yield from run_side_by_side(
                hear, model, number_batches(batches, start), modules=[model], threads=threads, advance=advance
            )

    def _make_reducers(
        self, reduction: Reduction, model: nn.Module, heard: Mapping[str, Tensor], first: Tensor
    ) -> None:
        whole = []
        for layer in self.keys:
            self.units[layer] = self._pool_layer(model, layer, heard[layer], first).flatten(1).shape[1]
            reducer = make_reducer(reduction, layer, n_items=len(self.items), n_units=self.units[layer])
            if reducer is None:
                whole.append(layer)
            else:
                self.reducers[layer] = reducer
        if whole:
            asked = reduction.wanted(len(self.items))
            log.info("activations: %s kept as they are, with no more than %d units", list_some(whole), asked)

    def _pool_layer(self, model: nn.Module, layer: str, activation: Tensor, batch: Tensor) -> Tensor:
        about = self.about
        return pool_layer(
            model,
            self.layers[layer],
            activation,
            batch,
            pooling=about["pooling"],
            pool_frequency="pool_frequency" in about,
        )

    def _make_rows(self, model: nn.Module, layer: str, activation: Tensor, done: int, batch: Tensor) -> NDArray[Any]:
        pooled = self._pool_layer(model, layer, activation, batch)
        pooled = pooled.float() if pooled.dtype == torch.bfloat16 else pooled  # numpy has no bfloat16
        rows: NDArray[Any] = pooled.cpu().numpy()
        if layer in self.reducers:
            rows = rows.reshape(len(rows), -1)
        return self._check_rows(rows, layer, done)

    def _check_rows(self, rows: NDArray[Any], layer: str, done: int) -> NDArray[Any]:
        if not stores.is_finite(rows):
            item = self.items[done + int(np.argmin(np.isfinite(rows).reshape(len(rows), -1).all(axis=1)))]
            raise RunError(
                f"activations: layer {layer!r} is not finite for item {item!r}; look at the sound and weights"
                + ("; float16 holds values up to 65504 only" if rows.dtype == np.float16 else "")
            )
        return rows

    def _write_rows(self, layer: str, rows: NDArray[Any], done: int) -> None:
        reducer = self.reducers.get(layer)
        kept = rows if reducer is None else reducer.transform(rows)
        if kept.dtype != self.about["dtype"]:
            with np.errstate(over="ignore"):  # an overflow is reported below, with its item
                kept = self._check_rows(kept.astype(self.about["dtype"]), layer, done)
        if layer not in self.writers:
            reduced = (
                {}
                if reducer is None
                else {
                    **self.about["reduction"],
                    "units": self.units[layer],
                    "dimensions": kept.shape[1],
                    **reducer.about(),
                }
            )
            self.writers[layer] = stores.ArrayWriter(
                self.root,
                (KIND, layer, self.keys[layer]),
                shape=(len(self.items), *kept.shape[1:]),
                dtype=self.about["dtype"],
                attributes={**self.about, "layer": layer, "key": self.keys[layer], "reduced": reduced},
                dimensions=self._dimensions(layer, kept.ndim, reduced=bool(reduced)),
                most_rows=self.most_rows,
                start=self.start,
            )
        wanted = self.writers[layer].array.shape[1:]
        if kept.shape[1:] != wanted:
            raise InputError(
                f"activations: layer {layer!r} has shape {kept.shape[1:]} for item {self.items[done]!r} and {wanted} "
                "for those before it, because the sounds have several lengths; pool over time, or give seconds to "
                "which all sounds are cut"
            )
        self.writers[layer].write(kept)

    def _dimensions(self, layer: str, n_axes: int, *, reduced: bool) -> tuple[str, ...]:
        """Name the axes of the stored array after the items."""
        if n_axes == 2:
            return ("dimension",) if reduced else ("unit",)
        positions = self.layers[layer].positions
        if len(positions) > n_axes - 2:  # those that hold sound came in one row
            positions = (TOKEN,)
        return ("unit", *positions)
