"""Describe the tests of a study in words, for its page and its methods section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brainmap.groups import group_pairs
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


_OF_SEVERAL = {"one of its classes": "one of their classes", "what it calls them": "what they call them"}


def join_networks(lines: Sequence[str]) -> list[str]:
    """Join the lines that say the same of several networks ("network a: ...") to one that names all of them.

    Examples
    --------
    >>> join_networks(["network a: level: none", "x", "network b: level: none"])
    ['networks a, b: level: none', 'x']
    """
    named = [line.partition(": ") if line.startswith("network ") else ("", "", line) for line in lines]
    owners = group_pairs((said, who.removeprefix("network ")) for who, _, said in named if who)
    joined = []
    for line, (who, _, said) in zip(lines, named, strict=True):
        networks, words = owners[said] if who else [], said
        for one, several in _OF_SEVERAL.items():
            words = words.replace(one, several)
        joined.append(f"networks {', '.join(networks)}: {words}" if len(networks) > 1 else line)
    return list(dict.fromkeys(joined))


_OF_SOUNDS = ("takes the {} as fixed", "these {} only", "half of the {}")


def say_stories(text: str) -> str:
    """Say of stories what tests and columns say of sounds, where a study's items are scans of stories.

    Examples
    --------
    >>> say_stories("t test over participants, which takes the sounds as fixed (these sounds only)")
    't test over participants, which takes the stories as fixed (these stories only)'
    """
    for words in _OF_SOUNDS:
        text = text.replace(words.format("sounds"), words.format("stories"))
    return text


def describe_test(context: Context) -> str:
    """Describe the test behind the statistics, as their sidecar states it."""
    return str(context.read_group_sidecar("statistics").get("Test", ""))


def describe_best_layers(context: Context) -> str:
    """Describe how networks were compared by their best layers, and the family of these tests; empty where not."""
    about = context.read_group_sidecar("differences")
    if "BestLayers" not in about:
        return ""
    parts = [about.get(key, "") for key in ("Test", "BestLayers", "Generalizes")]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)


def describe_tests(context: Context) -> dict[str, str]:
    """Describe for each table of tests its test, the one over participants, and what the result generalizes to."""
    notes = {}
    for name in TABLES:
        about = context.read_group_sidecar(name)
        parts = [about.get("Test", "")]
        if about.get("FirstTest") != "participants" and "TheseSoundsOnly" in about:
            parts.append(f"beside it, {about['TheseSoundsOnly']}")
        parts += [about.get(key, "") for key in ("BestLayers", "LeftOut", "Generalizes")]
        said = ". ".join(part[0].upper() + part[1:] for part in parts if part)
        if said:
            notes[name] = f"{said}."
    return notes


def list_single(context: Context) -> list[str]:
    """List the hypotheses that were tested by the exchange of single sounds, as no other exchange changes them."""
    return [str(name) for name in context.read_group_sidecar("statistics").get("SingleSounds", ())]


def collect_test_facts(context: Context) -> dict[str, Any]:
    """Collect for the methods section which test came first, what was exchanged, and whether there was a bootstrap."""
    about = {of: context.read_group_sidecar(name) for name, of in TABLES.items()}
    return {
        "tests": {of: one["FirstTest"] for of, one in about.items() if "FirstTest" in one},
        "relabelings": about["scores"].get("Relabelings", ""),
        "exchanged": "; ".join(about["scores"][key] for key in ("Exchanged", "Substitute") if key in about["scores"]),
        "best_layers": "BestLayers" in about["differences"],
        "bootstrapped": context.build_table_path("bootstrap").exists(),
    }
