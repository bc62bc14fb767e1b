"""Define the command that fits a GLM to BOLD time series: rsa betas."""

from __future__ import annotations

import glob
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap import rsa, types, viz
from brainmap.cli.options import (
    FORMATS,
    Json,
    Missing,
    Overwrite,
    build_provenance,
    check_free,
    refuse_existing,
    save_figure,
    split_names,
)
from brainmap.cli.rsa.options import commands, count_noun
from brainmap.errors import InputError

_HELP = {
    "events": "events.tsv, one per run or one with a column run; or AFNI's stim_times, cat=cat.1D. Repeatable.",
    "confounds": "fMRIPrep's confounds .tsv or AFNI's .1D, one per run; a.1D+b.1D joins columns. Repeatable.",
    "strategy": "Confounds of fMRIPrep to use, joined by +: motion6, motion24, csf-wm, acompcor, scrub, ...",
    "grid": "3dREMLfit's -Grid, 3 to 7: a and b are fit to each voxel on AFNI's grid (with --noise-model arma11).",
    "high": "Cutoff period of the high-pass filter in s; design: the shortest that spares the conditions; none.",
    "times": "File with the time of each volume in seconds, for sparse sampling.",
}


@commands.command()
def betas(
    bold: Annotated[list[str], typer.Argument(help="Preprocessed time series, NIfTI or AFNI, one per run.")],
    events: Annotated[list[str], typer.Option("--events", help=_HELP["events"])],
    out: Annotated[str, typer.Option("--out", help="Prefix of the files to write, such as out/sub-01_task-words.")],
    confounds: Annotated[list[str] | None, typer.Option("--confounds", help=_HELP["confounds"])] = None,
    strategy: Annotated[str | None, typer.Option(help=_HELP["strategy"])] = None,
    mask: Annotated[str | None, typer.Option(help="Image of the voxels to fit; default: all voxels that vary.")] = None,
    t_r: Annotated[
        float | None, typer.Option("--tr", help="Repetition time in seconds; default: from header and sidecar.")
    ] = None,
    model: Annotated[
        types.GlmModel,
        typer.Option(
            help="One beta per condition, or per trial: lsa (one model of all trials), lss (one model per trial)."
        ),
    ] = "condition",
    hrf: Annotated[
        types.Hrf, typer.Option(help="Hemodynamic response function, with or without derivatives.")
    ] = "glover",
    noise_model: Annotated[
        types.NoiseModel,
        typer.Option(help="Noise model; auto: arma11 (as 3dREMLfit) for single trials, ar1 for conditions."),
    ] = "auto",
    afni_grid: Annotated[int | None, typer.Option("--afni-grid", help=_HELP["grid"])] = None,
    high_pass: Annotated[str, typer.Option(help=_HELP["high"])] = "design",
    polort: Annotated[
        str | None, typer.Option(help="Polynomial drifts instead: a degree, or A for AFNI's choice.")
    ] = None,
    others: Annotated[
        types.Others, typer.Option(help="With lss: one regressor for all other trials, or one per condition.")
    ] = "all",
    column: Annotated[str, typer.Option(help="Column of the events table that names the betas.")] = "trial_type",
    duration: Annotated[
        float | None, typer.Option(help="Duration in seconds of events that have none: n/a in a table, or stim_times.")
    ] = None,
    leave_out: Annotated[str | None, typer.Option(help="Events that are not modelled, such as rest.")] = None,
    nuisance: Annotated[
        str | None, typer.Option(help="Events that are modelled without betas, such as button.")
    ] = None,
    slice_time_ref: Annotated[
        float | None, typer.Option(help="Slice-time reference, 0 to 1 TR; default: StartTime, else 0.")
    ] = None,
    frame_times: Annotated[list[Path] | None, typer.Option("--frame-times", help=_HELP["times"])] = None,
    scale: Annotated[
        types.Scale,
        typer.Option(
            help="Units of betas: signal, percent (of the voxel's mean), noise (SD of its residuals over all runs)."
        ),
    ] = "signal",
    missing: Missing = "error",
    image_format: Annotated[
        types.ImageFormat, typer.Option("--format", help="Format of the images; afni: BRIK and HEAD.")
    ] = "nifti",
    residuals: Annotated[bool, typer.Option("--residuals", help="Also write the residuals.")] = False,
    variance: Annotated[bool, typer.Option("--variance", help="Also write the variance of each beta.")] = False,
    items: Annotated[types.Level, typer.Option(help="Items of the RDMs of the design.")] = "stimulus",
    figure: Annotated[
        Path | None, typer.Option(callback=check_free(*FORMATS), help="Picture of the first run's design and its RDMs.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="Space: ORIG, MNI, TLRC, ...; default: that of the mask.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Estimate betas from BOLD time series and events, one image per run for `brainmap rsa rdm --betas`."""
    from brainmap.rsa.glm.confounds import read_one_d

    Path(out).parent.mkdir(parents=True, exist_ok=True)
    refuse_existing(Path(out), True)
    taken = sorted(Path(out).parent.glob(f"{glob.escape(Path(out).name)}_*desc-{model}_*"))
    if taken and not overwrite:  # report this before the long computation
        raise InputError(
            f"--out: expected new files, got {taken[0]}, which exists; give --overwrite or choose another prefix"
        )
    fit = rsa.fit_betas(
        bold,
        parse_events(events),
        confounds=[text.split("+") for text in confounds] if confounds else None,
        strategy=strategy,
        t_r=t_r,
        mask=mask,
        model=model,
        hrf=hrf,
        noise=noise_model,
        afni_grid=afni_grid,
        high_pass=_parse_cutoff(high_pass),
        polort=_parse_degree(polort),
        others=others,
        column=column,
        duration=duration,
        leave_out=split_names(leave_out) if leave_out else (),
        nuisance=split_names(nuisance) if nuisance else (),
        slice_time_ref=slice_time_ref,
        frame_times=[read_one_d(file).to_numpy().ravel() for file in frame_times] if frame_times else None,
        scale=scale,
        missing=missing,
        keep_residuals=residuals,
    )
    extra = [f for f in (*events, *(confounds or [])) for f in f.split("=")[-1].split("+") if Path(f).is_file()]
    inputs: list[str | Path] = [*bold, *extra, *([mask] if mask else []), *(frame_times or [])]
    about = build_provenance({"model": model, "hrf": hrf, "noise": fit.settings.noise, "strategy": strategy}, inputs)
    written = rsa.save_betas(
        fit,
        out,
        format=image_format,
        residuals=residuals,
        variance=variance,
        space=space,
        about=about,
        items=items,
        overwrite=overwrite,
    )
    written += _write_description(Path(out), about)
    if figure is not None:
        save_figure(viz.plot_design(fit), figure)
        written.append(figure)
    _report_betas(fit, written, as_json)


def _write_description(prefix: Path, about: Mapping[str, Any]) -> list[Path]:
    """Write the `dataset_description.json` of a folder of BIDS derivatives, unless there is one."""
    from brainmap.record import write_json
    from brainmap.study.description import BIDS_VERSION

    inside = [k for k, folder in enumerate(prefix.resolve().parents) if folder.name.startswith("sub-")]
    root = prefix.resolve().parents[inside[-1] + 1] if inside else prefix.resolve().parent
    file = root / "dataset_description.json"
    if file.exists():
        return []
    content = {"Name": "Betas of a GLM", "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative"}
    return [write_json(file, {**content, "GeneratedBy": [about["GeneratedBy"]]})]


def parse_events(given: Sequence[str]) -> Any:
    """Return paths of events tables, or the stim_times file of each name.

    Examples
    --------
    >>> parse_events(["cat=cat.1D", "dog=dog.1D"])
    {'cat': 'cat.1D', 'dog': 'dog.1D'}
    """
    pairs = [text.split("=", 1) for text in given]
    if all(len(pair) == 2 for pair in pairs):
        twice = [pair[0] for pair in pairs if [p[0] for p in pairs].count(pair[0]) > 1]
        if twice:
            raise InputError(f"--events: expected each name once, got {twice[0]!r} more than once; rename one")
        return dict(pairs)
    if any(len(pair) == 2 for pair in pairs):
        raise InputError("--events: expected tables or name=file, got both; give one kind")
    return list(given) if len(given) > 1 else given[0]


def _parse_cutoff(text: str) -> Any:
    if text in ("design", "none"):
        return None if text == "none" else text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--high-pass: expected seconds, 'design' or 'none', got {text!r}") from None


def _parse_degree(text: str | None) -> Any:
    if text is None or text == "A":
        return text
    if not text.isdigit():
        raise InputError(f"--polort: expected a degree, or A, got {text!r}")
    return int(text)


def _report_betas(fit: rsa.Betas, written: Sequence[Path], as_json: bool) -> None:

    if as_json:
        found = {
            "betas": len(fit.labels),
            "labels": fit.labels,
            "runs": fit.runs,
            "notes": fit.notes,
            "dof": fit.dof,
            "noise": fit.settings.noise,
            "parameters": fit.noise,
            "autocorrelation": fit.autocorrelation,
            "mask": str(_find_mask(written)),
            "files": [str(p) for p in written],
        }
        typer.echo(json.dumps(found, indent=2))
        return
    n = len(set(fit.runs))
    typer.echo(
        f"{count_noun(len(fit.labels), 'beta')} in {count_noun(n, 'run')}, {fit.settings.model}, {fit.scale} units"
    )
    for path in written:
        if path.suffix != ".json":
            typer.echo(f"Wrote {path}")
    typer.echo(f"For commands that read these betas, give --mask {shlex.quote(str(_find_mask(written)))}")


def _find_mask(written: Sequence[Path]) -> Path:
    """Return the image of the voxels that have betas."""
    return next(path for path in written if path.name.endswith(("_mask.nii.gz", "_mask+orig.HEAD", "_mask+tlrc.HEAD")))
