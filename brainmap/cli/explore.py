"""The command for the local web application: explore."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap.cli import app
from brainmap.cli.features.options import declare_options
from brainmap.cli.options import join_options, split_names
from brainmap.errors import InputError

SHARED = ("architecture", "variant", "class_names", "rate", "seconds", "level", "input", "device")
_OF_FILES = SHARED[:-1]  # options that only go with --checkpoint


def _add_feeding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command the options of networks that were trained elsewhere."""
    every = inspect.signature(declare_options, eval_str=True).parameters
    shared = {name: every[name] for name in SHARED}

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        command({name: given.pop(name) for name in SHARED}, **given)

    return join_options(wrapper, command, shared, leaves_out=next(iter(inspect.signature(command).parameters)))


@app.command()
@_add_feeding_options
def explore(
    feeding: dict[str, Any],
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="Folder of a study's results, or its study file.")
    ] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option("--checkpoint", help="Instead of a study: a trained network; repeatable.")
    ] = None,
    sounds: Annotated[
        Path | None,
        typer.Option("--sounds", help="Sounds for --checkpoint: stimuli.tsv, a folder of class folders, or one file."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 finds a free one.")] = 8050,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    largest_upload: Annotated[
        float, typer.Option(min=0.001, help="Largest sound that is dropped or recorded, in MB.")
    ] = 50.0,
    longest_upload: Annotated[float, typer.Option(min=0.01, help="Its longest duration, in s.")] = 60.0,
) -> None:
    """Explore a study, or a network and sounds, in the browser: look, listen, click the brain. Ctrl-C ends it."""
    opening, title = _choose_opening(out, checkpoint or [], sounds, feeding)
    from brainmap.explore.server import open_browser, serve

    try:
        from brainmap.explore.app import Limits
    except ImportError as error:
        raise InputError(f"explore: needs starlette and uvicorn ({error}); pip install 'brainmap[explore]'") from None

    def opened(address: str) -> None:
        typer.echo(f"Exploring {title}: {address}\nCtrl-C ends it.")
        if not no_browser:
            open_browser(address)

    limits = Limits(megabytes=largest_upload, seconds=longest_upload)
    serve(opening, title=title, port=port, limits=limits, opened=opened)


def _choose_opening(
    out: Path | None, checkpoints: list[str], sounds: Path | None, feeding: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Check what is explored as far as that is quick, and return it with its title; all else is read by the worker."""
    device = feeding["device"]
    if (out is None) == (not checkpoints):
        got = "both" if out is not None else "neither"
        raise InputError(f"explore: expected the results of a study, or --checkpoint and --sounds, got {got}")
    if out is not None:
        from brainmap.study.settings.study import load_study, study_of

        unfit = [name for name in _OF_FILES if feeding[name] is not None]
        if unfit or sounds is not None:
            option = "--sounds" if sounds is not None else f"--{unfit[0].replace('_', '-')}"
            raise InputError(f"{option}: goes with --checkpoint, and a study says it in its file; leave it out")
        study = load_study(study_of(out) if out.is_dir() else out)
        return {"study": str(study.path), "device": device}, study.settings.study.name
    if sounds is None:
        raise InputError("explore: expected --sounds beside --checkpoint, got none; name a table, folder or file")
    missing = [path for path in (*checkpoints, str(sounds)) if not Path(path).exists()]
    if missing:
        raise InputError(f"explore: no file or folder {missing[0]}; check its name")
    fed = {name: feeding[name] for name in _OF_FILES if name != "class_names"}
    fed["classes"] = split_names(feeding["class_names"]) if feeding["class_names"] else None
    opening = {"checkpoints": list(checkpoints), "sounds": str(sounds), "feeding": fed, "device": device}
    return opening, ", ".join(Path(path).stem for path in checkpoints)
