"""Test the searchlight maps over participants (stage 3), including differences between layers, with clusters.

Find the grid that all participants' maps share: the template of the images, or the one of warped maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainmap.checks import list_some, suggest_word
from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.record import content_key
from brainmap.rsa.group.maps import CLUSTER_COLUMNS, ENHANCED, GroupResult, group_test
from brainmap.rsa.images.files import check_same_grid
from brainmap.rsa.rdm.files import read_rdm_descriptors
from brainmap.rsa.regions.rois import Rois, build_grid
from brainmap.rsa.surface.data import SurfaceData
from brainmap.study.results.context import Context, hash_image, make_rng
from brainmap.study.settings.study import Participant
from brainmap.study.stages.brains import load_regions
from brainmap.study.stages.networks import Version, build_rdm_path, yield_versions
from brainmap.study.stages.participants import map_path
from brainmap.study.stages.surfaces import group_mesh, is_written, load_map

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
        if not (warped and is_written(find_common_map(context, person, version, layer)))
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


VERSION = 3
SIGNIFICANT = 0.05


def list_tested_layers(context: Context) -> list[tuple[Version, str]]:
    """List the layers whose maps are tested: those of networks and baselines, not of controls."""
    return [
        (version, str(layer))
        for version in yield_versions(context)
        if not version.control
        for layer in read_rdm_descriptors(build_rdm_path(context, version))["layer"]
    ]


def run_group_maps(context: Context, people: list[Participant], space: str) -> str:
    """Test the maps of all participants, which are on one grid, and return the key of the result."""
    settings, seed = context.study.settings.light, context.study.settings.study.seed
    drawn = 2 ** len(people) > settings.group.permutations  # otherwise all sign flips are enumerated
    layers = list_tested_layers(context)
    named = _has_shared_regions(people)
    key = content_key(
        VERSION,
        [
            hash_image(find_common_map(context, person, version, layer))
            for person in people
            for version, layer in layers
        ],
        [settings.group.model_dump(), space, context.study.settings.study.maps],
        [context.digest(file) for file in people[0].roi_files] if named else [],
        people[0].brain.rois.model_dump() if named else [],
        seed if drawn else "all",
    )
    context.run_stage("group_maps", key, lambda: _test_maps(context, people, space))
    return key


def check_differences(context: Context, layers: Sequence[Sequence[str]]) -> None:
    """Check that each difference in the study file is between two layers of some network.

    Raises
    ------
    InputError
        It is not; the message lists the layers, and gives the nearest one.
    """
    settings = context.study.settings.searchlight
    if settings is None or isinstance(settings.group.differences, str):
        return
    known = list(dict.fromkeys(name for names in layers for name in names))
    for pair in settings.group.differences:
        for name in pair:
            if name not in known:
                raise InputError(
                    f"[searchlight] group.differences: {name!r} is no layer of a network ({list_some(known)})"
                    f"{suggest_word(name, known)}"
                )
        if not any(set(pair) <= set(names) for names in layers):
            raise InputError(f"[searchlight] group.differences: {list_some(pair)} are layers of different networks")


def list_contrasts(context: Context, layers: Sequence[str]) -> list[tuple[str, str]]:
    """List those differences in the study file that a network with these layers can show."""
    settings = context.study.settings.searchlight
    asked = () if settings is None else settings.group.differences
    if isinstance(asked, str):  # all pairs, with the deeper layer first
        return [(b, a) for a, b in combinations(layers, 2)]
    return [pair for pair in asked if set(pair) <= set(layers)]


def name_difference(version: Version, pair: tuple[str, str]) -> str:
    """Name a difference in files: `ch32trainedconv4minusconv2`."""
    return version.slug("minus".join(pair))


def _test_maps(context: Context, people: list[Participant], space: str) -> Iterator[Path]:
    """Run one test per network, corrected over its layers and voxels together, and the same for its differences."""
    settings = context.study.settings.light
    every, group = list_tested_layers(context), settings.group
    networks = list(dict.fromkeys(version for version, _ in every))
    by_network = [[layer for one, layer in every if one == version] for version in networks]
    check_differences(context, by_network)
    regions = place_regions(people, load_map(find_common_map(context, people[0], *every[0])))
    tables: dict[str, list[pd.DataFrame]] = {"clusters": [], "difference_clusters": []}
    for version, layers in zip(networks, by_network, strict=True):
        result = group_test(
            {layer: [load_map(find_common_map(context, p, version, layer)) for p in people] for layer in layers},
            test=group.test,
            correction=group.correction,
            contrasts=list_contrasts(context, layers) or None,
            permutations=group.permutations,
            cluster_p=group.cluster_p,
            neighbors=group_mesh(people, settings) if people[0].brain.on_surface else group.neighbors,
            threshold=SIGNIFICANT,
            rois=regions,
            rng=make_rng(context, version.name),
            threads=context.threads,
        )
        for name, one in (("clusters", result), ("difference_clusters", result.differences)):
            if one is not None:
                yield from _save_result(context, one, version, space)
                found = one.clusters.rename(columns={"model": "layer"})
                found.insert(0, "network", version.name)
                tables[name].append(found)
        if result.smallest_p > SIGNIFICANT:
            log.warning(
                "group maps: with %d participants no p is under %.3g, and nothing can be significant",
                result.n_participants,
                result.smallest_p,
            )
    columns = {"network": "network", "layer": "layer, or the two whose difference it is", **CLUSTER_COLUMNS}
    for name, parts in tables.items():
        if parts:
            full = [part for part in parts if len(part)] or parts[:1]  # pandas warns when empty tables are joined
            table = pd.concat(full, ignore_index=True)
            about = context.build_provenance({"group": group.model_dump()})
            yield from context.save_table(table, context.build_table_path(name), columns=columns, about=about)


def group_map(context: Context, version: Version, layer: str, stat: str, space: str) -> Path:
    """Return the path of a group map.

    `layer` may be a difference, as "conv4 - conv2"; `stat` is mean, t, pfwe, thresholded, tfce or mass.
    """
    pair = tuple(layer.split(" - "))
    desc = name_difference(version, (pair[0], pair[1])) if len(pair) == 2 else version.slug(layer)
    return context.build_group_path(context.choose_map_ending(space), space=space, desc=desc, stat=stat)


def _save_result(context: Context, result: GroupResult, version: Version, space: str) -> Iterator[Path]:
    settings = context.study.settings.light
    about = context.build_provenance({"searchlight": settings.model_dump()})
    tested = {
        "Participants": result.n_participants,
        "Voxels": result.n_voxels,
        "VoxelsExcluded": result.n_excluded,
        "SignFlips": result.n_flips,
        "AllFlipsEnumerated": result.enumerated,
        "Correction": settings.group.correction,
        "Critical": result.critical if np.isfinite(result.critical) else None,
        "SmallestP": result.smallest_p,
        "Generalizes": "the test over participants takes the sounds as fixed: these sounds only",
    }
    kinds = {"mean": result.mean, "t": result.statistic, "pfwe": result.p_corrected, "thresholded": result.thresholded}
    if result.enhanced is not None:
        kinds[ENHANCED[settings.group.correction]] = result.enhanced
    for stat, images in kinds.items():
        for layer in result.names:
            path = group_map(context, version, layer, stat, space)
            said = {"Network": version.name, "Layer": layer, **tested, **about}
            label = f"{layer} {stat}".replace(" - ", "-")
            yield from context.save_map(images[layer], path, label=label, space=space, about=said)
    if result.differences is None and " - " in result.names[0]:
        return
    path = group_map(context, version, "", "bestlayer", space)
    named = {str(k): layer for k, layer in enumerate(result.names, start=1)}
    said = {"Network": version.name, "Layers": named, **tested, **about}
    yield from context.save_map(result.best, path, label="best layer", space=space, about=said)


def _has_shared_regions(people: list[Participant]) -> bool:
    """Tell whether all participants have the same regions, so that these can label positions in the group maps."""
    return all(p.roi_files == people[0].roi_files and p.brain.rois == people[0].brain.rois for p in people)


def place_regions(people: list[Participant], image: Any) -> Rois | None:
    """Return the study's regions on the grid or mesh of the group maps; report where they do not lie on it."""
    why = "participants have regions of their own"
    if _has_shared_regions(people):
        try:
            rois = load_regions(people[0], whole=True)
            if isinstance(image, SurfaceData):
                return rois
            grid: Any = build_grid(rois.labels.shape, rois.affine)
            check_same_grid(grid, image, what="regions", wanted="maps")
            return rois
        except InputError as error:
            why = str(error)
    log.info("group maps: clusters are given no names of regions (%s)", why)
    return None
