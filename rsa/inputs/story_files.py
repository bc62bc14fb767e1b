"""Find the files of the responses to stories, and describe them from their headers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brainmap.checks import refuse_some
from brainmap.errors import InputError
from brainmap.rsa.glm.timing import read_timing
from brainmap.rsa.images.files import check_same_grid, image_info
from brainmap.rsa.inputs.runs import make_natural_key, match_images
from brainmap.rsa.patterns.arrays import find_array, format_shape, is_response_table
from brainmap.rsa.patterns.region_tables import is_region_table, read_region_table
from brainmap.rsa.regions.rois import Mask, build_grid, load_mask
from brainmap.rsa.surface.data import is_surface
from brainmap.rsa.surface.series import read_series_info

PLACE = "{sound}"

_OTHERS = ("session", "task", "run")


@dataclass(frozen=True, kw_only=True)
class StoryFile:
    """Describe the file of one repetition of one story from its header.

    Attributes
    ----------
    sound, file : str
    places : mapping of str to str
        Values of the other placeholders of the name, such as the run.
    n_scans : int
    t_r : float [s]
    slice_time_ref : float [TR]
        Moment within a scan that its values represent.
    """

    sound: str
    file: str
    places: Mapping[str, str]
    n_scans: int
    t_r: float
    slice_time_ref: float = 0.0


def find_story_files(
    pattern: str, sounds: Sequence[str], *, t_r: float | None = None, key: str | None = None, mask: Mask | None = None
) -> list[StoryFile]:
    """Find the files of all stories, and read their headers.

    Parameters
    ----------
    pattern : str
        A name with `{sound}`, and `{run}`, `{session}` or `{task}` where a story was heard several times:
        `sub-01/{sound}_run-{run}_bold.nii.gz`. Files are volumes, data on the surface (GIFTI or SUMA with `{hemi}` for
        both hemispheres, or CIFTI), arrays of scans x voxels, or tables of regions (.tsv, a named column each).
    sounds : sequence of str
        Ids of the stories.
    t_r : float, optional [s]
        Time from scan to scan; by default that of the headers and sidecars. Arrays and tables have none.
    key : str, optional
        Name of the array in files that hold several.
    mask : path, Nifti1Image or list of these, optional
        Volumes must lie on its grid.

    Raises
    ------
    InputError
        The pattern lacks `{sound}`, a story has no file, or files differ in their TR or grid.
    """
    unknown = sorted(set(re.findall(r"\{(\w*)\}", pattern)) - {"sound", "hemi", *_OTHERS})
    if PLACE not in pattern or unknown:
        got = f"{{{unknown[0]}}}" if unknown else pattern
        raise InputError(
            f"stories: expected a name with {PLACE} (and {{run}} where a story was heard several times), got {got}"
        )
    inside = None if mask is None or is_surface(pattern) else load_mask(mask)
    found = []
    for sound in dict.fromkeys(sounds):
        matches = match_images(pattern.replace(PLACE, sound))
        ordered = sorted(matches, key=lambda one: [make_natural_key(one[0].get(place, "")) for place in _OTHERS])
        found += [_describe(sound, file, places, t_r=t_r, key=key, inside=inside) for places, file in ordered]
    steps = {one.t_r: one for one in reversed(found)}
    if max(steps) - min(steps) > 1e-3 * max(steps):
        one, other = steps[min(steps)], steps[max(steps)]
        raise InputError(
            f"stories: expected one time between scans, got {one.t_r:g} s in {one.file} and {other.t_r:g} s in "
            f"{other.file}; analyze them apart"
        )
    references = {one.slice_time_ref: one for one in reversed(found)}
    if max(references) - min(references) > 1e-6:
        one, other = references[min(references)], references[max(references)]
        raise InputError(
            f"stories: expected one slice-time reference, got {one.slice_time_ref:g} TR in {one.file} and "
            f"{other.slice_time_ref:g} TR in {other.file}; correct the wrong sidecar"
        )
    return found


def _describe(
    sound: str, file: str, places: Mapping[str, str], *, t_r: float | None, key: str | None, inside: Any
) -> StoryFile:
    """Read the header of a file."""
    if is_response_table(file) or is_region_table(file):
        if t_r is None:
            raise InputError(f"stories: expected the time between scans, which {file} does not tell; give t_r (--t-r)")
        if is_region_table(file):
            return StoryFile(sound=sound, file=file, places=places, n_scans=len(read_region_table(file)), t_r=t_r)
        shape = find_array(file, key).shape
        if len(shape) != 2:
            raise InputError(f"{file}: expected scans x voxels, got an array of {format_shape(shape)}")
        return StoryFile(sound=sound, file=file, places=places, n_scans=shape[0], t_r=t_r)
    if is_surface(file):
        info = read_series_info(file)
    else:
        info = image_info(file)
        if inside is None:
            raise InputError(f"stories: expected a mask for the images ({file}), got none; give an image of the voxels")
        check_same_grid(build_grid(info.shape, info.affine), inside, what=file, wanted="mask")
    timing = read_timing(info, name=file, t_r=t_r)
    if not timing.regular:
        raise InputError(f"{file}: expected scans without pauses, got {timing.said}; sparse sampling is not possible")
    return StoryFile(
        sound=sound,
        file=file,
        places=places,
        n_scans=len(timing.frame_times),
        t_r=timing.t_r,
        slice_time_ref=float(timing.frame_times[0] / timing.t_r),
    )


def name_confounds(pattern: str, one: StoryFile) -> str:
    """Fill the placeholders of a name of confounds by those of the responses.

    Raises
    ------
    InputError
        It has other placeholders.
    """
    name = pattern
    for place, value in {"sound": one.sound, **one.places}.items():
        name = name.replace(f"{{{place}}}", value)
    refuse_some(
        re.findall(r"\{\w*\}", name),
        "confounds: expected the placeholders of the responses, got ",
        f" in {pattern}",
    )
    return name
