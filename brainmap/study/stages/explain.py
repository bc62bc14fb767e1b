"""Explain layers (stage 4) by maximizing patterns as sounds, and by class activation maps of every stimulus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_file
from brainmap.errors import name_place
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.sounds.inputs import describe_input
from brainmap.progress import log
from brainmap.record import content_key, file_digest
from brainmap.study.results.context import Context, make_rng, restrict_threads
from brainmap.study.results.notices import collect_notices
from brainmap.study.settings.explain import Maximizing
from brainmap.study.settings.study import Network
from brainmap.study.stages.hearing import choose_first
from brainmap.study.stages.networks import (
    Loaded,
    Version,
    build_features_path,
    class_names,
    compute_heard_key,
    list_array_paths,
    list_inputs,
    load_heard_network,
    store_path,
    yield_versions,
)

if TYPE_CHECKING:
    from brainmap.features.attribution.results import ClassActivationMaps
    from brainmap.features.evaluation.judges import Judge
    from brainmap.features.maximization.decoder import ChosenPrior
    from brainmap.features.maximization.maximize import Maximization

VERSION = 2
DRAWS = 192  # random patterns of the prior beside those of classes


class Explaining(NamedTuple):
    """Hold a stage that explains layers: its name, its key, and what it computes."""

    name: str
    key: str
    compute: Callable[[], Iterable[Path]]


def plan_explain(context: Context, loaded: dict[str, Loaded]) -> list[Explaining]:
    """Plan class activation maps and activation maximization for the network that the study explains."""
    settings = context.study.settings.explain
    if settings is None:
        return []
    version = choose_explained(context)
    one = loaded[version.network.name]
    names = class_names(one)
    base = content_key(VERSION, version.name, compute_heard_key(context, one, version), names)
    key = content_key(base, settings.cam.model_dump(), one.sounds.items, one.sounds.conditions)
    maps = Explaining("explain_cam", key, lambda: _compute_cams(context, one, version, names))
    wanted = _find_wanted(context, one, version)
    maximization = settings.maximization
    key = content_key(
        base,
        maximization.steps,
        wanted,
        context.study.settings.study.seed,
        *digest_maximization(context),
    )
    patterns = Explaining("explain_maximization", key, lambda: _maximize_network(context, one, version, wanted, names))
    return [maps, patterns]


def run_explain(context: Context, plan: Sequence[Explaining]) -> None:
    """Run the stages that explain layers, but for those that were computed beside this process."""
    for one in plan:
        if one.name not in context.computed or context.ledger.read(one.name)["key"] is None:
            context.run_stage(one.name, one.key, one.compute)


def digest_maximization(context: Context) -> list[object]:
    """Return the prior, the judges, and the digests of their files, for the keys of stages that use them."""
    settings = context.study.settings.explained
    asked = settings.maximization
    files = [] if isinstance(asked.judges, str) else list(asked.judges)
    files += [] if asked.decoder is None else [asked.decoder]
    found = [file_digest(check_file(context.study.resolve(path), "[explain] maximization")) for path in files]
    return [asked.prior, asked.judges, found]


def choose_class_priors(context: Context, one: Loaded) -> tuple[ChosenPrior, ...]:
    """Choose the priors of the patterns of a network's classes.

    Raises
    ------
    InputError
        A decoder that cannot be read, or whose sounds the network does not take.
    """
    settings = context.study.settings.explain
    asked = Maximizing() if settings is None else settings.maximization
    from brainmap.features.maximization.decoder import choose_priors

    return choose_priors(
        asked.prior,
        decoder=None if asked.decoder is None else context.study.resolve(asked.decoder),
        class_names=class_names(one) or (),
        rate=one.sounds.rate,
        n_samples=one.sounds.n_samples,
        on_waveforms=one.checkpoint.front_end.is_waveform,
    )


def check_explained(context: Context, one: Loaded) -> bool:
    """Check that `[explain]` suits the network, and tell whether a decoder makes patterns of its classes.

    Raises
    ------
    InputError
        The class activation map, the prior or the judges cannot be made.
    """
    settings = context.study.settings.explained
    first, names = choose_first(one.sounds), class_names(one)

    def check() -> dict[str, Any]:
        from brainmap.features.attribution.cam import class_activation_maps

        cam = settings.cam
        with name_place("[explain.cam]"):
            class_activation_maps(
                one.model, first, method=cam.method, layer=cam.layer, class_names=names, upsample=None
            )
        with name_place("[explain.maximization]"):
            decoded = any(prior.decoder is not None for prior in choose_class_priors(context, one))
            return {"decoded": decoded, "notes": load_class_judges(context, one)[1]}

    with name_place("[explain.maximization]"):
        files = digest_maximization(context)
    found = one.keep("explained", [first.digest, settings.cam.model_dump(), names, files], check)
    for line in found["notes"]:
        log.info("%s", line)
    return bool(found["decoded"])


def load_class_judges(context: Context, one: Loaded) -> tuple[tuple[Judge, ...], tuple[str, ...]]:
    """Load the networks that judge patterns of classes, and say what was left out; none where classes are not named.

    Raises
    ------
    InputError
        A checkpoint that cannot be read, or that does not say how it is fed or what its classes are.
    """
    settings = context.study.settings.explained
    names, asked = class_names(one), settings.maximization.judges
    if asked == "none" or names is None:
        return (), ()
    from brainmap.features.evaluation.judges import load_judges

    paths = None if asked == "package" else [context.study.resolve(path) for path in asked]
    judges, notes = load_judges(paths, climbed=one.model)
    if asked == "package" and not any(set(judge.checkpoint.classes) & set(names) for judge in judges):
        return (), ("patterns of classes are not judged: the networks of brainmap know none of the classes",)
    return judges, tuple(f"note: {line}" for line in notes)


def choose_explained(context: Context) -> Version:
    """Return the network whose layers are explained."""
    settings = context.study.settings.explain
    name = settings.network if settings is not None else None
    return next(v for v in yield_versions(context) if not v.control and name in (None, v.network.name))


def count_class_steps(context: Context) -> int:
    """Count the steps of the patterns of named classes."""
    network = choose_explained(context).network
    assert isinstance(network, Network)  # baselines are not explained
    names = class_names(load_heard_network(context, network)) or ()
    asked = context.study.settings.explained.maximization
    return asked.steps * (len(names) if asked.classes == "all" else min(asked.classes, len(names)))


def choose_best_layers(context: Context, version: Version, layers: list[str], most: int) -> list[str]:
    """Return the layers that are best in most regions, chosen on held-out stimuli; without that table, the last."""
    table = context.read_group_table("best_layers")
    if table is None:
        return layers[len(layers) - min(most, len(layers)) :]
    table = table[(table["network"] == version.name) & table["layer"].isin(layers)]
    ranked = table.groupby("layer")["score"].agg(["size", "max"]).sort_values(["size", "max"], ascending=False)
    return sorted((str(layer) for layer in ranked.index[:most]), key=layers.index)


def _find_wanted(context: Context, one: Loaded, version: Version) -> dict[str, list[int]]:
    """Return the units to maximize; they are chosen again only where the responses or the best layers have changed."""
    settings = context.study.settings.explained
    best = context.build_table_path("best_layers")
    asked = settings.maximization.model_dump(include={"classes", "best_layers", "channels"})
    heard = context.ledger.read(f"network-{version.name}")["key"]
    key = [one.sounds.digest, heard, version.heard.pooling, asked, file_digest(best) if best.exists() else ""]
    found: dict[str, list[int]] = one.keep("wanted", key, lambda: _list_wanted(context, one, version))
    return found


def _list_wanted(context: Context, one: Loaded, version: Version) -> dict[str, list[int]]:
    """Choose the units to maximize: the classes, and in the best layers the channels that vary most over sounds."""
    from brainmap.features.activations.stored import open_activations
    from brainmap.features.layers.listing import list_layers

    settings = context.study.settings.explained
    activations = open_activations(store_path(context, version))
    known = {layer.name: layer for layer in list_layers(one.model, one.sounds.take([0]))}
    n_classes = known[OUTPUT].shape[0]
    most = n_classes if settings.maximization.classes == "all" else min(settings.maximization.classes, n_classes)
    wanted = {OUTPUT: list(range(most))} if most else {}
    layers = [name for name in activations.layers if name in known and known[name].is_convolution]
    for layer in choose_best_layers(context, version, layers, settings.maximization.best_layers):
        if version.heard.pooling == "flatten" or not settings.maximization.channels:
            continue
        responses = np.asarray(activations[layer][:], dtype=np.float64)
        # a unit has a column for each band where frequency was kept, and frames where time was (pooling "none")
        responses = responses.reshape(len(responses), known[layer].shape[0], -1).mean(axis=2)
        spread = responses.std(axis=0) / (np.abs(responses).mean(axis=0) + 1e-12)
        spread[responses.max(axis=0) <= 0] = 0  # these units are inactive on the sounds
        wanted[layer] = sorted(int(u) for u in np.argsort(-spread, kind="stable")[: settings.maximization.channels])
    activations.close()
    return wanted


def _compute_cams(context: Context, one: Loaded, version: Version, names: tuple[str, ...] | None) -> Iterator[Path]:
    from brainmap.features.activations import store as stores
    from brainmap.features.attribution.cam import class_activation_maps
    from brainmap.features.representations.files import save_cams

    settings = context.study.settings.explained
    cams = class_activation_maps(
        one.model,
        one.sounds,
        method=settings.cam.method,
        layer=settings.cam.layer,
        class_names=names,
        device=context.device,
        threads=context.threads,
        upsample=None,
    )
    path = store_path(context, version)
    stores.set_current(stores.open_store(path), "cam", {}, network=version.name)
    fed, axes = one.checkpoint, describe_input(one.sounds)
    save_cams(cams, path, rate=fed.rate, align=fed.align, network=version.name, axes=axes)
    table = pd.DataFrame(cams.logits, columns=list(cams.class_names))
    table.insert(0, "stimulus_id", list(cams.items))
    table.insert(1, "condition", list(cams.conditions))
    columns = {"stimulus_id": "stimulus", "condition": "what it is"} | {
        n: f"logit of class {n}" for n in cams.class_names
    }
    yield from list_array_paths(store_path(context, version), "cam")
    yield from list_array_paths(store_path(context, version), "cam_logits")
    about = context.build_provenance({"cam": settings.cam.model_dump()}, list_inputs(context, version))
    yield from context.save_table(
        table, build_features_path(context, version.name, "logits.tsv"), columns=columns, about=about
    )


def _maximize_network(
    context: Context, one: Loaded, version: Version, wanted: dict[str, list[int]], names: tuple[str, ...] | None
) -> Iterator[Path]:
    from brainmap.features.activations import store as stores
    from brainmap.features.evaluation.judges import JUDGED_COLUMNS, NOISE_COLUMNS, judge_maximization
    from brainmap.features.maximization.decoder import AUDIO
    from brainmap.features.representations.files import name_beside, save_maximization

    settings = context.study.settings.explained
    seed = context.study.settings.study.seed
    judges, notes = load_class_judges(context, one) if OUTPUT in wanted else ((), ())
    for line in notes:
        log.info("%s", line)
    stores.set_current(stores.open_store(store_path(context, version)), "am", {}, network=version.name)
    quality = []
    noises: dict[tuple[int, ...], NDArray[np.float64]] = {}  # the same for patterns of classes by every prior
    for layer, units in wanted.items():
        for at, by in enumerate(choose_class_priors(context, one) if layer == OUTPUT else (AUDIO,)):
            judging = judges if layer == OUTPUT else ()
            am = _take_patterns(context, layer, units, at) or _climb(context, one, layer, units, by)
            if judging and am.can_be_heard:
                like = (am.rate, *am.patterns.shape[1:])
                am = judge_maximization(
                    am,
                    judging,
                    sounds=one.sounds,
                    noise=noises.get(like),
                    rng=np.random.default_rng(seed),
                    device=context.device,
                    threads=context.threads,
                )
                if set(NOISE_COLUMNS) <= set(am.quality):
                    noises[like] = am.quality[list(NOISE_COLUMNS)].to_numpy(np.float64).T
            name = name_beside(layer, am.prior) if at else layer
            folder = build_features_path(context, version.name, "maximization")
            wavs = am.save_wav(folder, seconds=0.5, name=name) if am.can_be_heard else []
            files = [file.name for file in wavs]
            save_maximization(am, store_path(context, version), network=version.name, wavs=files, beside=at > 0)
            yield from wavs
            quality.append(_tabulate_quality(am))
    yield from list_array_paths(store_path(context, version), "am")
    if quality:
        table = pd.concat(quality, ignore_index=True)
        columns = {str(c): str(c).replace("_", " ") for c in table.columns} | QUALITY_COLUMNS | JUDGED_COLUMNS
        about = context.build_provenance(
            {"maximization": settings.maximization.model_dump()}, list_inputs(context, version)
        )
        path = build_features_path(context, version.name, "maximization.tsv")
        yield from context.save_table(table, path, columns=columns, about=about)


def _climb(context: Context, one: Loaded, layer: str, units: Sequence[int], by: ChosenPrior) -> Maximization:
    """Find the patterns of some units of a layer by one prior."""
    from brainmap.features.maximization.maximize import maximize_activation

    log.info("maximizing %d units of %s by the %s prior", len(units), layer, by.prior)
    steps = context.study.settings.explained.maximization.steps
    return maximize_activation(
        one.model,
        layer=layer,
        units=units,
        settings=by.settings(steps=steps, draws=DRAWS if layer == OUTPUT else 0),
        sounds=one.sounds,
        class_names=class_names(one) if layer == OUTPUT else None,
        decoder=by.decoder,
        rng=make_rng(context, layer),
        device=context.device,
        threads=context.threads,
    )


def find_class_patterns(context: Context, one: Loaded) -> None:
    """Find the patterns of classes before the best layers are known; the stage that keeps them takes them from here."""
    settings, names = context.study.settings.explain, class_names(one)
    if settings is None or names is None:
        return
    asked = settings.maximization.classes
    units = list(range(len(names) if asked == "all" else min(asked, len(names))))
    _find_patterns(context, one, OUTPUT, units, choose_class_priors(context, one) if units else ())


def find_layer_patterns(context: Context, loaded: dict[str, Loaded]) -> None:
    """Find the patterns of the best layers before the stage that keeps them, as those of classes."""
    from brainmap.features.maximization.decoder import AUDIO

    version = choose_explained(context)
    one = loaded[version.network.name]
    for layer, units in _find_wanted(context, one, version).items():
        if layer != OUTPUT:
            _find_patterns(context, one, layer, units, (AUDIO,))


def _find_patterns(
    context: Context, one: Loaded, layer: str, units: Sequence[int], priors: Sequence[ChosenPrior]
) -> None:
    for at, by in enumerate(priors):
        with collect_notices() as notices, restrict_threads():
            found = _climb(context, one, layer, units, by)
        context.patterns[layer, tuple(units), at] = found, tuple(notices)


def _take_patterns(context: Context, layer: str, units: Sequence[int], at: int) -> Maximization | None:
    """Take the patterns that were found early, and warn again within the stage; None where there are none."""
    found: Maximization | None
    found, notices = context.patterns.pop((layer, tuple(units), at), (None, ()))
    for line in notices:
        log.warning("note: %s", line)
    return found


QUALITY_COLUMNS = {
    "layer": "layer",
    "prior": "what held the pattern to sounds: a decoder, a spectrum (audio), or nothing",
    "unit": "unit of the layer",
    "label": "class, or layer and unit",
    "best_random": f"what the best of {DRAWS} random patterns of the prior reaches",
}


def _tabulate_quality(am: Maximization) -> pd.DataFrame:
    table = am.quality.reset_index(drop=True).copy()
    n = len(am.units)
    for name, values in (("label", list(am.labels)), ("prior", [am.prior] * n), ("layer", [am.layer] * n)):
        if name not in table:
            table.insert(0, name, values)
    return table


def read_cams(context: Context, version: Version) -> ClassActivationMaps | None:
    """Read the class activation maps, or return None where there are none."""
    from brainmap.features.representations.files import list_stored_layers, open_cams

    path = store_path(context, version)
    return open_cams(path).cams if list_stored_layers(path, "cam") else None
