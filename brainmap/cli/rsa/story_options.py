"""Define the options of commands on stories: the BOLD of one participant, and how features become scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.options import Mask, Participant, read_numbers
from brainmap.cli.rsa.options import load_regions
from brainmap.errors import InputError

if TYPE_CHECKING:
    from brainmap.rsa.inputs.stories import Stories


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

    def load(self, sounds: Sequence[str], targets: types.EncodingTarget) -> Stories:
        """Read the responses to some stories."""
        from brainmap.rsa.inputs.stories import load_stories

        sides, who = "separate", self.participant
        regions = load_regions(
            self.rois, self.roi_table, self.mask, participant=who, minimum_voxels=1, hemispheres=sides
        )
        return load_stories(
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
        return {
            "delays": None if self.delays is None else read_numbers(self.delays, "--delays"),
            "sampling": self.sampling,
            "high_pass": self.high_pass or None,
            "silence": tuple(around),
            "trim": tuple(int(k) for k in cut),
        }
