"""Read the group's searchlight maps of every network for the page.

Read the masks and regions of a study for a picture on the template, where flips and displacements are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.rsa.images.files import check_same_grid
from brainmap.rsa.rdm.files import read_rdm_descriptors
from brainmap.rsa.surface.data import SurfaceData
from brainmap.study.results.context import Context
from brainmap.study.settings.hypotheses import Hypotheses
from brainmap.study.settings.participant import Participant
from brainmap.study.settings.study import Baselines
from brainmap.study.stages.brains import load_brain_mask, load_regions
from brainmap.study.stages.explain import choose_explained
from brainmap.study.stages.group_maps import find_common_space, group_map, list_contrasts
from brainmap.study.stages.networks import Version, build_rdm_path, yield_versions
from brainmap.study.stages.spaces import describe_space, is_drawn
from brainmap.study.stages.surfaces import group_mesh, is_written, load_map
from brainmap.study.stages.wording import join_names
from brainmap.viz.page.content import NetworkMaps

MOST = 3  # layers of a network whose maps are drawn, where the study explains another network


class LazyMaps(Mapping[str, Any]):
    """Load each map when it is drawn, since a study of many networks has more maps than fit in memory."""

    def __init__(self, paths: Mapping[str, Path], load: Callable[[Path], Any]) -> None:
        self.paths, self.load = dict(paths), load

    def __getitem__(self, name: str) -> Any:
        return self.load(self.paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def list_layers(context: Context, version: Version) -> list[str]:
    """List the layers of a network, or of one of its controls, by depth."""
    return [str(layer) for layer in read_rdm_descriptors(build_rdm_path(context, version))["layer"]]


def read_maps(context: Context, answers: pd.DataFrame | None) -> dict[str, NetworkMaps]:
    """Read the group's maps of each network, where there are any; the explained network has those of all layers."""
    people, settings = list(context.study.participants()), context.study.settings.searchlight
    space = find_common_space(context, people)
    on_surface = people[0].brain.on_surface
    if settings is None or space is None or not (on_surface or is_drawn(space)):
        return {}
    explained = choose_explained(context).name
    found = {}
    for version in yield_versions(context):
        best = group_map(context, version, "", "bestlayer", space)
        if version.control or isinstance(version.network, Baselines) or not is_written(best):
            continue
        layers = list_layers(context, version)
        whole = version.name == explained or isinstance(version.network, Hypotheses)
        drawn = layers if whole else choose_layers(answers, version.name, layers)

        def collect(stat: str, names: Sequence[str], version: Version = version) -> LazyMaps:
            return LazyMaps({name: group_map(context, version, name, stat, space) for name in names}, load_map)

        image = load_map(best)
        contrasts = [] if on_surface else [" - ".join(pair) for pair in list_contrasts(context, layers)]
        contrasts = contrasts if all(group_map(context, version, n, "mean", space).exists() for n in contrasts) else []
        found[version.name] = NetworkMaps(
            means=collect("mean", drawn),
            p=collect("pfwe", [one for one in drawn if is_written(group_map(context, version, one, "pfwe", space))]),
            best_layer=image if on_surface or np.isfinite(get_values(image)).any() else None,
            layers=layers,
            differences=collect("mean", contrasts),
            p_differences=collect("pfwe", contrasts),
            mesh=group_mesh(people, settings) if on_surface else None,
            note=_describe_choice(drawn, layers),
        )
    return found


def choose_layers(answers: pd.DataFrame | None, network: str, layers: Sequence[str]) -> list[str]:
    """Choose the layers of a network that are best in most regions, at most three, by depth; else the last one.

    A network of three layers or fewer has them all.

    Examples
    --------
    >>> table = pd.DataFrame({"network": "n", "layer": ["c", "a", "a"], "explains": True})
    >>> choose_layers(table, "n", ["a", "b", "c", "d"])
    ['a', 'c']
    """
    if len(layers) <= MOST:
        return list(layers)
    if answers is None:
        return list(layers[-1:])
    mine = answers[(answers["network"] == network) & answers["layer"].isin(layers)]
    ranked = (mine[mine["explains"]] if mine["explains"].any() else mine)["layer"].value_counts().index[:MOST]
    return sorted(map(str, ranked), key=list(layers).index) or list(layers[-1:])


def _describe_choice(drawn: Sequence[str], layers: Sequence[str]) -> str:
    if len(drawn) == len(layers):
        return ""
    return (
        f"Of {len(layers)} layers, the maps of {join_names(drawn)} are drawn, which are best in most regions; those of "
        "the others lie in the folder group/ (maps.tsv tells their names). The network of [explain] has all its maps "
        "drawn."
    )


def get_values(image: Any) -> Any:
    """Return the values of an image, or of data on the surface, as an array."""
    return image.values if isinstance(image, SurfaceData) else np.asarray(image.dataobj)


def count_best(maps: NetworkMaps) -> pd.Series[int]:
    """Count the significant voxels (vertices) by the layer that is best in each, from most to fewest."""
    values = np.nan_to_num(get_values(maps.best_layer)).astype(int) if maps.best_layer is not None else np.zeros(0, int)
    counts = np.bincount(values.ravel(), minlength=len(maps.layers) + 1)[1 : len(maps.layers) + 1]
    return pd.Series(counts, index=list(maps.layers)).sort_values(ascending=False, kind="stable")


def read_regions(context: Context) -> dict[str, Any]:
    """Read the first participant's regions and what all masks share; empty where brains are on no template.

    Returns
    -------
    dict
        Fields of the page's content: `regions`, `mask` and `regions_note`.
    """
    people = list(context.study.participants())
    first = people[0]
    if first.brain.on_surface or first.brain.on_table or not is_drawn(first.brain.space) or not first.masks:
        return {}
    regions = load_regions(first, whole=True)
    alike = all(p.roi_files == first.roi_files and p.brain.rois == first.brain.rois for p in people)
    said = "All participants have these regions" if alike else f"These are the regions of participant {first.label}"
    mask, words = _share_masks([person for person in people if person.brain.space == first.brain.space])
    note = " ".join(filter(None, (f"{said}. {words}", describe_space(first.brain.space))))
    return {"regions": regions, "mask": mask, "regions_note": note}


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
