"""Extract the windows of stories by every network, control and acoustic model, and the features of speech."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np

from brainmap.errors import InputError
from brainmap.features.sounds.files import load_sounds
from brainmap.features.sounds.reading import check_sound
from brainmap.features.sounds.windows import Windows, cut_windows
from brainmap.record import content_key
from brainmap.study.results.context import Context
from brainmap.study.settings.stories import StoryModels
from brainmap.study.settings.study import Network
from brainmap.study.stages.networks import (
    list_array_paths,
    load_baselines,
    load_heard_network,
    store_path,
    yield_versions,
)
from brainmap.study.stages.versions import Loaded, Version
from brainmap.tables import read_table

log = logging.getLogger("brainmap")
VERSION = 1


def get_story_models(context: Context) -> StoryModels:
    """Return the section [stories], which a study of stories has."""
    asked = context.study.settings.stories
    assert asked is not None  # callers are stages of a study of stories
    return asked


def list_sound_files(context: Context) -> dict[str, Path]:
    """Return the sound file of each story, in the order of the table."""
    table = Path(context.study.resolve(context.study.settings.stimuli.table))
    rows = read_table(table, "sounds")
    return {item: table.parent / path for item, path in zip(rows["stimulus_id"], rows["path"], strict=True)}


def measure_lengths(context: Context) -> dict[str, float]:
    """Return the length of each story [s]."""
    sizes = {item: check_sound(path) for item, path in list_sound_files(context).items()}
    return {item: frames / rate for item, (rate, frames) in sizes.items()}


def choose_window(context: Context, loaded: Loaded) -> float:
    """Return the length of a window of a network [s]: as the study says, or else the length that it was trained on.

    Raises
    ------
    InputError
        The network takes any length, and the study names none.
    """
    asked, sounds = get_story_models(context), loaded.sounds
    if asked.window is None and sounds.own_lengths:
        raise InputError(
            f"[stories] window: expected the seconds that {loaded.settings.name} hears at once, as it takes sounds of "
            "any length, got none; give it"
        )
    return sounds.n_samples / sounds.rate if asked.window is None else asked.window


def cut_stories(context: Context, loaded: Loaded) -> Windows:
    """Cut the stories into windows as a network takes them, once per call of brainmap."""
    asked, name = get_story_models(context), f"windows of {loaded.settings.name}"
    known = context.networks.get(name)
    if not isinstance(known, Windows):
        window = choose_window(context, loaded)
        known = context.networks[name] = cut_windows(loaded.sounds, window=window, hop=asked.hop)
    return known


def run_story_networks(context: Context) -> None:
    """Extract the activations of the windows of all stories by every network, control and acoustic model."""
    settings = context.study.settings
    loaded = {one.name: load_heard_network(context, one) for one in settings.network}
    if settings.baselines is not None:
        loaded[settings.baselines.name] = load_baselines(context, settings.baselines)
    for version in yield_versions(context):
        one = loaded[version.network.name]
        key = _compute_key(context, one, version)
        context.run_stage(f"network-{version.name}", key, partial(_extract, context, one, version, key))
    if get_story_models(context).speech:
        _run_speech(context)


def build_speech_path(context: Context) -> Path:
    """Return the path of the features of speech."""
    return context.study.out / "features" / "network-speech_features.zarr"


def list_word_files(context: Context) -> dict[str, str]:
    """Return the file of word times of each story; none where the study has no features of words."""
    named = get_story_models(context).words
    return (
        {}
        if named is None
        else {i: context.study.resolve(named.replace("{sound}", i)) for i in list_sound_files(context)}
    )


def _run_speech(context: Context) -> None:
    """Compute the features of speech that the study asks for."""
    asked, words = get_story_models(context), list_word_files(context)

    def compute() -> list[Path]:
        from brainmap.features.activations.speech import speech_features
        from brainmap.features.activations.store import get_current_arrays, open_store

        sounds = load_sounds(context.study.resolve(context.study.settings.stimuli.table), level="none")
        store = build_speech_path(context)
        speech_features(sounds, words=words or None, features=asked.speech, store=store).close()
        arrays = get_current_arrays(open_store(store, create=False), "activations").values()
        return [*(store / array.path for array in arrays), store / "activations" / "zarr.json"]

    files = [*map(str, list_sound_files(context).values()), *words.values()]
    key = content_key(VERSION, asked.speech, list(list_sound_files(context)), [context.digest(name) for name in files])
    context.run_stage("network-speech", key, compute)


def _compute_key(context: Context, loaded: Loaded, version: Version) -> str:
    """Return the key of everything that the activations of the windows depend on."""
    asked, sounds, network = get_story_models(context), loaded.sounds, version.network
    read = {"layers", "pooling", "pool_frequency", "units_axis"}
    return content_key(
        VERSION,
        loaded.digest,
        version.control,
        context.study.settings.study.seed if version.control else 0,
        network.model_dump(include=read) if isinstance(network, Network) else network.models,
        [choose_window(context, loaded), asked.hop],
        [[item, context.digest(str(path))] for item, path in list_sound_files(context).items()],
        [sounds.rate, sounds.level, sounds.front_end.key()],
    )


def _extract(context: Context, loaded: Loaded, version: Version, key: str) -> list[Path]:
    """Extract the activations of the windows into the store of a network, which a later run goes on with."""
    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.networks.controls import control_network

    network, model, windows = version.network, loaded.model, cut_stories(context, loaded)
    for line in windows.report.lines():
        log.info("%s", line)
    if version.control:
        seed = context.study.settings.study.seed
        rng = np.random.default_rng(np.random.SeedSequence([seed, *version.name.encode()]))
        some = windows.take(np.unique(np.linspace(0, len(windows) - 1, 512).astype(np.intp)))
        model = control_network(model, kind=version.control, rng=rng, sounds=some)  # type: ignore[arg-type]
    is_network = isinstance(network, Network)
    extract_activations(
        model,
        windows,
        layers=network.layers,
        pooling=network.pooling if is_network else "mean",
        store=store_path(context, version),
        device=context.device,
        network=version.name,
        key=key,
        threads=context.threads,
        units_axis=network.units_axis if isinstance(network, Network) else None,
        pool_frequency=isinstance(network, Network) and network.pool_frequency,
    ).close()
    return list_array_paths(context, version, "activations")
