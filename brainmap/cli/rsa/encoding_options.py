"""Hold the options of encoding models, of sounds and of stories: what is read, and what is written of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import features, rsa, types
from brainmap.checks import refuse_some
from brainmap.cli.images import refuse_existing_maps, save_brain_maps
from brainmap.cli.options import (
    Json,
    Mask,
    Overwrite,
    Participant,
    Table,
    check_free,
    make_rng,
    read_numbers,
    write_tables,
)
from brainmap.cli.rsa.options import load_regions
from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.rsa.encoding.latencies import check_latencies

if TYPE_CHECKING:
    import pandas as pd

    from brainmap.features.networks.readout import ReadoutNetwork


@dataclass(frozen=True, kw_only=True)
class StoryBrain:
    """Hold the options that name the responses of one participant to stories, which are read when asked for."""

    bold: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="BOLD of each story, quoted, with {sound} for the id of the story, and {run} where it was heard "
            "several times: 'sub-01/{sound}_run-{run}_bold.nii.gz'; surfaces (GIFTI with {hemi}, CIFTI); arrays of "
            "scans x voxels (.npy, .mat, .h5); or tables of regions (.tsv).",
        ),
    ]
    mask: Mask = None
    rois: Annotated[
        str | None,
        typer.Option(
            help="Label image, surface labels, or voxel table (.tsv) of regions; tables of regions need none."
        ),
    ] = None
    roi_table: Annotated[Path | None, typer.Option(help="TSV with index and name of each label.")] = None
    participant: Participant = None
    key: Annotated[str | None, typer.Option(help="Name of the array in a file of --bold that holds several.")] = None
    confounds: Annotated[
        str | None, typer.Option(metavar="FILE", help="Confounds of each story: a name with the places of --bold.")
    ] = None
    strategy: Annotated[
        str | None, typer.Option(help="Columns of --confounds, as in motion6+acompcor; default: all.")
    ] = None
    t_r: Annotated[float | None, typer.Option(help="Time from scan to scan, in s; default: that of the images.")] = None

    @property
    def on_surface(self) -> bool:
        """Tell whether the responses lie on the surface."""
        from brainmap.rsa.images.names import SURFACE_ENDINGS

        return self.bold.endswith(SURFACE_ENDINGS)

    @property
    def others(self) -> list[str | Path]:
        """Return the files of mask and regions."""
        return [name for name in (self.mask, self.rois, self.roi_table) if name is not None]

    def check(self, targets: types.EncodingTarget) -> None:
        """Refuse regions that are missing, or given where the columns are the regions."""
        from brainmap.rsa.images.names import REGION_TABLE_ENDING

        of_regions = self.bold.endswith(REGION_TABLE_ENDING)
        if self.rois is not None and of_regions:
            raise InputError(
                f"--rois: expected none, since the columns of {self.bold} are the regions, got {self.rois}; leave it "
                "out"
            )
        if targets == "roi" and self.rois is None and not of_regions:
            raise InputError("--targets roi: expected --rois too, got none; give an image of regions")

    def load(self, sounds: Sequence[str], targets: types.EncodingTarget) -> rsa.Stories:
        """Read the responses to some stories."""

        sides, who = "separate", self.participant
        regions = load_regions(
            self.rois, self.roi_table, self.mask, participant=who, minimum_voxels=1, hemispheres=sides
        )
        return rsa.load_stories(
            self.bold,
            sounds,
            mask=self.mask,
            rois=regions,
            targets=targets,
            confounds=self.confounds,
            strategy=self.strategy,
            t_r=self.t_r,
            key=self.key,
        )


@dataclass(frozen=True, kw_only=True)
class StoryScans:
    """Hold the options that say how features and responses are brought to the same scans."""

    silence: Annotated[
        str, typer.Option(metavar="BEFORE,AFTER", help="Seconds scanned before the sound began and after it ended.")
    ] = "0,0"
    delays: Annotated[
        str | None,
        typer.Option(metavar="SECONDS,...", help="Delays in s, multiples of the TR; default: all up to 8 s or more."),
    ] = None
    sampling: Annotated[types.ScanSampling, typer.Option(help="How features are brought to the scans.")] = "lanczos"
    high_pass: Annotated[
        float, typer.Option(min=0.0, help="Longest period that is kept in the BOLD, in s; 0 keeps all.")
    ] = 120.0
    trim: Annotated[
        str, typer.Option(metavar="FIRST,LAST", help="Scans left out at the beginning and at the end of each story.")
    ] = "0,0"

    def read(self) -> dict[str, Any]:
        """Return the settings that `brainmap.rsa.encode_stories` takes."""
        around, cut = read_numbers(self.silence, "--silence", n=2), read_numbers(self.trim, "--trim", n=2)
        if cut != [int(k) for k in cut] or min(*cut, *around) < 0:
            raise InputError(
                "--silence, --trim: expected seconds and whole numbers of scans from 0, got "
                f"{self.silence}, {self.trim}"
            )
        delays = None if self.delays is None else read_numbers(self.delays, "--delays")
        check_latencies(delays or (), "--delays")
        return {
            "delays": delays,
            "sampling": self.sampling,
            "high_pass": self.high_pass or None,
            "silence": tuple(around),
            "trim": tuple(int(k) for k in cut),
        }


@dataclass(frozen=True, kw_only=True)
class EncodingOutputs:
    """Hold the options that say what is written of encoding models, and write it."""

    maps: Annotated[
        str | None, typer.Option(help="Image to write, one sub-brick a layer: .nii.gz, x+tlrc, .func.gii with {hemi}.")
    ] = None
    score: Annotated[types.EncodingScore, typer.Option(help="The score of --maps.")] = "r"
    counts: Annotated[
        Path | None,
        typer.Option(
            callback=check_free(".tsv"), help="Also write a .tsv of targets without a score and of alphas at the ends."
        ),
    ] = None
    tests: Annotated[
        Path | None,
        typer.Option(
            callback=check_free(".tsv"),
            help="Also write a .tsv of p for each row, by permuting sounds, or blocks of scans within stories.",
        ),
    ] = None
    permutations: Annotated[int, typer.Option(min=1, help="Permutations for --tests (and --encoder).")] = 1000
    correction: Annotated[
        types.PermutationCorrection,
        typer.Option(help="Correction of --tests over all rows; max is family-wise by the highest r."),
    ] = "fdr"
    best: Annotated[
        Path | None,
        typer.Option(
            callback=check_free(".tsv"),
            help="Also write a .tsv of best layers, chosen on one half and scored on the other.",
        ),
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
        if targets == "roi" and (option := next(iter(self.asked_maps), None)):
            raise InputError(f"{option}: expected --targets voxel, got regions; leave {option} out")
        refuse_existing_maps(self.asked_maps, self.overwrite, on_surface=on_surface)

    def write(self, fit: rsa.Encoding, mask: str | None, about: Mapping[str, Any], seed: int) -> Iterator[Path]:
        """Write the tables and maps that are asked for, and yield their files."""

        from brainmap.rsa.encoding.best_layers import BEST_LAYER_COLUMNS
        from brainmap.rsa.encoding.counts import COUNT_COLUMNS
        from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
        from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS

        place = None if fit.responses.mesh else mask
        about = {**about, "FoldOfItem": fit.folds.name_folds(fit.items)}
        yield from write_tables(
            (self.out, fit.scores, ENCODING_COLUMNS, about), (self.counts, fit.counts, COUNT_COLUMNS, about)
        )
        if self.tests is not None:
            rng = make_rng([seed, 1])
            tested = rsa.encoding_test(fit, permutations=self.permutations, correction=self.correction, rng=rng)
            said = {**about, "Test": tested.attrs["note"]}
            yield from write_tables((self.tests, tested, ENCODING_TEST_COLUMNS, said))
        if self.maps is not None:
            found = rsa.map_encoding(fit, place, score=self.score)
            yield from save_brain_maps(found, self.maps, mask, space=self.space, overwrite=self.overwrite)
        if self.best is not None or self.best_maps is not None:
            best = rsa.best_encoding_layers(fit, splits=self.splits, rng=make_rng(seed))
            yield from write_tables((self.best, best.regions, BEST_LAYER_COLUMNS, about))
            if self.best_maps is not None:
                maps = best.maps(place, self.network)
                yield from save_brain_maps(maps, self.best_maps, mask, space=self.space, overwrite=self.overwrite)


_COMPARED = 3  # sounds whose activations are computed again
_TESTED = 2000  # outputs; testing more takes too long
_CLOSE = 0.01  # of the deviation of a layer's activations, by which they may differ from those that are stored


@dataclass(frozen=True, kw_only=True)
class EncoderOutput:
    """Hold the options that ask for an encoding model as a network."""

    encoder: Annotated[
        Path | None,
        typer.Option(
            callback=check_free(".safetensors"),
            help="Also write a network whose outputs are the regions or voxels, for the commands of brainmap features: "
            ".safetensors. It needs one layer (--layers), and --checkpoint and --sounds of its network.",
        ),
    ] = None
    checkpoint: Annotated[Path | None, typer.Option(help="The network of which --encoder is cut.")] = None
    sounds: Annotated[
        Path | None, typer.Option(help="The sounds of --activations, which are computed again for some sounds.")
    ] = None

    def refuse(self, networks: Mapping[str, Any], layers: str) -> None:
        """Refuse what cannot be written before anything is fitted.

        Raises
        ------
        InputError
        """
        given = (self.encoder, self.checkpoint, self.sounds)
        if not any(given):
            return
        if not all(given):
            raise InputError("--encoder, --checkpoint and --sounds go together; give all three, or none")
        if len(networks) > 1 or layers == "all" or "," in layers:
            raise InputError("--encoder: expected one network and one layer; name the layer, as in --layers conv3")
        (acts,) = networks.values()
        if layers in acts.reductions or acts.pooling == "none":
            what = "reduced units" if layers in acts.reductions else "frames (--pooling none)"
            raise InputError(
                f"--encoder: expected units of {layers!r} pooled over time, got {what}; extract them without --reduce, "
                "with --pooling mean, max, rms or flatten"
            )

    def write(self, fit: rsa.Encoding, acts: Any, *, data: Sequence[str], permutations: int, seed: int) -> Path | None:
        """Fit the layer to all sounds, cut the network behind it, and write what predicts the responses.

        The file also says how well each output is predicted, with the p of the maximum null, and on which `data`
        (digests) it was fitted.
        """
        if self.encoder is None or self.checkpoint is None or self.sounds is None:
            return None
        from brainmap.features.networks.description import read_description

        stored = read_description(self.checkpoint)
        if stored is None:
            raise InputError(
                f"--checkpoint: {self.checkpoint} does not say how it is built and fed; make it a file that does: "
                "brainmap features convert"
            )
        (space,), sounds = fit.spaces, stored.load_sounds(self.sounds)
        found, array = fit.weights(space.layer), acts[space.layer]
        model = features.readout_network(
            features.load_network(self.checkpoint),
            sounds,
            layer=space.layer,
            weights=found.weights,
            mean=found.mean,
            sd=found.sd,
            intercept=found.intercept,
            names=_name_targets(found.targets),
            pooling=acts.pooling,
            stage=acts.stage,
            pool_frequency=bool(array.attrs.get("pool_frequency")),
        )
        self._compare(model, sounds, acts, space.layer)
        said = {
            "encoding": {
                "participant": fit.participant,
                **_describe_scores(fit, model.classes),
                **_test_outputs(fit, model.classes, permutations, seed),
                "data": list(data),
            }
        }
        return features.save_checkpoint(model, self.encoder, replace(stored, training=said))

    def _compare(self, model: ReadoutNetwork, sounds: Any, acts: Any, layer: str) -> None:
        """Refuse a network whose activations are not those that were fitted."""
        import numpy as np
        import torch

        from brainmap.features.sounds.batches import iterate_tensors

        place = {item: row for row, item in enumerate(sounds.items)}
        refuse_some(
            [item for item in acts.items[:_COMPARED] if item not in place],
            f"--sounds: {self.sounds} lacks ",
            "; give the sounds of --activations",
        )
        heard = sounds.take([place[item] for item in acts.items[:_COMPARED]])
        with torch.no_grad():
            again = np.concatenate([model.pooled(one).numpy() for one in iterate_tensors(heard, 1)])
        kept = np.asarray(acts[layer], np.float64).reshape(len(acts.items), -1)
        if np.abs(again - kept[: len(again)]).max() > _CLOSE * kept.std():
            raise InputError(
                f"--checkpoint: expected the network of --activations, got one with other activations of {layer!r} in "
                f"{self.checkpoint}; give the network and the sounds from which they were extracted (a control of the "
                "network is another network)"
            )


def _name_targets(targets: pd.DataFrame) -> list[str]:
    """Name the outputs: regions; voxels by their number among those of the mask."""
    if targets["voxel"].isna().all():
        return [str(name) for name in targets["roi"]]
    return [
        f"{roi}:{voxel}" if roi else str(voxel) for roi, voxel in zip(targets["roi"], targets["voxel"], strict=True)
    ]


def _describe_scores(fit: rsa.Encoding, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the cross-validated scores of each output, as they stand in the file; None where there is none."""
    scores = fit.scores[["r", "r_corrected", "reliability"]].astype(object)
    scores = scores.where(scores.notna(), None)
    found: dict[str, Any] = {
        str(column): dict(zip(names, values, strict=True)) for column, values in scores.to_dict("list").items()
    }
    return {"layer": fit.spaces[0].layer, "items": len(fit.items), "folds": fit.folds.n_folds, **found}


def _test_outputs(fit: rsa.Encoding, names: tuple[str, ...], permutations: int, seed: int) -> dict[str, Any]:
    """Return the p of each output by the highest r of each permutation; None where there is no r."""
    if len(names) > _TESTED:
        log.warning(
            "note: --encoder: its %d outputs are not tested, so that features maximize --target roi:NAME refuses them; "
            "take regions (--targets roi), or fewer voxels",
            len(names),
        )
        return {}
    import numpy as np

    table = rsa.encoding_test(fit, permutations=permutations, correction="max", rng=make_rng(seed))
    values = [None if np.isnan(p) else float(p) for p in table["p_corrected"]]
    return {"p": dict(zip(names, values, strict=True)), "permutations": int(table["permutations"].iloc[0])}
