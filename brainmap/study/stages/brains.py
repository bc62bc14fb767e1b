"""Load the brain data of a participant as the study file describes them: regions, patterns and noise.

Support studies whose data are response tables: their rows, their problems, and their description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel import Nifti1Image

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.inputs.layouts import build_pattern_arguments as arguments_of
from brainmap.rsa.patterns.normalize import normalize_patterns
from brainmap.rsa.patterns.region_tables import VoxelRois, load_voxel_rois
from brainmap.rsa.patterns.residuals import Residuals, estimate_precisions, load_residuals
from brainmap.rsa.patterns.response_tables import load_response_table, plan_response_table
from brainmap.rsa.patterns.screen import screen_voxels
from brainmap.rsa.patterns.surface import load_any_patterns
from brainmap.rsa.patterns.table import Pattern
from brainmap.rsa.rdm.run_noise import RunNoise
from brainmap.rsa.regions.centers import sphere_rois
from brainmap.rsa.regions.labels import choose_rois, load_rois, pool_hemispheres
from brainmap.rsa.regions.rois import AUDITORY_CENTERS, Rois, load_mask
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.rsa.surface.rois import load_surface_rois
from brainmap.study.settings.study import Participant, Searchlight
from brainmap.types import Dataset, Device, Floats, Level, NoisePlace

if TYPE_CHECKING:
    from brainmap.rsa.searchlights.noise import NoiseSource


def load_brain_mask(person: Participant) -> Nifti1Image:
    """Compute the brain mask: the voxels that the masks of all runs share."""
    return load_mask(person.masks)


def load_regions(person: Participant, *, whole: bool = False) -> Rois:
    """Load the regions of the study file on the participant's grid, cut to the brain mask unless `whole`.

    Raises
    ------
    InputError
        As for `load_rois` and `sphere_rois`.
    """
    rois = person.brain.rois
    least = 1 if whole else rois.minimum_voxels
    if person.brain.on_table:
        return load_voxel_rois(
            person.fill(str(rois.table)),
            participant=person.label,
            names=rois.names,
            hemispheres=rois.hemispheres,
            minimum_voxels=least,
        )
    if person.brain.on_surface:
        labels = person.fill(str(rois.image))
        return load_surface_rois(labels, names=rois.names, hemispheres=rois.hemispheres, minimum_vertices=least)
    mask = None if whole else person.masks
    if rois.centers:
        spheres = _build_spheres(person, mask, least)
        return spheres if rois.names is None else choose_rois(spheres, rois.names)
    image: Any = {name: person.fill(file) for name, file in rois.masks.items()} or person.fill(str(rois.image))
    table = None if rois.table is None else person.fill(rois.table)
    return load_rois(
        image, table=table, mask=mask, names=rois.names, minimum_voxels=least, hemispheres=rois.hemispheres
    )


def _build_spheres(person: Participant, mask: list[str] | None, least: int) -> Rois:
    rois = person.brain.rois
    assert rois.centers  # the settings were checked
    assert rois.radius_mm
    auditory = rois.centers == "auditory"
    spheres = sphere_rois(
        AUDITORY_CENTERS if isinstance(rois.centers, str) else rois.centers,
        radius_mm=rois.radius_mm,
        reference=person.masks[0],
        space="MNI" if auditory else str(rois.coordinates),
        orientation="LPI" if auditory else rois.orientation,
        mask=mask,
        reference_space=_find_template(person.brain.space),
        overlap="nearest",
        minimum_voxels=least,
    )
    return pool_hemispheres(spheres) if rois.hemispheres == "pooled" else spheres


def _find_template(space: str) -> str | None:
    """Return AFNI's name of the space of the images, where the study file names one."""
    return None if space == "native" else "MNI" if space.startswith("MNI") else space


def collect_pattern_arguments(person: Participant) -> dict[str, Any]:
    """Return the arguments of `load_patterns` and `check_patterns` for a participant, except stimuli and ROIs."""
    brain = person.brain
    of_table = {"key": brain.key, "axes": brain.axes} if brain.on_table else {}
    return {**arguments_of(person.found), "missing": brain.missing, **of_table}


def load_normalized_patterns(
    person: Participant, stimuli: dict[str, str], rois: Rois, *, mask: Nifti1Image | None = None
) -> Dataset:
    """Load the patterns of the brain mask, or of another one, normalized as the study file says."""
    arguments = collect_pattern_arguments(person) | ({} if mask is None else {"mask": mask})
    data = load_any_patterns(**arguments, stimuli=stimuli, rois=rois)
    for method in person.brain.normalize:
        data = normalize_patterns(data, method)
    return data


def load_region_patterns(person: Participant, stimuli: dict[str, str], rois: Rois) -> Dataset:
    """Load the screened patterns of the voxels of regions alone, which take a fraction of the memory of all.

    Every voxel is normalized by itself, so that values are those of `load_normalized_patterns`. Where a screen looks at
    the whole mask, and on a surface or in a table, all voxels are loaded.
    """
    brain = person.brain
    if brain.on_surface or brain.on_table or brain.screen.reliability is not None or person.sound is not None:
        return screen_patterns(person, load_normalized_patterns(person, stimuli, rois))
    inside = Nifti1Image((rois.labels > 0).astype(np.uint8), rois.affine)
    return load_normalized_patterns(person, stimuli, rois, mask=inside)


