"""Define the command line; commands parse, call the library and print, and import heavy packages themselves."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from brainmap import __version__
from brainmap.cli.once import Commands
from brainmap.errors import BrainmapError, BrainmapWarning, is_scarce_memory
from brainmap.references import first_line
from brainmap.resources import collect_less, keep_freed_memory, require_address_space

app = Commands(
    name="brainmap",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Audio CNNs and the brain: what each layer hears, and where in the brain the same geometry lives.",
    epilog="Begin with: brainmap demo my-demo",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"brainmap {__version__}")
        raise typer.Exit


@app.callback()
def _apply_options(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what went wrong.")] = False,
    grid_tolerance: Annotated[
        float | None, typer.Option(help="How far grids of images may lie apart and be one, of a voxel (0.01).")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    require_address_space()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("brainmap")
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    warnings.showwarning = _print_warning
    if grid_tolerance is not None:  # it comes before what a study file says
        from brainmap.rsa.images.files import grid_tolerance as within

        context.with_resource(within(grid_tolerance))


def _print_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Format warnings of brainmap as one line without file and line number, and hide those of other libraries."""
    if issubclass(category, BrainmapWarning):
        logging.getLogger("brainmap").warning("note: %s", message)


def load_commands(group: str | None = None) -> None:
    """Add the commands of a group, or of all of them; those of a group are needed when it is named.

    A command is the module of its name. Help is quicker without the modules of the groups.
    """
    for name in ("features.options", "networks", "rsa.options", "study", "viz", "explore"):
        importlib.import_module(f"brainmap.cli.{name}")
    for folder in [name for name in ("features", "rsa") if group in (None, name)]:
        for module in pkgutil.iter_modules([str(Path(__file__).parent / folder)]):
            importlib.import_module(f"brainmap.cli.{folder}.{module.name}")


@collect_less()
def main() -> None:
    """Run a command; a mistake of the user's is one line and exit code 2, a failed run exit code 1."""
    keep_freed_memory()
    try:
        load_commands(next((word for word in sys.argv[1:] if not word.startswith("-")), ""))
        app()
    except BrainmapError as error:
        for line in str(error).splitlines():
            typer.echo(f"brainmap: {line}", err=True)
        raise SystemExit(error.exit_code) from None
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if isinstance(error, OSError) and not is_scarce_memory(error):  # a folder that may not be written, a full disk
            typer.echo(f"brainmap: {error.filename or 'the system'}: {error.strerror or error}", err=True)
            raise SystemExit(1) from None
        if not is_scarce_memory(error):
            raise
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks of zarr that could not begin are no news
        typer.echo(
            f"brainmap: there is not enough memory ({first_line(error)}); close other programs or take fewer "
            "--jobs; the same command goes on with what is done",
            err=True,
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("brainmap: stopped; run the same command again to go on", err=True)
        raise SystemExit(130) from None
