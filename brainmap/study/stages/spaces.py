"""Compare the space that a study file names with what headers of images say, and tell what can be drawn in it.

AFNI names the space of an image in TEMPLATE_SPACE. Without it, the view (+orig, +tlrc) or the form code of NIfTI says
less, because programs write them for several templates.

References
----------
Lancaster JL, Tordesillas-Gutierrez D, Martinez M, et al. (2007). Bias between MNI and Talairach coordinates analyzed
using the ICBM-152 brain template. https://doi.org/10.1002/hbm.20345
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.images.files import image_info
from brainmap.rsa.images.names import find_afni_base, split_name
from brainmap.rsa.regions.rois import find_space_family
from brainmap.study.settings.study import Participant

MNI, TALAIRACH, NATIVE = "MNI", "Talairach", "ORIG"
OTHERS = ("MNI_ANAT", "MNIInfant", "MNIPediatricAsym")
"""Spaces whose names begin with MNI, and whose brains are displaced or smaller beside MNI152."""
KNOWN = (
    *("native", "ORIG", "MNI", "MNI152", "MNI305", "MNIColin27", "MNI152Lin", "MNI152NLin6Sym", "MNI152NLin6Asym"),
    *(f"MNI152NLin2009{letter}{side}" for letter in "abc" for side in ("Sym", "Asym")),
    *("TLRC", "TT_N27", *OTHERS, "fsaverage", "fsaverage5", "fsaverage6", "fsLR", "OASIS30ANTs", "NKI", "PNC"),
)
"""Names of spaces in AFNI and in TemplateFlow."""
_COORDINATES = "Coordinates are Talairach coordinates."


class _Said(NamedTuple):
    """Hold what the header of an image says of its space, and whether it names the space itself."""

    space: str
    image: str
    named: bool


def find_family(space: str) -> str:
    """Return the family of a space: "MNI", "Talairach" (TLRC, TT_N27), "ORIG" for native spaces, else the space itself.

    Examples
    --------
    >>> [find_family(space) for space in ("MNI152NLin6Asym", "TT_N27", "native", "MNI_ANAT", "ours")]
    ['MNI', 'Talairach', 'ORIG', 'MNI_ANAT', 'OURS']
    """
    if space in OTHERS:
        return space
    family = find_space_family(space)
    return TALAIRACH if family == "TLRC" or family.startswith("TT_") else family


def is_drawn(space: str) -> bool:
    """Tell whether the page draws maps and regions of this space over its template, MNI152.

    Examples
    --------
    >>> is_drawn("MNI152NLin2009cAsym"), is_drawn("TLRC"), is_drawn("ours"), is_drawn("native")
    (True, True, False, False)
    """
    return find_family(space) in (MNI, TALAIRACH)


def describe_space(space: str) -> str:
    """Say in whole sentences how the page draws what lies in a space of volumes; empty for MNI and native spaces.

    Examples
    --------
    >>> describe_space("MNI152NLin6Asym"), describe_space("native")
    ('', '')
    >>> describe_space("ours")[:73]
    "Places are in the space 'ours', which by its name is not that of MNI152, "
    """
    family = find_family(space)
    if family in (MNI, NATIVE):
        return ""
    if family == TALAIRACH:
        return (
            f"Places are in the space {space!r} (Talairach), and are drawn on the MNI152 template, which is larger: "
            f"they appear up to about 1 cm from where they lie in it. {_COORDINATES}"
        )
    return (
        f"Places are in the space {space!r}, which by its name is not that of MNI152, so that neither regions nor "
        "maps are drawn on the template; tables of results are complete, and the maps lie in the folder group/."
    )


def describe_ground(space: str) -> str:
    """Say in whole sentences why what lies in a space is not drawn on MNI152; empty for MNI and native spaces.

    Examples
    --------
    >>> describe_ground("MNI152NLin6Asym"), describe_ground("native")
    ('', '')
    >>> describe_ground("TT_N27")[-85:]
    'MNI152 template, so that it is not drawn here. Coordinates are Talairach coordinates.'
    """
    family = find_family(space)
    if family in (MNI, NATIVE):
        return ""
    if family == TALAIRACH:
        return (
            f"Places are in the space {space!r} (Talairach), whose brain is smaller than the MNI152 template, so that "
            f"it is not drawn here. {_COORDINATES}"
        )
    return (
        f"Places are in the space {space!r}, which by its name is not that of MNI152, so that this template is not "
        "drawn here."
    )


def check_spaces(people: Sequence[Participant]) -> tuple[list[str], list[str]]:
    """Compare the spaces of a study with those of its images in volumes.

    Returns
    -------
    problems : list of str
        One line for each contradiction between a space of the study file and one that headers name.
    notes : list of str
        Misspelt names, contradictions that may be none, and how the page draws a space.
    """
    problems: list[str] = []
    notes: list[str] = []
    in_volumes = [
        one for one in people if not (one.brain.on_surface or one.brain.on_table or one.brain.on_region_table)
    ]
    for space in dict.fromkeys(one.brain.space for one in in_volumes):
        mine = [one for one in in_volumes if one.brain.space == space]
        notes += _note_name(space)
        wrong: dict[tuple[str, bool], dict[str, str]] = {}  # an image of each participant, by what it says
        for person in mine:
            for said in _read_spaces(person):
                if find_family(said.space) != find_family(space):
                    wrong.setdefault((said.space, said.named), {}).setdefault(person.label, said.image)
        for (said_space, named), images in wrong.items():
            line = _describe_contradiction(space, said_space, images, named=named)
            is_sure = named and space != "native" and (space in KNOWN or is_drawn(space))
            (problems if is_sure else notes).append(line)
    return problems, notes


def _read_spaces(person: Participant) -> Iterator[_Said]:
    """Read what the headers of a participant's images and masks say; those that cannot be read are told elsewhere."""
    for image in dict.fromkeys([*person.files, *person.masks]):
        with contextlib.suppress(InputError):
            info = image_info(image)
            is_afni = find_afni_base(split_name(image).name) is not None
            if info.names_space or is_afni or info.space != NATIVE:  # form codes 0 to 2 of NIfTI name no space
                yield _Said(info.space, image, info.names_space)


