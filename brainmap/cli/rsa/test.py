"""Define the command that tests models from RDMs or a table of scores: rsa test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import rsa, types
from brainmap.checks import check_file, list_some, refuse_some
from brainmap.cli.options import (
    Correction,
    Json,
    Measure,
    Overwrite,
    Seed,
    Table,
    Test,
    build_provenance,
    check_free,
    make_rng,
    print_files,
    print_table,
    write_tables,
)
from brainmap.cli.rsa.options import commands
from brainmap.cli.runs import load_data_rdms
from brainmap.errors import InputError
from brainmap.types import RDMs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_HELP = {
    "kind": "participants (a test over their scores, with fixed sounds), relabeling (of the sounds, jointly for "
    "all participants), bootstrap, permutation (relabeling for each participant alone), or best-layer (chosen on one "
    "half of the items and scored on the other).",
    "by": "With best-layer, what is halved; with relabeling and permutation, what is exchanged where sounds share a "
    "condition: condition (whole ones), or stimulus (single sounds, for hypotheses about the conditions themselves).",
    "against": "With participants: zero, or ceiling (whether 6 or more share structure that the model lacks).",
    "over": "With bootstrap, what is resampled: both, participants or conditions.",
    "n": "Number of resamples, relabelings or random sign flips; if fewer exist, all are used.",
    "fit": "With bootstrap: the RDMs of each network are one model, which is cross-validated over participants and "
    "conditions in every resample: selected (the best layer), weighted, or interpolated.",
    "correction": "With participants and bootstrap: fdr, bonferroni, max-t (with --test sign-flip) or none.",
    "differences": "With participants and bootstrap: two-sided tests of pairs of models, and of networks by their best "
    "layers, .tsv.",
}


_TAKES = {  # the options of each kind; all kinds take the others
    "participants": ("test", "against", "correction", "n", "differences"),
    "bootstrap": ("over", "fit", "correction", "n", "differences"),
    "relabeling": ("n", "by"),
    "permutation": ("n", "by"),
    "best-layer": ("splits", "by"),
}


@commands.command("test")
def infer(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(help="RDMs of the models, then of the data, one file per participant (.h5); or scores (.tsv)."),
    ],
    kind: Annotated[types.TestKind, typer.Option(help=_HELP["kind"])] = "participants",
    measure: Measure = "rho-a",
    how: Test = "signed-rank",
    against: Annotated[types.Against, typer.Option(help=_HELP["against"])] = "zero",
    over: Annotated[types.Over, typer.Option(help=_HELP["over"])] = "both",
    fit: Annotated[types.FlexibleFit | None, typer.Option(help=_HELP["fit"])] = None,
    correction: Correction = "fdr",
    n: Annotated[int, typer.Option("--n", min=2, help=_HELP["n"])] = 1000,
    splits: Annotated[int, typer.Option(min=1, help="With best-layer: number of random halves.")] = 20,
    by: Annotated[types.Level, typer.Option(help=_HELP["by"])] = "condition",
    seed: Seed = 0,
    differences: Annotated[Path | None, typer.Option(callback=check_free(".tsv"), help=_HELP["differences"])] = None,
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Test models against 0, each other, or the noise ceiling, from RDMs or a table of scores."""

    _refuse_others(context, kind)
    given = context.get_parameter_source("how")
    if against == "ceiling" and given is not None and given.name != "DEFAULT":
        raise InputError(
            "--test: expected no --test with --against ceiling, which flips signs of whole RDMs; leave it out"
        )
    every: dict[str, Any] = {
        "test": how,
        "against": against,
        "over": over,
        "fit": fit,
        "correction": correction,
        "n": n,
        "splits": splits,
        "by": by,
    }
    asked = {"measure": measure, **{name: value for name, value in every.items() if name in _TAKES[kind]}}
    tables = _KINDS[kind](files, rng=make_rng(seed), wanted=differences is not None, **asked)
    about = build_provenance({"kind": kind, **asked}, files, seed=seed)
    for path, (table, columns) in zip((out, differences), tables, strict=False):
        note = {"Test": table.attrs["note"]} if "note" in table.attrs else {}
        write_tables((path, table, columns, {**note, **about}))
    main = tables[0][0]
    if out is None or as_json:
        print_table(main, as_json)
    if not as_json:
        if out is None and "note" in main.attrs:
            typer.echo(main.attrs["note"])
        print_files(out, differences)


