"""Count how many sounds each network classifies as their condition, for the check, the results and the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainmap.names import slug
from brainmap.study.results.context import Context, make_parent

if TYPE_CHECKING:
    from brainmap.study.settings.study import Baselines, Network
    from brainmap.study.stages.versions import Loaded

CALLS_COLUMNS = {
    "stimulus_id": "stimulus",
    "condition": "what it is",
    "called": "class of the network's largest logit",
}


def describe_calls(context: Context, loaded: Loaded, names: tuple[str, ...], *, done: bool) -> str:
    """Describe how many sounds a network classifies as their condition; read from the results where they are `done`."""
    kept = read_calls_line(context, loaded.settings) if done else None
    return _predict_calls(context, loaded, names)[1] if kept is None else kept


def read_calls_line(context: Context, network: Network | Baselines) -> str | None:
    """Read the same line from the results; None where they do not contain it."""
    path = _build_calls_path(context, network.name).with_suffix(".json")
    return str(json.loads(path.read_text(encoding="utf-8")).get("Calls")) if path.exists() else None


def write_calls(context: Context, loaded: Loaded, names: tuple[str, ...], about: Mapping[str, Any]) -> Iterator[Path]:
    """Write the classes that a network predicts as a table, with the count in its sidecar, and return both files."""
    called, line = _predict_calls(context, loaded, names)
    sounds = loaded.sounds
    table = pd.DataFrame({"stimulus_id": sounds.items, "condition": sounds.conditions, "called": called})
    path = make_parent(_build_calls_path(context, loaded.settings.name))
    yield from context.save_table(table, path, columns=CALLS_COLUMNS, about={**about, "Calls": line})


def _build_calls_path(context: Context, name: str) -> Path:
    return context.study.out / "features" / f"network-{slug(name)}_calls.tsv"


def _predict_calls(context: Context, loaded: Loaded, names: tuple[str, ...]) -> tuple[list[str], str]:
    """Predict the class of every sound, and describe the count; computed once per call of brainmap."""
    name = loaded.settings.name

    def predict() -> tuple[list[str], str]:
        from brainmap.features.evaluation.understanding import check_understanding

        calls, logits = check_understanding(name, loaded.model, loaded.sounds, names, device=context.device)
        return [names[k] for k in np.asarray(logits).argmax(axis=1)], calls.line()

    if name not in context.calls:
        key = [name, loaded.sounds.digest, loaded.sounds.conditions, loaded.sounds.level, names]
        called, line = loaded.keep("calls", key, predict)
        context.calls[name] = called, line
    return context.calls[name]
