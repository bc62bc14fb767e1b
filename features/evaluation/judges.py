"""Judge maximizing patterns by networks that took no part in the ascent, and by real examples of their class.

Gradient ascent finds sounds that one network takes for a class. Whether they hold what makes the class is seen in other
networks: a texture that only the climbed network recognizes is a property of that network. Two baselines tell what the
ascent adds: the best random pattern of the same prior, and noise with the spectrum of the class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import soxr
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.activations.store import hash_weights
from brainmap.features.evaluation.explain import compute_logits_by_shortcuts
from brainmap.features.layers.running import count_workers, run_side_by_side
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.description import Checkpoint, read_description
from brainmap.features.networks.feeding import describe_feeding
from brainmap.features.networks.refeeding import feed_waveforms
from brainmap.features.sounds.batches import get_labels
from brainmap.features.sounds.files import RMS_LEVEL, Sounds
from brainmap.features.sounds.inputs import get_waveforms, make_waveforms, read_padded
from brainmap.features.sounds.spectrogram import log_mel
from brainmap.features.sounds.voicing import find_voicing

if TYPE_CHECKING:
    from brainmap.features.maximization.maximize import Maximization

EAR_RATE = 16_000  # Hz, at which log-mel spectrograms and voicing of all patterns are compared
EAR_MELS = 40
SHORTEST = 0.05  # s; shorter sounds have neither a spectrogram nor a pitch
NOISES = 4  # noises of each class whose mean is the baseline
BASELINES = ("random", "noise")

JUDGED_COLUMNS = {
    "recognized_by": "networks that took no part in the ascent and call the pattern by its class",
    "transfer": "share of the networks that took no part in the ascent and call the pattern by its class",
    "real_correlation": "correlation of its log-mel spectrogram with the mean one of the class's sounds",
    "voiced": "share of its sounding frames that are voiced",
    "random_transfer": "transfer of the best random pattern of the prior",
    "random_real_correlation": "real_correlation of the best random pattern of the prior",
    "random_voiced": "voiced of the best random pattern of the prior",
    "noise_transfer": f"transfer of noise with the class's mean spectrum, mean of {NOISES} noises",
    "noise_real_correlation": f"real_correlation of that noise, mean of {NOISES} noises",
    "noise_voiced": f"voiced of that noise, mean of {NOISES} noises",
}


NOISE_COLUMNS = ("noise_transfer", "noise_real_correlation", "noise_voiced")


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Hold a network that judges patterns, and how it is fed.

    Attributes
    ----------
    name : str
    model : torch.nn.Module
    checkpoint : Checkpoint
        Its classes are the names that patterns are compared with.
    """

    name: str
    model: nn.Module
    checkpoint: Checkpoint


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Hold what judges make of sounds.

    Attributes
    ----------
    judges : tuple of str
    recognized : ndarray (n, n_judges)
        1 where a judge calls the sound by its class, 0 where not, NaN where it does not know the class.
    real_correlation : ndarray (n,)
        Correlation of the log-mel spectrogram with the mean one of the class; NaN without sounds of the class.
    voiced : ndarray (n,)
        Share of the sounding frames that are voiced.
    """

    judges: tuple[str, ...]
    recognized: NDArray[np.float64]
    real_correlation: NDArray[np.float64]
    voiced: NDArray[np.float64]

    @property
    def transfer(self) -> NDArray[np.float64]:
        """Return the share of the judges that recognize each sound, NaN where none knows the class."""
        knows = np.isfinite(self.recognized)
        n = knows.sum(axis=1)
        return np.where(n > 0, np.where(knows, self.recognized, 0).sum(axis=1) / np.maximum(n, 1), np.nan)


def load_judges(
    paths: Sequence[str | Path] | None = None, *, climbed: nn.Module | Sequence[nn.Module] = ()
) -> tuple[tuple[Judge, ...], tuple[str, ...]]:
    """Load networks that judge patterns; those that come with brainmap by default.

    Parameters
    ----------
    paths : sequence of path, optional
        Checkpoints that say how they are fed.
    climbed : torch.nn.Module or sequence of Module
        The networks of the ascent; a judge with the same weights is left out.

    Returns
    -------
    judges : tuple of Judge
        Named by their files.
    notes : tuple of str
        What was left out.

    Raises
    ------
    InputError
        A checkpoint that does not say how it is fed or has no class names, two of one name, or no judge is left.

    Examples
    --------
    >>> [judge.name for judge in load_judges()[0]]
    ['base', 'ch128', 'ch32', 'ch32-gap', 'ch32-gmp', 'ch64', 'vgg']
    """
    given = _list_package_networks() if paths is None else [Path(path) for path in paths]
    own = {hash_weights(model) for model in ([climbed] if isinstance(climbed, nn.Module) else climbed)}
    judges, left_out = [], []
    for path in given:
        model = load_network(path)
        if hash_weights(model) in own:
            left_out.append(path.stem)
            continue
        about = describe_feeding(path, place="in the file", ask="a checkpoint that says rate and length")
        if not about.classes:
            raise InputError(
                f"judges: {path} has no class names, with which patterns are compared; name another network"
            )
        judges.append(Judge(name=path.stem, model=model, checkpoint=about))
    names = [judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise InputError(f"judges: expected files of different names, got {list_some(names)}; rename one")
    if not judges:
        raise InputError("judges: no network is left that took no part in the ascent; name another checkpoint")
    notes = (f"judges: {list_some(left_out)} took part in the ascent and cannot judge",) if left_out else ()
    return tuple(judges), notes


def _list_package_networks() -> list[Path]:
    from brainmap.data import folder

    files = sorted((folder() / "networks").glob("*.safetensors"), key=lambda file: file.stem)
    return [file for file in files if read_description(file) is not None]


def judge_patterns(
    waveforms: NDArray[np.floating],
    labels: Sequence[str],
    *,
    rate: int,
    judges: Sequence[Judge],
    sounds: Sounds | None = None,
    rows: NDArray[np.intp] | None = None,
    device: str = "cpu",
) -> Judgement:
    """Judge sounds by networks, by the mean log-mel spectrogram of their class, and by their voicing.

    Every judge gets the sounds as played back in 16 bits, at its own rate, length and level.

    Parameters
    ----------
    waveforms : ndarray (n, 1, t)
    labels : sequence of str
        The class of each.
    rate : int [Hz]
    judges : sequence of Judge
    sounds : Sounds, optional
        Real sounds whose conditions are the classes.
    rows : ndarray (n,), optional
        The rows of `sounds` that the waveforms are: each is compared with the others of its class.
    device : str
        Where the network runs, as torch names it.

    Returns
    -------
    Judgement

    Raises
    ------
    InputError
        The numbers of sounds and labels differ, or no judge knows any of the classes.
    """
    if np.ndim(waveforms) != 3 or len(waveforms) != len(labels):
        raise InputError(
            f"judge_patterns: expected a label for each of the sounds (n, 1, t), got {np.shape(waveforms)}"
        )
    check_classes(judges, labels)
    return _judge_sounds(waveforms, labels, rate=rate, judges=judges, sounds=sounds, rows=rows, device=device)


def check_classes(judges: Sequence[Judge], labels: Sequence[str]) -> None:
    """Refuse judges none of which knows any of the classes.

    Raises
    ------
    InputError
    """
    known = {str(name) for judge in judges for name in judge.checkpoint.classes}
    if judges and not known & set(labels):
        raise InputError(
            f"judges: {list_some(judge.name for judge in judges)} know none of the classes {list_some(labels, 4)}; "
            "give networks with these classes as judges, or none"
        )


def _judge_sounds(
    waveforms: NDArray[np.floating],
    labels: Sequence[str],
    *,
    rate: int,
    judges: Sequence[Judge],
    sounds: Sounds | None,
    rows: NDArray[np.intp] | None = None,
    device: str,
    threads: int | None = None,
) -> Judgement:
    from brainmap.features.maximization.quality import simulate_playback

    heard = simulate_playback(np.asarray(waveforms), None)

    def recognize(_: None, judge: Judge, __: Callable[[int], None]) -> NDArray[np.float64]:
        known = [str(name) for name in judge.checkpoint.classes]
        mine = np.array([row for row, label in enumerate(labels) if label in known], dtype=np.intp)
        found = np.full(len(labels), np.nan)
        if len(mine):
            fed = feed_waveforms(heard[mine], judge.checkpoint, rate=rate)
            called = compute_logits_by_shortcuts(judge.model, fed, device=device).argmax(axis=1)
            found[mine] = [known[k] == labels[row] for k, row in zip(called, mine, strict=True)]
        return found

    workers = min(count_workers(device, threads, "judges"), len(judges)) or 1
    by_judge = list(run_side_by_side(recognize, None, judges, modules=(), threads=workers, advance=lambda _: None))
    recognized = np.stack(by_judge, axis=1) if by_judge else np.full((len(labels), 0), np.nan)
    alike, voiced = np.full((2, len(labels)), np.nan)
    if heard.shape[-1] / rate >= SHORTEST:
        alike = _correlate_with_real(_hear(heard, rate), labels, sounds, rows)
        voiced = measure_voiced(heard, rate)
    return Judgement(
        judges=tuple(judge.name for judge in judges), recognized=recognized, real_correlation=alike, voiced=voiced
    )


def measure_voiced(waveforms: NDArray[np.floating], rate: int) -> NDArray[np.float64]:
    """Measure the share of the sounding frames of sounds (n, 1, t) that are voiced; NaN for silence.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 125 * np.arange(8000) / 16_000)[None, None]
    >>> round(float(measure_voiced(tone, 16_000)[0]), 1)
    1.0
    """
    found = find_voicing(np.asarray(waveforms, dtype=np.float32), rate=rate)
    sounding = (~found.of("silent")).sum(axis=1)
    voiced = found.of("voiced").sum(axis=1)
    return np.where(sounding > 0, voiced / np.maximum(sounding, 1), np.nan)


def _hear(waveforms: NDArray[np.floating], rate: int) -> NDArray[np.float64]:
    """Compute log-mel spectrograms (n, bands * frames) at one rate and one level."""
    heard = np.asarray(waveforms, dtype=np.float32)[:, 0]
    if rate != EAR_RATE:
        heard = np.stack([soxr.resample(one, rate, EAR_RATE, quality="HQ") for one in heard]).astype(np.float32)
    size = np.sqrt(np.mean(np.square(heard, dtype=np.float64), axis=1, keepdims=True))
    leveled = heard * (RMS_LEVEL / np.maximum(size, 1e-12))
    found = log_mel(leveled[:, None].astype(np.float32), rate=EAR_RATE, n_mels=EAR_MELS)
    return found.reshape(len(found), -1).astype(np.float64)


def _correlate_with_real(
    ears: NDArray[np.float64], labels: Sequence[str], sounds: Sounds | None, rows: NDArray[np.intp] | None
) -> NDArray[np.float64]:
    """Correlate log-mel spectrograms with the mean one of the sounds of the class; NaN where lengths differ."""
    found = np.full(len(labels), np.nan)
    if sounds is None:
        return found
    real, conditions = get_waveforms(sounds), np.array(get_labels(sounds)[1])
    for label in dict.fromkeys(labels):
        mine = np.flatnonzero(conditions == label)
        if not len(mine):
            continue
        examples = _hear(_read_examples(real, mine), real.rate)
        if examples.shape[1] != ears.shape[1]:
            continue
        for at in np.flatnonzero(np.array(labels) == label):
            others = examples if rows is None else examples[mine != rows[at]]
            if len(others):
                found[at] = np.corrcoef(others.mean(axis=0), ears[at])[0, 1]
    return found


def _read_examples(real: Any, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Read some of the real sounds, as long as the longest of all; zeros follow those that are shorter."""
    waves = read_padded(real.take(rows))
    return np.pad(waves, ((0, 0), (0, 0), (0, real.n_samples - waves.shape[2])))


