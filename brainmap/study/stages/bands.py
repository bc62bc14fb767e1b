"""Fit several feature spaces together in each participant, and tell over the group what each of them adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.record import content_key
from brainmap.rsa.encoding.band_fits import fit_bands, permute_bands
from brainmap.rsa.encoding.bands import BAND_ALPHAS, BAND_COLUMNS, BandSettings
from brainmap.rsa.encoding.permutations import Null, average_present, tabulate_p
from brainmap.rsa.encoding.responses import FeatureSpace
from brainmap.rsa.inference.scores import score_statistics
from brainmap.study.results.context import Context, make_rng
from brainmap.study.results.pieces import Piece, Work, compute_side_by_side, read_pieces
from brainmap.study.settings.stories import StoryModels
from brainmap.study.settings.study import Inference, Network
from brainmap.study.stages.comparisons import add_test_beside
from brainmap.study.stages.encoding_pieces import (
    PARTICIPANT,
    Modeled,
    ModelWork,
    OrderPieces,
    run_with_pieces,
    write_test_table,
)
from brainmap.study.stages.generality import THESE_SOUNDS
from brainmap.types import Floats

VERSION = 1
BANDS, STAGE = "encoding bands", "group_bands"
_VALUES = tuple(name for name in BAND_COLUMNS if name.endswith("spread") or name in ("r", "joint", "unique", "product"))
_SCORES = (*_VALUES, "joint_corrected")
_SEARCHES = 3  # random searches, over which scores are averaged
_ALPHA = 0.05
GROUP_BAND_COLUMNS = {
    "band": "features that are fitted together with those of the other bands, with a penalty of their own",
    "roi": "region of interest",
    "joint": "R2 of all bands together, mean over folds, the targets of the region, and participants",
    "joint_corrected": "joint / reliability, mean over targets and participants",
    "p_joint": "(k + 1) / (N + 1), where k of N permutations, shared by all participants, have a mean r of all bands "
    "with equal weights as high",
    "p_joint_corrected": "family-wise over regions, by the highest r of each permutation",
    "permutations": "permutations, beside the true order",
    "unique": "joint less the R2 of a model without this band, mean over targets and participants; may be negative",
    "standard_error": "of unique, over participants",
    "product": "share of this band in joint (product measure), whose shares sum to joint",
    "preferred": "whether the share is the largest of the region, where p_joint_corrected is .05 or less",
    "p_these_sounds": f"that unique is above 0, over participants, uncorrected: {THESE_SOUNDS}",
    "p_these_sounds_corrected": "the same, corrected over all rows of the table",
    "n": "participants",
}


@dataclass(frozen=True)
class BandPieces(ModelWork):
    """Fit the bands of a participant, and permute the joint model; one piece."""

    name = "bands"

    @cached_property
    def pieces(self) -> list[Piece]:
        """List the one piece."""
        asked = self.one.asked
        key = content_key(VERSION, self.one.key, asked.bands, asked.permutations)
        return [Piece(self.one.label, 0, 1, self.folder, key, BANDS)]

    def compute_arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Fit the bands; `scores` are `(n_bands, n_targets, n_scores)` and `joint` `(n_orders, n_regions)`."""
        one = self.one
        seed, settings = one.context.study.settings.study.seed, one.settings
        asked = BandSettings(
            alphas=np.asarray(BAND_ALPHAS),
            inner_folds=settings.inner_folds,
            device=settings.device,
            n_iter=one.band_iterations,
            seeds=tuple(seed + k for k in range(_SEARCHES)),
        )
        fit = fit_bands(select_bands(one.spaces, one.asked.bands), one.responses, one.folds, asked)
        orders, _ = OrderPieces(one).drawn
        scores = fit.scores[list(_SCORES)].to_numpy(np.float64)
        return {
            "scores": scores.reshape(len(fit.bands), -1, len(_SCORES)),
            "joint": permute_bands(fit, orders, self.regions),
        }

    def join(self) -> tuple[pd.DataFrame, Floats]:
        """Compute what is missing; return the scores of all bands and targets, and the joint r of all orders."""
        compute_side_by_side(self.pieces, self.prepare, threads=self.one.context.threads)
        (held,), targets = read_pieces(self.pieces), self.one.responses.targets
        names = list(select_bands(self.one.spaces, self.one.asked.bands))
        tables = [
            pd.concat([targets.assign(band=name), pd.DataFrame(scores, columns=list(_SCORES))], axis=1)
            for name, scores in zip(names, held["scores"], strict=True)
        ]
        return pd.concat(tables, ignore_index=True), held["joint"]


