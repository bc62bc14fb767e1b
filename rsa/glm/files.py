"""Save betas as BIDS derivatives, one image per run, that `load_patterns` and AFNI read directly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.names import slug
from brainmap.record import write_json, write_table
from brainmap.rsa.glm.afni import OWN
from brainmap.rsa.glm.betas import Betas, build_mask_image
from brainmap.rsa.images.files import image_info, save_image
from brainmap.rsa.images.names import list_image_files
from brainmap.rsa.images.volumes import check_free
from brainmap.rsa.rdm.files import save_rdms
from brainmap.types import ImageFormat, Level

VOLUME_COLUMNS = {
    "run": "run",
    "volume": "volume of the run's image, from 0",
    "stimulus_id": "what the beta is of; name#0, name#1, ... are trials of one name in order of onset",
    "condition": "condition of the trial, the trial_type of the events",
    "onset": "s from the first volume of the run; the mean over events",
    "drift_share": "share of the variance of its regressor that drift terms explain",
    "inflation": "variance inflation factor of its regressor",
}


def save_betas(
    betas: Betas,
    prefix: str | Path,
    *,
    format: ImageFormat = "nifti",
    residuals: bool = False,
    variance: bool = False,
    space: str | None = None,
    items: Level = "stimulus",
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write betas, their tables and designs as `<prefix>_run-<run>_desc-<model>_betas.nii.gz` and companion files.

    Parameters
    ----------
    betas : Betas
    prefix : str or Path
        Beginning of the names, with the folder: `out/sub-01/func/sub-01_task-words`.
    format : {"nifti", "afni"}
        "afni" writes `..._betas+orig.HEAD` (or `+tlrc`) with `.BRIK`.
    residuals, variance : bool
        Also write `..._residuals`, for `noise = "residuals"`, and `..._variance` of each beta.
    space : str, optional
        `"ORIG"`, `"MNI"`, ...; by default the space of the mask.
    items : {"stimulus", "condition"}
        Items of the design's RDMs, `..._designrdms.h5`.
    about : mapping, optional
        Provenance to record in the sidecars.
    overwrite : bool

    Returns
    -------
    list of Path
        Images of the betas first, in order of runs, then all other files. Among these, `..._mask` is 1 where a voxel
        has betas in every run; use it as the mask when the betas are read.

    Raises
    ------
    InputError
        If a file of one of these names exists, or the folder does not exist.

    Notes
    -----
    Sub-bricks are labelled `name#0_Coef` as in 3dDeconvolve. `load_patterns` reads such a label as the condition
    `name`; if a run has several of that name, they are its stimuli `name#0`, `name#1`.
    """
    check_choice(format, ("nifti", "afni"), "format")
    known = space or image_info(betas.mask).space
    kinds = {"betas": betas.image} | ({"variance": betas.variance} if variance else {})
    if residuals and betas.residuals is None:
        raise InputError("save_betas: the residuals were not kept; fit with keep_residuals=True")
    runs = list(dict.fromkeys(betas.runs))
    slugs = [slug(run) for run in runs]
    if len(set(slugs)) < len(runs):
        raise InputError(
            f"save_betas: the runs {', '.join(runs)} would have equal file names; name them by letters and digits"
        )
    stems = {run: f"{prefix}_run-{own}_desc-{betas.settings.model}" for run, own in zip(runs, slugs, strict=True)}
    ending = ".nii.gz" if format == "nifti" else "+orig.HEAD" if known == "ORIG" else "+tlrc.HEAD"
    tables = [Path(f"{prefix}_desc-{betas.settings.model}_{name}") for name in ("labels.tsv", "designrdms.h5")]
    masked = f"{prefix}_desc-{betas.settings.model}_mask{ending}"
    check_free(
        [*(Path(f"{s}_{k}{ending}") for s in stems.values() for k in (*kinds, "residuals")), *tables, Path(masked)],
        overwrite,
        "betas",
    )
    said = _build_sidecar(betas, about)
    first: list[Path] = []
    rest: list[Path] = []
    for k, run in enumerate(runs):
        chosen = np.array(betas.runs) == run
        labels = format_coefficient_labels([name for name, one in zip(betas.labels, chosen, strict=True) if one])
        for kind, image in kinds.items():
            values = np.asarray(image.dataobj)[..., chosen]
            own = save_image(
                _build_like(values, betas.mask),
                f"{stems[run]}_{kind}{ending}",
                labels=labels,
                space=known,
                history=f"{OWN}: {betas.settings.model}",
                overwrite=overwrite,
            )
            (first if kind == "betas" else rest).extend(list_image_files(own))
            rest.append(write_json(f"{stems[run]}_{kind}.json", {"Labels": labels, **said}))
        if residuals and betas.residuals is not None:
            rest += _save_residuals(betas, k, f"{stems[run]}_residuals", ending, known, overwrite, said)
        rest += _save_design(betas.design[k], Path(f"{stems[run]}_design.tsv"), said)
    rest += list_image_files(save_image(find_beta_mask(betas), masked, space=known, overwrite=overwrite))
    rest.append(
        write_json(
            re.sub(r"\+?(orig|tlrc)?\.(nii\.gz|HEAD)$", ".json", masked),
            {"Type": "Brain", "Description": "voxels with betas in every run"},
        )
    )
    table = tabulate_volumes(betas)
    rest += [write_table(table, tables[0], columns=VOLUME_COLUMNS, about=said), tables[0].with_suffix(".json")]
    if len(set(betas.labels if items == "stimulus" else betas.conditions)) >= 3:
        rest.append(save_rdms(betas.design_rdms(items=items), tables[1]))
    return first + rest


