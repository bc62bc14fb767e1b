"""Check every input of a study before anything is computed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.checks import gather_problems, list_some
from brainmap.errors import BrainmapWarning, InputError, name_place
from brainmap.features.networks.description import Checkpoint, note_default_level
from brainmap.features.sounds.reading import read_sound
from brainmap.rsa.images.files import check_same_grid, image_info
from brainmap.rsa.inputs.layouts import read_repetition_time
from brainmap.rsa.inputs.runs import make_natural_key
from brainmap.rsa.patterns.screen import responsive_voxels
from brainmap.rsa.patterns.table import Pattern
from brainmap.rsa.patterns.volume import check_patterns
from brainmap.rsa.rdm.run_noise import FEWEST_RUNS, MOST_CHANNELS
from brainmap.rsa.regions.rois import build_grid
from brainmap.rsa.searchlights.spheres import compute_sphere_offsets
from brainmap.study.results.context import Context, apply_grid_tolerance, check_output
from brainmap.study.settings.study import Network, Participant
from brainmap.study.stages.bands import check_band_layers
from brainmap.study.stages.betas import check_order, plan_rows
from brainmap.study.stages.brains import (
    check_table,
    collect_pattern_arguments,
    describe_missing_residuals,
    describe_table,
    list_lost_repetitions,
    load_brain_mask,
    load_regions,
)
from brainmap.study.stages.categories import note_categories
from brainmap.study.stages.controls import check_controls, check_pairs
from brainmap.study.stages.copies import check_copies, list_measured
from brainmap.study.stages.costs import Size
from brainmap.study.stages.encoding import check_encoding
from brainmap.study.stages.event_names import check_event_names, check_set_aside
from brainmap.study.stages.explain import check_explained, choose_explained
from brainmap.study.stages.generality import announce_tests
from brainmap.study.stages.grids import accuse_odd_mask, join_masks
from brainmap.study.stages.group import check_truth
from brainmap.study.stages.group_maps import check_differences
from brainmap.study.stages.hearing import check_baselines, check_rdms, choose_first, find_layers, place_layers
from brainmap.study.stages.hypotheses import check_hypotheses
from brainmap.study.stages.networks import (
    Version,
    check_items,
    class_names,
    compute_network_key,
    describe_calls,
    load_heard_network,
)
from brainmap.study.stages.participants import WHITENED
from brainmap.study.stages.reach import announce_reach
from brainmap.study.stages.sizes import Heard, measure_size
from brainmap.study.stages.spaces import check_spaces
from brainmap.study.stages.stories_check import check_stories
from brainmap.study.stages.surfaces import check_same_meshes, check_surface, describe_surface
from brainmap.study.stages.wording import join_networks
from brainmap.tables import read_table

MOST_RUNS = 12  # that are named in the table of the check
COSTLY = (
    f"noise = 'runs' with {FEWEST_RUNS} runs weights each run by two others, which costs accuracy (RDMs correlated .81 "
    "with the truth in simulations, .945 with 4 runs); residuals of the GLM avoid this cost"
)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Hold the findings of a check.

    Attributes
    ----------
    table : DataFrame
        One row per participant: files, sessions, runs, space, grid, voxels, ROIs, conditions, TR, problems.
    problems : tuple of str
        One line each; the study runs only where there are none.
    notes : tuple of str
        Settings and findings that affect the results and are allowed.
    measure : callable, optional
        Measures the size of the study, for an estimate of its time and memory; None for stories.
    """

    table: pd.DataFrame
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    measure: Callable[[], Size] | None = None

    def refuse(self) -> None:
        """Raise an `InputError` with every problem, if there are any."""
        if self.problems:
            raise InputError("\n".join(self.problems))


