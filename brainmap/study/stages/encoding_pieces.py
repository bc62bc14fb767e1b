"""Split encoding models of a participant into pieces: the models of a network, and permutations of them in blocks."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import BrainmapWarning
from brainmap.names import slug
from brainmap.record import content_key
from brainmap.rsa.encoding.counts import COUNT_COLUMNS
from brainmap.rsa.encoding.encode import Encoding, fit_layers
from brainmap.rsa.encoding.fits import EncodingSettings
from brainmap.rsa.encoding.folds import Folds, Places
from brainmap.rsa.encoding.group import GroupNull, draw_shared_orders
from brainmap.rsa.encoding.permuted import Permuted, permute_network
from brainmap.rsa.encoding.responses import FeatureSpace, Responses, keep_targets
from brainmap.study.results.context import Context, make_rng
from brainmap.study.results.pieces import Piece, Work, clear_pieces, compute_side_by_side, read_pieces
from brainmap.study.settings.encoding import EncodingModels
from brainmap.study.settings.participant import Participant
from brainmap.study.settings.stories import StoryModels
from brainmap.study.stages.participants import build_chunk_folder
from brainmap.study.stages.wording import say_stories
from brainmap.tables import read_results_table

VERSION = 2  # 2: targets in blocks
PARTICIPANT = {"participant": "label of the participant"}
MODELS, ORDERS = "encoding models", "encoding permutations"
_SCORES = ("r", "r_corrected", "r2", "r2_corrected", "reliability", "alpha")
_COUNTS = tuple(name for name in COUNT_COLUMNS if name not in ("network", "layer"))
_SHARES = tuple(name for name in _COUNTS if name.endswith("alpha"))
_ORDERS_AT_ONCE = 100  # permutations of voxels that are one piece; those of a few regions are not divided
_TARGETS_AT_ONCE = 4096  # voxels whose models are one piece


@dataclass(frozen=True)
class Modeled(ABC):
    """Hold a participant whose encoding models are fitted in pieces, to sounds or to stories."""

    context: Context
    person: Participant
    asked: EncodingModels | StoryModels
    kind: ClassVar[str]
    """First word of the names of tables: encoding or stories."""
    band_iterations: ClassVar[int]
    """Weights that a random search over bands tries."""
    orders_for: ClassVar[str]
    """Name of the random numbers that the orders are drawn with."""

    @property
    def label(self) -> str:
        """Return the label of the participant."""
        return self.person.label

    @property
    def stage(self) -> str:
        """Return the name of the stage."""
        return f"sub-{self.label}_{self.kind}"

    @property
    def path(self) -> Path:
        """Return the path of the table of scores."""
        return self.context.build_subject_path(self.person, f"{self.kind}.tsv", desc="rois")

    @property
    def done(self) -> bool:
        """Tell whether the table of scores exists."""
        return self.context.is_done(self.stage, self.key)

    @property
    @abstractmethod
    def key(self) -> str:
        """Return the key of everything that the scores depend on."""

    @property
    @abstractmethod
    def networks(self) -> Sequence[str]:
        """List the networks, controls and simple features whose layers are fitted."""

    @property
    @abstractmethod
    def spaces(self) -> Sequence[FeatureSpace]:
        """Return the layers of all networks."""

    @property
    @abstractmethod
    def responses(self) -> Responses:
        """Return the responses of the targets in regions."""

    @property
    @abstractmethod
    def folds(self) -> Folds:
        """Return the test folds."""

    @property
    @abstractmethod
    def settings(self) -> EncodingSettings:
        """Return how ridge regression is fitted."""

    @property
    @abstractmethod
    def n_voxels_of_regions(self) -> int:
        """Count the voxels of all regions before data are read."""

    def restore(self) -> Encoding:
        """Return the models with the scores that the stage wrote, without fitting them again."""
        return replace(self.restore_empty(), scores=read_results_table(self.path))

    def restore_empty(self) -> Encoding:
        """Return the models without scores."""
        spaces, responses, folds = tuple(self.spaces), self.responses, self.folds
        none = np.empty((0, folds.n_folds, len(responses.targets)))
        return Encoding(pd.DataFrame(), pd.DataFrame(), none, spaces, responses, folds, self.settings)

    def measure_more(self, spaces: Sequence[FeatureSpace], responses: Responses) -> dict[str, NDArray[Any]]:
        """Measure what else is written of some layers and targets, each `(n_layers, n_targets, ...)`."""
        return {}

    def to_send(self) -> Self:
        """Return a copy without loaded data, for another process."""
        return replace(self, context=self.context.to_send())


M = TypeVar("M", bound=Modeled)


class Joined(NamedTuple):
    """Hold the results of all models of a participant: scores, counts, and what else was measured."""

    scores: pd.DataFrame
    counts: pd.DataFrame
    more: dict[str, list[NDArray[Any]]]


@dataclass(frozen=True)
class ModelWork(ABC):
    """Hold what the pieces of the models of a participant share: their folder, and the data that they need."""

    one: Modeled
    name: ClassVar[str]

    @property
    @abstractmethod
    def pieces(self) -> list[Piece]:
        """List the pieces."""

    @abstractmethod
    def compute_arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Compute what the pieces from start to stop hold."""

    @property
    def folder(self) -> Path:
        """Return the folder of the pieces, which are there until the tables are written."""
        return build_chunk_folder(self.one.context) / f"{self.name}-{slug(self.one.label)}"

    @cached_property
    def regions(self) -> list[str]:
        """List the regions of the participant."""
        return list(dict.fromkeys(self.one.responses.targets["roi"]))

    def prepare(self) -> Self:
        """Load the layers and the responses."""
        _ = self.one.spaces, self.one.responses, self.one.folds
        return self

    def to_send(self) -> Self:
        """Return a copy without loaded data."""
        return replace(self, one=self.one.to_send())


