"""Define the part of a study file on stories: windows of long sounds, and ridge regression to time courses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from brainmap.errors import InputError
from brainmap.rsa.encoding.latencies import check_latencies
from brainmap.study.settings.brain import Band, Section, check_flips
from brainmap.study.settings.encoding import Scans, Seconds
from brainmap.types import Correction, EncodingTarget, ScanSampling, SpeechFeature, Test


class StoryModels(Section):
    """Describe encoding models of stories: windows of each layer, delayed, predict the BOLD of stories left out."""

    window: float | None = Field(
        default=None, gt=0, le=600
    )  # s; what a network hears at once; None: what it was trained on
    hop: float = Field(default=0.5, gt=0)  # s; from one window to the next
    t_r: float | None = Field(default=None, gt=0)  # s; None: as the images say
    silence: tuple[Seconds, Seconds] = (0.0, 0.0)  # s scanned before the sound began and after it ended
    delays: tuple[Seconds, ...] | None = Field(default=None, min_length=1)  # s; None: all scans up to 8 s or more
    sampling: ScanSampling = "lanczos"
    high_pass: Annotated[float, Field(gt=0)] | Literal["none"] = 120.0  # s; slower changes are removed in each story
    strategy: str | tuple[str, ...] | None = None  # columns of the confounds
    trim: tuple[Scans, Scans] = (0, 0)  # scans left out at both ends of each story
    targets: EncodingTarget = "roi"  # the mean of each region, or each of its voxels, whose scores are averaged then
    folds: int | None = Field(default=None, ge=2)  # of whole stories; None: each story is one
    inner_folds: int = Field(default=5, ge=2)
    alphas: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=1)  # None: 0.1 to 1e8
    components: int | None = Field(default=None, ge=1)
    speech: tuple[SpeechFeature, ...] = ()  # simple features of speech, compared like acoustic models
    words: str | None = None  # word times of each story, which features of words need: a name with {sound}
    reliability_floor: float = Field(default=0.0, ge=0, lt=1)  # at or below it there is no corrected score
    bands: tuple[Band, ...] = Field(default=(), max_length=8)  # NETWORK or NETWORK:LAYER: what each adds
    permutations: int = Field(default=1000, ge=1)  # of blocks within stories, shared by all participants
    block: float = Field(default=20.0, ge=20)  # s
    test: Test = "signed-rank"  # over participants, of these stories only
    correction: Correction = "fdr"  # of that test
    segment: float | None = Field(default=None, gt=0)  # s; RDMs of segments of so many s beside encoding models
    lag: Seconds = 5.0  # s from a sound to the response to it, of these RDMs
    splits: int = Field(default=20, ge=1)  # random halves of the stories, to choose the best layer and to score it

    @model_validator(mode="after")
    def _what_goes_together(self) -> StoryModels:
        needy = [name for name in self.speech if name != "sound-energy"]
        if needy and self.words is None:
            raise ValueError(f"lacks the key 'words', which speech = ['{needy[0]}'] needs; add the names of word times")
        if self.words is not None and ("{sound}" not in self.words or not needy):
            raise ValueError(
                f"words: expected a name with {{sound}} and a feature of words in speech, got {self.words!r} and "
                f"{list(self.speech)}; add what lacks"
            )
        check_flips(self.test, self.correction)
        return self

    @model_validator(mode="after")
    def _within_a_response(self) -> StoryModels:
        try:
            check_latencies([self.lag], "lag")
            check_latencies(self.delays or (), "delays")
        except InputError as error:
            raise ValueError(str(error)) from None
        return self
