"""The command that tests whether maps are faithful: features faithfulness."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import Hear, Listener, add_listener_options, commands
from brainmap.cli.options import Leave, Seed, add_output_options, check_names, make_rng, split_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Methods = Annotated[
    str,
    typer.Option(
        "--method",
        "--methods",
        parser=check_names(types.MapMethod, "--method"),
        metavar="METHOD,...",
        help="Methods of `features cam` and `features attribute`, parted by commas, as in grad-cam,saliency.",
    ),
]
Classes = Annotated[
    types.MapClass,
    typer.Option(
        help="Class whose map is tested: that of the largest logit (predicted), or that of the spoken word (true)."
    ),
]
MapLayer = Annotated[str | None, typer.Option("--layer", help="Layer of class activation maps; default: last-conv.")]


def find_targets(one: Listener, classes: str) -> NDArray[np.intp]:
    """Return the class of each sound whose map is meant."""
    from brainmap.features.evaluation.explain import choose_targets, compute_all_logits

    return choose_targets(
        classes, compute_all_logits(one.model, one.sounds, device=one.device), one.sounds, one.classes
    )


@commands.command()
@add_listener_options
@add_output_options
def faithfulness(
    hear: Hear,
    leave: Leave,
    method: Methods = "grad-cam,saliency,lrp",
    classes: Classes = "predicted",
    layer: MapLayer = None,
    windows: Annotated[
        int, typer.Option(min=2, help="Number of equal stretches of time that are removed one after the other.")
    ] = 25,
    fill: Annotated[types.Fill, typer.Option(help="What replaces a removed stretch.")] = "zeros",
    fade: Annotated[
        float, typer.Option(min=0, max=1, help="Length of the ramps at the edges, as a share of a stretch.")
    ] = 0.25,
    score: Annotated[
        types.FaithfulnessScore, typer.Option(help="Score that is read from the network.")
    ] = "probability",
    random_orders: Annotated[
        int, typer.Option(min=1, help="Number of random orders for each sound, the baseline.")
    ] = 1,
    seed: Seed = 0,
) -> None:
    """Measure how faithful maps are: deletion and insertion curves, pointing game and IoU against voiced sound."""
    import numpy as np
    import pandas as pd

    from brainmap.features.evaluation.explain import explain
    from brainmap.features.evaluation.faithfulness import CURVE_COLUMNS

    methods = split_names(method)
    one = hear()
    targets = find_targets(one, classes)
    settings: dict[str, Any] = {
        "windows": windows,
        "fill": fill,
        "fade": fade,
        "score": score,
        "random_orders": random_orders,
    }
    maps = np.stack(
        [
            explain(one.model, one.sounds, method=name, targets=targets, layer=layer, device=one.device)
            for name in methods
        ],
        axis=1,
    )
    # all methods in one pass: the random orders are the same for all
    found = [
        features.deletion_curves(
            one.model,
            one.sounds,
            maps,
            targets=np.repeat(targets[:, None], len(methods), axis=1),
            class_names=one.classes,
            order=order,
            device=one.device,
            rng=make_rng(seed),
            **settings,
        )
        for order in ("deletion", "insertion")
    ]
    curves, tables, rows = {}, [], []
    for place, name in enumerate(methods):
        curves[name] = [_select_method(both, place) for both in found]
        tables += [mine.table.assign(method=name, order=mine.order) for mine in curves[name]]
        rows.append({"method": name, **_average_curves(curves[name]), **_score_voicing(one.sounds, maps[:, [place]])})
    columns = {"method": "method of the map", "order": "deletion or insertion"} | CURVE_COLUMNS
    table = pd.concat(tables, ignore_index=True)[list(columns)]
    one.say_understanding()
    leave(
        table,
        columns,
        lambda: viz.plot_deletion(curves),
        inputs=one.inputs,
        seed=seed,
        shown=pd.DataFrame(rows),
        parameters={"classes": classes, **settings},
    )


def _select_method(found: features.Curves, place: int) -> features.Curves:
    return replace(
        found, scores=found.scores[:, [place]], random=found.random[:, [place]], targets=found.targets[:, [place]]
    )


def _average_curves(both: list[Any]) -> dict[str, float]:
    return {
        key: float(value.mean())
        for found in both
        for key, value in ((found.order, found.auc), (f"{found.order}_random", found.random_auc))
    }


def _score_voicing(sounds: features.Sounds, maps: NDArray[np.float32]) -> dict[str, float]:
    """Compute pointing game and IoU over sounds with voiced frames, and the chance level of both."""
    from brainmap.features.sounds.inputs import compute_time_courses, describe_input
    from brainmap.features.sounds.intervals import mark_voicing

    marks = mark_voicing(features.find_voicing(sounds))
    there = marks.any(axis=1)
    if not there.any():
        return {}
    courses = compute_time_courses(maps, describe_input(sounds))
    found = features.map_agreement(courses[there], marks[there], smooth=max(1, round(0.05 * sounds.rate)))
    return {
        "pointing": float(found.pointing.mean()),
        "iou": float(found.iou.mean()),
        "voiced": float(found.marked.mean()),
    }