@apply_grid_tolerance
def check_study(context: Context, *, participants: Sequence[str] = ()) -> Findings:
    """Check sounds, networks, images, masks, ROIs, labels, runs and the output folder, without writing results.

    What is found out about networks is kept in the user's cache, and not found out again.

    Parameters
    ----------
    context : Context
    participants : sequence of str
        Check only the files of these participants.

    Returns
    -------
    Findings
    """
    settings = context.study.settings
    if settings.stories is not None:
        return Findings(**check_stories(context, participants))
    problems: list[str] = []
    rows = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BrainmapWarning)
        gather_problems(problems, lambda: check_output(context))
        problems += _check_sounds(context)
        layers: dict[str, tuple[str, ...]] = {}
        heard: dict[str, list[str]] = {}  # networks, by what is noted of their sounds
        size = Heard()
        for network in settings.network:
            gather_problems(problems, partial(_check_network, context, network, layers, size))
            gather_problems(problems, partial(_note_sounds, context, network, heard))
        gather_problems(problems, lambda: check_baselines(context, lambda loaded: loaded.sounds.take([0])))
        ordered: list[str] = []  # further notes
        gather_problems(problems, lambda: ordered.extend(check_hypotheses(context)))
        people = _list_people(context, participants, problems)
        chosen: dict[str, list[str]] = {}  # participants, by note
        plans: dict[str, list[Pattern]] = {}
        for person in people:
            plan: list[Pattern] = []
            found = accuse_odd_mask(person, _check_person(context, person, plan, chosen))
            problems += found
            if plan:
                gather_problems(problems, partial(check_encoding, context, plan))
            rows.append(_describe_person(person, found, plan))
            for note in dict.fromkeys(one.note for one in person.found if one.note):
                chosen.setdefault(note, []).append(person.label)
            plans[person.label] = plan
        problems += list_lost_repetitions(people, plans)
        wrong_spaces, of_spaces = check_spaces(people)
        problems += [*wrong_spaces, *check_copies(list_measured(people))]
        for brain in settings.brain:
            gather_problems(problems, partial(check_set_aside, context, brain))
        sound = [person for person, row in zip(people, rows, strict=True) if row["problems"] == "none"]
        gather_problems(problems, lambda: _check_grids(context, sound))
        gather_problems(problems, lambda: ordered.extend(check_order(context, sound)))
        gather_problems(problems, lambda: ordered.extend(check_pairs(context)))
        if people:
            gather_problems(problems, lambda: check_truth(context, people[0], layers))
        if len(layers) == len(settings.network):  # a network that fails must be corrected first
            others = [one.layers for one in (settings.baselines, settings.hypotheses) if one is not None]
            gather_problems(problems, lambda: check_differences(context, [*layers.values(), *others]))
            gather_problems(problems, lambda: ordered.append(announce_tests(settings, context.stimuli, layers)))
            regions = [int(str(row.get("ROIs", 0))) for row in rows]
            reach = partial(announce_reach, settings, regions=max(regions, default=0))
            gather_problems(problems, lambda: ordered.extend(reach(context.stimuli, layers)))
            gather_problems(problems, lambda: ordered.extend(note_categories(context)))
    said = [str(w.message) for w in caught if issubclass(w.category, BrainmapWarning)]
    notes = [f"participant{'s' if len(who) > 1 else ''} {', '.join(who)}: {note}" for note, who in chosen.items()]
    of_sounds = [
        note
        if len(who) in (0, len(settings.network))
        else f"network{'s' if len(who) > 1 else ''} {', '.join(who)}: {note}"
        for note, who in heard.items()
    ]
    told = tuple(dict.fromkeys([*join_networks(of_sounds), *notes, *of_spaces, *ordered, *said]))
    ready = bool(sound) and not problems
    measure = partial(measure_size, context, sound[0], plans[sound[0].label], size) if ready else None
    return Findings(
        table=pd.DataFrame(rows), problems=tuple(dict.fromkeys(join_masks(problems))), notes=told, measure=measure
    )


def _list_people(context: Context, only: Sequence[str], problems: list[str]) -> list[Participant]:
    """List the participants whose files exist; add a problem for each of the others."""
    people: list[Participant] = []
    for brain in context.study.settings.brain:
        for label in brain.participants:
            if not only or label in only:
                try:
                    people.append(context.study.participant(brain, label))
                except InputError as error:
                    problems += str(error).splitlines()
    return people


