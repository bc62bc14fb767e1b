"""Split encoding models of a participant into pieces: the models of a network, and permutations of them in blocks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import BrainmapWarning
from brainmap.names import slug
from brainmap.record import content_key
from brainmap.rsa.encoding.counts import COUNT_COLUMNS
from brainmap.rsa.encoding.encode import Encoding, fit_layers
from brainmap.rsa.encoding.folds import Places
from brainmap.rsa.encoding.group import GroupNull, draw_shared_orders
from brainmap.rsa.encoding.permuted import Permuted, permute_network
from brainmap.rsa.encoding.responses import FeatureSpace
from brainmap.study.results.context import Context
from brainmap.study.results.pieces import Piece, compute_side_by_side, read_pieces
from brainmap.study.settings.encoding import EncodingModels
from brainmap.study.stages.encoding import EncodedPerson
from brainmap.study.stages.inference import make_rng
from brainmap.study.stages.networks import yield_versions
from brainmap.study.stages.participants import build_chunk_folder

VERSION = 1
MODELS, ORDERS = "encoding models", "encoding permutations"
_SCORES = ("r", "r_corrected", "r2", "r2_corrected", "reliability", "alpha")
_COUNTS = tuple(name for name in COUNT_COLUMNS if name not in ("network", "layer"))
_AT_ONCE = 100  # permutations of voxels that are one piece; those of a few regions are not divided


@dataclass(frozen=True)
class ModelPieces:
    """Fit the models of one network after another in a participant; piece k is the k-th network."""

    one: EncodedPerson

    @property
    def folder(self) -> Path:
        """Return the folder of the pieces, which are there until the tables are written."""
        return _build_folder(self.one, "models")

    @cached_property
    def pieces(self) -> list[Piece]:
        """List the pieces, one a network."""
        key, count = content_key(VERSION, self.one.key), len(list(yield_versions(self.one.one.context)))
        return [Piece(self.one.label, k, k + 1, self.folder, key, MODELS) for k in range(count)]

    def prepare(self) -> ModelPieces:
        """Load the layers and the responses."""
        _ = self.one.aligned, self.one.folds
        return self

    def to_send(self) -> ModelPieces:
        """Return a copy without loaded data."""
        return ModelPieces(EncodedPerson(self.one.one.to_send(), self.one.asked))

    def compute_arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Fit the networks start .. stop - 1."""
        spaces, responses = self.one.aligned
        own = _select_spaces(self.one, spaces, start, stop)
        floor = self.one.asked.reliability_floor
        scores, counts, _ = fit_layers(own, responses, self.one.folds, self.one.settings, floor=floor)
        return {"scores": scores[list(_SCORES)].to_numpy(np.float64), "counts": counts[list(_COUNTS)].to_numpy(float)}

    def join(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Compute what is missing, and return the scores and the counts of all layers."""
        compute_side_by_side(self.pieces, self.prepare, threads=self.one.one.context.threads)
        spaces, responses = self.one.aligned
        held, n = read_pieces(self.pieces), len(responses.targets)
        named = pd.DataFrame([(space.network, space.layer) for space in spaces], columns=["network", "layer"])
        targets = pd.concat([responses.targets] * len(spaces), ignore_index=True)
        scores = pd.DataFrame(np.concatenate([one["scores"] for one in held]), columns=list(_SCORES))
        counts = pd.DataFrame(np.concatenate([one["counts"] for one in held]), columns=list(_COUNTS))
        whole = [name for name in _COUNTS if not name.endswith("alpha")]
        counts[whole] = counts[whole].astype(np.int64)
        rows = named.loc[named.index.repeat(n)].reset_index(drop=True)
        return pd.concat([rows, targets, scores], axis=1), pd.concat([named, counts], axis=1)


@dataclass(frozen=True)
class OrderPieces:
    """Fit the models of a participant again with the sounds in the orders that all participants share.

    Pieces are networks, and blocks of orders where the target is a voxel.
    """

    one: EncodedPerson

    @property
    def folder(self) -> Path:
        """Return the folder of the pieces, which are there until the tables of the group are written."""
        return _build_folder(self.one, "permutations")

    @cached_property
    def blocks(self) -> list[tuple[int, int, int]]:
        """List what each piece holds."""
        return cut_orders(self.one.asked, len(list(yield_versions(self.one.one.context))))

    @cached_property
    def pieces(self) -> list[Piece]:
        """List the pieces."""
        key = content_key(VERSION, self.one.key, self.one.asked.permutations)
        return [Piece(self.one.label, k, k + 1, self.folder, key, ORDERS) for k in range(len(self.blocks))]

    @cached_property
    def drawn(self) -> tuple[Places, str]:
        """Draw the orders, and tell what is exchanged."""
        rng = make_rng(self.one.one.context, "encoding test")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrainmapWarning)  # of few relabelings, said once for the group
            return draw_shared_orders(self.one.restore_empty(), permutations=self.one.asked.permutations, rng=rng)

    def prepare(self) -> OrderPieces:
        """Load the layers and the responses, and draw the orders."""
        _ = self.one.aligned, self.one.folds, self.drawn
        return self

    def to_send(self) -> OrderPieces:
        """Return a copy without loaded data."""
        return OrderPieces(EncodedPerson(self.one.one.to_send(), self.one.asked))

    @cached_property
    def regions(self) -> list[str]:
        """List the regions of the participant."""
        return list(dict.fromkeys(self.one.aligned[1].targets["roi"]))

    def compute_arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Score the pieces start .. stop - 1; the true order comes with the first block of a network."""
        (network, first, last), (orders, _) = self.blocks[start], self.drawn
        fit = self.one.restore_empty()
        name = _select_spaces(self.one, fit.spaces, network, network + 1)[0].network
        found = permute_network(fit, name, orders[[0, *range(first, last)]], self.regions)
        cut = slice(None) if first == 1 else slice(1, None)
        arrays = {"layers": found.layers[cut], "best": found.best[cut]}
        if first == 1:
            arrays |= {"influence": found.influence, "best_influence": found.best_influence}
        return arrays

    def join(self, regions: Sequence[str]) -> list[Permuted]:
        """Compute what is missing, and return the scores of some regions for each network."""
        compute_side_by_side(self.pieces, self.prepare, threads=self.one.one.context.threads)
        held, kept = read_pieces(self.pieces), [self.regions.index(name) for name in regions]
        found = []
        for network in dict.fromkeys(block[0] for block in self.blocks):
            parts = [one for one, block in zip(held, self.blocks, strict=True) if block[0] == network]
            found.append(
                Permuted(
                    layers=np.concatenate([one["layers"] for one in parts])[..., kept],
                    best=np.concatenate([one["best"] for one in parts])[..., kept],
                    influence=parts[0]["influence"][..., kept],
                    best_influence=parts[0]["best_influence"][..., kept],
                )
            )
        return found


def join_permutations(people: Sequence[EncodedPerson], fits: Sequence[Encoding]) -> GroupNull:
    """Return the permuted scores over participants, of the regions and models that are compared."""
    regions = list(dict.fromkeys(fits[0].responses.targets["roi"]))
    works = [OrderPieces(one) for one in people]
    permuted = [work.join(regions) for work in works]
    _, words = draw_shared_orders(fits[0], permutations=1, rng=np.random.default_rng(0))
    return GroupNull.join(fits, regions, permuted, words)


def count_pieces(context: Context) -> dict[str, int]:
    """Count the pieces of each participant by what they are; there are none where no encoding models are asked for."""
    asked = context.study.settings.encoding
    if asked is None:
        return {}
    count = len(list(yield_versions(context)))
    return {MODELS: count, ORDERS: len(cut_orders(asked, count))}


def cut_orders(asked: EncodingModels, n_networks: int) -> list[tuple[int, int, int]]:
    """List the network, the first order, and the end of each piece of the permutations; order 0 is the true one."""
    size = asked.permutations if asked.targets == "roi" else _AT_ONCE
    starts = range(1, asked.permutations + 1, size)
    return [(k, start, min(start + size, asked.permutations + 1)) for k in range(n_networks) for start in starts]


def _build_folder(one: EncodedPerson, name: str) -> Path:
    return build_chunk_folder(one.one.context) / f"{name}-{slug(one.label)}"


def _select_spaces(one: EncodedPerson, spaces: Sequence[FeatureSpace], start: int, stop: int) -> list[FeatureSpace]:
    """Select the layers of the networks start .. stop - 1."""
    names = [version.name for version in yield_versions(one.one.context)][start:stop]
    return [space for space in spaces if space.network in names]
