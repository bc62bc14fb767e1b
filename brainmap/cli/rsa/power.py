"""Define the command that plans a study: rsa power."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import rsa, viz
from brainmap.cli.options import (
    Leave,
    Measure,
    SearchlightDissimilarity,
    Seed,
    Test,
    add_output_options,
    make_rng,
    split_names,
)
from brainmap.cli.rsa.options import Layers, commands, count_noun, load_stacked_rdms
from brainmap.errors import InputError
from brainmap.types import RDMs

SHOWN = ["comparison", "participants", "runs", "conditions", "power", "low", "high", "wrong", "d", "ceiling_lower"]


@commands.command()
@add_output_options
def power(
    leave: Leave,
    models: Layers,
    a: Annotated[str, typer.Option("--a", help="Layer whose geometry the simulated region has.")],
    b: Annotated[str | None, typer.Option("--b", help="Layer to compare it with; by default only with 0.")] = None,
    ceiling: Annotated[float, typer.Option(help="Lower noise ceiling of the pilot; 0 means no signal.")] = 0.3,
    pilot: Annotated[
        str | None,
        typer.Option(
            help="Participants, runs and conditions of the pilot, such as 12,4,64; default: the first of each."
        ),
    ] = None,
    participants: Annotated[str, typer.Option(help="Numbers to try, such as 8,12,20,30.")] = "8,12,20,30",
    runs: Annotated[str, typer.Option(help="Numbers to try; each condition occurs once per run.")] = "4",
    conditions: Annotated[
        str | None, typer.Option(help="Numbers to try, drawn from the items of the models; default: all.")
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="TSV of the sounds that all studies have, from `brainmap rsa choose`; not with --conditions."
        ),
    ] = None,
    simulations: Annotated[int, typer.Option(min=1, help="Simulated studies per design.")] = 500,
    measure: Measure = "rho-a",
    test: Test = "signed-rank",
    alpha: Annotated[
        float, typer.Option(help="Significance level of one test; take a smaller one if you will correct for many.")
    ] = 0.05,
    dissimilarity: SearchlightDissimilarity = "crossnobis",
    voxels: Annotated[int, typer.Option(min=2, help="Voxels of the region.")] = 100,
    specific: Annotated[float, typer.Option(help="Share of the geometry that is specific to each participant.")] = 0.3,
    explained: Annotated[float, typer.Option(help="Share of the common geometry that layer --a explains.")] = 1.0,
    variation: Annotated[float, typer.Option(help="SD of the log signal over participants.")] = 0.5,
    seed: Seed = 0,
) -> None:
    """Simulate studies to find the participants, runs and conditions needed to tell two layers apart."""

    from brainmap.rsa.simulation.power import POWER_COLUMNS

    at = None if pilot is None else _parse_numbers(pilot, "--pilot")
    if at is not None and len(at) != 3:
        raise InputError(f"--pilot: expected participants, runs and conditions, as in 12,4,64, got {pilot!r}")
    rdms = load_stacked_rdms(models)
    found = rsa.power_analysis(
        rdms,
        a=a,
        b=b,
        ceiling=ceiling,
        participants=_parse_numbers(participants, "--participants"),
        runs=_parse_numbers(runs, "--runs"),
        conditions=None if conditions is None else _parse_numbers(conditions, "--conditions"),
        items=None if items is None else _read_items(items, rdms),
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
        rng=make_rng(seed),
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
        "items": list(found.items) or "all",
    }
    smallest = {name: found.smallest(name) for name in found.comparisons}
    leave(
        found.table,
        POWER_COLUMNS,
        lambda: viz.plot_power(found),
        inputs=[*models, *([items] if items else [])],
        parameters=settings,
        seed=seed,
        shown=found.table[SHOWN],
        rows=found.table,
        read={**settings, "smallest": smallest},
        words="\n".join([*(_describe_smallest(found, name) for name in found.comparisons), *_describe_items(found)]),
    )


def _read_items(path: Path, rdms: RDMs) -> list[str]:
    """Read the items of a table, from the column that names the items of the RDMs."""
    from brainmap.checks import check_choice
    from brainmap.rsa.rdm.alignment import LABEL_OF, find_level
    from brainmap.tables import read_table

    rows = read_table(path, "--items")
    label = check_choice(
        LABEL_OF.get(find_level(rdms), "stimulus_id"), list(map(str, rows.columns)), f"column of {path}"
    )
    return [str(value) for value in rows[label]]


def _describe_items(found: rsa.PowerAnalysis) -> list[str]:
    """Describe which signal studies of chosen items have."""
    if not found.items:
        return []
    return [
        f"All studies have the {len(found.items)} chosen items. The pilot's ceiling ({found.ceiling:g}) is that of "
        f"{found.pilot[2]} items drawn at random from all; chosen items have the same signal and another ceiling."
    ]


def _parse_numbers(text: str, option: str) -> list[int]:
    """Parse whole numbers separated by commas.

    Examples
    --------
    >>> _parse_numbers("8,12", "--runs")
    [8, 12]
    """
    try:
        return [int(part) for part in split_names(text)]
    except ValueError:
        raise InputError(f"{option}: expected whole numbers separated by commas, as in 8,12,20, got {text!r}") from None


def _describe_smallest(found: rsa.PowerAnalysis, comparison: str) -> str:
    """Describe the smallest design whose power reaches .8."""
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