def narrow_patterns(data: Dataset) -> Dataset:
    """Return the patterns in single precision where this loses nothing, and as they are where it would.

    Images are read in single precision, so that only normalized patterns have more digits.
    """
    narrow = data.measurements.astype(np.float32)
    kept = narrow == data.measurements
    if not kept.all() and not (kept | np.isnan(data.measurements)).all():  # array_equal takes 15 times as long
        return data
    narrowed = copy(data)
    narrowed.measurements = narrow
    return narrowed


def screen_patterns(person: Participant, data: Dataset) -> Dataset:
    """Keep the voxels that pass the screen of the study file."""
    screen = person.brain.screen
    if screen.reliability is None and person.sound is None:
        return data
    mask = None if person.brain.on_surface or person.brain.on_table else load_brain_mask(person)
    return screen_voxels(data, minimum_reliability=screen.reliability, sound=person.sound, p=screen.p, mask=mask)


def describe_missing_residuals(person: Participant) -> str:
    """Describe what to do where a study asks for residuals and none are known."""
    return (
        f"noise = 'residuals', and none lie beside {Path(person.files[0]).name}; name them in [brain] residuals (AFNI: "
        "errts.*), or take noise = 'runs'"
    )


def load_glm_residuals(person: Participant) -> Residuals:
    """Load the residuals of the models of the betas.

    Raises
    ------
    InputError
        No residuals are named or found, or they are on another grid.
    """
    if not person.residuals:
        raise InputError(f"participant {person.label}: {describe_missing_residuals(person)}")
    owned = [(one.residuals, file) for one in person.found for file in one.sidecars if file.endswith(".1D")]
    designs = {name: file for name, file in reversed(owned) if name is not None}
    return load_residuals(person.residuals, mask=load_brain_mask(person), designs=designs)


def estimate_roi_precision(person: Participant, data: Dataset, names: list[str]) -> dict[str, Floats | RunNoise] | None:
    """Estimate the noise precision of each region, from runs for each run by the others; None where it is not used."""
    brain = person.brain
    if brain.noise == "none":
        return None
    left = None if brain.noise == "runs" else load_glm_residuals(person)
    return estimate_precisions(data, names, method=brain.covariance, residuals=left)


def build_searchlight_settings(settings: Searchlight, items: Level, device: Device = "cpu") -> SearchlightSettings:
    """Return what the study file says of the RDMs of spheres, as searchlights of volumes and surfaces take it."""
    return SearchlightSettings(
        dissimilarity=settings.dissimilarity,
        measure=settings.measure,
        items=items,
        shrinkage=settings.shrinkage,
        minimum=settings.minimum_voxels,
        device=device,
    )


def map_noise(
    person: Participant, data: Dataset, settings: SearchlightSettings, place: NoisePlace
) -> NoiseSource | None:
    """Return the noise for the searchlight: that of each voxel, or the source of each sphere's covariance."""
    used = place == "sphere" or settings.dissimilarity == "crossnobis"
    left = load_glm_residuals(person) if used and person.brain.noise == "residuals" else None
    return settings.choose_noise(data, source=person.brain.noise, place=place, residuals=left)


def plan_table_rows(person: Participant, stimuli: dict[str, str] | None) -> list[Pattern]:
    """Return the rows of a participant's patterns from headers and lists alone.

    Raises
    ------
    InputError
        As for `plan_response_table`.
    """
    known = collect_pattern_arguments(person)
    given = {name: known[name] for name in ("key", "axes", "runs", "missing")}
    return plan_response_table(
        known["files"], items=known["conditions"], voxels=_load_voxels(person), stimuli=stimuli, **given
    )


def check_table(person: Participant, stimuli: dict[str, str] | None) -> None:
    """Check a participant's patterns, which are read for this.

    Raises
    ------
    InputError
        As for `load_response_table`.
    """
    known = collect_pattern_arguments(person)
    del known["mask"]
    items = known.pop("conditions")
    load_response_table(items=items, voxels=_load_voxels(person), stimuli=stimuli, **known)


def list_lost_repetitions(people: Sequence[Participant], plans: Mapping[str, Sequence[Pattern]]) -> list[str]:
    """List the participants whose tables lack repetitions that others have, where the study refuses gaps."""
    problems = []
    runs = {
        person.label: len({row.run for row in plans[person.label]})
        for person in people
        if person.brain.on_table and person.brain.missing == "error" and plans[person.label]
    }
    most = max(runs.values(), default=0)
    short = [label for label, n in runs.items() if n < most]
    if short:
        problems.append(
            f"participants {list_some(short)}: expected {most} repetitions, as other participants have, got "
            f"{list_some(runs[label] for label in short)}; complete the tables, or say missing = 'nan' in [brain]"
        )
    return problems


def describe_table(person: Participant) -> dict[str, object]:
    """Describe a participant's data for the table of the check."""
    return {"grid": "table", "voxels": f"{_load_voxels(person).columns.size:,}"}


def _load_voxels(person: Participant) -> VoxelRois:
    rois = load_regions(person, whole=True)
    assert isinstance(rois, VoxelRois)  # the data are a table
    return rois
