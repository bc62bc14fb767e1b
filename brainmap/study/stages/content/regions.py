"""Read the masks and regions of a study for a picture on the template, where flips and displacements are seen."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np

from brainmap.errors import InputError
from brainmap.rsa.images.files import check_same_grid
from brainmap.study.results.context import Context
from brainmap.study.settings.participant import Participant
from brainmap.study.stages.brains import load_brain_mask, load_regions


def read_regions(context: Context) -> dict[str, Any]:
    """Read the first participant's regions and what all masks share; empty where brains are on no template.

    Returns
    -------
    dict
        Fields of the page's content: `regions`, `mask` and `regions_note`.
    """
    people = list(context.study.participants())
    first = people[0]
    if first.brain.on_surface or first.brain.on_table or first.brain.space == "native" or not first.masks:
        return {}
    regions = load_regions(first, whole=True)
    alike = all(p.roi_files == first.roi_files and p.brain.rois == first.brain.rois for p in people)
    said = "All participants have these regions" if alike else f"These are the regions of participant {first.label}"
    mask, words = _share_masks([person for person in people if person.brain.space == first.brain.space])
    return {"regions": regions, "mask": mask, "regions_note": f"{said}. {words}"}


def _share_masks(people: list[Participant]) -> tuple[nib.Nifti1Image, str]:
    """Return what the masks on the first participant's grid share, and how many voxels these are."""
    first = load_brain_mask(people[0])
    total, n = np.asarray(first.dataobj, dtype=np.int32).copy(), 1
    for person in people[1:]:
        mask = load_brain_mask(person)
        try:
            check_same_grid(mask, first, what="mask", wanted="first mask")
        except InputError:
            continue
        total += np.asarray(mask.dataobj, dtype=np.int32)
        n += 1
    every, some = int((total == n).sum()), int(((total > 0) & (total < n)).sum())
    words = f"The line is the edge of what {n} masks share: {every:,} voxels; {some:,} more are in some of them"
    if n < len(people):
        words += f"; {len(people) - n} masks are on other grids"
    return nib.Nifti1Image((total == n).astype(np.uint8), first.affine), f"{words}."