def _describe_person(person: Participant, found: Sequence[str], plan: Sequence[Pattern]) -> dict[str, object]:
    """Describe the findings of a participant; values that cannot be read stay empty and are among the problems."""
    sessions = dict.fromkeys(one.session for one in person.found if one.session)
    first = person.found[0]
    row: dict[str, object] = {
        "participant": person.label,
        "files": len(person.files),
        "first file": Path(person.files[0]).name,
        "sessions": ", ".join(sessions) or "-",
        "runs": _list_runs(person, plan),
        "space": person.brain.space,
    }
    with contextlib.suppress(InputError):
        if person.brain.on_surface:
            row |= describe_surface(person)
        elif person.brain.on_table:
            row |= describe_table(person)
        else:
            row["grid"] = "x".join(map(str, image_info(first.image).shape[:3]))
            row["voxels"] = f"{int(np.count_nonzero(load_brain_mask(person).dataobj)):,}"
        row["ROIs"] = len(load_regions(person))
        row["conditions"] = len({pattern.condition for pattern in plan})
        row["patterns"] = sum(pattern.source >= 0 for pattern in plan)
        timed = not (person.brain.on_surface or person.brain.on_table)
        row["TR [s]"] = (read_repetition_time(first) if timed else None) or "-"
    return {**row, "problems": len(found) or "none"}


def _list_runs(person: Participant, plan: Sequence[Pattern]) -> str:
    """Name the runs of the patterns, of which a table may tell several in one file; many are counted."""
    names = sorted({row.run for row in plan if row.source >= 0}, key=make_natural_key) if plan else list(person.runs)
    if len(names) > MOST_RUNS:
        return f"{len(names)}: {', '.join(names[:2])} ... {names[-1]}"
    return ", ".join(names) if len(names) > 1 else "one"


def _check_sounds(context: Context) -> list[str]:
    """List every sound that is missing or cannot be read to its end, and other problems of the table."""
    problems: list[str] = []
    gather_problems(problems, lambda: context.stimuli)
    table = context.sounds_table
    if not table.is_file():
        return problems
    one_by_one: list[str] = []
    try:
        paths = read_table(table, "sounds")["path"]
    except (InputError, KeyError):
        return problems
    for path in paths:
        gather_problems(one_by_one, partial(read_sound, table.parent / path, rate=16_000))
    return problems + one_by_one


def _check_network(context: Context, network: Network, found: dict[str, tuple[str, ...]], size: Heard) -> None:
    """Record the layers after a forward pass of one sound and, where asked for, a class activation map."""
    loaded = load_heard_network(context, network)
    where = f"[network] {network.name}"
    check_items(context, loaded)
    asked = network.layers if isinstance(network.layers, str) else list(network.layers)
    fed = _describe_feeding(loaded.checkpoint).replace("{", "{{").replace("}", "}}")
    first = choose_first(loaded.sounds)
    which = repr(first.items[0]).replace("{", "{{").replace("}", "}}")
    refused = f"the network refuses {fed} of shape {{shape}} ({which}): {{why}}; check rate, seconds and input"
    with name_place(where):
        listed, chosen = find_layers(loaded, first, asked, refused=refused)
        chosen = place_layers(network, chosen)
    layers = tuple(layer.name for layer in chosen)
    check_band_layers(context, network, layers)
    found[network.name] = layers
    size.add(network, listed, chosen)
    slugs = [Version(network, "").slug(layer) for layer in layers]
    twice = [layer for layer, slug in zip(layers, slugs, strict=True) if slugs.count(slug) > 1]
    if twice:
        raise InputError(f"{where}: layers {list_some(twice)} would share file names; choose one of them in layers")
    with name_place(where):
        check_rdms(loaded, chosen, context.study.settings.rsa.items)
    if context.study.settings.explain is not None and choose_explained(context).network is network:
        size.add_patterns(listed, decoded=check_explained(context, loaded))


def _describe_feeding(checkpoint: Checkpoint) -> str:
    """Say what a network is fed."""
    taken = checkpoint.front_end
    return "a sound" if taken.is_waveform else f"the input {taken.describe()}"


def _note_sounds(context: Context, network: Network, notes: dict[str, list[str]]) -> None:
    """Note the report on the sounds as a network takes them, and how many it classifies as their condition.

    Notes of sounds are of some networks, which are listed; none are listed where the note names its network.
    """
    loaded = load_heard_network(context, network)
    level = note_default_level(context.study.resolve(network.checkpoint), network.level, say="level = '{}'")
    if level:
        notes[f"network {network.name}: {level}"] = []
    for line in loaded.sounds.report.lines():
        notes.setdefault(line, []).append(network.name)
    names = class_names(loaded)
    if names is not None:
        done = context.is_done(f"network-{network.name}", compute_network_key(context, loaded, Version(network, "")))
        notes[describe_calls(context, loaded, names, done=done)] = []


