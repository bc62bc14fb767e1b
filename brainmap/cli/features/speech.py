"""The command for simple features of continuous speech: features speech."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from brainmap import types
from brainmap.cli.features.options import SoundsAt, Store, commands, store_free
from brainmap.cli.options import Json, Overwrite, check_names, split_names
from brainmap.errors import InputError


@commands.command()
def speech(
    sounds: SoundsAt,
    out: Store,
    words: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Word times of each sound, quoted, with {sound} for its id: 'words/{sound}.TextGrid', or a TSV of "
            "start_s and end_s, or of onset and duration.",
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            parser=check_names(Literal["all", types.SpeechFeature], "--features"),
            metavar="FEATURE,...",
            help="all, or features parted by commas: sound-energy, word-rate, speech-onset; the last two need --words.",
        ),
    ] = "all",
    step: Annotated[float, typer.Option(help="Length of a step, in s.")] = 0.1,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compute sound energy, word rate and speech onsets of stories as .zarr, as baselines of rsa encode-stories."""
    from brainmap.features.activations.speech import speech_features
    from brainmap.features.sounds.files import load_sounds

    store_free(out, "activations", None, overwrite)
    if words is not None and "{sound}" not in words:
        raise InputError(f"--words: expected a name with {{sound}}, as in 'words/{{sound}}.TextGrid', got {words}")
    heard = load_sounds(sounds, level="none")
    times = None if words is None else {item: words.replace("{sound}", item) for item in heard.items}
    asked = None if features == "all" else split_names(features)
    found = speech_features(heard, words=times, features=asked, step=step, store=out)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps({"store": str(out), "items": len(found.items), "features": list(found.layers)}, indent=2))
        return
    n = found.table["sound"].nunique()
    typer.echo(f"{out}: {', '.join(found.layers)} of {len(found.items)} steps of {step:g} s in {n} sounds")
