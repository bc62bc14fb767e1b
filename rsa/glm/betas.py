"""From BOLD to betas: a general linear model of each run, its residuals, and what its design alone does to an RDM."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainmap.checks import check_choice, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.progress import progress
from brainmap.rsa.glm.confounds import Strategy
from brainmap.rsa.glm.design import GlmSettings
from brainmap.rsa.glm.design_rdms import build_design_rdms, convert_to_geometry
from brainmap.rsa.glm.estimators import RunFit, Singles, fit_run
from brainmap.rsa.glm.events import EventSource
from brainmap.rsa.glm.plan import Plan, RunConfounds, RunSettings, describe_noise, plan_betas
from brainmap.rsa.glm.scaling import scale_factors
from brainmap.rsa.images.files import check_same_grid, list_images, load_image
from brainmap.rsa.regions.rois import Image, load_mask
from brainmap.types import Floats, GlmModel, Hrf, Level, Missing, NoiseModel, Others, RDMs, Scale

log = logging.getLogger("brainmap")


@dataclass(frozen=True, eq=False)
class Betas:
    """Hold the betas of one participant.

    Attributes
    ----------
    image : Nifti1Image, (x, y, z, n_betas) of float32
        Values are 0 outside the mask, and NaN where a voxel is constant or not finite in the run.
    labels, conditions, runs : tuple of str
        One entry per volume of `image`; `load_patterns` takes them as `conditions` and `runs`. A trial whose name
        occurs more than once in its run is `name#0`, `name#1`, ... in order of onset.
    variance : Nifti1Image, (x, y, z, n_betas) of float32
        Sampling variance of each beta; beta / sqrt(variance) is a t value.
    residuals : tuple of ndarray (n_volumes, n_mask_voxels) of float32, or None
        One array per run, with voxels in C order as `noise_precision(source=...)` takes them. They are whitened unless
        the fit is ordinary least squares, so that volumes are (nearly) independent. Voxels without betas are NaN.
    dof : tuple of int
        Degrees of freedom of each run's residuals.
    mask : Nifti1Image, (x, y, z)
    design : tuple of DataFrame (n_volumes, n_regressors)
        One table per run; the index holds frame times [s].
    diagnostics : DataFrame
        One row per beta: `run`, `label`, `drift_share` (share of the regressor's variance that drift terms explain),
        `inflation` (variance inflation factor), `onset` [s].
    covariances : tuple of ndarray (n_betas_of_run, n_betas_of_run)
        Covariance of each run's betas under noise alone, in units of the noise variance. It uses the weights of the
        estimator that was applied and the estimated noise, and is averaged over voxels.
    noise : tuple of (float, float)
        Parameters a and b of the noise of each run, pooled over voxels, with the names of 3dREMLfit: volumes k apart
        correlate `lam * a ** (k - 1)`, where `lam = (b + a) (1 + a b) / (1 + 2 a b + b^2)`. AR(1) noise has b = 0. The
        noise counts as white where too few consecutive volumes exist to estimate it. After ordinary least squares,
        these are the parameters of the noise that was estimated but not whitened.
    autocorrelation : tuple of float
        The lag-1 autocorrelation lam of that noise, one value per run.
    scale : {"signal", "percent", "noise"}
    settings : GlmSettings
    notes : tuple of str
        Settings that were chosen automatically: high-pass cutoff, timing, noise model.
    """

    image: nib.Nifti1Image
    labels: tuple[str, ...]
    conditions: tuple[str, ...]
    runs: tuple[str, ...]
    variance: nib.Nifti1Image
    residuals: tuple[Singles, ...] | None
    dof: tuple[int, ...]
    mask: nib.Nifti1Image
    design: tuple[pd.DataFrame, ...]
    diagnostics: pd.DataFrame
    covariances: tuple[Floats, ...]
    noise: tuple[tuple[float, float], ...]
    autocorrelation: tuple[float, ...]
    scale: Scale
    settings: GlmSettings
    notes: tuple[str, ...]

    def design_rdms(self, *, items: Level = "stimulus", dissimilarity: str = "euclidean") -> RDMs:
        """Return the two RDMs that the design alone produces: `noise-only` and `elapsed-time`.

        See `brainmap.rsa.design_rdms`.
        """
        return design_rdms(self, items=items, dissimilarity=dissimilarity)


def fit_betas(
    bold: Image | Sequence[Image],
    events: EventSource,
    *,
    confounds: RunConfounds | None = None,
    strategy: Strategy | None = None,
    t_r: float | None = None,
    mask: Image | None = None,
    model: GlmModel = "condition",
    hrf: Hrf = "glover",
    noise: NoiseModel = "auto",
    afni_grid: int | None = None,
    high_pass: float | Literal["design"] | None = "design",
    polort: int | Literal["A"] | None = None,
    others: Others = "all",
    column: str = "trial_type",
    duration: float | Mapping[str, float] | None = None,
    leave_out: Sequence[str] = (),
    nuisance: Sequence[str] = (),
    slice_time_ref: float | None = None,
    frame_times: ArrayLike | Sequence[ArrayLike] | None = None,
    scale: Scale = "signal",
    missing: Missing = "error",
    run_names: Sequence[str] | None = None,
    keep_residuals: bool = True,
) -> Betas:
    """Fit a general linear model to the BOLD time series of one participant, run by run.

    Parameters
    ----------
    bold : path, Nifti1Image, or list of these
        Preprocessed time series (x, y, z, t), one per run, named as in `load_image`. If a selector leaves out the
        first volumes (`x+orig[4..$]`), onsets count from the first remaining volume.
    events : path, DataFrame, list of these, or mapping of condition to stim_times file
        See `read_events`. Onset 0 is the start of the first volume of the run.
    confounds : path, DataFrame, array (n_volumes, n_regressors), or a list with an entry (or a list) a run
        See `read_confounds`. One AFNI `.1D` file that is as long as all runs together is split into runs.
    strategy : str or sequence of str, optional
        Columns of fMRIPrep's table to use, such as `"motion6+csf-wm"`.
    t_r : float [s], optional
        Repetition time. By default it comes from the sidecar JSON and the header, which must agree.
    mask : path or Nifti1Image, optional
        Voxels to fit. By default these are all voxels that are finite and vary in all runs.
    model : {"condition", "lsa", "lss"}
        "condition" estimates one beta for each name in `column` and run. "lsa" (least squares, all) estimates one beta
        per trial from one model with a regressor per trial. "lss" (least squares, separate; Mumford et al. 2012) fits
        a separate model for each trial, with one more regressor for all other trials; it suits trials whose responses
        overlap.
    hrf : {"glover", "spm"}, each also with " + derivative" or " + derivative + dispersion"
        Betas are those of the HRF itself; derivatives are orthogonalized with respect to it, as in nilearn.
    noise : {"auto", "ar1", "arma11", "ols"}
        "ar1" and "arma11" use generalized least squares for AR(1) or ARMA(1,1) noise (the model of 3dREMLfit); "ols"
        uses ordinary least squares. "auto" stands for ARMA(1,1) for single trials and AR(1) for conditions. Parameters
        are estimated by restricted maximum likelihood (REML), pooled over the voxels of a run, so that regressors do
        not bias them; each voxel keeps as much of its own lag-1 autocorrelation as exceeds chance. a ranges from 0
        (AR(1): -.95) to .95, b from -.95 to .95. Noise is never modelled as correlated across gaps between volumes,
        and not at all where too few volumes follow one another. "lss" uses the noise of the model with a regressor per
        trial.
    afni_grid : int from 3 to 7, optional
        The option -Grid of 3dREMLfit: each voxel takes its own most likely a and b on AFNI's grid (a to .8, b from
        -.8, in 2 ** afni_grid steps; correlations of at least .001). In short runs these voxelwise values are mostly
        chance.
    high_pass : float [s], "design" or None
        Longest period that the cosine drift model removes, counted as in nilearn. "design" uses 128 s, or a period
        just long enough for half of the regressors to keep 90 % of their variance and all of them to keep 75 %; each
        run has at least one cosine. The choice is logged and stored in `notes`. None adds no drift terms.
    polort : int or "A", optional
        Degree of Legendre polynomials that replace the cosines, as in AFNI; "A" means degree 1 + int(run length / 150
        s).
    others : {"all", "condition"}
        For "lss": model all other trials with one regressor, or with one regressor for each condition.
    column : str
        The column of `events` that names betas: `trial_type`, `stimulus_id`, `stim_file`, ...
    duration : float or mapping of condition to float [s], optional
        Duration of events that have none: in stim_times files, and where the `duration` of a table is n/a (counted in
        `notes`).
    leave_out, nuisance : sequence of str
        `leave_out` lists names that are not modelled (`rest`); `nuisance` lists names that are modelled but get no
        betas (`button`). Each must occur in at least one run. A row without a value in `column` may be named by its
        `trial_type`.
    slice_time_ref : float from 0 to 1 [TR], optional
        Reference moment within the TR. By default it is StartTime of the sidecar (fMRIPrep), else 0 (nilearn).
    frame_times : array_like (n_volumes,) [s], or a list of these (one a run), optional
        Time of each volume, for sparse sampling. By default it is VolumeTiming of the sidecar, or even steps of TR.
    scale : {"signal", "percent", "noise"}
        Units of a beta. "signal": units of the image. "percent": percent of the voxel's mean over the run. "noise":
        standard deviations of the residuals, pooled over runs (univariate noise normalization). All refer to a
        regressor that reaches 1 under endless stimulation, so the beta of a short event is the response that a long
        stimulus would reach, not the peak of the response to the event.
    missing : {"error", "nan"}
        What to do if a condition is absent from a run: refuse, or continue without it (`load_patterns` then keeps the
        gap).
    run_names : sequence of str, optional
        Names of the runs. By default they are "1", "2", ...
    keep_residuals : bool

    Returns
    -------
    Betas

    Raises
    ------
    InputError
        If runs, events, confounds and masks do not fit each other; if the TR is missing or contradictory; if the
        design cannot be estimated; if a condition is absent from a run; or if data without a baseline are scaled to
        "percent".

    Warns
    -----
    BrainmapWarning
        If something allowed changes the numbers: voxels without betas (counted), drift terms that take more than 10 %
        of a regressor's variance, overlapping events, or confounds set to 0 in the first volume.

    References
    ----------
    Mumford et al. (2012), https://doi.org/10.1016/j.neuroimage.2011.08.076
    Worsley et al. (2002), https://doi.org/10.1006/nimg.2001.0933

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> bold = nib.Nifti1Image(rng.normal(100, 1, (2, 2, 2, 60)).astype("f4"), np.eye(4))
    >>> table = pd.DataFrame({"onset": [10, 40, 70, 100], "duration": 2, "trial_type": ["a", "b", "a", "b"]})
    >>> betas = fit_betas(bold, table, t_r=2.0)
    >>> betas.image.shape, betas.labels, betas.runs
    ((2, 2, 2, 2), ('a', 'b'), ('1', '1'))
    """
    settings = GlmSettings(
        model=model,
        hrf=hrf,
        noise=noise,
        afni_grid=afni_grid,
        high_pass=high_pass,
        polort=polort,
        others=others,
        nuisance=tuple(nuisance),
    )
    known = RunSettings(
        confounds=confounds,
        strategy=strategy,
        t_r=t_r,
        column=column,
        duration=duration,
        leave_out=leave_out,
        slice_time_ref=slice_time_ref,
        frame_times=frame_times,
        missing=missing,
        run_names=run_names,
    )
    return fit_runs(bold, events, settings=settings, runs=known, mask=mask, scale=scale, keep_residuals=keep_residuals)


def fit_runs(
    bold: Image | Sequence[Image],
    events: EventSource,
    *,
    settings: GlmSettings,
    runs: RunSettings,
    mask: Image | Sequence[Image] | None = None,
    scale: Scale = "signal",
    keep_residuals: bool = True,
) -> Betas:
    """Fit the models of `fit_betas` with settings that its plan shares.

    Raises
    ------
    InputError
        As in `fit_betas`.
    """
    check_choice(scale, get_args(Scale), "scale")
    images = list_images(bold, "BOLD")
    plan = plan_betas(images, events, settings=settings, runs=runs)
    for note in plan.notes:
        log.info("%s", note)
    inside_image = _find_common_mask(images) if mask is None else load_mask(mask)
    fits, baselines = _fit_runs(images, inside_image, plan, settings)
    return _gather_betas(fits, baselines, inside_image, plan, settings, scale=scale, keep_residuals=keep_residuals)


def _find_common_mask(images: Sequence[Image]) -> nib.Nifti1Image:
    """Return the voxels that are finite and vary in all runs."""
    inside = None
    for image in images:
        loaded = load_image(image)
        values = np.asarray(loaded.dataobj)
        with np.errstate(invalid="ignore"):
            varies = np.isfinite(values).all(axis=3) & (np.ptp(values, axis=3) > 0)
        inside = varies if inside is None else inside & varies
    assert inside is not None  # the list holds at least one image
    if not inside.any():
        raise InputError("BOLD: no voxel is finite and varies in all runs")
    return nib.Nifti1Image(inside.astype(np.float32), loaded.affine, loaded.header)


def _fit_runs(
    images: Sequence[Image], mask: nib.Nifti1Image, plan: Plan, settings: GlmSettings
) -> tuple[list[tuple[RunFit, NDArray[np.bool_]]], list[Floats]]:
    """Fit every run with its usable voxels, and compute the mean of every voxel of the mask."""
    inside = np.asarray(mask.dataobj) > 0
    fits, baselines = [], []
    with progress("betas", int(inside.sum()) * len(images)) as bar:
        for image, design, name in zip(images, plan.designs, plan.run_names, strict=True):
            loaded = load_image(image)
            check_same_grid(loaded, mask, what=f"BOLD of run {name}", wanted="mask")
            data = np.asarray(loaded.dataobj)[inside]
            del loaded
            with np.errstate(invalid="ignore"):
                there = np.isfinite(data).all(axis=1) & (np.ptp(data, axis=1) > 0)
                baselines.append(data.mean(axis=1, dtype=np.float64))
            if not there.any():
                raise InputError(f"BOLD of run {name}: every voxel of the mask is constant or not finite")
            if not there.all():
                warnings.warn(
                    f"run {name}: {int((~there).sum())} of {there.size} voxels are constant or not finite in time and "
                    "have no betas (NaN)",
                    BrainmapWarning,
                    stacklevel=5,
                )
            for step in fit_run(data if there.all() else data[there], design, settings):
                if isinstance(step, RunFit):
                    fits.append((step, there))
                else:
                    bar.advance(step, f"run {name}")
            bar.advance(int((~there).sum()))
    return fits, baselines


def _gather_betas(
    fits: Sequence[tuple[RunFit, NDArray[np.bool_]]],
    baselines: Sequence[Floats],
    mask: nib.Nifti1Image,
    plan: Plan,
    settings: GlmSettings,
    *,
    scale: Scale,
    keep_residuals: bool,
) -> Betas:
    factors = scale_factors(fits, baselines, scale)
    betas, variances, residuals = [], [], []
    for (fit, there), factor in zip(fits, factors, strict=True):
        betas.append(_place_in_mask(fit.betas, there) * factor)
        variances.append(_place_in_mask(fit.variances, there) * factor**2)
        if keep_residuals:
            residuals.append(_place_in_mask(fit.residuals, there) * factor)
    noises = [fit.noise.pooled for fit, _ in fits]
    said = [describe_noise([fit.noise for fit, _ in fits], settings)]
    if scale == "noise":
        freedom = sum(fit.dof for fit, _ in fits)
        said.append(
            "scale: betas in standard deviations of each voxel's residuals, pooled over runs "
            f"{list_some(plan.run_names)} ({freedom:g} degrees of freedom); betas of runs that are fit apart have "
            "other units"
        )
    for note in said:
        log.info("%s", note)
    runs = zip(plan.run_names, plan.designs, strict=True)
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "run": name,
                    "label": d.labels,
                    "drift_share": d.shares(),
                    "inflation": d.inflation(),
                    "onset": d.onsets,
                }
            )
            for name, d in runs
        ],
        ignore_index=True,
    )
    return Betas(
        image=build_mask_image(np.concatenate(betas), mask),
        labels=tuple(table["label"]),
        conditions=tuple(c for d in plan.designs for c in d.conditions),
        runs=tuple(table["run"]),
        variance=build_mask_image(np.concatenate(variances), mask),
        residuals=tuple(residuals) if keep_residuals else None,
        dof=tuple(fit.dof for fit, _ in fits),
        mask=mask,
        design=tuple(d.matrix for d in plan.designs),
        diagnostics=table,
        covariances=tuple(fit.covariance for fit, _ in fits),
        noise=tuple((noise.a, noise.b) for noise in noises),
        autocorrelation=tuple(noise.lag1 for noise in noises),
        scale=scale,
        settings=settings,
        notes=(*plan.notes, *said),
    )


def _place_in_mask(values: Singles, there: NDArray[np.bool_]) -> Singles:
    """Place the values of some voxels in the whole mask, with NaN elsewhere."""
    if there.all():
        return values
    full = np.full((len(values), there.size), np.nan, np.float32)
    full[:, there] = values
    return full


def build_mask_image(values: Singles, mask: nib.Nifti1Image) -> nib.Nifti1Image:
    """Build an image of rows `(n, n_mask_voxels)` on the grid of the mask, 0 outside, `(x, y, z, n)`."""
    inside = np.asarray(mask.dataobj) > 0
    grid = np.zeros((*inside.shape, len(values)), np.float32)
    grid[inside] = values.T
    image = nib.Nifti1Image(grid, mask.affine)
    image.header.set_sform(mask.affine, int(mask.header["sform_code"]))  # the sform code names the space
    return image


def design_rdms(betas: Betas, *, items: Level = "stimulus", dissimilarity: str = "euclidean") -> RDMs:
    """Compute two RDMs from the design alone: `noise-only` and `elapsed-time`.

    Betas of events that are close in time share noise and regressors, so without any signal their patterns differ less
    (or more) than those of other events. If a model RDM resembles one of these RDMs, temporal order may explain it as
    well as the brain does. Between-run products (crossnobis) are free of this bias if the order of events differs
    between runs.

    Parameters
    ----------
    betas : Betas
    items : {"stimulus", "condition"}
        Items of the RDMs: labels of the betas, or their conditions (trials averaged within runs).
    dissimilarity : str
        Dissimilarity of the brain RDMs that `noise-only` is compared with: see `convert_to_geometry`.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        RDMs with the descriptor `name`. `noise-only` holds the dissimilarity expected between patterns of noise
        averaged over runs, computed from the covariance of the estimates: a squared distance per voxel in units of the
        noise variance, or one minus a correlation. `elapsed-time` holds the time between items [s], averaged over the
        runs that have both items; it is NaN where no run has both. The pattern descriptor `noise_variance` holds the
        noise variance of each item's average pattern.

    Raises
    ------
    InputError
        If there are fewer than 3 items.

    References
    ----------
    Cai et al. (2019), https://doi.org/10.1371/journal.pcbi.1006299
    Alink et al. (2015), https://doi.org/10.1101/032391
    """
    onsets = betas.diagnostics["onset"].to_numpy(float)
    found = build_design_rdms(betas.labels, betas.conditions, betas.runs, onsets, betas.covariances, items=items)
    return convert_to_geometry(found, dissimilarity)
