"""Check every input of a study of stories before anything is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from brainmap.checks import check_file, gather_problems, list_some
from brainmap.errors import InputError, name_place
from brainmap.features.sounds.word_times import check_word_times
from brainmap.rsa.encoding.stories import LEAST_STORIES, check_length, count_block
from brainmap.rsa.inputs.story_files import name_confounds
from brainmap.study.results.context import Context, check_output
from brainmap.study.settings.study import Network
from brainmap.study.stages.bands import check_band_layers
from brainmap.study.stages.copies import Measured, check_copies, list_files
from brainmap.study.stages.grids import accuse_odd_mask, join_masks
from brainmap.study.stages.hearing import check_baselines, find_layers, place_layers
from brainmap.study.stages.networks import Loaded, load_heard_network
from brainmap.study.stages.spaces import check_spaces
from brainmap.study.stages.stories import (
    choose_window,
    describe_latencies,
    get_story_models,
    list_word_files,
    measure_lengths,
)
from brainmap.study.stages.story_people import StoryPerson, build_story_settings, yield_story_people


def check_stories(context: Context, only: Sequence[str] = ()) -> dict[str, Any]:
    """Check sounds, networks, images, masks, ROIs and lengths, without writing results.

    Returns
    -------
    dict
        `table` (a row per participant), `problems` and `notes`, as `brainmap.study.check.Findings` has them.
    """
    problems: list[str] = []
    notes: list[str] = [f"[stories] {line}" for line in describe_latencies(get_story_models(context))]

    attempt = partial(gather_problems, problems)
    attempt(lambda: check_output(context))
    lengths: dict[str, float] = {}
    attempt(lambda: lengths.update(measure_lengths(context)))
    asked = get_story_models(context)
    if lengths and len(lengths) < LEAST_STORIES:
        problems.append(f"[stories] expected {LEAST_STORIES} stories or more, got {len(lengths)}; add some")
    if asked.folds is not None and asked.folds > len(lengths) >= LEAST_STORIES:
        problems.append(f"[stories] folds: expected at most one for each of {len(lengths)} stories, got {asked.folds}")
    for network in context.study.settings.network:
        attempt(partial(_check_network, context, network, lengths, notes))
    attempt(partial(check_baselines, context, lambda loaded: _take_window(loaded, choose_window(context, loaded))))
    for sound, file in list_word_files(context).items() if lengths else ():
        attempt(partial(check_word_times, file, lengths.get(sound, 0.0)))
    rows = []
    for one in yield_story_people(context, only):
        found: list[str] = []
        gather_problems(found, partial(_check_person, one, lengths))
        gather_problems(found, lambda one=one: one.n_voxels)  # type: ignore[misc]
        with contextlib.suppress(InputError):  # files that cannot be found are told already
            found = accuse_odd_mask(one.person, found, one.list_images())
        found = list(dict.fromkeys(found))
        problems += found
        rows.append(_describe(one, len(found)))
    people = list(yield_story_people(context, only))
    wrong_spaces, of_spaces = check_spaces([one.person for one in people])
    problems += [*wrong_spaces, *check_copies(_list_measured(people))]
    notes += of_spaces
    sizes = {tuple(row["scans"]) for row in rows if row["problems"] == "none"}
    if len(sizes) > 1:
        problems.append(
            "[stories] expected stories of as many scans in all participants, whose scans are exchanged together, got "
            f"{list_some([', '.join(map(str, one)) for one in sorted(sizes)], 3)}; cut the ends off that differ"
        )
    table = pd.DataFrame([{**row, "scans": sum(row["scans"]) or "-"} for row in rows])
    return {
        "table": table,
        "problems": tuple(dict.fromkeys(join_masks(problems))),
        "notes": tuple(dict.fromkeys(notes)),
    }


def _list_measured(people: Sequence[StoryPerson]) -> list[Measured]:
    """List the files of the stories of participants; those that cannot be found are told elsewhere."""
    found = []
    for one in people:
        with contextlib.suppress(InputError):
            for story in one.files:
                part = " ".join(["story", story.sound, *story.places.values()])
                found += [Measured(one.label, part, file) for file in list_files(one.person, story.file)]
    return found


def _check_network(context: Context, network: Network, lengths: dict[str, float], notes: list[str]) -> None:
    """Run one window through a network, find its layers, and note how many windows there are."""
    loaded, where = load_heard_network(context, network), f"[network] {network.name}"
    window = choose_window(context, loaded)
    short = [f"{item} ({seconds:.3g} s)" for item, seconds in lengths.items() if seconds < window]
    if short:
        raise InputError(f"{where}: expected stories longer than a window of {window:g} s, got {list_some(short, 4)}")
    segment, least = get_story_models(context).segment, min(lengths.values())
    if segment is not None and not window <= segment <= least:
        raise InputError(
            f"[stories] segment: expected {window:g} s (a window of {network.name}) to {least:g} s (the shortest "
            f"story), got {segment:g} s; change it"
        )
    layers = network.layers if isinstance(network.layers, str) else list(network.layers)
    refused = (
        f"the network refuses a window of {window:g} s: {{why}}; give [stories] window the length that it was trained "
        "on"
    )
    with name_place(where):
        _, known = find_layers(loaded, _take_window(loaded, window), layers, refused=refused)
        check_band_layers(context, network, [layer.name for layer in place_layers(network, known)])
    hop = get_story_models(context).hop
    n = sum(int((seconds - window) / hop + 1e-9) + 1 for seconds in lengths.values())
    versions = f" and its {' and '.join(network.controls)} control" if network.controls else ""
    notes.append(
        f"{network.name}{versions}: {n} windows of {window:g} s, one every {hop:g} s, of {len(lengths)} stories"
    )


def _take_window(loaded: Loaded, window: float) -> Any:
    """Return the first window of the first story."""
    return replace(loaded.sounds.take([0]), n_samples=round(window * loaded.sounds.rate))


def _check_person(one: StoryPerson, lengths: dict[str, float]) -> None:
    """Refuse stories whose files are missing, or longer or shorter than their sound."""
    wrong: list[str] = []
    t_r = one.files[0].t_r
    count_block(one.asked.block, t_r)
    if one.asked.hop > t_r + 1e-6:
        raise InputError(
            f"[stories] hop: expected at most the time between scans ({t_r:g} s), got {one.asked.hop:g} s; shorten it"
        )
    if one.asked.segment is not None and one.asked.segment < t_r:
        raise InputError(
            f"[stories] segment: expected the time between scans ({t_r:g} s) or more, got {one.asked.segment:g} s; "
            "lengthen it"
        )
    for file in one.files:
        settings = build_story_settings(one.asked, file)
        try:
            if one.person.story_confounds is not None:
                check_file(name_confounds(one.person.story_confounds, file), "confounds")
            if file.sound in lengths:
                check_length(file.n_scans, lengths[file.sound], settings, file.sound)
        except InputError as error:
            wrong.append(f"participant {one.label}: {error}")
    if wrong:
        raise InputError("\n".join(wrong))


def _describe(one: StoryPerson, problems: int) -> dict[str, Any]:
    """Describe the findings of a participant; values that cannot be read stay empty and are among the problems."""
    row: dict[str, Any] = {"participant": one.label, "scans": []}
    with contextlib.suppress(InputError):
        files = one.files
        first = {file.sound: file.n_scans for file in reversed(files)}
        row |= {
            "files": len(files),
            "stories": len(first),
            "repeated": sum(sum(f.sound == sound for f in files) > 1 for sound in first),
            "scans": list(reversed(first.values())),
            "TR [s]": files[0].t_r,
        }
        row["voxels"] = f"{one.n_voxels:,}"
        row["ROIs"] = len(one.regions)
    return {**row, "problems": problems or "none"}