def _refuse_others(context: typer.Context, kind: str) -> None:
    """Refuse options of another kind, which would have no effect."""
    for option in dict.fromkeys(name for options in _TAKES.values() for name in options):
        source = context.get_parameter_source("how" if option == "test" else option)
        if option not in _TAKES[kind] and source is not None and source.name != "DEFAULT":
            kinds = " or ".join(one for one, options in _TAKES.items() if option in options)
            raise InputError(f"--{option}: expected --kind {kinds}, got --kind {kind}; leave it out")


Tables = list[tuple["pd.DataFrame", dict[str, str]]]


def _load_both(files: list[Path]) -> tuple[RDMs, RDMs]:

    if len(files) < 2:
        raise InputError(f"rsa test: expected RDMs of the models and of the data, got {len(files)} file; give both")
    return rsa.load_rdms(files[0]), load_data_rdms(files[1:])


def _test_participants(
    files: list[Path],
    *,
    rng: np.random.Generator,
    wanted: bool,
    measure: str,
    test: str,
    against: str,
    correction: Any,
    n: int,
) -> Tables:
    from brainmap.rsa.inference.best_layers import join_best_layers
    from brainmap.rsa.inference.differences import DIFFERENCE_COLUMNS
    from brainmap.rsa.inference.scores import STATISTICS_COLUMNS

    cube, labels, networks = _build_cube(files, measure, against == "ceiling")
    given: dict[str, Any] = {
        "test": test,
        "correction": correction,
        "labels": labels,
        "measure": measure,
        "permutations": n,
        "rng": rng,
    }
    tables: Tables
    if against == "ceiling":
        from brainmap.rsa.inference.shared_structure import RESIDUAL_COLUMNS

        shared = rsa.residual_structure(
            *_load_both(files), measure=measure, correction=correction, permutations=n, rng=rng
        )
        tables = [(shared, RESIDUAL_COLUMNS)]
    else:
        tables = [(rsa.score_statistics(cube, **given), {"model": "model", **STATISTICS_COLUMNS})]
    if wanted:
        pairs = rsa.score_differences(cube, **given)
        best = rsa.best_layer_differences(cube, networks, **given) if networks else pairs[:0]
        tables.append((join_best_layers(pairs, best), DIFFERENCE_COLUMNS))
    return tables


def _build_cube(
    files: list[Path], measure: str, ceiling: bool
) -> tuple[Any, dict[str, list[str]], dict[str, list[int]]]:
    """Arrange scores `(n_models, n_rois, n_participants)`; return labels, and layers of each of several networks."""
    from brainmap.rsa.comparison.measures import arrange_scores
    from brainmap.rsa.inference.best_layers import group_layers_by_name
    from brainmap.rsa.rdm.alignment import list_rdm_names

    if files[0].suffix == ".tsv":
        if len(files) > 1 or ceiling:
            raise InputError(
                "rsa test: expected a table of scores by itself, got more files or --against ceiling; give RDMs"
            )
        return _read_cube(files[0])
    models, data = _load_both(files)
    cube, names = arrange_scores(rsa.compare_rdms(models, data, measure=measure), data)
    if cube.shape[-1] < 2:
        raise InputError(
            "rsa test: expected two participants or more, got one; choose --kind permutation, or --over conditions"
        )
    return cube, {"model": list(list_rdm_names(models)), "roi": names}, group_layers_by_name(models)


