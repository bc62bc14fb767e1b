"""Fit encoding models of stories: windows of every network and control, then the time courses of each participant."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.features.activations.extract import extract_activations, open_activations
from brainmap.features.activations.speech import NAME as SPEECH, speech_features
from brainmap.features.activations.store import get_current_arrays, open_store
from brainmap.features.networks.controls import control_network
from brainmap.features.sounds.files import load_sounds
from brainmap.features.sounds.reading import check_sound
from brainmap.features.sounds.windows import Windows, cut_windows
from brainmap.record import content_key
from brainmap.rsa.encoding.counts import COUNT_COLUMNS
from brainmap.rsa.encoding.encode import ENCODING_COLUMNS, Encoding, fit_encoding
from brainmap.rsa.encoding.fits import EncodingSettings
from brainmap.rsa.encoding.noise import measure_explainable_variance
from brainmap.rsa.encoding.ridge import check_alphas, find_device
from brainmap.rsa.encoding.stories import AlignedStories, StorySettings, align_stories, count_delays
from brainmap.rsa.inputs.stories import Stories, StoryFile, find_story_files, load_stories, name_confounds
from brainmap.rsa.patterns.table import VOXEL_COLUMNS
from brainmap.study.results.context import Context, make_parent
from brainmap.study.results.tables import read_results_table
from brainmap.study.settings.participant import Participant
from brainmap.study.settings.stories import StoryModels
from brainmap.study.settings.study import Network
from brainmap.study.stages.brains import load_regions
from brainmap.study.stages.encoding import keep_targets
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
_PARTICIPANT = {"participant": "label of the participant"}
_COLUMNS = {
    **_PARTICIPANT,
    **ENCODING_COLUMNS,
    "explainable_variance": "share of the variance of one repetition that repeats, bias-corrected; n/a without repeats",
}
_COUNTS = _PARTICIPANT | COUNT_COLUMNS
_VOXELS = _PARTICIPANT | VOXEL_COLUMNS
DELAY_COLUMNS = {
    **_PARTICIPANT,
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "roi": "region of interest",
    "delay": "time from a feature to the response [s]",
    "weight": "root mean square of the weights of this delay over units, as a share of the sum over delays; mean over "
    "the targets of the region",
}


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


@dataclass(frozen=True)
class StoryPerson:
    """Hold the layers and the time courses of a participant, read when a stage first needs them."""

    context: Context
    person: Participant
    asked: StoryModels

    @property
    def label(self) -> str:
        """Return the label of the participant."""
        return self.person.label

    @property
    def stage(self) -> str:
        """Return the name of the stage."""
        return f"sub-{self.label}_stories"

    @property
    def path(self) -> Path:
        """Return the path of the table of scores."""
        return self.context.build_subject_path(self.person, "stories.tsv", desc="rois")

    @property
    def delay_path(self) -> Path:
        """Return the path of the table of weights by delay."""
        return self.context.build_subject_path(self.person, "stories.tsv", desc="delays")

    @cached_property
    def files(self) -> list[StoryFile]:
        """Find the files of all stories, and read their headers.

        Raises
        ------
        InputError
            As in `find_story_files`; the message names the participant.
        """
        sounds = list(list_sound_files(self.context))
        try:
            return find_story_files(self.person.files[0], sounds, t_r=self.asked.t_r, mask=self.person.masks)
        except InputError as error:
            raise InputError(f"participant {self.label}: {error}") from None

    @cached_property
    def inputs(self) -> list[str]:
        """List every file that the time courses depend on."""
        named = self.person.story_confounds
        confounds = [] if named is None else [name_confounds(named, one) for one in self.files]
        return [*(one.file for one in self.files), *confounds, *self.person.masks, *self.person.roi_files]

    @cached_property
    def data(self) -> Stories:
        """Read the time courses."""
        return load_stories(
            self.person.files[0],
            list(list_sound_files(self.context)),
            mask=self.person.masks,
            rois=load_regions(self.person),
            targets=self.asked.targets,
            confounds=self.person.story_confounds,
            strategy=self.asked.strategy,
            t_r=self.asked.t_r,
        )

    @cached_property
    def aligned(self) -> AlignedStories:
        """Bring the layers of all networks and the time courses of the regions to the same scans."""
        context, asked = self.context, self.asked
        stores = {version.name: store_path(context, version) for version in yield_versions(context)}
        stores |= {SPEECH: build_speech_path(context)} if asked.speech else {}
        networks = {name: open_activations(path) for name, path in stores.items()}
        found = align_stories(
            networks,
            self.data.responses,
            **self.data.settings,
            seconds=measure_lengths(context),
            silence=asked.silence,
            delays=asked.delays,
            sampling=asked.sampling,
            high_pass=None if asked.high_pass == "none" else asked.high_pass,
            trim=asked.trim,
            participant=self.label,
            folds=asked.folds,
            block=asked.block,
        )
        responses = keep_targets(found.responses, found.responses.targets["roi"] != "")
        return replace(found, responses=responses)

    @property
    def settings(self) -> EncodingSettings:
        """Return how ridge regression is fitted."""
        asked = self.asked
        return EncodingSettings(
            alphas=check_alphas(asked.alphas),
            inner_folds=asked.inner_folds,
            components=asked.components,
            device=find_device("auto" if self.context.device == "cuda" else "cpu"),
        )

    @cached_property
    def key(self) -> str:
        """Return the key of everything that the scores depend on."""
        context, brain = self.context, self.person.brain
        later = {"permutations", "block", "test", "correction", "splits"}
        return content_key(
            VERSION,
            [[v.name, context.ledger.read(f"network-{v.name}")["key"]] for v in yield_versions(context)],
            context.ledger.read("network-speech")["key"] if self.asked.speech else "",
            [context.digest(name) for name in self.inputs],
            [[one.sound, dict(one.places), one.t_r, one.slice_time_ref] for one in self.files],
            measure_lengths(context),
            self.asked.model_dump(exclude=later),
            [brain.rois.model_dump(), brain.space],
        )

    def fit(self) -> Encoding:
        """Fit all layers."""
        found = self.aligned
        floor = self.asked.reliability_floor
        return fit_encoding(found.spaces, found.responses, found.folds, self.settings, floor=floor)

    def restore(self) -> Encoding:
        """Return the models with the scores that the stage wrote, without fitting them again."""
        found = self.aligned
        none = np.empty((0, found.folds.n_folds, len(found.responses.targets)))
        return Encoding(
            read_results_table(self.path),
            pd.DataFrame(),
            none,
            found.spaces,
            found.responses,
            found.folds,
            self.settings,
        )


def yield_story_people(context: Context, only: Sequence[str] = ()) -> Iterator[StoryPerson]:
    """Yield all participants of a study of stories, or some."""
    for person in context.study.participants():
        if not only or person.label in only:
            yield StoryPerson(context, person, get_story_models(context))


def run_stories(context: Context, only: Sequence[str] = ()) -> None:
    """Fit the encoding models of all participants, or of some."""
    for one in yield_story_people(context, only):
        context.run_stage(one.stage, one.key, partial(_write_scores, one))


def _write_scores(one: StoryPerson) -> Iterator[Path]:
    context, fit = one.context, one.fit()
    data = one.data
    asked = {"stories": one.asked.model_dump(), "brain": one.person.brain.model_dump()}
    about = {
        "Scans": len(fit.items),
        "Stories": list(dict.fromkeys(fit.responses.conditions)),
        "RepetitionTime": data.t_r,
        "SliceTimeReference": data.slice_time_ref,
        "Folds": fit.folds.n_folds,
        "Alphas": fit.settings.alphas.tolist(),
        **context.build_provenance(asked, one.inputs),
    }
    variance = measure_explainable_variance(fit.responses.values)
    scores = fit.scores.assign(explainable_variance=np.tile(variance, len(fit.spaces)))
    tables = (
        (scores, make_parent(one.path), _COLUMNS),
        (fit.counts, context.build_subject_path(one.person, "counts.tsv", desc="stories"), _COUNTS),
        (data.counts, context.build_subject_path(one.person, "counts.tsv", desc="voxels"), _VOXELS),
        (tabulate_delays(fit, one.asked, data.t_r), one.delay_path, DELAY_COLUMNS),
    )
    for table, path, columns in tables:
        table = table.copy()
        table.insert(0, "participant", one.label)
        yield from context.save_table(table, path, columns=columns, about=about)


def tabulate_delays(fit: Encoding, asked: StoryModels, t_r: float) -> pd.DataFrame:
    """Tabulate how much weight each delay has in the model of each layer and region, fitted to all stories."""
    delays = count_delays(asked.delays, t_r)
    roi = fit.responses.targets["roi"].to_numpy()
    rows = []
    for space in fit.spaces:
        weights = fit.weights(space.layer, space.network).weights.reshape(len(delays), -1, len(roi))
        size = np.sqrt(np.square(weights).mean(axis=1))
        share = size / np.maximum(size.sum(axis=0), np.finfo(float).tiny)
        for name in dict.fromkeys(roi):
            for k, delay in enumerate(delays):
                mean = float(share[k, roi == name].mean())
                rows.append((space.network, space.layer, name, delay * t_r, mean))
    return pd.DataFrame(rows, columns=list(DELAY_COLUMNS)[1:])


def build_story_settings(asked: StoryModels, one: StoryFile) -> StorySettings:
    """Return how a story is brought to its scans, to check lengths before anything is read.

    Raises
    ------
    InputError
        A delay is no multiple of the time between scans.
    """
    return StorySettings(
        t_r=one.t_r,
        delays=count_delays(asked.delays, one.t_r),
        sampling=asked.sampling,
        trim=asked.trim,
        silence=asked.silence,
        slice_time_ref=one.slice_time_ref,
    )
