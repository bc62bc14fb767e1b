"""What each network calls the sounds: told by the check, kept with the results, and shown on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.features._explaining import all_logits
from brainmap.features.calls import count_calls
from brainmap.names import slug
from brainmap.record import content_key
from brainmap.stages.context import Context, ready
from brainmap.stages.networks import Loaded, Version, class_names, heard_key, inputs_of
from brainmap.study import Network

VERSION = 1
CALLS_COLUMNS = {
    "stimulus_id": "stimulus",
    "condition": "what it is",
    "called": "class of the network's largest logit",
}


def calls_line(context: Context, loaded: Loaded) -> str | None:
    """How many sounds a network calls by their condition, in words; None where its classes have no names."""
    names, network = class_names(loaded), loaded.settings
    if names is None or not isinstance(network, Network):
        return None
    if context.is_done(_stage(network), _key(context, loaded, names)):
        return kept_line(context, network)
    return _called(context, loaded, names)[1]


def kept_line(context: Context, network: Network) -> str | None:
    """The same, as the results say it; None where they say nothing."""
    path = _path(context, network).with_suffix(".json")
    return str(json.loads(path.read_text(encoding="utf-8")).get("Calls")) if path.exists() else None


def run_calls(context: Context, loaded: dict[str, Loaded]) -> None:
    """Keep what each network calls the sounds as a table."""
    for one in loaded.values():
        names = class_names(one)
        if names is not None and isinstance(one.settings, Network):
            compute = partial(_write, context, one, one.settings, names)
            context.stage(_stage(one.settings), _key(context, one, names), compute)


def _stage(network: Network) -> str:
    return f"calls_{network.name}"


def _path(context: Context, network: Network) -> Path:
    return context.study.out / "features" / f"network-{slug(network.name)}_calls.tsv"


def _key(context: Context, loaded: Loaded, names: tuple[str, ...]) -> str:
    version = Version(loaded.settings, "")
    return content_key(VERSION, heard_key(context, loaded, version), names, loaded.sounds.conditions)


def _called(context: Context, loaded: Loaded, names: tuple[str, ...]) -> tuple[list[str], str]:
    """What every sound is called, and the count in words; computed once in a call of brainmap."""
    where = f"calls of {loaded.settings.name}"
    if where not in context.networks:
        logits = all_logits(loaded.model, loaded.sounds, device=context.device)
        if logits.ndim != 2 or logits.shape[1] != len(names):
            raise InputError(f"[network] {loaded.settings.name}: {len(names)} class names, and the network gives "
                             f"{logits.shape[1:]} for a sound; wanted one output a class")  # fmt: skip
        called = [names[k] for k in np.asarray(logits).argmax(axis=1)]
        line = count_calls(loaded.settings.name, logits, loaded.sounds.conditions, names).line()
        context.networks[where] = called, line
    found: tuple[list[str], str] = context.networks[where]
    return found


def _write(context: Context, loaded: Loaded, network: Network, names: tuple[str, ...]) -> Iterator[Path]:
    called, line = _called(context, loaded, names)
    sounds = loaded.sounds
    table = pd.DataFrame({"stimulus_id": sounds.items, "condition": sounds.conditions, "called": called})
    about = context.about({"network": network.model_dump()}, inputs_of(context, Version(network, "")))
    yield from context.save_table(table, ready(_path(context, network)), columns=CALLS_COLUMNS,
                                  about={**about, "Calls": line})  # fmt: skip
