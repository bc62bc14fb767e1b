"""The command for planning a study: rsa power."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brainmap.cli.options import Measure, SearchlightDissimilarity, Seed, Test, names
from brainmap.cli.outputs import Leave, leaving
from brainmap.cli.rsa.options import commands, count_noun
from brainmap.errors import InputError

if TYPE_CHECKING:
    from brainmap.rsa.simulation.power import PowerAnalysis

SHOWN = ["comparison", "participants", "runs", "conditions", "power", "low", "high", "wrong", "d", "ceiling_lower"]


@commands.command()
@leaving
def power(
    leave: Leave,
    models: Annotated[Path, typer.Argument(help="RDMs of layers (.h5), of `brainmap rsa rdm`.")],
    a: Annotated[str, typer.Option("--a", help="The layer whose geometry the simulated region has.")],
    b: Annotated[str | None, typer.Option("--b", help="The layer it is told apart from; else against 0 only.")] = None,
    ceiling: Annotated[float, typer.Option(help="Lower noise ceiling of the pilot; 0: no signal.")] = 0.3,
    pilot: Annotated[
        str | None,
        typer.Option(help="Participants,runs,conditions that had it, as in 12,4,64; default: the first of each."),
    ] = None,
    participants: Annotated[str, typer.Option(help="To try, as in 8,12,20,30.")] = "8,12,20,30",
    runs: Annotated[str, typer.Option(help="To try; in a run each condition comes once.")] = "4",
    conditions: Annotated[str | None, typer.Option(help="To try, drawn from the models'; default: all.")] = None,
    simulations: Annotated[int, typer.Option(min=1, help="Studies a design.")] = 500,
    measure: Measure = "rho-a",
    test: Test = "signed-rank",
    alpha: Annotated[float, typer.Option(help="Of one test; smaller where many will be corrected for.")] = 0.05,
    dissimilarity: SearchlightDissimilarity = "crossnobis",
    voxels: Annotated[int, typer.Option(min=2, help="Of the region.")] = 100,
    specific: Annotated[float, typer.Option(help="Share of the geometry that is each participant's own.")] = 0.3,
    explained: Annotated[float, typer.Option(help="Share of what participants have in common that is --a's.")] = 1.0,
    variation: Annotated[float, typer.Option(help="SD over participants of the log signal.")] = 0.5,
    seed: Seed = 0,
) -> None:
    """Participants, runs and conditions needed to tell two layers apart: power by simulation."""
    import numpy as np

    from brainmap.rsa.rdm.files import load_rdms
    from brainmap.rsa.simulation.power import POWER_COLUMNS, power_analysis
    from brainmap.viz.rsa.power import plot_power

    at = None if pilot is None else _parse_numbers(pilot, "--pilot")
    if at is not None and len(at) != 3:
        raise InputError(f"--pilot: found {pilot!r}, wanted participants, runs and conditions, as in 12,4,64")
    found = power_analysis(
        load_rdms(models),
        a=a,
        b=b,
        ceiling=ceiling,
        participants=_parse_numbers(participants, "--participants"),
        runs=_parse_numbers(runs, "--runs"),
        conditions=None if conditions is None else _parse_numbers(conditions, "--conditions"),
        pilot=None if at is None else (at[0], at[1], at[2]),
        simulations=simulations,
        measure=measure,
        test=test,
        alpha=alpha,
        dissimilarity=dissimilarity,
        n_voxels=voxels,
        specific=specific,
        explained=explained,
        variation=variation,
        rng=np.random.default_rng(seed),
    )
    settings = {
        "planted": a,
        "rival": b or "none",
        "ceiling": ceiling,
        "pilot": list(found.pilot),
        "signal": found.signal,
        "lost": found.lost,
        "measure": found.measure,
        "test": test,
        "alpha": alpha,
        "dissimilarity": dissimilarity,
        "voxels": voxels,
        "specific": specific,
        "explained": explained,
        "variation": variation,
        "simulations": simulations,
    }
    smallest = {name: found.smallest(name) for name in found.comparisons}
    leave(
        found.table,
        POWER_COLUMNS,
        lambda: plot_power(found),
        inputs=[models],
        parameters=settings,
        seed=seed,
        shown=found.table[SHOWN],
        rows=found.table,
        read={**settings, "smallest": smallest},
        words="\n".join(_describe_smallest(found, name) for name in found.comparisons),
    )


def _parse_numbers(text: str, option: str) -> list[int]:
    """Whole numbers parted by commas.

    Examples
    --------
    >>> _parse_numbers("8,12", "--runs")
    [8, 12]
    """
    try:
        return [int(part) for part in names(text)]
    except ValueError:
        raise InputError(f"{option}: found {text!r}, wanted whole numbers parted by commas, as in 8,12,20") from None


def _describe_smallest(found: PowerAnalysis, comparison: str) -> str:
    """The smallest design that is powerful enough, in words."""
    design = found.smallest(comparison)
    if design is None:
        best = found.table[found.table["comparison"] == comparison]["power"].max()
        reach = found.table["smallest_p"].min()
        why = f"; so few participants reach no p below {reach:.3g}" if reach > found.alpha else ""
        return f"{comparison}: no design reaches a power of .8 (the best has {best:.2f}){why}"
    tried = all(design[what] == found.table[what].min() for what in ("participants", "runs", "conditions"))
    return (
        f"{comparison}: .8 is reached with {count_noun(design['participants'], 'participant')}, "
        f"{count_noun(design['runs'], 'run')} of {count_noun(design['conditions'], 'condition')} "
        f"(power {design['power']:.2f}, {design['low']:.2f} to {design['high']:.2f})"
        + ("; that is the smallest design tried" if tried else "")
    )