def _check_person(
    context: Context, person: Participant, plan: list[Pattern], chosen: dict[str, list[str]]
) -> list[str]:
    """List the problems of a participant's files, from headers, tables, mask and ROIs; note the planned choices."""
    problems: list[str] = []
    who = f"participant {person.label}: "
    gather_problems(problems, lambda: problems.extend(f"{who}{line}" for line in _check_sizes(context, person)), who)
    stimuli = None  # problems of the sounds are listed already, and the images are checked anyway
    with contextlib.suppress(InputError):
        stimuli = context.stimuli
    if person.brain.on_surface:
        gather_problems(problems, partial(check_surface, person, stimuli, context.study.settings.searchlight), who)
    elif person.brain.on_table:
        gather_problems(problems, partial(check_table, person, stimuli), who)
    elif person.brain.kind == "betas":
        wrong = check_patterns(**collect_pattern_arguments(person), stimuli=stimuli)
        problems += wrong
        for one in () if wrong else person.found:  # an unreadable file is listed already
            gather_problems(problems, partial(read_repetition_time, one))
    for name in (*person.residuals, *([person.sound] if person.sound else [])):
        gather_problems(problems, partial(_check_beside, person, name))
    if person.brain.noise == "residuals" and person.brain.kind == "betas" and not person.residuals:
        problems.append(f"{who}{describe_missing_residuals(person)}")
    gather_problems(problems, lambda: check_controls(context, person), who)
    try:
        if person.brain.kind == "bold" and stimuli:
            check_event_names(person, stimuli)
        rows, notes = plan_rows(person, stimuli) if not problems or person.brain.kind == "bold" else ([], ())
        plan += rows
        for note in notes:
            chosen.setdefault(note, []).append(person.label)
    except InputError as error:
        problems.append(f"{who}{error}")
    if not problems:
        problems += [f"{who}{line}" for line in _check_design(context, person, plan, stimuli)]
        if (
            context.study.settings.rsa.dissimilarity in WHITENED
            and person.brain.noise == "runs"
            and (len({row.run for row in plan if row.source >= 0}) == FEWEST_RUNS)
        ):
            chosen.setdefault(COSTLY, []).append(person.label)
        problems += [f"{who}{line}" for line in _check_radius(context, person)]
    return problems


def _check_beside(person: Participant, name: str) -> None:
    """Check that another image exists on the participant's grid, and that a screen's image names its distribution."""
    info, mask = image_info(name), image_info(person.masks[0])
    check_same_grid(build_grid(info.shape, info.affine), build_grid(mask.shape, mask.affine), what=name, wanted="mask")
    if name == person.sound:
        responsive_voxels(name, p=person.brain.screen.p)


