"""Hold the options of what is written of encoding models, to sounds and to stories, and write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.images import refuse_existing_maps, save_brain_maps
from brainmap.cli.options import Json, Overwrite, Table, refuse_existing
from brainmap.errors import InputError

if TYPE_CHECKING:
    from brainmap.rsa.encoding.encode import Encoding


@dataclass(frozen=True, kw_only=True)
class EncodingOutputs:
    """Hold the options that say what is written of encoding models, and write it."""

    maps: Annotated[
        str | None, typer.Option(help="Image to write, one sub-brick a layer: .nii.gz, x+tlrc, .func.gii with {hemi}.")
    ] = None
    score: Annotated[types.EncodingScore, typer.Option(help="The score of --maps.")] = "r"
    counts: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of targets without a score and of alphas at the ends.")
    ] = None
    tests: Annotated[
        Path | None,
        typer.Option(
            help="Also write a .tsv of p for each row, by permuting sounds, or blocks of scans within stories."
        ),
    ] = None
    permutations: Annotated[int, typer.Option(min=1, help="Permutations for --tests (and --encoder).")] = 1000
    correction: Annotated[
        types.PermutationCorrection,
        typer.Option(help="Correction of --tests over all rows; max is family-wise by the highest r."),
    ] = "fdr"
    best: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of best layers, chosen on one half and scored on the other.")
    ] = None
    best_maps: Annotated[
        str | None, typer.Option(help="Also write an image of best layer (from 1), its position (0 to 1), and its r.")
    ] = None
    network: Annotated[str | None, typer.Option(help="The network of --best-maps, where there are several.")] = None
    splits: Annotated[
        int, typer.Option(min=1, help="Halvings of the sounds, or stories, for --best and --best-maps.")
    ] = 10
    space: Annotated[str | None, typer.Option(help="Space of images; default: that of the mask.")] = None
    out: Table = None
    overwrite: Overwrite = False
    as_json: Json = False

    @property
    def asked_maps(self) -> dict[str, str]:
        """Return the images that are asked for, by their option."""
        given = {"--maps": self.maps, "--best-maps": self.best_maps}
        return {option: path for option, path in given.items() if path is not None}

    def refuse_existing(self, targets: str, *, on_surface: bool) -> None:
        """Refuse files that exist, and maps of regions, before anything is read.

        Raises
        ------
        InputError
        """
        tables = {"--out": self.out, "--counts": self.counts, "--tests": self.tests, "--best": self.best}
        for option, path in tables.items():
            refuse_existing(path, self.overwrite, option=option, kinds=(".tsv",))
        for option, name in self.asked_maps.items():
            if targets == "roi":
                raise InputError(f"{option}: expected --targets voxel, got regions; leave {option} out")
            refuse_existing_maps(name, self.overwrite, option, on_surface=on_surface)

    def write(self, fit: Encoding, mask: str | None, about: Mapping[str, Any], seed: int) -> Iterator[Path]:
        """Write the tables and maps that are asked for, and yield their files."""
        import numpy as np

        from brainmap.record import write_table
        from brainmap.rsa.encoding.best_layers import BEST_LAYER_COLUMNS, best_encoding_layers
        from brainmap.rsa.encoding.counts import COUNT_COLUMNS
        from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
        from brainmap.rsa.encoding.maps import map_encoding
        from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS, encoding_test

        place = None if fit.responses.mesh else mask
        if self.out is not None:
            yield write_table(fit.scores, self.out, columns=ENCODING_COLUMNS, about=about)
        if self.counts is not None:
            yield write_table(fit.counts, self.counts, columns=COUNT_COLUMNS, about=about)
        if self.tests is not None:
            rng = np.random.default_rng([seed, 1])
            tested = encoding_test(fit, permutations=self.permutations, correction=self.correction, rng=rng)
            said = {**about, "Test": tested.attrs["note"]}
            yield write_table(tested, self.tests, columns=ENCODING_TEST_COLUMNS, about=said)
        if self.maps is not None:
            found = map_encoding(fit, place, score=self.score)
            yield from save_brain_maps(found, self.maps, mask, space=self.space, overwrite=self.overwrite)
        if self.best is not None or self.best_maps is not None:
            best = best_encoding_layers(fit, splits=self.splits, rng=np.random.default_rng(seed))
            if self.best is not None:
                yield write_table(best.regions, self.best, columns=BEST_LAYER_COLUMNS, about=about)
            if self.best_maps is not None:
                maps = best.maps(place, self.network)
                yield from save_brain_maps(maps, self.best_maps, mask, space=self.space, overwrite=self.overwrite)