def select_bands(spaces: Sequence[FeatureSpace], bands: Sequence[str]) -> dict[str, list[FeatureSpace]]:
    """Select the layers of each band: all of a network, or one (`NETWORK:LAYER`).

    Raises
    ------
    InputError
        A network has no such layer.
    """
    found = {}
    for band in bands:
        network, _, layer = band.partition(":")
        own = [space for space in spaces if space.network == network]
        if layer:
            check_choice(layer, [space.layer for space in own], f"bands: layer of {network}")
        found[band] = [space for space in own if layer in ("", space.layer)]
    return found


def check_band_layers(context: Context, network: Network, layers: Sequence[str]) -> None:
    """Refuse bands of layers that a network does not have, before anything is computed.

    Raises
    ------
    InputError
    """
    settings = context.study.settings
    names = [network.name, *(f"{network.name}-{control}" for control in network.controls)]
    for asked in (settings.encoding, settings.stories):
        for band in () if asked is None else asked.bands:
            name, _, layer = band.partition(":")
            if layer and name in names:
                check_choice(layer, list(layers), f"bands: layer of {name}")


def run_bands(
    context: Context,
    people: Sequence[Modeled],
    asked: Inference | StoryModels,
    compute: Callable[[Sequence[tuple[Work, Sequence[Piece]]]], None],
) -> None:
    """Fit the bands of all participants and test them over the group; without bands, remove earlier tables of them.

    `compute` computes pieces on Dask workers, where these are asked for.
    """
    if not people[0].asked.bands:
        if has_bands(context, people[0].kind):
            context.run_stage(STAGE, content_key(VERSION, "none"), list)
        return
    works = [BandPieces(one) for one in people]
    key = content_key(VERSION, [work.pieces[0].key for work in works], [asked.test, asked.correction])
    run_with_pieces(context, STAGE, key, works, write=lambda: _write_tables(context, works, asked), compute=compute)


def has_bands(context: Context, kind: str) -> bool:
    """Tell whether the table of bands over the group exists."""
    return context.build_table_path(f"{kind}_bands").exists()


def _write_tables(context: Context, works: Sequence[BandPieces], tested_by: Inference | StoryModels) -> Iterator[Path]:
    """Write the table of each participant and that of the group."""
    asked, kind = works[0].one.asked, works[0].one.kind
    joined = [work.join() for work in works]
    about = context.build_provenance({"bands": asked.bands, "permutations": asked.permutations, "searches": _SEARCHES})
    columns = PARTICIPANT | {name: text for name, text in BAND_COLUMNS.items() if name in joined[0][0]}
    for work, (table, _) in zip(works, joined, strict=True):
        own = table.assign(participant=work.one.label)[list(columns)]
        person = work.one.person
        yield from context.save_person_table(own, person, f"{kind}.tsv", desc="bands", columns=columns, about=about)
    regions = [roi for roi in works[0].regions if all(roi in work.regions for work in works)]
    null = [one[:, [work.regions.index(roi) for roi in regions]] for work, (_, one) in zip(works, joined, strict=True)]
    _, words = OrderPieces(works[0].one).drawn
    tested = tabulate_p(pd.DataFrame({"roi": regions}), Null.of([np.mean(null, axis=0)]), "max", words)
    found, note = _average([table for table, _ in joined], regions, tested_by, context)
    said = f"all bands together: {tested.attrs['note']}{f'; unique: {note}' if note else ''}"
    table = _add_joint(found, tested)
    yield from write_test_table(context, (table, said), f"{kind}_bands", columns=GROUP_BAND_COLUMNS, about=about)


def _average(
    tables: Sequence[pd.DataFrame], regions: Sequence[str], asked: Inference | StoryModels, context: Context
) -> tuple[pd.DataFrame, str]:
    """Average the scores of bands over the targets of regions and over participants, and test what is unique."""
    rows = pd.MultiIndex.from_product([list(dict.fromkeys(tables[0]["band"])), regions], names=["band", "roi"])
    each = [table.groupby(["band", "roi"], sort=False)[list(_SCORES)].mean().reindex(rows) for table in tables]
    values = np.stack([one.to_numpy() for one in each], axis=-1)
    found = pd.DataFrame(average_present(values), columns=list(_SCORES), index=rows).reset_index()
    found, unique = found.assign(n=len(tables)), values[:, _SCORES.index("unique")]
    if len(tables) < 2:
        return add_test_beside(found, None), ""
    beside = score_statistics(unique, test=asked.test, correction=asked.correction, rng=make_rng(context, "bands"))
    return add_test_beside(found, beside), f"{beside.attrs['note']}; {THESE_SOUNDS}"


def _add_joint(found: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Add the test of all bands together, and which band has the largest share where it passes."""
    joint = tested.set_index("roi").rename(columns={"p": "p_joint", "p_corrected": "p_joint_corrected"})
    found = found.join(joint[["p_joint", "p_joint_corrected", "permutations"]], on="roi")
    largest = found.groupby("roi")["product"].transform("max") == found["product"]
    return found.assign(preferred=largest & (found["p_joint_corrected"] <= _ALPHA) & (found["joint"] > 0))