def _check_design(
    context: Context, person: Participant, plan: Sequence[Pattern], stimuli: dict[str, str] | None
) -> Iterator[str]:
    """Check that the patterns have the items of the networks' RDMs, and runs where the settings need them."""
    there = [row for row in plan if row.source >= 0]
    rsa, light = context.study.settings.rsa, context.study.settings.searchlight
    if stimuli:
        have = {row.stimulus_id if rsa.items == "stimulus" else row.condition for row in there}
        want = set(stimuli) if rsa.items == "stimulus" else set(stimuli.values())
        if not have & want and {row.condition for row in there} <= set(stimuli.values()):
            yield (
                f"RDMs over different items: the networks' over {len(want)} stimuli, the brain's over {len(have)} "
                f"conditions ({list_some(sorted(have), 4)}); set [rsa] items = 'condition', or label volumes by "
                "stimulus"
            )
        elif have != want:
            lacking, extra = sorted(want - have), sorted(have - want)
            said = (
                f"no pattern of {list_some(lacking, 4)}"
                if lacking
                else f"no sound of the patterns {list_some(extra, 4)}"
            )
            yield f"RDMs over different items: {said}; list the same items in the table of sounds and in the patterns"
    needs = [
        f"{section} dissimilarity = {chosen!r}"
        for section, chosen in (("[rsa]", rsa.dissimilarity), ("[searchlight]", light.dissimilarity if light else ""))
        if chosen == "crossnobis" or (chosen in WHITENED and person.brain.noise == "runs")
    ]
    if light is not None and light.noise_per == "sphere" and person.brain.noise == "runs":
        needs.append("[searchlight] noise_per = 'sphere'")
    if needs and len({row.run for row in there}) < 2:
        yield (
            f"{' and '.join(needs)} needs two or more runs, got one in {Path(person.files[0]).name}; give betas a "
            "run ({run} in files; AFNI: -stim_times_IM, or a fit per run), or choose 'correlation' or 'euclidean'"
        )
    yield from _check_run_noise(person, needs, len({row.run for row in there}))
    if light is not None and light.noise_per == "sphere" and person.brain.noise == "none":
        yield "[searchlight] noise_per = 'sphere' needs [brain] noise = 'runs' or 'residuals'; set it, or take 'voxel'"
    if rsa.dissimilarity == "mahalanobis" and person.brain.noise == "none":
        yield "[rsa] dissimilarity = 'mahalanobis' needs [brain] noise = 'runs'; set it, or choose 'euclidean'"


def _check_run_noise(person: Participant, needs: Sequence[str], n_runs: int) -> Iterator[str]:
    """Check that products of different runs are free of the noise of these runs."""
    if needs and 1 < n_runs < FEWEST_RUNS and person.brain.noise == "runs":
        yield (
            f"[brain] noise = 'runs' needs {FEWEST_RUNS} or more runs, got {n_runs}, because each run is weighted by "
            "the noise of others; take noise = 'residuals' (of the GLM), or noise = 'none'"
        )
    if n_runs > 1 and "noise-runs" in person.brain.normalize:
        yield (
            f"[brain] normalize = 'noise-runs' divides patterns by the noise of all {n_runs} runs, which biases "
            "products of different runs; leave it out, and take dissimilarity = 'crossnobis' with noise = 'runs' and "
            "covariance = 'diag'"
        )


def _check_sizes(context: Context, person: Participant) -> Iterator[str]:
    """Check that regions can be read, and that the noise precision of every one fits into memory."""
    sizes = load_regions(person).sizes
    if context.study.settings.rsa.dissimilarity in WHITENED and person.brain.noise != "none":
        for name, size in sizes.items():
            if size > MOST_CHANNELS:
                yield (
                    f"ROI {name!r}: expected at most {MOST_CHANNELS} voxels, got {size}, whose noise precision would "
                    f"take {size**2 * 8e-9:.1f} GB; take smaller regions, or [brain] noise = 'none'"
                )


def _check_radius(context: Context, person: Participant) -> Iterator[str]:
    """Check that a sphere can hold enough voxels."""
    settings = context.study.settings.searchlight
    if settings is None or person.brain.on_surface:  # on a mesh the radius is checked with the patterns
        return
    try:
        grid = image_info(person.masks[0])
        most = len(compute_sphere_offsets(grid.affine, settings.radius_mm, shape=grid.shape))
    except InputError as error:
        yield str(error)
        return
    if most < settings.minimum_voxels:
        yield (
            f"searchlight: a sphere of {settings.radius_mm:g} mm holds {most} voxels, fewer than "
            f"minimum_voxels = {settings.minimum_voxels}; take a larger radius_mm or a smaller minimum"
        )


def _check_grids(context: Context, people: Sequence[Participant]) -> None:
    """Check that participants in one template's space are on one grid, which group maps require."""
    settings = context.study.settings.searchlight
    if settings is None:
        return
    if people and people[0].brain.on_surface:
        check_same_meshes(people, settings)
        return
    first: dict[str, Participant] = {}
    for person in people:
        space = person.brain.space
        other = first.setdefault(space, person)
        if space == "native" or other is person:
            continue
        mine, its = image_info(person.masks[0]), image_info(other.masks[0])
        check_same_grid(
            build_grid(mine.shape, mine.affine),
            build_grid(its.shape, its.affine),
            what=f"participant {person.label}: mask (space = {space!r})",
            wanted=f"mask of participant {other.label}",
        )