def find_beta_mask(betas: Betas) -> nib.Nifti1Image:
    """Return the mask of voxels that have betas in every run, `(x, y, z)`."""
    there = np.isfinite(np.asarray(betas.image.dataobj)).all(axis=3) & (np.asarray(betas.mask.dataobj) > 0)
    image = nib.Nifti1Image(there.astype(np.float32), betas.mask.affine)
    image.header.set_sform(betas.mask.affine, int(betas.mask.header["sform_code"]))
    return image


def format_coefficient_labels(labels: list[str]) -> list[str]:
    """Return the labels that 3dDeconvolve would give these betas.

    Examples
    --------
    >>> format_coefficient_labels(["cat#0", "cat#1", "dog"])
    ['cat#0_Coef', 'cat#1_Coef', 'dog#0_Coef']
    """
    return [f"{label}_Coef" if re.search(r"#\d+$", label) else f"{label}#0_Coef" for label in labels]


def tabulate_volumes(betas: Betas) -> pd.DataFrame:
    """Tabulate one row per beta: run, volume, stimulus, condition and diagnostics of the design."""
    table = betas.diagnostics.rename(columns={"label": "stimulus_id"})
    table.insert(1, "volume", table.groupby("run", sort=False).cumcount())
    table.insert(3, "condition", betas.conditions)
    return table[list(VOLUME_COLUMNS)]


def _build_sidecar(betas: Betas, about: Mapping[str, Any] | None) -> dict[str, Any]:
    settings = betas.settings
    return {
        "Model": settings.model,
        "HemodynamicResponse": settings.hrf,
        "NoiseModel": settings.noise,
        **({"NoiseGrid": settings.afni_grid} if settings.afni_grid else {}),
        "NoiseParameters": [{"a": round(a, 4), "b": round(b, 4)} for a, b in betas.noise],
        "Scale": betas.scale,
        "Notes": list(betas.notes),
        "DegreesOfFreedom": list(betas.dof),
        "Autocorrelation": [round(r, 4) for r in betas.autocorrelation],
        **(about or {}),
    }


def _build_like(values: NDArray[np.float32], mask: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(values if values.shape[3] > 1 else values[..., 0], mask.affine)


def _save_residuals(
    betas: Betas, run: int, stem: str, ending: str, space: str, overwrite: bool, said: Mapping[str, Any]
) -> list[Path]:
    assert betas.residuals is not None  # the caller has checked this
    values = np.asarray(build_mask_image(betas.residuals[run], betas.mask).dataobj)
    written = save_image(_build_like(values, betas.mask), stem + ending, space=space, overwrite=overwrite)
    whitened = {"Whitened": betas.settings.noise != "ols", "ResidualDegreesOfFreedom": betas.dof[run]}
    return [*list_image_files(written), write_json(f"{stem}.json", {**whitened, **said})]


def _save_design(design: pd.DataFrame, path: Path, said: Mapping[str, Any]) -> list[Path]:
    table = design.rename_axis("frame_time").reset_index()
    columns = {str(name): "regressor, at the time of each volume" for name in table.columns}
    columns |= {"frame_time": "s from the first volume", "constant": "1 everywhere"}
    return [write_table(table, path, columns=columns, about=said), path.with_suffix(".json")]
