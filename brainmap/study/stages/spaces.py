"""Find the grid that all participants' maps share: the template of the images, or the one of warped maps."""

from __future__ import annotations

from pathlib import Path

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.images.names import list_image_files
from brainmap.study.results.context import Context
from brainmap.study.settings.study import Participant
from brainmap.study.stages.participants import map_path
from brainmap.study.stages.versions import Version

_MOST = 12  # largest number of lines in a list that is shown


def find_common_space(context: Context, people: list[Participant]) -> str | None:
    """Return the space of all participants' maps, or None when there is none."""
    settings = context.study.settings.searchlight
    if settings is not None and settings.warped is not None:
        return settings.warped_space
    spaces = {p.brain.space for p in people}
    return spaces.pop() if len(spaces) == 1 and spaces != {"native"} else None


def find_common_map(context: Context, person: Participant, version: Version, layer: str) -> Path:
    """Return the searchlight map of a layer on the common grid."""
    settings = context.study.settings.searchlight
    native = map_path(context, person, version, layer)
    if settings is None or settings.warped is None:
        return native
    places = {
        "participant": person.label,
        "network": version.name,
        "layer": layer,
        "name": native.name.split("+")[0].split(".")[0],
    }
    name = settings.warped
    for place, value in places.items():
        name = name.replace(f"{{{place}}}", value)
    return Path(context.study.resolve(name))


def describe_transforms(context: Context, people: list[Participant], layers: list[tuple[Version, str]]) -> str:
    """Describe what must be done before group maps can be made; the text is empty when nothing is missing."""
    settings = context.study.settings.searchlight
    warped = settings is not None and settings.warped is not None
    if not warped and find_common_space(context, people) is not None:
        return ""
    lacking = [
        (map_path(context, person, version, layer), find_common_map(context, person, version, layer))
        for person in people
        for version, layer in layers
        if not (warped and _is_there(find_common_map(context, person, version, layer)))
    ]
    if not lacking:
        return ""
    why = (
        f"{len(lacking)} warped maps are not there yet"
        if warped
        else f"participants are in {list_some(sorted({p.brain.space for p in people}))} space, which is no common grid"
    )
    lines = [f"  {native}" + (f"  ->  {target}" if warped else "") for native, target in lacking[:_MOST]]
    more = [f"  and {len(lacking) - _MOST} more"] if len(lacking) > _MOST else []
    do = (
        "bring these maps to one template and run again"
        if warped
        else "bring these maps (sub-*/func/*_statmap.*) to one template, name them in [searchlight] warped and "
        "warped_space, and run again, or test them with `brainmap rsa group`"
    )
    return "\n".join([f"group maps: not made, {why}; {do} (ROI results need no template):", *lines, *more])


def _is_there(path: Path) -> bool:
    try:
        list_image_files(path)
    except InputError:
        return False
    return True
