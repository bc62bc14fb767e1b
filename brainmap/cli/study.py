"""Define the commands for whole studies: demo, init, check, run, merge, report."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap import types
from brainmap.cli import app
from brainmap.cli.options import Device, Jobs, Seed
from brainmap.errors import InputError

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Compute everything again.")]


def _open_context(
    study: Path, device: types.Device = "auto", jobs: int | None = None, overwrite: bool = False, **others: Any
) -> Any:
    """Read the study file before anything that takes seconds is imported, and return the context of a call."""
    from brainmap.study.settings.study import load_study

    read = load_study(study)
    from brainmap.features.layers.devices import choose_device
    from brainmap.study.results.context import Context

    wanted = device if device == "auto" else choose_device(device)  # auto waits until something is computed
    return Context(read, device_wanted=wanted, threads=jobs, overwrite=overwrite, **others)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="A new folder for the study and its results.")] = Path("brainmap-demo"),
    seed: Seed = 0,
    participants: Annotated[
        int | None,
        typer.Option(
            min=4, help="Number of participants to simulate; default: 8, or 6 with --quick.", show_default=False
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take a minute: 6 participants, and sounds for 4 classes in 50 steps.")
    ] = False,
    jobs: Jobs = None,
) -> None:
    """Simulate a study with a known answer, run it, and make its page."""

    from brainmap.study.parallel.beside import start_spare

    start = time.monotonic()
    with start_spare() if jobs is None and not quick else nullcontext() as spare:  # while this process imports
        from brainmap.study.demo import DemoSettings, write_demo
        from brainmap.study.run import run_study

        settings = DemoSettings.quick(seed) if quick else DemoSettings(seed=seed)
        if participants is not None:
            settings = replace(settings, participants=participants)
        study = write_demo(out, settings)
        context = _open_context(study, "cpu", jobs)
        page = run_study(context, announce=lambda: _print_recovery(study, start), spare=spare)
    typer.echo(f"\nSimulated data, {time.monotonic() - start:.0f} s. The study file: {study}\nThe page: {page}")


def _print_recovery(study: Path, start: float) -> None:
    """Print planted and recovered layers with the noise ceilings as a table, and the seconds since the start."""
    from brainmap.study.settings.study import load_study
    from brainmap.tables import read_results_table

    table = read_results_table(load_study(study).out / "group" / "recovery.tsv")
    typer.echo(f"\n{'region':<16} {'planted':<8} {'recovered':<9} {'score':>6}  noise ceiling   p corrected")
    for row in table.itertuples():
        planted, found = (name if isinstance(name, str) else "-" for name in (row.planted, row.recovered))
        typer.echo(
            f"{row.region:<16} {planted:<8} {found:<9} {row.score:>6.3f}  "
            f"{row.ceiling_lower:.3f} - {row.ceiling_upper:.3f}   {row.p_corrected:.4f}"
        )
    typer.echo(f"after {time.monotonic() - start:.0f} s; what layers respond to and the page follow\n")


@app.command()
def init(
    study: StudyFile = Path("study.toml"),
    preset: Annotated[
        types.StudyPreset | None,
        typer.Option(help="Write the file of a common design; default: every key with its meaning."),
    ] = None,
) -> None:
    """Write a study file with comments, which you fill in."""
    from brainmap.record import atomic
    from brainmap.study.settings.presets import PRESETS
    from brainmap.study.settings.template import TEMPLATE

    if study.exists():
        raise InputError(f"init: expected a new file, got {study}, which exists; name another file")
    with atomic(study) as beside:
        beside.write_text(TEMPLATE if preset is None else PRESETS[preset], encoding="utf-8")
    typer.echo(f"Wrote {study}. Fill it in, then: brainmap check {study}")


@app.command()
def check(
    study: StudyFile,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Also read all results, and name those that changed since brainmap wrote them."),
    ] = False,
) -> None:
    """Check every input of a study before anything is computed."""
    context = _open_context(study, "cpu")
    from brainmap.study.check import check_study
    from brainmap.study.results.context import verify_results

    if verify:
        typer.echo(f"All {verify_results(context)} results are as brainmap wrote them.")
    findings = check_study(context)
    if len(findings.table):
        typer.echo(findings.table.to_string(index=False))
    for note in findings.notes:
        typer.echo(f"note: {note}")
    findings.refuse()
    if findings.measure is not None:
        from brainmap.study.stages.costs import describe_here

        typer.echo(f"estimate: {describe_here(findings.measure())}")
    typer.echo(f"Nothing is wrong. Run it: brainmap run {study}")


@app.command()
def run(
    study: StudyFile,
    participant: Annotated[
        list[str] | None,
        typer.Option(
            "--participant", "--participant-label", help="Run only this participant; repeat the option for several."
        ),
    ] = None,
    jobs: Jobs = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    backend: Annotated[
        types.Backend, typer.Option(help="Compute the searchlight in threads of this process, or on Dask workers.")
    ] = "threads",
    dask_scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Address of the scheduler of --backend dask; default: start --jobs workers here.",
        ),
    ] = None,
    chunk: Annotated[
        str | None,
        typer.Option(
            metavar="i/N",
            help="Compute only the i-th of N shares, for job arrays; afterwards run: brainmap merge STUDY.",
        ),
    ] = None,
) -> None:
    """Run a study and make its page; brainmap computes only what has changed."""
    if dask_scheduler is not None and backend != "dask":
        raise InputError("--dask-scheduler: expected --backend dask beside it, got threads; add --backend dask")
    if chunk is not None and participant:
        raise InputError("--chunk divides all participants into shares; leave --participant out")
    context = _open_context(study, device, jobs, overwrite, backend=backend, scheduler=dask_scheduler)
    from brainmap.study.run import run_chunk, run_study

    if chunk is not None:
        run_chunk(context, chunk)
        return
    labels = [label.removeprefix("sub-") for label in participant or []]
    page = run_study(context, participants=labels)
    if page is not None:
        typer.echo(f"The page: {page}")


@app.command()
def merge(study: StudyFile, jobs: Jobs = None, device: Device = "auto") -> None:
    """Merge the shares of `run --chunk`, and go on to the group and the page."""
    context = _open_context(study, device, jobs)
    from brainmap.study.run import merge_study

    typer.echo(f"The page: {merge_study(context)}")


@app.command()
def report(
    study: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the results, or the study file.")],
    svg: Annotated[
        bool, typer.Option("--svg", help="Write maps and other figures of pixels in figures/ as SVG, too.")
    ] = False,
) -> None:
    """Make the page of a study again."""
    from brainmap.study.settings.study import study_of

    context = _open_context(study_of(study) if study.is_dir() else study, "cpu")
    from brainmap.study.run import make_report

    typer.echo(f"The page: {make_report(context, svg=svg)}")
