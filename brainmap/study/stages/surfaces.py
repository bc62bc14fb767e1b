"""Support studies whose data lie on the cortical surface: meshes, searchlight maps, and reading maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainmap.errors import InputError
from brainmap.rsa.images.files import load_image
from brainmap.rsa.images.names import list_image_files
from brainmap.rsa.patterns.surface import load_surface_patterns
from brainmap.rsa.searchlights.surface import check_mesh
from brainmap.rsa.surface.data import MESHES, is_surface, load_surface
from brainmap.rsa.surface.discs import discs_on
from brainmap.rsa.surface.meshes import Mesh, load_mesh
from brainmap.study.settings.study import Participant, Searchlight
from brainmap.study.stages.brains import collect_pattern_arguments


def name_mesh(person: Participant, settings: Searchlight) -> str:
    """Return the name of the mesh of a participant's data, as `load_mesh` takes it.

    Raises
    ------
    InputError
        Neither the searchlight's mesh nor the brain's space names one.
    """
    if settings.mesh is None:
        if person.brain.space not in MESHES:
            raise InputError(
                f"participant {person.label}: the data lie on the surface of {person.brain.space!r}, and a searchlight "
                "needs its mesh; say [searchlight] mesh = 'sub-{participant}_hemi-{hemi}_midthickness.surf.gii', or "
                "[brain] space = 'fsaverage5'"
            )
        return person.brain.space
    return settings.mesh if settings.mesh in MESHES else person.fill(settings.mesh)


def list_mesh_files(person: Participant, settings: Searchlight) -> list[str]:
    """List the files of the mesh; the list is empty where a library includes it."""
    name = name_mesh(person, settings)
    return [] if name in MESHES else [name]


def load_participant_mesh(person: Participant, settings: Searchlight) -> Mesh:
    """Load the mesh of a participant's data."""
    return load_mesh(name_mesh(person, settings))


def group_mesh(people: Sequence[Participant], settings: Searchlight) -> Mesh:
    """Load the mesh of the group's maps: that of the participants, or the one to which their maps were warped."""
    return (
        load_mesh(settings.warped_space)
        if settings.warped_space in MESHES
        else load_participant_mesh(people[0], settings)
    )


def check_surface(person: Participant, stimuli: dict[str, str] | None, settings: Searchlight | None) -> None:
    """Check a participant's patterns and mesh, which are read for this.

    Raises
    ------
    InputError
        They cannot be read, do not fit each other, or no disc holds enough vertices.
    """
    data = load_surface_patterns(**collect_pattern_arguments(person), stimuli=stimuli)
    if settings is None:
        return
    mesh = check_mesh(data, load_participant_mesh(person, settings))
    largest = discs_on(mesh, radius_mm=settings.radius_mm).n_most
    if largest < settings.minimum_voxels and settings.metric == "geodesic":  # these discs are larger
        largest = discs_on(mesh, radius_mm=settings.radius_mm, metric=settings.metric).n_most
    if largest < settings.minimum_voxels:
        raise InputError(
            f"searchlight: the largest disc of {settings.radius_mm:g} mm holds {largest} vertices, fewer than "
            f"minimum_voxels = {settings.minimum_voxels}; take a larger radius_mm or a smaller minimum"
        )


def describe_surface(person: Participant) -> dict[str, object]:
    """Describe a participant's data for the table of the check."""
    data = load_surface(person.files[0])
    return {"grid": "+".join(map(str, data.sizes)), "voxels": f"{sum(data.sizes):,}"}


def check_same_meshes(people: Sequence[Participant], settings: Searchlight) -> None:
    """Check that participants in one space have one mesh, which group maps require.

    Raises
    ------
    InputError
        Two participants have different meshes.
    """
    first: dict[str, tuple[Participant, tuple[int, int]]] = {}
    for person in people:
        sizes = load_participant_mesh(person, settings).sizes
        other, its = first.setdefault(person.brain.space, (person, sizes))
        if sizes != its and person.brain.space != "native":
            raise InputError(
                f"participant {person.label}: expected a mesh of {its} vertices (left, right) in the space "
                f"{person.brain.space!r}, as participant {other.label} has, got {sizes}; bring them to one mesh, or "
                "say 'native'"
            )


def load_map(path: Path) -> Any:
    """Load a map of the results: an image, or data on the surface of both hemispheres."""
    return load_surface(str(path)) if is_surface(str(path)) else load_image(path)


def is_written(path: Path) -> bool:
    """Tell whether a map exists; `{hemi}` stands for both hemispheres."""
    try:
        list_image_files(path)
    except InputError:
        return False
    return True
