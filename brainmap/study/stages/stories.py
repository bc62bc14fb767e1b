"""Extract the windows of stories by every network, control and acoustic model, and the features of speech."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from brainmap.errors import InputError
from brainmap.features.sounds.files import load_sounds
from brainmap.features.sounds.reading import check_sound
from brainmap.features.sounds.windows import Windows, cut_windows
from brainmap.features.sounds.word_times import SPEECH
from brainmap.progress import log
from brainmap.record import content_key
from brainmap.rsa.encoding.latencies import describe_delays, describe_lag
from brainmap.study.results.context import Context
from brainmap.study.settings.stories import StoryModels
from brainmap.study.settings.study import Network
from brainmap.study.stages.networks import (
    Loaded,
    Version,
    build_features_path,
    extract_version,
    list_array_paths,
    load_every_network,
    make_model,
    store_path,
    yield_versions,
)
from brainmap.tables import read_table


def get_story_models(context: Context) -> StoryModels:
    """Return the section [stories], which a study of stories has."""
    asked = context.study.settings.stories
    assert asked is not None  # callers are stages of a study of stories
    return asked


def describe_latencies(asked: StoryModels) -> list[str]:
    """Say where delays, or the lag of RDMs of segments, lie where a hemodynamic response is not high."""
    return [*describe_delays(asked.delays), *(() if asked.segment is None else describe_lag(asked.lag))]


def list_sound_files(context: Context) -> dict[str, Path]:
    """Return the sound file of each story, in the order of the table."""
    table = context.sounds_table
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
    loaded = load_every_network(context)
    for version in yield_versions(context):
        one = loaded[version.network.name]
        key = _compute_network_key(context, one, version)
        context.run_stage(f"network-{version.name}", key, partial(_extract, context, one, version, key))
    if get_story_models(context).speech:
        _run_speech(context)


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

        sounds = load_sounds(context.sounds_table, level="none")
        store = build_features_path(context, SPEECH, "features.zarr")
        speech_features(sounds, words=words or None, features=asked.speech, store=store).close()
        return list_array_paths(store, "activations")

    files = [*map(str, list_sound_files(context).values()), *words.values()]
    key = content_key(VERSION, asked.speech, list(list_sound_files(context)), [context.digest(name) for name in files])
    context.run_stage("network-speech", key, compute)


def _compute_network_key(context: Context, loaded: Loaded, version: Version) -> str:
    """Return the key of everything that the activations of the windows depend on."""
    asked, sounds, network = get_story_models(context), loaded.sounds, version.heard
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
    windows = cut_stories(context, loaded)
    for line in windows.report.lines():
        log.info("%s", line)
    some = windows.take(np.unique(np.linspace(0, len(windows) - 1, 512).astype(np.intp)))
    model, pooling = make_model(context, loaded, version, some), version.heard.pooling
    pooling = pooling if isinstance(version.network, Network) else "mean"
    extract_version(context, model, windows, version, pooling=pooling, key=key).close()
    return list_array_paths(store_path(context, version), "activations")


VERSION = 1