@dataclass(frozen=True)
class ModelPieces(ModelWork):
    """Fit the models of one network after another in a participant; of many voxels, a block after another."""

    name = "models"

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """List the network and the block of targets of each piece."""
        return [(k, block) for k in range(len(self.one.networks)) for block in range(_count_blocks(self.one))]

    @cached_property
    def pieces(self) -> list[Piece]:
        """List the pieces."""
        key = content_key(VERSION, self.one.key)
        return [Piece(self.one.label, k, k + 1, self.folder, key, MODELS) for k in range(len(self.blocks))]

    def compute_arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Fit the piece start; scores are `(n_layers, n_targets, n_scores)`."""
        network, block = self.blocks[start]
        one, own = self.one, _select_spaces(self.one, network)
        responses = keep_targets(one.responses, _find_block(one, block))
        n = len(responses.targets)
        scores, counts, _ = fit_layers(own, responses, one.folds, one.settings, floor=one.asked.reliability_floor)
        return {
            "scores": scores[list(_SCORES)].to_numpy(np.float64).reshape(len(own), n, len(_SCORES)),
            "counts": counts[list(_COUNTS)].to_numpy(float),
            **one.measure_more(own, responses),
        }

    def join(self) -> Joined:
        """Compute what is missing, and return the results of all layers."""
        compute_side_by_side(self.pieces, self.prepare, threads=self.one.context.threads)
        held, one = read_pieces(self.pieces), self.one
        each = [[part for part, block in zip(held, self.blocks, strict=True) if block[0] == k]
                for k in range(len(one.networks))]  # fmt: skip
        named = pd.DataFrame([(space.network, space.layer) for space in one.spaces], columns=["network", "layer"])
        targets = pd.concat([one.responses.targets] * len(one.spaces), ignore_index=True)
        scores = np.concatenate([np.concatenate([part["scores"] for part in parts], axis=1) for parts in each])
        rows = named.loc[named.index.repeat(len(one.responses.targets))].reset_index(drop=True)
        table = pd.DataFrame(scores.reshape(-1, len(_SCORES)), columns=list(_SCORES))
        more = {
            name: [layer for parts in each for layer in np.concatenate([part[name] for part in parts], axis=1)]
            for name in held[0]
            if name not in ("scores", "counts")
        }
        counts = pd.concat([_join_counts([part["counts"] for part in parts]) for parts in each], ignore_index=True)
        return Joined(pd.concat([rows, targets, table], axis=1), pd.concat([named, counts], axis=1), more)


def _join_counts(parts: Sequence[NDArray[Any]]) -> pd.DataFrame:
    """Join the counts of blocks of targets `(n_layers, n_counts)`: targets are summed, shares weighted by them."""
    tables = [pd.DataFrame(one, columns=list(_COUNTS)) for one in parts]
    found: pd.DataFrame = sum(table.drop(columns=list(_SHARES)) for table in tables)  # type: ignore[assignment]
    units = np.max([table["constant_units"] for table in tables], axis=0)  # those of the layer, in every block
    found = found.assign(constant_units=units).astype(np.int64)
    for name in _SHARES:
        found[name] = sum(table[name] * table["targets"] for table in tables) / found["targets"]
    return found[list(_COUNTS)]


@dataclass(frozen=True)
class OrderPieces(ModelWork):
    """Fit the models of a participant again with the sounds in the orders that all participants share.

    Pieces are networks, and blocks of orders where the target is a voxel.
    """

    name = "permutations"

    @cached_property
    def blocks(self) -> list[tuple[int, int, int]]:
        """List what each piece holds."""
        return _cut_orders(self.one.asked, len(self.one.networks))

    @cached_property
    def pieces(self) -> list[Piece]:
        """List the pieces."""
        key = content_key(VERSION, self.one.key, self.one.asked.permutations)
        return [Piece(self.one.label, k, k + 1, self.folder, key, ORDERS) for k in range(len(self.blocks))]

    @cached_property
    def drawn(self) -> tuple[Places, str]:
        """Draw the orders, and tell what is exchanged."""
        rng = make_rng(self.one.context, self.one.orders_for)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrainmapWarning)  # of few relabelings, said once for the group
            return draw_shared_orders(self.one.restore_empty(), permutations=self.one.asked.permutations, rng=rng)

    def prepare(self) -> Self:
        """Load the layers and the responses, and draw the orders."""
        _ = self.drawn
        return super().prepare()

    def compute_arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Score the pieces start .. stop - 1; the true order comes with the first block of a network."""
        (network, first, last), (orders, _) = self.blocks[start], self.drawn
        name = self.one.networks[network]
        found = permute_network(self.one.restore_empty(), name, orders[[0, *range(first, last)]], self.regions)
        cut = slice(None) if first == 1 else slice(1, None)
        arrays = {"layers": found.layers[cut], "best": found.best[cut]}
        if first == 1:
            arrays |= {"influence": found.influence, "best_influence": found.best_influence}
        return arrays

    def join(self, regions: Sequence[str]) -> list[Permuted]:
        """Compute what is missing, and return the scores of some regions for each network."""
        compute_side_by_side(self.pieces, self.prepare, threads=self.one.context.threads)
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


