"""Compute searchlight RSA on the cortical surface, with discs around every vertex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.searchlights.device import choose_searchlight_device
from brainmap.rsa.searchlights.maps import ScoreMaps
from brainmap.rsa.searchlights.noise import NoiseSource, group_in_bricks
from brainmap.rsa.searchlights.scoring import Scoring, prepare_inputs, score_neighborhoods
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.rsa.surface.data import HEMISPHERES, SurfaceData, ensure_surface, save_surface
from brainmap.rsa.surface.discs import discs_on
from brainmap.rsa.surface.meshes import Mesh, MeshLike, load_mesh, mesh_edges
from brainmap.rsa.surface.rois import Surface
from brainmap.types import (
    Dataset,
    Device,
    Floats,
    Level,
    Measure,
    Metric,
    RDMs,
    RunPairing,
    SearchlightDissimilarity,
    Shrinkage,
)

RADIUS_MM = 10.0


@dataclass(frozen=True, eq=False)
class SurfaceMaps(ScoreMaps[SurfaceData]):
    """Map each model name to surface data of its searchlight scores, NaN where there is no score.

    Attributes
    ----------
    names : tuple of str
        The models, in the order given.
    array : ndarray (n_models, n_vertices)
        Scores in float64 of all vertices of the mesh, with the left hemisphere first.
    counts : ndarray (n_vertices,)
        Number of vertices in each disc; 0 where the center itself is not usable.
    mesh : Mesh
    n_excluded : int
        Number of vertices (of the mask) without data, with NaN, or with constant data; they belong to no disc.
    n_unscored : int
        Number of discs without a score, with fewer than `minimum_vertices` vertices or a constant pattern.
    """

    names: tuple[str, ...]
    array: Floats
    counts: NDArray[np.int32]
    mesh: Mesh
    n_excluded: int
    n_unscored: int

    def __getitem__(self, name: str) -> SurfaceData:
        return self.image(self.row_of(name), (name,))

    def image(self, values: NDArray[Any], labels: Sequence[str] = ()) -> SurfaceData:
        """Convert values `(n_maps, n_vertices)` or `(n_vertices,)` to data of both hemispheres."""
        columns = np.atleast_2d(np.asarray(values, np.float32)).T
        left = self.mesh.sizes[0]
        return SurfaceData(columns[:left].copy(), columns[left:].copy(), tuple(labels), name=self.mesh.name)

    @property
    def data(self) -> SurfaceData:
        """Return the maps of all models as one object."""
        return self.image(self.array, self.names)

    @property
    def best(self) -> SurfaceData:
        """Return the best model of each vertex as its index in `names`, from 1; NaN where there is no score."""
        return self.image(np.where(self._scored, self._filled.argmax(axis=0) + 1.0, np.nan), ("best",))

    @property
    def best_score(self) -> SurfaceData:
        """Return the score of the best model of each vertex."""
        return self.image(np.where(self._scored, self._filled.max(axis=0), np.nan), ("best score",))

    @property
    def vertex_count(self) -> SurfaceData:
        """Return the number of vertices in the disc around each vertex; 0 where there is none."""
        return self.image(self.counts, ("vertices",))

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write the maps of all models, one array per model, as `save_surface` does: `x_hemi-{hemi}.func.gii`."""
        return save_surface(self.data, path, overwrite=overwrite)


def check_mesh(data: Dataset, mesh: Mesh) -> Mesh:
    """Return the hemispheres of the mesh that the data have.

    Raises
    ------
    InputError
        The data lie on no mesh, or on another one.
    """
    return _locate_on_mesh(data, mesh)[0]


def _locate_on_mesh(data: Dataset, mesh: Mesh) -> tuple[Mesh, NDArray[np.int64]]:
    """Return the hemispheres of the mesh that the data have, and the position of each channel in that mesh.

    Raises
    ------
    InputError
        The channels have no vertex and hemisphere, or the mesh has another number of vertices.
    """
    described = data.channel_descriptors
    if not {"vertex", "hemisphere"} <= described.keys():
        raise InputError(
            "surface searchlight: the data's channels have no 'vertex' and 'hemisphere'; read GIFTI files with "
            "load_surface_patterns"
        )
    vertex, side = np.asarray(described["vertex"], int), np.asarray(described["hemisphere"]).astype(str)
    told = str(data.descriptors.get("mesh_vertices", ""))
    most = tuple(int(vertex[side == one].max(initial=-1)) + 1 for one in HEMISPHERES)
    sizes = tuple(int(n) for n in told.split("+")) if told else most
    for one, found, wanted in zip(HEMISPHERES, sizes, mesh.sizes, strict=True):
        if (found != wanted and found > 0) if told else found > wanted:
            raise InputError(_describe_other_mesh(f"the data have {found} vertices in the {one} hemisphere", mesh))
    for one, found in zip(HEMISPHERES, sizes, strict=True):
        if not found:
            mesh = mesh.side("right" if one == "left" else "left")
    return mesh, vertex + np.where(side == "left", 0, mesh.sizes[0])


