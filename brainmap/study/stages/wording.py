"""Describe the tests of a study in words, for its page and its methods section."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from brainmap.study.results.context import Context

TABLES = {"statistics": "scores", "differences": "differences"}


def join_names(names: Sequence[str], most: int = 8) -> str:
    """Join names for a sentence, cut to a readable length.

    Examples
    --------
    >>> join_names(["a", "b"]), join_names(["a", "b", "c"], most=2)
    ('a and b', 'a, b and 1 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _read_sidecar(context: Context, name: str) -> dict[str, Any]:
    path = context.build_table_path(name).with_suffix(".json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def describe_test(context: Context) -> str:
    """Describe the test behind the statistics, as their sidecar states it."""
    return str(_read_sidecar(context, "statistics").get("Test", ""))


def describe_best_layers(context: Context) -> str:
    """Describe how networks were compared by their best layers, and the family of these tests; empty where not."""
    about = _read_sidecar(context, "differences")
    if "BestLayers" not in about:
        return ""
    parts = [about.get(key, "") for key in ("Test", "BestLayers", "Generalizes")]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)


def describe_tests(context: Context) -> dict[str, str]:
    """Describe for each table of tests its test, the one over participants, and what the result generalizes to."""
    notes = {}
    for name in TABLES:
        about = _read_sidecar(context, name)
        parts = [about.get("Test", "")]
        if about.get("FirstTest") != "participants" and "TheseSoundsOnly" in about:
            parts.append(f"beside it, {about['TheseSoundsOnly']}")
        parts += [about.get(key, "") for key in ("BestLayers", "LeftOut", "Generalizes")]
        said = ". ".join(part[0].upper() + part[1:] for part in parts if part)
        if said:
            notes[name] = f"{said}."
    return notes


def collect_test_facts(context: Context) -> dict[str, Any]:
    """Collect for the methods section which test came first, what was exchanged, and whether there was a bootstrap."""
    about = {of: _read_sidecar(context, name) for name, of in TABLES.items()}
    return {
        "tests": {of: one["FirstTest"] for of, one in about.items() if "FirstTest" in one},
        "relabelings": about["scores"].get("Relabelings", ""),
        "exchanged": "; ".join(about["scores"][key] for key in ("Exchanged", "Substitute") if key in about["scores"]),
        "best_layers": "BestLayers" in about["differences"],
        "bootstrapped": context.build_table_path("bootstrap").exists(),
    }