def run_models(people: Iterable[M], write: Callable[[M], Iterable[Path]]) -> None:
    """Fit the encoding models of participants; `write` writes the tables of one."""
    for one in people:
        one.context.run_stage(one.stage, one.key, partial(write, one))
        clear_pieces(ModelPieces(one).folder)


def join_permutations(people: Sequence[Modeled], fits: Sequence[Encoding]) -> GroupNull:
    """Return the permuted scores over participants, of the regions and models that are compared."""
    regions = list(dict.fromkeys(fits[0].responses.targets["roi"]))
    works = [OrderPieces(one) for one in people]
    permuted = [work.join(regions) for work in works]
    _, words = draw_shared_orders(fits[0], permutations=1, rng=np.random.default_rng(0))
    return GroupNull.join(fits, regions, permuted, words)


def count_pieces(one: Modeled) -> dict[str, int]:
    """Count the pieces of a participant by what they are, before data are read."""
    count = len(one.networks)
    return {MODELS: count * _count_blocks(one), ORDERS: len(_cut_orders(one.asked, count))}


def _count_blocks(one: Modeled) -> int:
    """Count the blocks of targets of a participant: of voxels one for each 4,096 in regions, which may be left out."""
    return 1 if one.asked.targets == "roi" else -(-one.n_voxels_of_regions // _TARGETS_AT_ONCE)


def _find_block(one: Modeled, block: int) -> NDArray[np.bool_]:
    """Return which targets a block holds `(n_targets,)`."""
    n, count = len(one.responses.targets), _count_blocks(one)
    kept = np.zeros(n, bool)
    kept[n * block // count : n * (block + 1) // count] = True
    return kept


def _cut_orders(asked: EncodingModels | StoryModels, n_networks: int) -> list[tuple[int, int, int]]:
    """List the network, the first order, and the end of each piece of the permutations; order 0 is the true one."""
    size = asked.permutations if asked.targets == "roi" else _ORDERS_AT_ONCE
    starts = range(1, asked.permutations + 1, size)
    return [(k, start, min(start + size, asked.permutations + 1)) for k in range(n_networks) for start in starts]


def _select_spaces(one: Modeled, network: int) -> list[FeatureSpace]:
    """Select the layers of a network by its place."""
    return [space for space in one.spaces if space.network == one.networks[network]]


def run_with_pieces(
    context: Context,
    stage: str,
    key: str,
    works: Sequence[ModelWork],
    *,
    write: Callable[[], Iterable[Path]],
    compute: Callable[[Sequence[tuple[Work, Sequence[Piece]]]], None],
) -> None:
    """Run a stage of the group whose pieces `compute` computes on Dask workers, where these are asked for."""
    if context.backend == "dask" and not context.is_done(stage, key):
        compute([(work, work.pieces) for work in works])
    context.run_stage(stage, key, write)
    for work in works:
        clear_pieces(work.folder)


def write_test_table(
    context: Context,
    tested: tuple[pd.DataFrame, str],
    name: str,
    *,
    columns: Mapping[str, str],
    about: Mapping[str, Any],
) -> Iterator[Path]:
    """Write the described columns of a table of the group, and how they were tested: `tested` holds both."""
    table, test = tested
    if context.study.settings.stories is not None:
        test, columns = say_stories(test), {name: say_stories(text) for name, text in columns.items()}
    said = {"Test": test, **about}
    yield from context.save_table(table[list(columns)], context.build_table_path(name), columns=columns, about=said)