def _describe_other_mesh(found: str, mesh: Mesh) -> str:
    left, right = mesh.sizes
    return (
        f"surface searchlight: {found}, but the mesh {mesh.name} has {left} + {right} (left + right); give the mesh "
        "of the data"
    )


def surface_searchlight(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    *,
    mesh: MeshLike = "fsaverage5",
    radius_mm: float | None = None,
    n_vertices: int | None = None,
    metric: Metric = "dijkstra",
    mask: Surface | None = None,
    dissimilarity: SearchlightDissimilarity = "correlation",
    measure: Measure | str = "spearman",
    items: Level | None = None,
    runs: RunPairing = "between",
    labels: Sequence[str] | None = None,
    noise: NoiseSource | None = None,
    shrinkage: Shrinkage = "diag",
    pooled: bool = True,
    minimum_vertices: int = 10,
    threads: int | None = None,
    device: Device = "cpu",
) -> SurfaceMaps:
    """Compare the RDM of the disc around every vertex with model RDMs.

    The score of a disc equals that of `compute_rdms` and `compare_rdms` for its vertices; no RDM is stored. A disc
    contains vertices of one hemisphere that have data; paths to them may cross vertices without data, such as those of
    the medial wall.

    Parameters
    ----------
    data : rsatoolbox Dataset, or array (n_items, n_vertices) or (n_runs, n_items, n_vertices)
        A Dataset as returned by `load_surface_patterns`. The vertices of an array are those of the mesh, with the left
        hemisphere first and NaN where there are no data.
    model_rdms : rsatoolbox RDMs
        Aligned to the data by label, as in `searchlight`.
    mesh : "fsaverage5", "fsaverage", name with `{hemi}`, mapping of side to path, or Mesh
        The mesh of the data, as in `load_mesh`. Only the hemispheres that the data have are used.
    radius_mm : float [mm]
        Vertices at `<=` this distance along the surface belong to a disc. The default is 10 without `n_vertices`.
    n_vertices : int
        In place of a radius, the number of nearest vertices of a disc.
    metric : {"dijkstra", "geodesic"}
        Distances along edges, or across triangles (exact; about ten times slower). See `discs_on`.
    mask : surface data of one map, optional
        Only vertices above 0 are used; all by default.
    dissimilarity, measure, items, runs, labels, noise, shrinkage, pooled
        As in `searchlight`, with vertices in place of voxels and the mesh in place of the mask.
    minimum_vertices : int
        Discs with fewer vertices have no score.
    threads : int, optional
        Number of threads; by default the number of cores that this process may use.
    device : {"cpu", "cuda", "auto"}
        As in `searchlight`.

    Returns
    -------
    SurfaceMaps
        A mapping of model name to surface data, with `best`, `best_score`, `vertex_count`, `array` and `save`.

    Raises
    ------
    InputError
        The mesh has other vertices than the data or mask, the radius is below the mean edge length, discs are too
        small, or `searchlight` refuses the data.

    References
    ----------
    Oosterhof et al. 2011, doi:10.1016/j.neuroimage.2010.04.270

    Examples
    --------
    >>> rng, names = np.random.default_rng(0), ["a", "b", "c", "d"]
    >>> grid = np.stack(np.meshgrid([0.0, 2, 4, 6, 8], [0.0, 2, 4, 6, 8], [0.0]), -1).reshape(-1, 3)
    >>> cells = [5 * i + j for i in range(4) for j in range(4)]
    >>> mesh = Mesh(grid, np.array([t for c in cells for t in ((c, c + 1, c + 6), (c, c + 6, c + 5))]), (25, 0))
    >>> x = rng.normal(size=(4, 25))
    >>> from brainmap.rsa import compute_rdms
    >>> model = compute_rdms(x[:, :9], descriptors={"stimulus_id": names, "layer": "conv1"})
    >>> maps = surface_searchlight(x, model, mesh=mesh, labels=names, radius_mm=6.0, threads=1)
    >>> list(maps), maps["conv1"].sizes, int(maps.counts.max())
    (['conv1'], (25, 0), 23)
    """
    settings = SearchlightSettings(
        dissimilarity=dissimilarity,
        measure=measure,
        items=items,
        runs=runs,
        labels=labels,
        shrinkage=shrinkage,
        pooled=pooled,
        minimum=minimum_vertices,
        device=device,
    )
    return search_discs(
        data,
        model_rdms,
        settings,
        mesh=load_mesh(mesh),
        radius_mm=radius_mm,
        n_vertices=n_vertices,
        metric=metric,
        mask=mask,
        noise=noise,
        threads=threads,
    )


