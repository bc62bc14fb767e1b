"""Define what commands share: options with one wording, tables and figures written, no file replaced silently."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import typer

from brainmap import types
from brainmap.checks import check_each
from brainmap.cli.once import Commands
from brainmap.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", is_eager=True, help="Replace existing files.")]
"""It is read first, since `check_free` looks at it for each option that names a file to write."""
Device = Annotated[types.Device, typer.Option(help="Device on which networks run; auto takes the fastest available.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "--n-jobs", "-j", min=1, help="Number of threads; default: all cores.")
]


Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers: the same seed gives the same result.")]

# options that several commands of `brainmap rsa` share
Betas = Annotated[
    list[str] | None,
    typer.Option(
        "--betas",
        metavar="FILE...",
        help="Patterns, NIfTI or AFNI, one image per run: --betas run-*.nii.gz; or a table of items x voxels "
        "(x repetitions): .npy, .npz, .mat, .h5, .nc.",
    ),
]
More = Annotated[
    list[str] | None, typer.Argument(metavar="IMAGE", help="Further images of --betas.", show_default=False)
]
Mask = Annotated[str | None, typer.Option(help="Image of the voxels to read, on the grid of --betas.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        help="Labels of the volumes: sub-brick (default), or a TSV (stimulus_id or condition; volume; run): one for "
        "all runs, one per run (repeatable), or a name with {run}. A table of --betas needs the TSV of its items."
    ),
]
Stimuli = Annotated[Path | None, typer.Option(help="stimuli.tsv, with the condition of each stimulus_id.")]
Participant = Annotated[str | None, typer.Option(help="Label of the participant.")]
Missing = Annotated[
    types.Missing, typer.Option(help="If a condition is missing in a run: raise an error, or fill in nan.")
]
Items = Annotated[types.Level, typer.Option(help="Items of the RDMs; the stimuli of a condition are averaged first.")]
Noise = Annotated[
    types.NoiseFrom,
    typer.Option(help="Source of the noise for crossnobis: 3 runs or more (each from the others), residuals, or none."),
]
LeftOver = Annotated[
    list[str] | None,
    typer.Option(
        "--residuals", metavar="FILE...", help="Residuals of the GLM for --noise residuals: files, or a pattern."
    ),
]
Measure = Annotated[types.AnyMeasure, typer.Option(help="How two RDMs are compared.")]
SearchlightMeasure = Annotated[types.AnySearchlightMeasure, typer.Option(help="How two RDMs are compared.")]
SearchlightDissimilarity = Annotated[
    types.SearchlightDissimilarity, typer.Option(help="Dissimilarity of two patterns of the brain.")
]
Test = Annotated[types.Test, typer.Option("--test", help="Test over participants.")]
Correction = Annotated[
    types.Correction,
    typer.Option(help="Correction over all rows of the table; max-t goes with the test sign-flip."),
]


def join_options(
    wrapper: Callable[..., None],
    command: Callable[..., None],
    shared: Mapping[str, inspect.Parameter],
    *,
    leaves_out: str,
    first: bool = False,
) -> Callable[..., None]:
    """Give the wrapper of a command its options and shared ones, except for the parameter that the wrapper fills in.

    Options without a default come first, as typer wants them. Shared options stand after the command's own, or `first`.
    """
    own = inspect.signature(command, eval_str=True)
    rest = [p for p in own.parameters.values() if p.name not in {*shared, leaves_out}]
    parameters = [*shared.values(), *rest] if first else [*rest, *shared.values()]
    parameters.sort(key=lambda p: p.default is not p.empty)
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def with_options(
    group: Callable[..., Any], *, fills: str, first: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command a group of options in place of one parameter.

    Parameters
    ----------
    group : callable
        Its parameters are the options (the fields, of a dataclass); what it returns of them fills the parameter.
    fills : str
        Parameter of the command, which is annotated with what `group` returns.
    first : bool
        Whether the options of the group stand before the command's own in its help.
    """
    shared = inspect.signature(group, eval_str=True).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            filled = group(**{name: given.pop(name) for name in shared})
            command(**{fills: filled}, **given)

        return join_options(wrapper, command, shared, leaves_out=fills, first=first)

    return decorate


def make_group(name: str, words: str) -> Commands:
    """Make a group of commands, which shows its help if it is called alone."""
    return Commands(name=name, help=words, no_args_is_help=True)


def split_names(text: str) -> list[str]:
    """Split names at commas.

    Examples
    --------
    >>> split_names("conv1, conv2")
    ['conv1', 'conv2']
    """
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise InputError(f"expected names parted by commas, as in conv1,conv2, got {text!r}")
    return found


