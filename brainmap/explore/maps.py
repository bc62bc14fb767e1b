"""Read the maps of a study, of the group or of one participant, and the scores of all layers at one place of them.

Keep the values of many maps on disk, so that a click reads one place of all of them.
"""

from __future__ import annotations

import gzip
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.explore.cortex import find_vertex, load_shown_mesh, name_maps_mesh, name_vertex
from brainmap.progress import progress
from brainmap.rsa.images.files import check_same_grid
from brainmap.rsa.regions.rois import Rois
from brainmap.rsa.surface.data import SurfaceData, check_same_mesh
from brainmap.rsa.surface.meshes import (
    load_mesh,
)
from brainmap.shipped import MNI152, find_in_nilearn
from brainmap.study.results.context import Context
from brainmap.study.settings.hypotheses import Hypotheses
from brainmap.study.settings.study import Baselines, Participant
from brainmap.study.stages.brains import load_brain_mask
from brainmap.study.stages.ceilings import build_ceiling_path, explain_no_ceilings
from brainmap.study.stages.group_maps import find_common_map, find_common_space, group_map, place_regions
from brainmap.study.stages.networks import Version
from brainmap.study.stages.participants import map_path
from brainmap.study.stages.spaces import MNI, describe_ground, find_family
from brainmap.study.stages.surfaces import is_written, load_map


@dataclass(frozen=True, eq=False)
class MapStack:
    """Hold the values of maps at all places that one of the first maps scores.

    Attributes
    ----------
    numbers : ndarray int32 (n_places,)
        Row of each voxel (in C order) or vertex (the left hemisphere first); -1 where no participant has a score.
    n_maps, n_rows : int
    file : file
        Values `(n_maps, n_rows)` of float32. The file has no name, and goes with the process.
    """

    numbers: NDArray[np.int32]
    n_maps: int
    n_rows: int
    file: IO[bytes]

    @classmethod
    def read(cls, paths: Sequence[Path], *, deciding: int) -> MapStack:
        """Read maps on one grid or mesh; the first ones, `deciding` of them, decide which places are kept.

        Raises
        ------
        InputError
            A map is not there, or lies on another grid or mesh.
        """
        first = load_map(paths[0])
        with progress("reading maps", len(paths) + deciding) as step:
            scored = np.zeros(flatten_map(first).shape, bool)
            for path in paths[:deciding]:
                scored |= np.isfinite(read_values(path, first))
                step.advance()
            file = tempfile.TemporaryFile()  # noqa: SIM115  it is read as long as the explorer runs
            try:
                for path in paths:
                    file.write(read_values(path, first)[scored].tobytes())
                    step.advance()
                file.flush()
            except BaseException:
                file.close()
                raise
        numbers = np.full(scored.shape, -1, np.int32)
        n_rows = int(np.count_nonzero(scored))
        numbers[scored] = np.arange(n_rows, dtype=np.int32)
        found = cls(numbers, len(paths), n_rows, file)
        weakref.finalize(found, file.close)
        return found

    def at(self, row: int) -> NDArray[np.float32]:
        """Return the value of each map in a row `(n_maps,)`."""
        values = np.memmap(self.file, np.float32, "r", shape=(self.n_maps, self.n_rows))
        return np.array(values[:, row])


def flatten_map(image: Any) -> NDArray[np.float32]:
    """Return the values of an image or of data on the surface as a row `(n_places,)`."""
    if isinstance(image, SurfaceData):
        return image.values[:, 0]
    return np.asarray(image.dataobj, dtype=np.float32).reshape(-1)


def read_values(path: Path, like: Any) -> NDArray[np.float32]:
    """Read a map that must lie on the grid or mesh of another one, as a row `(n_places,)`."""
    image = load_map(path)
    if isinstance(like, SurfaceData):
        check_same_mesh(image, like)
    else:
        check_same_grid(image, like, what=path.name, wanted="the first map")
    return flatten_map(image)


STATS = {
    "mean": "mean score over participants",
    "t": "t over participants",
    "pfwe": "corrected p (shown as 1 − p)",
}
OWN = {"score": "score of participant"}
_SHADE = 90  # gray of a mask, of 255