def search_discs(
    data: Dataset | NDArray[np.floating],
    model_rdms: RDMs,
    settings: SearchlightSettings,
    *,
    mesh: Mesh,
    radius_mm: float | None = None,
    n_vertices: int | None = None,
    metric: Metric = "dijkstra",
    mask: Surface | None = None,
    noise: NoiseSource | None = None,
    threads: int | None = None,
) -> SurfaceMaps:
    """Compute a `surface_searchlight` with settings that volumes share.

    Raises
    ------
    InputError
        The same cases as in `surface_searchlight`.
    """
    cortex, placed, asked = _place_data(data, mesh, mask)
    prepared, models, spatial = prepare_inputs(placed, model_rdms, settings, n_voxels=len(cortex.points), noise=noise)
    centers = np.flatnonzero(prepared.usable)
    order = np.argsort(_order_places(cortex)[centers])
    centers = centers[order]
    prepared = replace(
        prepared,
        channels=prepared.channels[order],
        noise=None if prepared.noise is None else prepared.noise[order],
        weights=None if prepared.weights is None else prepared.weights[order],
    )
    radius = RADIUS_MM if radius_mm is None and n_vertices is None else radius_mm
    discs = discs_on(cortex, radius_mm=radius, n_vertices=n_vertices, metric=metric, vertices=centers, threads=threads)
    if discs.n_most < settings.minimum:
        raise InputError(
            f"surface searchlight: the largest disc holds {discs.n_most} vertices, fewer than "
            f"minimum_vertices={settings.minimum}; take a larger radius_mm or a smaller minimum"
        )
    device = choose_searchlight_device(settings.device, prepared, own_noise=spatial is not None)
    scoring = Scoring(prepared, models, discs, settings.dissimilarity, settings.scale, settings.minimum, device=device)
    if spatial is not None:
        spatial.check_size(discs.n_most)
        spatial = replace(spatial, columns=spatial.columns[order], sd=spatial.sd[order])
        groups = group_in_bricks(cortex.points[centers], n_most=discs.n_most, radius_mm=float(discs.distances.max()))
        scoring = replace(scoring, noise=spatial, groups=groups)
    found = score_neighborhoods(scoring, threads=threads)
    scores, counts = np.full((len(models.names), len(cortex.points)), np.nan), np.zeros(len(cortex.points), np.int32)
    scores[:, centers], counts[centers] = found.T, discs.sizes()
    unscored = int(np.isnan(found).all(axis=1).sum())
    return SurfaceMaps(models.names, scores, counts, cortex, asked - len(centers), unscored)


def _order_places(mesh: Mesh) -> NDArray[np.intp]:
    """Order the vertices so that neighbors have similar indices, as voxels in C order do.

    A task copies the patterns between the first and the last vertex of its discs, which are few in this order.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    edges = mesh_edges(mesh)
    edges = np.concatenate([edges, edges[:, ::-1]])
    graph = coo_matrix((np.ones(len(edges), np.int8), edges.T), shape=(len(mesh.points),) * 2)
    return np.argsort(reverse_cuthill_mckee(graph.tocsr(), symmetric_mode=True))


def _place_data(data: Any, mesh: Mesh, mask: Surface | None) -> tuple[Mesh, Any, int]:
    """Restrict the mesh to the hemispheres of the data, and place the data on it.

    The values are the mesh, the data with NaN outside of the mask, and the number of vertices in the mask.
    """
    from rsatoolbox.data.dataset import Dataset

    whole = not hasattr(data, "measurements")
    values = np.asarray(data if whole else data.measurements)
    if not whole:
        mesh, place = _locate_on_mesh(data, mesh)
    elif values.ndim in (2, 3) and values.shape[-1] != len(mesh.points):
        raise InputError(_describe_other_mesh(f"the data have {values.shape[-1]} vertices", mesh))
    asked = len(mesh.points)
    if mask is not None:
        inside = _find_inside(ensure_surface(mask), mesh)
        values, asked = np.where(inside if whole else inside[place], values, np.nan), int(inside.sum())
    if whole:
        return mesh, values, asked
    described = {key: np.asarray(value) for key, value in data.obs_descriptors.items()}
    placed = Dataset(
        values, descriptors=dict(data.descriptors), obs_descriptors=described, channel_descriptors={"voxel": place}
    )
    return mesh, placed, asked


def _find_inside(mask: SurfaceData, mesh: Mesh) -> NDArray[np.bool_]:
    """Return where a mask is above 0, on the hemispheres of the mesh."""
    parts = []
    for side, wanted in zip(HEMISPHERES, mesh.sizes, strict=True):
        values = getattr(mask, side)
        if wanted and len(values) != wanted:
            raise InputError(
                _describe_other_mesh(f"the mask has {len(values)} vertices in the {side} hemisphere", mesh)
            )
        parts.append(np.nan_to_num(values[:wanted, 0]) > 0)
    inside: NDArray[np.bool_] = np.concatenate(parts)
    if not inside.any():
        raise InputError(f"surface searchlight: the mask {mask.name} has no vertex above 0")
    return inside
