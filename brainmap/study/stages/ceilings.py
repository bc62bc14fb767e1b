"""Map the noise ceilings of spheres (stage 3), where participants' patterns share a grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from brainmap.progress import log
from brainmap.record import content_key
from brainmap.rsa.searchlights.ceilings import map_ceilings
from brainmap.study.results.context import Context
from brainmap.study.settings.renamed import restore_first_keys
from brainmap.study.stages.brains import (
    build_searchlight_settings,
    load_brain_mask,
    map_noise,
    narrow_patterns,
)
from brainmap.study.stages.participants import Person, yield_people

CEILINGS_VERSION = 2

CEILINGS = {
    "lowerceiling": "lower noise ceiling: each participant's RDM against the pooled others', mean over participants",
    "upperceiling": "upper noise ceiling: each participant's RDM against all pooled, mean over participants",
}


def explain_no_ceilings(context: Context) -> str:
    """Say why there are no ceilings of spheres; the text is empty where there are."""
    people, settings = list(context.study.participants()), context.study.settings.searchlight
    spaces = sorted({person.brain.space for person in people})
    if settings is not None and not settings.ceilings:
        return "the study file has [searchlight] ceilings = false"
    if len(people) < 2:
        return "they need two participants or more"
    if any(person.brain.on_surface for person in people):
        return "they are made of volumes, and participants' patterns are on a surface"
    if spaces == ["native"]:
        return "participants' patterns are in native space, where no voxel of one is a voxel of another"
    if len(spaces) > 1:
        return f"participants' patterns are in different spaces ({', '.join(spaces)})"
    return ""


def build_ceiling_path(context: Context, stat: str) -> Path:
    """Return the path of the map of a ceiling; `stat` is one of `CEILINGS`."""
    space = next(iter(context.study.participants())).brain.space
    return context.build_group_path(context.choose_map_ending(space), space=space, desc="searchlight", stat=stat)


def run_ceiling_maps(context: Context) -> None:
    """Map the noise ceilings of the searchlight, or report why there are none."""
    settings = context.study.settings
    if settings.searchlight is None:
        return
    why = explain_no_ceilings(context)
    if why:
        log.info("ceiling maps: not made, %s; noise ceilings of regions are in ceilings.tsv", why)
        return
    people = list(yield_people(context))
    brains = [(one.person.brain.model_dump(exclude={"rois", "screen"}), one.person.runs) for one in people]
    own = restore_first_keys(settings.searchlight.model_dump(exclude={"group", "ceilings"}), "searchlight")
    key = content_key(
        CEILINGS_VERSION,
        [[context.digest(name) for name in one.person.inputs] for one in people],
        [[restore_first_keys(brain, "brain"), runs] for brain, runs in brains],
        [own, settings.rsa.items, settings.study.maps],
        context.stimuli,
    )
    context.run_stage("group_ceilings", key, lambda: _compute_ceilings(context, people))
    context.held.clear()
    context.ranks.clear()


def _compute_ceilings(context: Context, people: list[Person]) -> Iterator[Path]:
    settings = context.study.settings.light
    chosen = build_searchlight_settings(settings, context.study.settings.rsa.items)
    patterns, noises = {}, {}
    for one in people:
        # the patterns of all participants are in memory at once, so they are held in single precision
        held = context.held.pop(one.person.label, None)
        held = narrow_patterns(one.load_patterns()) if held is None else held
        patterns[one.person.label] = held
        noises[one.person.label] = map_noise(one.person, held, chosen, settings.noise_per)
    maps = map_ceilings(
        patterns,
        chosen,
        mask={one.person.label: load_brain_mask(one.person) for one in people},
        radius_mm=settings.radius_mm,
        noise=noises,
        threads=context.threads,
        kept=context.ranks,
    )
    inputs = [name for one in people for name in one.person.inputs]
    about = context.build_provenance({"searchlight": settings.model_dump(exclude={"group", "ceilings"})}, inputs)
    space = people[0].person.brain.space
    for stat, image in (("lowerceiling", maps.lower), ("upperceiling", maps.upper)):
        said = {
            "Description": CEILINGS[stat],
            "Measure": settings.measure,
            "Participants": len(people),
            "Approximate": maps.approximate and stat == "upperceiling",
        }
        yield from context.save_map(
            image, build_ceiling_path(context, stat), label=stat, space=space, about={**said, **about}
        )