def make_class_noise(
    sounds: Sounds, label: str, shape: tuple[int, int], *, n: int = NOISES, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Make noises (n, 1, t) with the mean spectrum of the sounds of a class.

    Raises
    ------
    InputError
        No sound is of the class.
    """
    from brainmap.features.maximization.priors import compute_mean_spectrum

    real = get_waveforms(sounds)
    mine = np.flatnonzero(np.array(get_labels(sounds)[1]) == label)
    if not len(mine):
        raise InputError(f"make_class_noise: no sound is of the condition {label!r}; give sounds of it")
    amplitude = compute_mean_spectrum(_read_examples(real, mine), shape[1:])
    noise = np.fft.rfft(rng.standard_normal((n, 1, shape[-1])), norm="ortho") * amplitude
    made = np.fft.irfft(noise, n=shape[-1], norm="ortho")
    level = np.sqrt(np.mean(made**2, axis=-1, keepdims=True))
    noises: NDArray[np.float32] = (made * (RMS_LEVEL / level)).astype(np.float32)
    return noises


def judge_class_noise(
    names: Sequence[str],
    judges: Sequence[Judge],
    *,
    sounds: Sounds,
    length: int,
    rng: np.random.Generator,
    device: str = "cpu",
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Judge noises with the mean spectrum of each class, the baseline of its patterns.

    Parameters
    ----------
    names : sequence of str
        The classes.
    judges : sequence of Judge
    sounds : Sounds
        Real sounds, whose conditions are the classes.
    length : int [samples]
        Length of the noises, at the rate of the sounds.
    rng : numpy.random.Generator
    device : str
    threads : int, optional
        Number of judges that listen side by side, by default the number of cores.

    Returns
    -------
    ndarray (3, n_classes)
        Means of transfer, correlation with the class's sounds, and voicing; NaN for classes without a sound.
    """
    parts, there = np.full((3, len(names)), np.nan), set(get_labels(sounds)[1])
    known = [at for at, name in enumerate(names) if name in there]
    if not known:
        return parts
    noises = np.concatenate([make_class_noise(sounds, names[at], (1, length), rng=rng) for at in known])
    labels = [names[at] for at in known for _ in range(NOISES)]
    rate = get_waveforms(sounds).rate
    heard = _judge_sounds(noises, labels, rate=rate, judges=judges, sounds=sounds, device=device, threads=threads)
    for row, values in enumerate((heard.transfer, heard.real_correlation, heard.voiced)):
        parts[row, known] = values.reshape(len(known), NOISES).mean(axis=1)
    return parts


def judge_maximization(
    am: Maximization,
    judges: Sequence[Judge],
    *,
    sounds: Sounds | None = None,
    noise: NDArray[np.float64] | None = None,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Maximization:
    """Add to the quality of class patterns what other networks, real examples and two baselines say.

    Parameters
    ----------
    am : Maximization
        Patterns of classes that can be heard. The baseline of random patterns needs `settings.draws`.
    judges : sequence of Judge
        Networks that took no part in the ascent.
    sounds : Sounds, optional
        Real sounds; without them there is no correlation and no noise.
    noise : ndarray (3, n_classes), optional
        What `judge_class_noise` found for these classes, where patterns by another prior were judged before.
    rng : numpy.random.Generator, optional
    device : str
        Where the network runs, as torch names it.
    threads : int, optional
        Number of judges that listen side by side, by default the number of cores.

    Returns
    -------
    Maximization
        Its `quality` has the columns of `JUDGED_COLUMNS` too; its `notes` say who judged.

    Raises
    ------
    InputError
        The patterns have no class names or cannot be heard, or no judge knows a class.
    """
    if not am.class_names or not am.can_be_heard:
        raise InputError("judges: expected patterns of classes that can be heard, such as those of output, got others")
    rng = rng or np.random.default_rng(0)
    names = list(am.class_names)
    waves, rate = make_waveforms(am.patterns, am.axes, am.rate)
    check_classes(judges, names)
    found = _judge_sounds(waves, names, rate=rate, judges=judges, sounds=sounds, device=device, threads=threads)
    table = am.quality.copy()
    said = [
        ", ".join(judge for judge, right in zip(found.judges, row, strict=True) if right == 1)
        for row in found.recognized
    ]
    table["recognized_by"] = said
    _add_judgement(table, "", found.transfer, found.real_correlation, found.voiced)
    if am.random is not None:
        drawn, _ = make_waveforms(am.random, am.axes, am.rate)
        one = _judge_sounds(drawn, names, rate=rate, judges=judges, sounds=sounds, device=device, threads=threads)
        _add_judgement(table, "random_", one.transfer, one.real_correlation, one.voiced)
    if sounds is not None and set(names) & set(get_labels(sounds)[1]):
        if noise is None:
            length = round(waves.shape[-1] * get_waveforms(sounds).rate / rate)
            noise = judge_class_noise(
                names, judges, sounds=sounds, length=length, rng=rng, device=device, threads=threads
            )
        _add_judgement(table, "noise_", *noise)
    alone = [name for name, share in zip(names, found.transfer, strict=True) if share == 0]
    note = f"judged by {list_some(found.judges, 8)}"
    more = [f"{list_some(alone, 8)}: recognized by no other network ({am.prior} prior)"] if alone else []
    unknown = [name for name, share in zip(names, found.transfer, strict=True) if np.isnan(share)]
    more += [f"{list_some(unknown, 8)}: known to no judge, and not judged"] if unknown else []
    return replace(am, quality=table, notes=(*am.notes, note, *more))


def _add_judgement(table: pd.DataFrame, prefix: str, *parts: NDArray[np.float64]) -> None:
    for name, values in zip(("transfer", "real_correlation", "voiced"), parts, strict=True):
        table[prefix + name] = values
