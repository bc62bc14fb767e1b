"""Estimate what studies of some sizes take, for the table of docs/performance.md."""

from __future__ import annotations

from dataclasses import replace

from brainmap.resources import format_bytes, format_seconds
from brainmap.study.stages.costs import Explained, Light, Network, Size, estimate

_NET = Network(products=45e6, layers=9, units=500)
_LIGHT = Light(voxels=29_398, sphere=47)
_FINE = Light(voxels=225_741, sphere=389)
_DEMO = Size(
    sounds=48,
    items=48,
    participants=8,
    runs=4,
    patterns=192,
    grid=141_600,
    regions=(113,) * 8,
    networks=(_NET,),
    light=_LIGHT,
    explained=Explained(network=_NET, classes=16, channels=16, steps=150),
)
_LARGE = replace(_DEMO, sounds=96, items=96, participants=20, runs=8, patterns=768)
_WHOLE = replace(_LARGE, grid=902_629, regions=(900,) * 8, light=_FINE)
EXAMPLES: dict[str, Size] = {
    "regions only: 48 sounds, 8 participants of 4 runs, 1 network": replace(_DEMO, light=None, explained=None),
    "the demo: with searchlights at 4 mm (29,398 voxels), ceilings, patterns of 16 classes": _DEMO,
    "the same with 3 networks and 2 controls of each": replace(_DEMO, networks=(replace(_NET, versions=3),) * 3),
    "96 sounds, 20 participants of 8 runs, searchlights at 4 mm": replace(_LARGE, explained=None),
    "the same, crossnobis": replace(_LARGE, explained=None, light=replace(_LIGHT, slides=True)),
    "the same with TFCE": replace(_LARGE, explained=None, light=replace(_LIGHT, slides=True, enhanced=True)),
    "96 sounds, 20 participants of 8 runs, searchlights at 2 mm (225,741 voxels)": replace(_WHOLE, explained=None),
    "the same, crossnobis, without ceilings": replace(
        _WHOLE, explained=None, light=replace(_FINE, slides=True, ceilings=False)
    ),
    "165 sounds, 8 participants of 3 runs, regions and encoding models of their voxels": replace(
        _DEMO, sounds=165, items=165, runs=3, patterns=495, encoded=904, light=None, explained=None
    ),
}
"""Studies in the table of docs/performance.md; spheres have a radius of 9 mm."""


def tabulate_examples() -> str:
    """Write the table of docs/performance.md: what studies of some sizes take on 2 and on 16 cores."""
    lines = ["| study | 2 cores | 16 cores | memory |", "|---|---|---|---|"]
    for name, size in EXAMPLES.items():
        few, many = (estimate(size, cores=cores) for cores in (2, 16))
        lines.append(
            f"| {name} | {format_seconds(few.total)} | {format_seconds(many.total)} | {format_bytes(few.n_bytes)} |"
        )
    return "\n".join(lines) + "\n"