def _note_name(space: str) -> Iterator[str]:
    """Note a name that is nearly one of the known names, a native space by another name, and what is not drawn."""
    if space not in KNOWN:
        by_lower = {name.lower(): name for name in KNOWN}
        near = difflib.get_close_matches(space.lower(), by_lower, n=1, cutoff=0.8)
        if near:
            yield f"[brain] space = {space!r} is no name of AFNI or TemplateFlow; did you mean {by_lower[near[0]]!r}?"
    if space != "native" and find_family(space) == NATIVE:
        yield (
            f"[brain] space = {space!r} is each participant's own space, and maps of participants are averaged as if "
            "it were a common one; write space = 'native'"
        )
    said = describe_space(space)
    if said:
        yield f"[brain] space = {space!r}: {said}"


def _describe_contradiction(space: str, said: str, images: dict[str, str], *, named: bool) -> str:
    """Name both spaces, the participants, and what to do."""
    who = f"participant{'s' if len(images) > 1 else ''} {list_some(images)}"
    first = Path(next(iter(images.values()))).name
    where = f"TEMPLATE_SPACE of {first}" if named else f"view or form code of {first}"
    afni = f"3drefit -space {'MNI' if find_family(space) == MNI else space}"
    mend = "" if space == "native" else f", or mend the headers where they are wrong ({afni})"
    lost = "; group maps and a picture of regions need a common space" if space == "native" else ""
    return f"[brain] space = {space!r}, but images of {who} say {said!r} ({where}){lost}; write space = {said!r}{mend}"
