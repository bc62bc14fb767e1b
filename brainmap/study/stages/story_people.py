"""Hold the layers and the time courses of the participants of a study of stories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import name_place
from brainmap.features.sounds.word_times import SPEECH
from brainmap.record import content_key
from brainmap.rsa.encoding.fits import EncodingSettings, fit_weights_of_layer
from brainmap.rsa.encoding.folds import Folds
from brainmap.rsa.encoding.responses import FeatureSpace, Responses, keep_targets
from brainmap.rsa.encoding.ridge import check_alphas, find_device
from brainmap.rsa.encoding.stories import AlignedStories, StorySettings, align_stories, count_delays
from brainmap.rsa.inputs.runs import match_images
from brainmap.rsa.inputs.stories import Stories, load_stories
from brainmap.rsa.inputs.story_files import PLACE, StoryFile, find_story_files, name_confounds
from brainmap.rsa.inputs.story_sources import count_story_voxels
from brainmap.rsa.patterns.region_tables import load_column_rois
from brainmap.rsa.regions.rois import Rois
from brainmap.study.results.context import Context
from brainmap.study.settings.stories import StoryModels
from brainmap.study.stages.brains import load_regions
from brainmap.study.stages.encoding_pieces import Modeled
from brainmap.study.stages.networks import (
    build_features_path,
    store_path,
    yield_versions,
)
from brainmap.study.stages.stories import VERSION, get_story_models, list_sound_files, measure_lengths


@dataclass(frozen=True)
class StoryPerson(Modeled):
    """Hold the layers and the time courses of a participant, read when a stage first needs them."""

    asked: StoryModels
    kind = "stories"
    band_iterations = 20
    orders_for = "story test"

    @cached_property
    def files(self) -> list[StoryFile]:
        """Find the files of all stories, and read their headers.

        Raises
        ------
        InputError
            As in `find_story_files`; the message names the participant.
        """
        sounds = list(list_sound_files(self.context))
        with name_place(f"participant {self.label}"):
            return find_story_files(
                self.person.files[0],
                sounds,
                t_r=self.asked.t_r,
                key=self.person.brain.key,
                mask=self.person.masks or None,
            )

    def list_images(self) -> list[str]:
        """List the images of all stories, whether or not the mask fits them.

        Raises
        ------
        InputError
            A story has no file.
        """
        pattern, sounds = self.person.files[0], list_sound_files(self.context)
        return [file for sound in sounds for _, file in match_images(pattern.replace(PLACE, sound))]

    @cached_property
    def inputs(self) -> list[str]:
        """List every file that the time courses depend on."""
        named = self.person.story_confounds
        confounds = [] if named is None else [name_confounds(named, one) for one in self.files]
        return [*(one.file for one in self.files), *confounds, *self.person.masks, *self.person.roi_files]

    @cached_property
    def regions(self) -> Rois:
        """Load the regions of the study file; those of tables of regions are their columns."""
        if self.person.brain.on_region_table:
            rois = self.person.brain.rois
            return load_column_rois(self.files[0].file, names=rois.names, hemispheres=rois.hemispheres)
        return load_regions(self.person)

    @cached_property
    def n_voxels(self) -> int:
        """Count the voxels that are read, and refuse masks and regions that do not fit, before anything is read."""
        mask = self.person.masks or None
        return count_story_voxels(self.files[0].file, mask=mask, rois=self.regions, key=self.person.brain.key)

    @cached_property
    def data(self) -> Stories:
        """Read the time courses."""
        return load_stories(
            self.person.files[0],
            list(list_sound_files(self.context)),
            mask=self.person.masks or None,
            rois=self.regions,
            targets=self.asked.targets,
            confounds=self.person.story_confounds,
            strategy=self.asked.strategy,
            t_r=self.asked.t_r,
            key=self.person.brain.key,
        )

    @cached_property
    def aligned(self) -> AlignedStories:
        """Bring the layers of all networks and the time courses of the regions to the same scans."""
        context, asked = self.context, self.asked
        stores = {version.name: store_path(context, version) for version in yield_versions(context)}
        stores |= {SPEECH: build_features_path(context, SPEECH, "features.zarr")} if asked.speech else {}
        from brainmap.features.activations.stored import open_activations

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
        responses = keep_targets(found.responses, (found.responses.targets["roi"] != "").to_numpy())
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
        later = {"permutations", "block", "test", "correction", "splits", "bands", "segment", "lag"}
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

    @cached_property
    def networks(self) -> list[str]:
        """List the networks, their controls, the acoustic models, and speech where its features are asked for."""
        return [*(version.name for version in yield_versions(self.context)), *([SPEECH] if self.asked.speech else [])]

    @cached_property
    def n_voxels_of_regions(self) -> int:
        """Count the voxels of all regions before data are read."""
        return sum(self.regions.sizes.values())

    @property
    def spaces(self) -> tuple[FeatureSpace, ...]:
        """Return the delayed layers of all networks."""
        return self.aligned.spaces

    @property
    def responses(self) -> Responses:
        """Return the time courses of the targets in regions."""
        return self.aligned.responses

    @property
    def folds(self) -> Folds:
        """Return the test folds, which are whole stories."""
        return self.aligned.folds

    def measure_more(self, spaces: Sequence[FeatureSpace], responses: Responses) -> dict[str, NDArray[Any]]:
        """Measure how much weight each delay has in models that are fitted to all stories, in `delays`.

        It is the root mean square of the weights over units, as a share of the sum over delays.
        """
        n_delays, found = len(count_delays(self.asked.delays, self.data.t_r)), []
        for space in spaces:
            weights = fit_weights_of_layer(space, responses, self.folds.group, self.settings).weights
            size = np.sqrt(np.square(weights.reshape(n_delays, -1, weights.shape[1])).mean(axis=1))
            found.append((size / np.maximum(size.sum(axis=0), np.finfo(float).tiny)).T)
        return {"delays": np.stack(found)}


def yield_story_people(context: Context, only: Sequence[str] = ()) -> Iterator[StoryPerson]:
    """Yield all participants of a study of stories, or some."""
    for person in context.study.participants():
        if not only or person.label in only:
            yield StoryPerson(context, person, get_story_models(context))


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