def _read_cube(path: Path) -> tuple[Any, dict[str, list[str]], dict[str, list[int]]]:
    """Read a table of scores that `brainmap rsa compare` or a study wrote."""
    import numpy as np

    from brainmap.rsa.inference.best_layers import group_layers
    from brainmap.tables import read_results_table

    check_file(path, "scores")
    table = read_results_table(path)
    refuse_some(
        [name for name in ("participant", "score") if name not in table],
        f"{path}: expected columns ",
        f" too, got {list_some(table.columns)}; take a table of rsa compare",
    )
    keys = [key for key in ("model", "name", "network", "layer") if key in table]
    if not keys:
        raise InputError(f"{path}: expected a column model, name, network or layer, got {list_some(table.columns)}")
    model = table[keys].astype(str).agg(" ".join, axis=1)
    roi = table["roi"].astype(str) if "roi" in table else model.map(lambda _: "all voxels")
    who = table["participant"].astype(str)
    axes = [list(dict.fromkeys(side)) for side in (model, roi, who)]
    if table.assign(model=model, roi=roi).duplicated(["model", "roi", "participant"]).any():
        raise InputError(f"{path}: expected one score per participant, model and region, got two; keep one")
    cube = np.full(tuple(len(side) for side in axes), np.nan)
    at = [[axis.index(value) for value in side] for axis, side in zip(axes, (model, roi, who), strict=True)]
    cube[tuple(at)] = table["score"].astype(float)
    owner = dict(zip(model, table["network"].astype(str), strict=True)) if "network" in table else {}
    return cube, {"model": axes[0], "roi": axes[1]}, group_layers([owner[name] for name in axes[0] if owner])


def _bootstrap_scores(
    files: list[Path],
    *,
    rng: np.random.Generator,
    wanted: bool,
    measure: str,
    over: Any,
    fit: Any,
    correction: Any,
    n: int,
) -> Tables:
    from brainmap.rsa.inference.best_layers import join_best_layers
    from brainmap.rsa.inference.differences import DIFFERENCE_COLUMNS
    from brainmap.rsa.inference.roi_bootstrap import BOOTSTRAP_COLUMNS

    models, data = _load_both(files)
    given: dict[str, Any] = {"over": over, "n": n, "measure": measure, "correction": correction, "rng": rng}
    if fit is None:
        found = rsa.bootstrap_rois(models, data, **given)
    else:
        found = rsa.bootstrap_rois(_split_families(models), data, kind=fit, **given)
    pairs = join_best_layers(found.pairs, found.best_layers)
    return [(found.models, BOOTSTRAP_COLUMNS), *([(pairs, DIFFERENCE_COLUMNS)] if wanted else [])]


def _split_families(models: Any) -> dict[str, RDMs]:
    """Group the RDMs by network."""
    if "network" not in models.rdm_descriptors:
        return {"models": models}
    return {str(name): models.subset("network", name) for name in dict.fromkeys(models.rdm_descriptors["network"])}


def _permute_conditions(
    files: list[Path], *, rng: np.random.Generator, wanted: bool, measure: str, n: int, by: Any
) -> Tables:
    from brainmap.rsa.inference.permutation import PERMUTATION_COLUMNS

    models, data = _load_both(files)
    return [(rsa.permutation_test(models, data, measure=measure, permutations=n, by=by, rng=rng), PERMUTATION_COLUMNS)]


def _relabel_items(
    files: list[Path], *, rng: np.random.Generator, wanted: bool, measure: str, n: int, by: Any
) -> Tables:
    from brainmap.rsa.inference.relabeling import RELABELING_COLUMNS

    models, data = _load_both(files)
    return [(rsa.relabeling_test(models, data, measure=measure, permutations=n, by=by, rng=rng), RELABELING_COLUMNS)]


def _choose_best_layer(
    files: list[Path], *, rng: np.random.Generator, wanted: bool, measure: str, splits: int, by: Any
) -> Tables:
    from brainmap.rsa.inference.halves import BEST_COLUMNS

    models, data = _load_both(files)
    return [(rsa.split_half_best_layer(models, data, measure=measure, splits=splits, by=by, rng=rng), BEST_COLUMNS)]


_KINDS: dict[str, Callable[..., Tables]] = {
    "participants": _test_participants,
    "relabeling": _relabel_items,
    "bootstrap": _bootstrap_scores,
    "permutation": _permute_conditions,
    "best-layer": _choose_best_layer,
}
