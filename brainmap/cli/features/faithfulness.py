"""Commands for whether maps can be believed: features faithfulness, randomization, localize."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.checks import one_of
from brainmap.cli.features.activations import commands
from brainmap.cli.features.listening import Hear, Listener, listening
from brainmap.cli.options import Seed, names
from brainmap.cli.outputs import Leave, leaving
from brainmap.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from brainmap.features.evaluation.faithfulness import Curves
    from brainmap.features.sounds.files import Sounds

TITLE = "Where each word is (shaded) and where maps place it"
log = logging.getLogger("brainmap")
Methods = Annotated[
    str, typer.Option("--method", "--methods", help="Of `cam` and `attribute`, parted by commas: grad-cam,saliency.")
]
Classes = Annotated[
    types.MapClass, typer.Option(help="Whose map: of the largest logit (predicted), or of the word said (true).")
]
MapLayer = Annotated[str | None, typer.Option("--layer", help="Of class activation maps; default: last-conv.")]


def _methods(text: str) -> list[str]:
    from brainmap.features.evaluation.explain import ALL_METHODS

    return [one_of(name, ALL_METHODS, "--method") for name in names(text)]


def _targets(one: Listener, classes: str) -> NDArray[np.intp]:
    from brainmap.features.evaluation.explain import all_logits, targets_of

    return targets_of(classes, all_logits(one.model, one.sounds, device=one.device), one.sounds, one.classes)


@commands.command()
@listening
@leaving
def faithfulness(
    hear: Hear,
    leave: Leave,
    method: Methods = "grad-cam,saliency,lrp",
    classes: Classes = "predicted",
    layer: MapLayer = None,
    windows: Annotated[int, typer.Option(min=2, help="Equal spans of time that are taken away.")] = 25,
    fill: Annotated[types.Fill, typer.Option(help="What takes the place of a span.")] = "zeros",
    fade: Annotated[float, typer.Option(min=0, max=1, help="Ramps at the edges, as a share of a window.")] = 0.25,
    score: Annotated[types.FaithfulnessScore, typer.Option(help="What is read from the network.")] = "probability",
    random_orders: Annotated[int, typer.Option(min=1, help="Of the baseline, each a sound.")] = 1,
    seed: Seed = 0,
) -> None:
    """Deletion and insertion curves of maps, and the pointing game and IoU against voiced sound."""
    import numpy as np
    import pandas as pd

    from brainmap.features.evaluation.explain import explain
    from brainmap.features.evaluation.faithfulness import CURVE_COLUMNS, deletion_curves
    from brainmap.viz.features.faithfulness import plot_deletion

    methods = _methods(method)
    one = hear()
    targets = _targets(one, classes)
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
        deletion_curves(
            one.model,
            one.sounds,
            maps,
            targets=np.repeat(targets[:, None], len(methods), axis=1),
            class_names=one.classes,
            order=order,
            device=one.device,
            rng=np.random.default_rng(seed),
            **settings,
        )
        for order in ("deletion", "insertion")
    ]
    curves, tables, rows = {}, [], []
    for place, name in enumerate(methods):
        curves[name] = [_of_method(both, place) for both in found]
        tables += [mine.table.assign(method=name, order=mine.order) for mine in curves[name]]
        rows.append({"method": name, **_curve_means(curves[name]), **_voiced(one.sounds, maps[:, [place]])})
    columns = {"method": "method of the map", "order": "deletion or insertion"} | CURVE_COLUMNS
    table = pd.concat(tables, ignore_index=True)[list(columns)]
    leave(
        table,
        columns,
        lambda: plot_deletion(curves),
        inputs=[one.path],
        seed=seed,
        shown=pd.DataFrame(rows),
        parameters={"classes": classes, **settings},
    )


def _of_method(found: Curves, place: int) -> Curves:
    return replace(
        found, scores=found.scores[:, [place]], random=found.random[:, [place]], targets=found.targets[:, [place]]
    )


def _curve_means(both: list[Any]) -> dict[str, float]:
    return {
        key: float(value.mean())
        for found in both
        for key, value in ((found.order, found.auc), (f"{found.order}_random", found.random_auc))
    }


def _voiced(sounds: Sounds, maps: NDArray[np.float32]) -> dict[str, float]:
    """Pointing game and IoU over the sounds that have voiced frames, with what a map without knowledge would get."""
    from brainmap.features.evaluation.faithfulness import map_agreement
    from brainmap.features.sounds.intervals import voicing_marks
    from brainmap.features.sounds.voicing import find_voicing

    marks = voicing_marks(find_voicing(sounds))
    there = marks.any(axis=1)
    if not there.any():
        return {}
    found = map_agreement(maps[there], marks[there], smooth=max(1, round(0.05 * sounds.rate)))
    return {
        "pointing": float(found.pointing.mean()),
        "iou": float(found.iou.mean()),
        "voiced": float(found.marked.mean()),
    }


@commands.command()
@listening
@leaving
def randomization(
    hear: Hear,
    leave: Leave,
    method: Methods = "layer-cam,saliency",
    classes: Classes = "predicted",
    layer: MapLayer = None,
    absolute: Annotated[bool, typer.Option("--absolute", help="Sizes of the maps, without their signs.")] = False,
    seed: Seed = 0,
) -> None:
    """How alike maps stay while layers, from the top to the bottom, are drawn anew (a sanity check)."""
    import numpy as np

    from brainmap.features.evaluation.randomization import COLUMNS, cascading_randomization, randomization_table
    from brainmap.viz.features.faithfulness import plot_randomization

    methods = _methods(method)
    one = hear()
    targets = _targets(one, classes)
    found = [
        cascading_randomization(
            one.model,
            one.sounds,
            method=name,
            targets=targets,
            absolute=absolute,
            layer=layer,
            rng=np.random.default_rng(seed),
            device=one.device,
        )
        for name in methods
    ]
    columns = {"method": "method of the map"} | COLUMNS
    table = randomization_table(found)[list(columns)]
    leave(
        table,
        columns,
        lambda: plot_randomization(found),
        inputs=[one.path],
        parameters={"classes": classes, "absolute": absolute},
        seed=seed,
    )


@commands.command()
@listening
@leaving
def localize(
    hear: Hear,
    leave: Leave,
    boundaries: Annotated[
        Path | None, typer.Option(help="Where each sound is: a .tsv with stimulus_id, start_s, end_s.")
    ] = None,
    plant: Annotated[
        float | None, typer.Option(help="Or put each sound at a random time into so many seconds of noise.")
    ] = None,
    background_db: Annotated[float, typer.Option(help="Level of that noise against the sound's.")] = -40.0,
    also: Annotated[list[Path] | None, typer.Option(help="Further checkpoints of ours, to be compared.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Parted by commas. Default: cam (where the head is pooled), grad-cam, saliency.")
    ] = None,
    classes: Classes = "true",
    layer: MapLayer = None,
    threshold: Annotated[float, typer.Option(help="Share of a map's maximum.")] = 0.2,
    smooth_ms: Annotated[float, typer.Option(min=0, help="Moving average over maps first.")] = 50.0,
    seed: Seed = 0,
) -> None:
    """Where networks that learned words place them in time, against known boundaries."""
    from brainmap.features.evaluation.localization import COLUMNS, localization_summary, localize as place
    from brainmap.viz.features.faithfulness import plot_localization

    if (boundaries is None) == (plant is None):
        raise InputError("localize: give --boundaries FILE, or --plant SECONDS; one of them")
    one = hear()
    sounds, truth = _placed(one.sounds, boundaries, plant, background_db, seed)
    models = {one.name: one.model} | _others(one, also or [])
    methods = _methods(method) if method is not None else _fitting(models, sounds)
    settings: dict[str, Any] = {"classes": classes, "layer": layer, "threshold": threshold, "smooth_ms": smooth_ms}
    table = place(models, sounds, truth, methods=methods, class_names=one.classes, device=one.device, **settings)
    about = settings | {"methods": methods, "plant_s": plant, "background_db": background_db}
    read = [one.path, *(also or []), *([boundaries] if boundaries else [])]
    leave(
        table,
        COLUMNS,
        lambda: plot_localization(sounds, table, title=TITLE),
        parameters=about,
        inputs=read,
        seed=seed,
        shown=localization_summary(table),
    )


def _fitting(models: dict[str, Any], sounds: Sounds) -> list[str]:
    """CAM, Grad-CAM and saliency; without CAM, and saying so, where a network has no pooled linear head."""
    from brainmap.features.attribution.cam import class_activation_maps

    try:
        for model in models.values():
            class_activation_maps(model, sounds.take([0]), method="cam", upsample=False)
    except InputError as error:
        log.info("without cam: %s", error)
        return ["grad-cam", "saliency"]
    return ["cam", "grad-cam", "saliency"]


def _placed(
    sounds: Sounds, boundaries: Path | None, plant: float | None, background_db: float, seed: int
) -> tuple[Sounds, pd.DataFrame]:
    import numpy as np
    import pandas as pd

    from brainmap.checks import existing_file
    from brainmap.features.sounds.intervals import plant_sounds

    if plant is not None:
        return plant_sounds(sounds, seconds=plant, background_db=background_db, rng=np.random.default_rng(seed))
    file = existing_file(boundaries or "", "--boundaries")
    try:
        return sounds, pd.read_csv(file, sep="\t")
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"--boundaries: {file} cannot be read as a table: {str(error).splitlines()[0]}") from None


def _others(one: Listener, paths: list[Path]) -> dict[str, Any]:
    """Further networks, which must know the same classes and be fed alike."""
    from brainmap.features.networks.checkpoints import load_checkpoint, load_network

    found = {}
    for path in paths:
        about = load_checkpoint(path)
        for what in ("classes", "rate", "level", "align"):
            ours, theirs = getattr(one.checkpoint, what), getattr(about, what)
            if ours != theirs:
                raise InputError(
                    f"--also: {path} has {what} {theirs!r}, {one.name} has {ours!r}; compare networks "
                    "that were fed alike and know the same classes"
                )
        if path.stem in found or path.stem == one.name:
            raise InputError(f"--also: two networks are called {path.stem!r}; rename a file, or give --name")
        found[path.stem] = load_network(path)
    return found
