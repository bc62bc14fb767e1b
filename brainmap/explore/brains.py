"""Read what a finished study found in the brain: maps, the scores at a voxel or in a region, and RDMs."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.rsa.rdm.files import load_rdms, read_rdm_descriptors
from brainmap.study.results.context import Context
from brainmap.study.results.tables import read_results_table
from brainmap.study.settings.study import Baselines
from brainmap.study.stages.ceilings import build_ceiling_path, explain_no_ceilings
from brainmap.study.stages.group_maps import group_map
from brainmap.study.stages.networks import build_rdm_path, yield_versions
from brainmap.study.stages.spaces import find_common_map, find_common_space
from brainmap.study.stages.surfaces import is_written, load_map
from brainmap.study.stages.versions import Version

if TYPE_CHECKING:
    from nibabel import Nifti1Image

    from brainmap.rsa.regions.rois import Rois
    from brainmap.study.settings.participant import Participant

STATS = {
    "mean": "mean score over participants",
    "t": "t over participants",
    "pfwe": "corrected p (shown as 1 − p)",
}
_TEMPLATE_MM = 2


@dataclass(frozen=True, eq=False)
class Brains:
    """Hold the results of a study in the brain; what is large is read when it is first asked for.

    Parameters
    ----------
    context : Context
    """

    context: Context

    @cached_property
    def people(self) -> list[Participant]:
        """List the participants."""
        return list(self.context.study.participants())

    @cached_property
    def models(self) -> list[tuple[Version, str]]:
        """List the layers of every network, control and baseline whose RDMs exist."""
        return [
            (version, str(layer))
            for version in yield_versions(self.context)
            if build_rdm_path(self.context, version).exists()
            for layer in read_rdm_descriptors(build_rdm_path(self.context, version))["layer"]
        ]

    @cached_property
    def space(self) -> str | None:
        """Return the space of the group maps; None where there are none."""
        return find_common_space(self.context, self.people)

    @cached_property
    def why_no_maps(self) -> str:
        """Say why no map can be clicked; empty where one can."""
        if self.context.study.settings.searchlight is None:
            return "the study has no [searchlight]"
        if any(person.brain.on_surface for person in self.people):
            return "the maps of the study lie on the cortical surface"
        if self.space is None:
            return "participants share no space, so there are no maps of the group"
        return "" if self.mapped else "the maps of the group are not there yet; run the study"

    @cached_property
    def mapped(self) -> list[tuple[Version, str]]:
        """List the layers that have a map of the group."""
        if self.space is None or self.context.study.settings.searchlight is None:
            return []
        return [
            (version, layer)
            for version, layer in self.models
            if not version.control and is_written(group_map(self.context, version, layer, "mean", self.space))
        ]

    @cached_property
    def rois(self) -> Rois | None:
        """Return the regions on the grid of the maps; None where participants have regions of their own."""
        from brainmap.study.stages.group_maps import place_regions

        return place_regions(self.people, load_map(self._find_map(*self.mapped[0], "mean"))) if self.mapped else None

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Read the scores of all participants in all regions."""
        paths = [self.context.build_subject_path(p, "scores.tsv", desc="rois") for p in self.people]
        found = [read_results_table(path) for path in paths if path.exists()]
        if not found:
            raise InputError("regions: the study holds no scores yet; run it: brainmap run")
        return pd.concat(found, ignore_index=True)

    def _find_map(self, version: Version, layer: str, stat: str) -> Any:
        assert self.space is not None  # there are maps
        return group_map(self.context, version, layer, stat, self.space)

    def find_model(self, network: str, layer: str) -> tuple[Version, str]:
        """Find a layer of a network, control or baseline.

        Raises
        ------
        InputError
            There is none of that name.
        """
        check_choice(network, list(dict.fromkeys(version.name for version, _ in self.models)), "network")
        layers = {one: (version, one) for version, one in self.models if version.name == network}
        return layers[check_choice(layer, list(layers), "layer")]

    def describe(self) -> dict[str, Any]:
        """Describe what can be seen."""
        settings = self.context.study.settings
        return {
            "maps": [{"network": version.name, "layer": layer} for version, layer in self.mapped],
            "why": self.why_no_maps,
            "space": self.space,
            "template": self._has_template,
            "stats": STATS,
            "regions": list(dict.fromkeys(map(str, self.scores["roi"]))),
            "places": self._place_regions(),
            "participants": len(self.people),
            "measure": settings.rsa.score,
            "map_measure": settings.searchlight.measure if settings.searchlight else "",
            "level": settings.rsa.items,
            "rdm_layers": [{"network": version.name, "layer": layer} for version, layer in self.models],
        }

    @property
    def _has_template(self) -> bool:
        return self.space is not None and self.space.startswith("MNI")

    def _place_regions(self) -> dict[str, list[float]]:
        """Return the voxel of each region that lies nearest to its center [mm]."""
        rois = self.rois
        if rois is None:
            return {}
        places = {}
        for k, name in enumerate(rois.names, start=1):
            inside = np.argwhere(rois.labels == k)
            if len(inside):
                nearest = inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin()]
                places[name] = (rois.affine @ [*nearest, 1])[:3].tolist()
        return places

    def read_map(self, network: str, layer: str, stat: str) -> bytes:
        """Return a map of the group as gzipped NIfTI, 0 where it has no value; of p, 1 - p."""
        self._refuse_without_maps()
        check_choice(stat, list(STATS), "map")
        image = load_map(self._find_map(*self.find_model(network, layer), stat))
        values = np.asarray(image.dataobj, dtype=np.float32)
        return _pack_image(np.nan_to_num(1 - values if stat == "pfwe" else values), image.affine)

    def read_background(self) -> bytes:
        """Return the template that the maps lie on as gzipped NIfTI.

        Raises
        ------
        InputError
            No template of that space is at hand.
        """
        if not self._has_template:
            raise InputError(f"template: none of {self.space!r} is at hand; maps are shown without one")
        from nilearn.datasets import load_mni152_template

        image = load_mni152_template(resolution=_TEMPLATE_MM)
        values = np.asarray(image.dataobj, dtype=np.float32)
        return _pack_image((255 * values / values.max()).round().astype(np.uint8), image.affine)

    def _refuse_without_maps(self) -> None:
        if self.why_no_maps:
            raise InputError(f"maps: there are none to see, because {self.why_no_maps}")

    @cached_property
    def table(self) -> VoxelTable:
        """Return the scores of every participant at every voxel."""
        return VoxelTable.read(self.context, self.people, self.models)

    def read_voxel(self, place: Sequence[float]) -> dict[str, Any]:
        """Return the scores of all layers at the voxel that holds a place [mm], with its noise ceilings."""
        self._refuse_without_maps()
        table = self.table
        index = tuple(int(k) for k in np.rint(np.linalg.inv(table.affine) @ [*place, 1])[:3])
        inside = all(0 <= k < n for k, n in zip(index, table.numbers.shape, strict=True))
        row = int(table.numbers[index]) if inside else -1
        rois = self.rois
        region = "" if rois is None or not inside else ("", *rois.names)[int(rois.labels[index])]
        settings = self.context.study.settings.searchlight
        assert settings is not None  # there are maps
        found = {
            "what": "voxel",
            "mm": (table.affine @ [*index, 1])[:3].tolist(),
            "voxel": list(index),
            "region": region,
            "measure": settings.measure,
            "participants": len(self.people),
        }
        if row < 0:
            return {**found, "rows": [], "notes": ["This voxel lies outside of what the searchlight scored."]}
        p = {(v.name, layer): self._read_p(v, layer, index) for v, layer in self.mapped}
        rows = [
            _summarize_scores(version, layer, table.scores[k, :, row], p.get((version.name, layer)))
            for k, (version, layer) in enumerate(self.models)
        ]
        return {**found, "rows": rows, **self._read_ceilings(index)}

    def _read_p(self, version: Version, layer: str, index: tuple[int, ...]) -> float | None:
        path = self._find_map(version, layer, "pfwe")
        return float(np.asarray(load_map(path).dataobj[index])) if is_written(path) else None

    def _read_ceilings(self, index: tuple[int, ...]) -> dict[str, Any]:
        why = explain_no_ceilings(self.context)
        paths = [build_ceiling_path(self.context, stat) for stat in ("lowerceiling", "upperceiling")]
        if why or not all(is_written(path) for path in paths):
            return {"ceiling": None, "notes": [f"No noise ceilings here: {why}."] if why else []}
        images = [load_map(path) for path in paths]
        if any(image.shape[:3] != self.table.numbers.shape for image in images):
            return {"ceiling": None, "notes": ["The noise ceilings lie on another grid than the maps."]}
        return {"ceiling": [float(np.asarray(image.dataobj[index])) for image in images], "notes": []}

    def read_region(self, name: str) -> dict[str, Any]:
        """Return the scores of all layers in a region, with its noise ceilings."""
        scores = self.scores
        check_choice(name, list(dict.fromkeys(map(str, scores["roi"]))), "region")
        mine = scores[scores["roi"].astype(str) == name]
        tested = self._read_table("statistics")
        rows = []
        for version, layer in self.models:
            values = mine[(mine["network"] == version.name) & (mine["layer"].astype(str) == layer)]["score"]
            if len(values):
                p = _look_up(tested, "p_corrected", roi=name, network=version.name, layer=layer)
                rows.append(_summarize_scores(version, layer, values.to_numpy(dtype=float), p))
        ceilings = self._read_table("ceilings")
        bounds = [_look_up(ceilings, bound, roi=name) for bound in ("lower", "upper")]
        return {
            "what": "region",
            "region": name,
            "mm": self._place_regions().get(name),
            "measure": self.context.study.settings.rsa.score,
            "participants": int(mine["participant"].nunique()),
            "rows": rows,
            "ceiling": None if None in bounds else bounds,
        }

    def _read_table(self, name: str) -> pd.DataFrame | None:
        path = self.context.build_table_path(name)
        return read_results_table(path) if path.exists() else None

    def read_rdms(self, region: str, network: str, layer: str) -> dict[str, Any]:
        """Return the RDM of a layer beside that of a region, the mean over participants, over the same items."""
        from brainmap.rsa.rdm.alignment import list_labels
        from brainmap.study.stages.group import join_brain_rdms

        version, layer = self.find_model(network, layer)
        model = load_rdms(build_rdm_path(self.context, version)).subset("layer", layer)
        people = [p for p in self.people if self.context.build_subject_path(p, "rdms.h5", desc="rois").exists()]
        brains = join_brain_rdms(self.context, people)
        check_choice(region, list(dict.fromkeys(map(str, brains.rdm_descriptors["roi"]))), "region")
        brain = brains.subset("roi", region)
        labels = list_labels(model)
        theirs = list_labels(brain)
        missing = [label for label in labels if label not in theirs]
        order = [theirs.index(label) for label in labels if label in theirs]
        kept = [k for k, label in enumerate(labels) if label in theirs]
        both = model.get_matrices()[0][np.ix_(kept, kept)], brain.get_matrices()[:, order][:, :, order].mean(axis=0)
        return {
            "labels": [labels[k] for k in kept],
            "layer": both[0].astype(np.float32),
            "region": both[1].astype(np.float32),
            "dissimilarity": [str(model.dissimilarity_measure), str(brain.dissimilarity_measure)],
            "participants": brain.n_rdm,
            "notes": [f"{len(missing)} items are not in the RDM of the region"] if missing else [],
        }