def read_numbers(text: str, option: str, *, n: int | None = None) -> list[float]:
    """Read numbers between commas; n of them where a number is expected."""
    try:
        found = [float(word) for word in split_names(text)]
    except ValueError:
        found = []
    if not found or n not in (None, len(found)):
        wanted = "numbers parted by commas, as in 1,10,100" if n is None else f"{n} numbers, as in 10,8"
        raise InputError(f"{option}: expected {wanted}, got {text!r}")
    return found


def check_names(choices: Any, option: str) -> Callable[[str], str]:
    """Return a parser for an option of several choices, which refuses a misspelt one before anything is loaded.

    Examples
    --------
    >>> check_names(types.Loudness, "--level")("rms,peek")
    Traceback (most recent call last):
    brainmap.errors.InputError: --level: expected one of 'rms', 'peak', 'none', got 'peek'; did you mean 'peak'?
    """

    def parse(text: str) -> str:
        check_each(split_names(text), get_args(choices), option)
        return text

    return parse


Key = Annotated[str | None, typer.Option(help="Name of the array in a table of --betas that holds several.")]
Axes = Annotated[
    str | None,
    typer.Option(
        parser=check_names(types.TableAxis, "--axes"),
        metavar="AXIS,...",
        help="Axes of a table of --betas where its lengths do not tell them: items,voxels,repetitions in their order.",
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        parser=check_names(types.Normalization, "--normalize"),
        metavar="METHOD,...",
        help="Normalizations in the order in which they are applied: demean-runs, cocktail-blank, zscore-runs, "
        "noise-runs.",
    ),
]


def make_rng(seed: int | Sequence[int]) -> np.random.Generator:
    """Make the random numbers of a command."""
    import numpy as np

    return np.random.default_rng(seed)


