"""Measure the size of a study from what its check has read, for the estimate of its time and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from brainmap.features.layers.layer import Layer
from brainmap.rsa.images.files import image_info
from brainmap.rsa.patterns.table import Pattern
from brainmap.rsa.searchlights.spheres import compute_sphere_offsets
from brainmap.study.results.context import Context
from brainmap.study.settings.study import Network, Participant, Searchlight
from brainmap.study.stages import costs
from brainmap.study.stages.brains import load_brain_mask, load_regions
from brainmap.study.stages.explain import choose_explained
from brainmap.study.stages.surfaces import describe_surface

_INSIDE = 0.85  # share of a sphere that lies in the brain, on average
_CORTEX_MM2 = 180_000.0  # of both hemispheres
_ACOUSTIC = costs.Network(products=45e6, layers=1, units=2000)  # about what an acoustic model takes


@dataclass
class Heard:
    """Hold what the check has learned of the networks: their sizes, and what makes their patterns of classes."""

    networks: dict[str, costs.Network] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    n_classes: int = 0
    decoded: bool = False

    def add(self, network: Network, listed: Sequence[Layer], chosen: Sequence[Layer]) -> None:
        """Add a network, of which all layers and those with an RDM are known.

        A weight is multiplied once at each position of its layer.
        """
        whole = network.pooling in ("none", "flatten")
        self.networks[network.name] = costs.Network(
            products=float(sum(layer.parameters * math.prod(layer.shape[1:]) for layer in listed)),
            layers=len(chosen),
            units=sum(math.prod(layer.shape if whole else layer.shape[:1]) for layer in chosen),
            versions=1 + len(network.controls),
        )
        self.layers[network.name] = len(chosen)

    def add_patterns(self, listed: Sequence[Layer], *, decoded: bool) -> None:
        """Add what the patterns of classes of the explained network are made with."""
        self.n_classes = listed[-1].shape[0] if listed else 0
        self.decoded = decoded


def measure_size(context: Context, person: Participant, plan: Sequence[Pattern], heard: Heard) -> costs.Size:
    """Measure a study, with one participant for all."""
    settings = context.study.settings
    there = [row for row in plan if row.source >= 0]
    items = {row.stimulus_id if settings.rsa.items == "stimulus" else row.condition for row in there}
    regions = load_regions(person)
    networks = list(heard.networks.values())
    if settings.baselines is not None:
        networks += [_ACOUSTIC] * len(settings.baselines.models)
    if settings.hypothesis:
        networks.append(costs.Network(products=0, layers=len(settings.hypothesis), units=0))
    encoding, inference = settings.encoding, settings.rsa.inference
    shapes = (
        []
        if person.brain.on_surface or person.brain.on_table
        else [image_info(one.image).shape for one in person.found]
    )
    partial = bool(settings.rsa.control_for)
    return costs.Size(
        sounds=len(context.stimuli),
        items=len(items),
        participants=sum(len(brain.participants) for brain in settings.brain),
        runs=len({row.run for row in there}),
        patterns=len(there),
        grid=math.prod(shapes[0][:3]) if shapes else 0,
        regions=tuple(regions.sizes.values()),
        networks=tuple(networks),
        crossnobis=settings.rsa.dissimilarity in ("crossnobis", "mahalanobis") and person.brain.noise != "none",
        light=None
        if settings.searchlight is None
        else _measure_light(context, person, settings.searchlight, there, heard),
        explained=_measure_explained(context, heard),
        bootstrap=0 if partial else inference.bootstrap,
        permutations=0 if partial else inference.permutations,
        encoded=0 if encoding is None else len(regions) if encoding.targets == "roi" else sum(regions.sizes.values()),
        encoding_permutations=0 if encoding is None else encoding.permutations,
        bold_volumes=sum(shape[3] for shape in shapes if len(shape) > 3) if person.brain.kind == "bold" else 0,
    )


def _measure_light(
    context: Context, person: Participant, light: Searchlight, there: Sequence[Pattern], heard: Heard
) -> costs.Light:
    if person.brain.on_surface:
        voxels = int(str(describe_surface(person)["voxels"]).replace(",", ""))
        sphere = max(1.0, math.pi * light.radius_mm**2 * voxels / _CORTEX_MM2)
    else:
        grid = image_info(person.masks[0])
        voxels = int(np.count_nonzero(load_brain_mask(person).dataobj))
        sphere = _INSIDE * len(compute_sphere_offsets(grid.affine, light.radius_mm, shape=grid.shape))
    runs = {row.run for row in there}
    asked = light.group.differences
    return costs.Light(
        voxels=voxels,
        sphere=round(sphere),
        slides=light.dissimilarity != "correlation" or len(runs) == 1,
        ranked=light.measure in ("spearman", "rho-a"),
        per_sphere=light.noise_per == "sphere",
        permutations=light.group.permutations,
        enhanced=light.group.correction != "max-t",
        ceilings=light.ceilings and not person.brain.on_surface and person.brain.space != "native",
        differences=sum(len(list(combinations(range(n), 2))) for n in heard.layers.values())
        if isinstance(asked, str)
        else len(asked),
    )


def _measure_explained(context: Context, heard: Heard) -> costs.Explained | None:
    settings = context.study.settings.explain
    if settings is None:
        return None
    asked, name = settings.maximization, choose_explained(context).network.name
    regions = 0 if context.study.settings.encoding is None else asked.regions  # a sound for each, as for a channel
    return costs.Explained(
        network=heard.networks[name],
        classes=heard.n_classes if asked.classes == "all" else min(asked.classes, heard.n_classes),
        channels=asked.channels * asked.best_layers + regions,
        steps=asked.steps,
        decoded=heard.decoded,
        judged=asked.judges != "none",
    )