def _look_up(table: pd.DataFrame | None, column: str, **where: str) -> float | None:
    """Return the value in the one row of a table where columns hold some names; None where there is no such row."""
    if table is None or column not in table:
        return None
    for key, value in where.items():
        if key in table:
            table = table[table[key].astype(str) == value]
    return float(table[column].iloc[0]) if len(table) == 1 and pd.notna(table[column].iloc[0]) else None


def _summarize_scores(
    version: Version, layer: str, scores: NDArray[np.floating[Any]], p: float | None
) -> dict[str, Any]:
    """Summarize scores `(n_participants,)` by their mean and its standard error; what is not finite is counted."""
    finite = scores[np.isfinite(scores)].astype(float)
    n = len(finite)
    return {
        "network": version.name,
        "of": version.network.name,
        "kind": "baseline" if isinstance(version.network, Baselines) else version.control or "network",
        "layer": layer,
        "mean": float(finite.mean()) if n else None,
        "error": float(finite.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        "n": n,
        "p": p,
    }


@dataclass(frozen=True, eq=False)
class VoxelTable:
    """Hold the scores of every layer in every voxel of every participant, on disk, so that a click reads one column.

    Attributes
    ----------
    numbers : ndarray int32 (x, y, z)
        Column of each voxel; -1 where no participant has a score.
    scores : memmap float32 (n_models, n_participants, n_voxels)
    affine : ndarray (4, 4) [mm]
    """

    numbers: NDArray[np.int32]
    scores: NDArray[np.float32]
    affine: NDArray[np.float64]

    @classmethod
    def read(cls, context: Context, people: Sequence[Participant], models: Sequence[tuple[Version, str]]) -> VoxelTable:
        """Read the maps of all participants; the file that holds them has no name, and goes with the process."""
        paths = [[find_common_map(context, person, *model) for person in people] for model in models]
        first = load_map(paths[0][0])
        scored = np.zeros(first.shape[:3], bool)
        with progress("reading maps", len(people) * (len(models) + 1)) as step:
            for path in paths[0]:
                scored |= np.isfinite(_read_values(path, first))
                step.advance()
            numbers = np.full(scored.shape, -1, np.int32)
            numbers[scored] = np.arange(np.count_nonzero(scored), dtype=np.int32)
            shape = (len(models), len(people), int(np.count_nonzero(scored)))
            with tempfile.TemporaryFile() as file:
                scores: NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=shape)
            for k, row in enumerate(paths):
                for j, path in enumerate(row):
                    scores[k, j] = _read_values(path, first)[scored]
                    step.advance()
        return cls(numbers, scores, np.asarray(first.affine, dtype=np.float64))


def _read_values(path: Any, like: Nifti1Image) -> NDArray[np.float32]:
    from brainmap.rsa.images.files import check_same_grid

    image = load_map(path)
    check_same_grid(image, like, what=path.name, wanted="the first map")
    return np.asarray(image.dataobj, dtype=np.float32)


def _pack_image(values: NDArray[Any], affine: NDArray[np.floating[Any]]) -> bytes:
    import nibabel as nib

    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=1)