def refuse_existing(path: Path | None, overwrite: bool, *, option: str = "--out", kinds: Sequence[str] = ()) -> None:
    """Refuse a file that exists, a folder that does not, or an ending that tells none of the kinds.

    Raises
    ------
    InputError
    """
    if path is None:
        return
    if kinds and path.suffix.lower() not in kinds:
        raise InputError(f"{option}: expected a name that ends in {', '.join(kinds)}, got {path}")
    if not path.parent.is_dir():
        raise InputError(f"{option}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise InputError(f"{option}: expected a file, got the folder {path}; name a file in it")
    sidecar = [path.with_suffix(".json")] if path.suffix in (".tsv", ".h5", ".hdf5") else []
    taken = [file for file in (path, *sidecar) if file.exists()]
    if taken and not overwrite:
        raise InputError(f"{option}: {taken[0]} exists; say --overwrite or name another file")


def check_free(*kinds: str) -> Callable[[typer.Context, typer.CallbackParam, Path | None], Path | None]:
    """Return the callback of an option that names a file of some kinds to write, which is refused before anything else.

    It refuses what `refuse_existing` refuses; existing files are replaced where the command is given `--overwrite`.
    """

    def check(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
        refuse_existing(path, bool(context.params.get("overwrite")), option=option.opts[0], kinds=kinds)
        return path

    return check


class Several(NamedTuple):
    """Files that are one input, under one name."""

    name: str
    files: tuple[Path, ...]


def build_provenance(
    parameters: Mapping[str, Any], inputs: Iterable[str | Path | Several], *, seed: int = 0
) -> dict[str, Any]:
    """Build the sidecar of a command's table: command, versions, parameters, SHA-256 of the inputs.

    An input that consists of several files has one digest: a folder (a store, a checkpoint), an AFNI dataset, or the
    data of both hemispheres.
    """
    from brainmap.record import Ledger, content_digest, content_key, file_digest
    from brainmap.rsa.images.names import list_image_files

    digests = {}
    for name in inputs:
        if isinstance(name, Several):
            digests[name.name] = content_key([file_digest(file) for file in name.files])
            continue
        if Path(name).is_dir():
            digests[str(name)] = content_digest(Path(name))
            continue
        found = [file_digest(file) for file in list_image_files(name)]
        digests[str(name)] = found[0] if len(found) == 1 else content_key(found)
    return Ledger(Path(), seed=seed).provenance(parameters=parameters, inputs=digests)


def write_tables(
    *tables: tuple[Path | None, pd.DataFrame | None, Mapping[str, str], Mapping[str, Any]],
) -> list[Path]:
    """Write each table (path, table, what its columns are, what its sidecar says beside them) whose path is given."""
    from brainmap.record import write_table

    return [
        write_table(table, path, columns=columns, about=about)
        for path, table, columns, about in tables
        if path is not None and table is not None
    ]


def save_figure(figure: Figure, out: Path, *, dpi: int = 192) -> None:
    """Write a figure whole, with the command inside; whether `out` is free was asked before, by `check_free`."""
    from brainmap.record import atomic, command_line
    from brainmap.viz.style import with_style

    key = {".png": "Description", ".svg": "Description", ".pdf": "Subject"}[out.suffix.lower()]
    with atomic(out) as beside:
        with_style(figure.savefig)(beside, dpi=dpi, metadata={key: command_line()})


def draw_figure(draw: Callable[[], Figure], out: Path | None) -> None:
    """Draw a figure and write it, where `--figure` asks for one."""
    if out is not None:
        save_figure(draw(), out)


def print_table(table: pd.DataFrame, as_json: bool) -> None:
    """Print a table as text, or its rows as JSON."""
    if as_json:
        typer.echo(table.to_json(orient="records", indent=2))
    else:
        typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def print_files(*files: Path | None) -> None:
    """Name the files that were left."""
    for path in files:
        if path is not None:
            typer.echo(f"Wrote {path}")


FORMATS = (".png", ".svg", ".pdf")
Table = Annotated[
    Path | None,
    typer.Option("--out", callback=check_free(".tsv"), help="Table to write: .tsv, with a .json beside it."),
]
Picture = Annotated[
    Path | None, typer.Option("--figure", callback=check_free(*FORMATS), help="Figure to write: .png, .svg or .pdf.")
]


@dataclass(frozen=True)
class Leave:
    """Write the result of a command to a table, a figure or the terminal."""

    out: Path | None
    figure: Path | None
    as_json: bool

    def __call__(
        self,
        table: pd.DataFrame,
        columns: Mapping[str, str],
        draw: Callable[[], Figure],
        *,
        inputs: Iterable[str | Path | Several],
        parameters: Mapping[str, Any],
        seed: int = 0,
        about: Mapping[str, Any] | None = None,
        shown: pd.DataFrame | None = None,
        rows: pd.DataFrame | None = None,
        read: Mapping[str, Any] | None = None,
        words: str = "",
    ) -> None:
        """Draw the figure, write the table with its sidecar and the figure, and show the outcome.

        Parameters
        ----------
        table, columns : DataFrame, mapping of str to str
            What `--out` gets, and what its columns are.
        draw : callable
            The figure; called where `--figure` asks for one, before anything is written: a mistake leaves nothing.
        inputs, parameters, seed, about
            What the sidecar says; `about` beside the provenance.
        shown, rows : DataFrame, optional
            What people see (the table), and what `--json` prints (what people see).
        read : mapping, optional
            What `--json` says beside these rows; they are then its `table`.
        words : str
            A line under the table, for people.
        """
        drawn = draw() if self.figure is not None else None
        if self.out is not None:
            said = build_provenance(parameters, inputs, seed=seed) | dict(about or {})
            write_tables((self.out, table, columns, said))
        if self.figure is not None and drawn is not None:
            save_figure(drawn, self.figure)
        shown = table if shown is None else shown
        if self.as_json:
            rows = shown if rows is None else rows
            if read:
                typer.echo(json.dumps({**read, "table": convert_records(rows)}, indent=2))
            else:
                print_table(rows, True)
            return
        print_table(shown, False)
        for line in filter(None, [words, *(f"Wrote {path}" for path in (self.out, self.figure) if path is not None)]):
            typer.echo(line)


def convert_records(table: pd.DataFrame) -> Any:
    """Convert rows for JSON, with NaN as null."""
    return json.loads(table.to_json(orient="records"))


def _declare_outputs(
    out: Table = None, figure: Picture = None, overwrite: Overwrite = False, as_json: Json = False
) -> None:
    """Define the wording and defaults of the shared options in one place."""


def add_output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with a parameter `leave` the options `--out`, `--figure`, `--overwrite` and `--json`.

    A command with more outputs takes `overwrite` too.
    """
    common = inspect.signature(_declare_outputs, eval_str=True).parameters
    more = "overwrite" in inspect.signature(command).parameters

    @functools.wraps(command)
    def wrapper(*args: Any, **given: Any) -> None:
        out, figure, overwrite, as_json = (given.pop(name) for name in common)
        command(*args, leave=Leave(out, figure, as_json), **({"overwrite": overwrite} if more else {}), **given)

    return join_options(wrapper, command, common, leaves_out="leave")