@dataclass(frozen=True, eq=False)
class Maps:
    """Hold the maps of the group, or of one participant; what is large is read when it is first asked for.

    Parameters
    ----------
    context : Context
    people : sequence of Participant
        Whose scores are shown.
    person : Participant or None
        The one whose maps these are; None for the group.
    models : sequence of tuple of Version and str
        The layers of every network, control and baseline.
    """

    context: Context
    people: Sequence[Participant]
    person: Participant | None
    models: Sequence[tuple[Version, str]]

    @cached_property
    def space(self) -> str | None:
        """Return the space of the maps; None where participants share none."""
        return self.person.brain.space if self.person else find_common_space(self.context, list(self.people))

    @property
    def stats(self) -> dict[str, str]:
        """Return what the maps show, by name."""
        return OWN if self.person else STATS

    @property
    def on_surface(self) -> bool:
        """Tell whether the maps lie on the surface."""
        return self.people[0].brain.on_surface

    @cached_property
    def mapped(self) -> list[tuple[Version, str]]:
        """List the layers that have a map."""
        if self.space is None or self.context.study.settings.searchlight is None:
            return []
        first = next(iter(self.stats))
        return [model for model in self.models if is_written(self._find_map(*model, first))]

    @cached_property
    def why_none(self) -> str:
        """Say why there is no map to click; empty where there is one."""
        if self.context.study.settings.searchlight is None:
            return "the study has no [searchlight]"
        if self.space is None:
            return "participants share no space, so there are no maps of the group; choose a participant"
        whose = f"participant {self.person.label}" if self.person else "the group"
        return "" if self.mapped else f"the maps of {whose} are not there; run the study"

    def _find_map(self, version: Version, layer: str, stat: str) -> Path:
        if self.person is not None:
            return map_path(self.context, self.person, version, layer)
        assert self.space is not None  # there are maps
        return group_map(self.context, version, layer, stat, self.space)

    @cached_property
    def first(self) -> Any:
        """Return the first map, whose grid or mesh is that of all."""
        return load_map(self._find_map(*self.mapped[0], next(iter(self.stats))))

    @cached_property
    def rois(self) -> Rois | None:
        """Return the regions on the grid or mesh of the maps; None where they do not lie there."""
        return place_regions(list(self.people), self.first) if self.mapped else None

    @cached_property
    def mesh_name(self) -> str:
        """Return the name of the mesh on which the maps lie."""
        return name_maps_mesh(self.people, self.context.study.settings.light, of_group=self.person is None)

    def describe(self) -> dict[str, Any]:
        """Describe what can be seen."""
        there = not self.why_none
        return {
            "maps": [{"network": version.name, "layer": layer} for version, layer in self.mapped],
            "why": self.why_none,
            "space": self.space,
            "surface": self.on_surface,
            "background": "" if not there or self.on_surface else self._name_background(),
            "ground": "" if self.space is None or self.on_surface else describe_ground(self.space),
            "stats": self.stats,
            "places": self.place_regions() if there else {},
        }

    def _name_background(self) -> str:
        """Name what lies behind maps: MNI152, the mask of a participant, or the voxels of a map in another space."""
        if self.space is not None and find_family(self.space) == MNI and find_in_nilearn(MNI152) is not None:
            return "template"
        return "mask" if self.people[0].brain.space == self.space else "scored"

    @cached_property
    def _points(self) -> NDArray[np.float64]:
        """Return the coordinates of the vertices [mm]."""
        return np.asarray(load_mesh(self.mesh_name).points)

    def place_regions(self) -> dict[str, Any]:
        """Return the voxel [mm], or the name of the vertex, of each region that lies nearest to its center."""
        rois, found = self.rois, {}
        if rois is None:
            return {}
        for k, name in enumerate(rois.names, start=1):
            inside = np.argwhere(rois.labels == k)
            if not len(inside):
                continue
            points = self._points[inside[:, 0]] if self.on_surface else inside
            nearest = inside[np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()]
            if self.on_surface:
                found[name] = name_vertex(int(nearest[0]), self.first.sizes)
            else:
                found[name] = (rois.affine @ [*nearest, 1])[:3].tolist()
        return found

    # --- what is drawn

    def read_map(self, version: Version, layer: str, stat: str) -> bytes | dict[str, Any]:
        """Return a map: gzipped NIfTI, 0 where it has no value, or values by vertex; of p, 1 - p."""
        check_choice(stat, list(self.stats), "map")
        if (version, layer) not in self.mapped:
            raise InputError(f"map: there is none of {layer!r} of {version.name!r}; choose another layer")
        image = load_map(self._find_map(version, layer, stat))
        if self.on_surface:
            values = flatten_map(image)
            return {"values": 1 - values if stat == "pfwe" else values, "sizes": list(image.sizes)}
        values = np.asarray(image.dataobj, dtype=np.float32)
        return pack_image(np.nan_to_num(1 - values if stat == "pfwe" else values), image.affine)

    def read_background(self) -> bytes:
        """Return what lies behind maps as gzipped NIfTI: MNI152 in its space, or else a mask of the brain."""
        if self.on_surface:
            raise InputError("background: the maps lie on the surface; ask for its mesh")
        path, what = find_in_nilearn(MNI152), self._name_background()
        if what == "template" and path is not None:
            image: Any = nib.load(path)
            values = np.asarray(image.dataobj[::2, ::2, ::2], dtype=np.float32)  # every second mm is enough
            shades = (255 * values / values.max()).round()
            return pack_image(shades.astype(np.uint8), image.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
        if what == "scored":
            there = np.isfinite(flatten_map(self.first)).reshape(self.first.shape[:3])
            return pack_image(there.astype(np.uint8) * _SHADE, self.first.affine)
        mask = load_brain_mask(self.people[0])
        return pack_image((np.asarray(mask.dataobj) > 0).astype(np.uint8) * _SHADE, mask.affine)

    def read_mesh(self) -> dict[str, Any]:
        """Return the mesh on which maps are drawn."""
        if not self.on_surface:
            raise InputError("mesh: the maps are volumes; ask for their background")
        mesh, gyri = load_shown_mesh(self.mesh_name)
        return {
            "points": mesh.points.astype(np.float32),
            "triangles": mesh.triangles.astype(np.int32),
            "sizes": list(mesh.sizes),
            "gyri": gyri,
            "what": f"{self.mesh_name}, inflated" if gyri is not None else "the mesh of the study",
        }

    # --- the scores at a place

    @cached_property
    def _ceilings(self) -> tuple[list[Path], str]:
        """List the maps of the noise ceilings, or say why there are none."""
        if self.person is not None:
            return [], "they are of the group"
        why = explain_no_ceilings(self.context)
        if why:
            return [], why
        paths = [build_ceiling_path(self.context, stat) for stat in ("lowerceiling", "upperceiling")]
        if not all(is_written(path) for path in paths):
            return [], "their maps are not there; run the study"
        if any(load_map(path).shape[:3] != self.first.shape[:3] for path in paths):
            return [], "they lie on another grid than the maps"
        return paths, ""

    @cached_property
    def _scored(self) -> list[tuple[Version, str]]:
        """List the layers whose maps of the participants are read."""
        return list(self.mapped if self.person else self.models)

    @cached_property
    def _tested(self) -> list[tuple[Version, str]]:
        """List the layers with a map of corrected p."""
        if self.person is not None:
            return []
        return [model for model in self.mapped if is_written(self._find_map(*model, "pfwe"))]

    @cached_property
    def stack(self) -> MapStack:
        """Read the maps of all participants, those of corrected p and those of the ceilings."""
        find = map_path if self.person else find_common_map
        paths = [find(self.context, person, *model) for model in self._scored for person in self.people]
        paths += [self._find_map(*model, "pfwe") for model in self._tested]
        return MapStack.read([*paths, *self._ceilings[0]], deciding=len(self.people))

    def read_voxel(self, place: Sequence[float]) -> dict[str, Any]:
        """Return the scores of all layers at the voxel that holds a place [mm], with its noise ceilings."""
        if self.on_surface:
            raise InputError("voxel: the maps lie on the surface; choose a vertex")
        affine, shape = np.asarray(self.first.affine, dtype=np.float64), self.first.shape[:3]
        index = tuple(int(k) for k in np.rint(np.linalg.inv(affine) @ [*place, 1])[:3])
        inside = all(0 <= k < n for k, n in zip(index, shape, strict=True))
        at = int(np.ravel_multi_index(index, shape)) if inside else -1
        about = {"what": "voxel", "mm": (affine @ [*index, 1])[:3].tolist(), "voxel": list(index)}
        return {**about, **self._read_scores(at, "voxel")}

    def read_vertex(self, text: str) -> dict[str, Any]:
        """Return the scores of all layers at a vertex, "left:0" and so on, with its noise ceilings."""
        if not self.on_surface:
            raise InputError("vertex: the maps are volumes; choose a voxel")
        at = find_vertex(text, self.first.sizes)
        about = {"what": "vertex", "vertex": text, "mm": self._points[at].tolist()}
        return {**about, **self._read_scores(at, "vertex")}

    def _read_scores(self, at: int, what: str) -> dict[str, Any]:
        settings, rois = self.context.study.settings.light, self.rois
        found = {
            "region": "" if rois is None or at < 0 else ("", *rois.names)[int(rois.labels.reshape(-1)[at])],
            "measure": settings.measure,
            "participants": len(self.people),
        }
        row = int(self.stack.numbers[at]) if at >= 0 else -1
        if row < 0:
            return {**found, "rows": [], "notes": [f"This {what} lies outside of what the searchlight scored."]}
        values = self.stack.at(row)
        n = len(self._scored) * len(self.people)
        scores = values[:n].reshape(len(self._scored), len(self.people))
        p = dict(zip(self._tested, values[n : n + len(self._tested)].astype(float), strict=True))
        rows = [summarize_scores(*model, own, p.get(model)) for model, own in zip(self._scored, scores, strict=True)]
        paths, why = self._ceilings
        ceiling = values[-2:].astype(float).tolist() if paths else None
        return {**found, "rows": rows, "ceiling": ceiling, "notes": [f"No noise ceilings here: {why}."] if why else []}


_KINDS = {Baselines: "baseline", Hypotheses: "hypothesis"}


def summarize_scores(
    version: Version, layer: str, scores: NDArray[np.floating[Any]], p: float | None
) -> dict[str, Any]:
    """Summarize scores `(n_participants,)` by their mean and its standard error; what is not finite is counted."""
    finite = scores[np.isfinite(scores)].astype(float)
    n = len(finite)
    return {
        "network": version.name,
        "of": version.network.name,
        "kind": _KINDS.get(type(version.network), version.control or "network"),
        "layer": layer,
        "mean": float(finite.mean()) if n else None,
        "error": float(finite.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        "n": n,
        "p": p,
    }


def pack_image(values: NDArray[Any], affine: NDArray[np.floating[Any]]) -> bytes:
    """Write a volume as gzipped NIfTI."""
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=1)
