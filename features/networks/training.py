"""Train and evaluate networks of the zoo with Adam and cross-entropy, resumably and reproducibly by seed."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_choice, check_enough
from brainmap.errors import InputError, RunError
from brainmap.features.layers.running import check_device, evaluating, forward
from brainmap.features.networks.architectures import get_zoo_front_end, network_names
from brainmap.features.networks.checkpoints import load_network, save_checkpoint
from brainmap.features.networks.description import Checkpoint, load_checkpoint
from brainmap.features.networks.state_dicts import hash_weights
from brainmap.features.networks.zoo import initialize
from brainmap.features.sounds.augmentation import Augmentation, augment
from brainmap.features.sounds.batches import iterate_tensors
from brainmap.features.sounds.files import Sounds, load_sounds
from brainmap.features.sounds.front_ends import FrontEnd
from brainmap.features.sounds.parts import check_known, split_sounds
from brainmap.progress import Progress, progress
from brainmap.record import atomic
from brainmap.types import Head, Nonlinearity, Part, Variant

log = logging.getLogger("brainmap")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Describe how a network of the zoo is trained.

    Attributes
    ----------
    network, variant, activation, head : str
        Arguments of `build_network`.
    kernel : int, optional [samples]
        Filter length, where it differs from the network's own.
    dropout : float, optional
        Dropout probability of a variant with dropout, where it differs from the network's own.
    start_from : str, optional
        Checkpoint of the same network and classes whose weights the training starts from, in place of random ones.
    epochs : int
    batch_size : int
        The default of 16 keeps the maps of the first layers in a CPU's cache, which is faster per clip than larger
        batches.
    learning_rate : float
        Largest learning rate of Adam; it rises over the first 5 % of the steps and falls along a cosine to nearly zero.
    seed : int
        It fixes weights, order, dropout and augmentation: the weights are the same again on one CPU and thread count.
    augmentation : Augmentation or None
    rate, seconds : int [Hz], float [s]
    input : FrontEnd, optional
        The spectrogram that `base-2d` takes, where it differs from its own.
    device : str
    compile : bool
        Let `torch.compile` fuse the steps; this needs a C++ compiler and is about 1.4 times faster on a CPU.
    """

    network: str = "ch32"
    variant: Variant = "do+bn"
    activation: Nonlinearity = "relu"
    head: Head = "flatten"
    kernel: int | None = None
    dropout: float | None = None
    start_from: str | None = None
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 2e-3
    seed: int = 0
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    rate: int = 16_000
    seconds: float = 1.0
    input: FrontEnd | None = None
    device: str = "cpu"
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Hold the accuracy and the confusion matrix of a network.

    Attributes
    ----------
    accuracy : float
        Share of sounds whose largest logit is their own class.
    confusion : DataFrame
        Number of sounds of the row's condition that were classified as the column's class.
    n : int
    logits : ndarray (n, n_classes)
        What the network gave for each sound.
    """

    accuracy: float
    confusion: pd.DataFrame
    n: int
    logits: NDArray[np.float32] = field(repr=False)


def train_network(
    data: str | Path, out: str | Path, *, settings: TrainingSettings | None = None, overwrite: bool = False
) -> Evaluation:
    """Train a network of the zoo on a class-folder data set, write the checkpoint, and evaluate it on the testing part.

    An interrupted training continues where it stopped when it is called again with the same settings.

    Parameters
    ----------
    data : path
        Folder of class folders, with the data set's own validation and testing lists or split 80/10/10 by speaker.
    out : path
        Path of the `.safetensors` file.
    settings : TrainingSettings, optional
    overwrite : bool
        Train again although `out` exists.

    Returns
    -------
    Evaluation
        Evaluation of the best validation epoch on the testing part.

    Raises
    ------
    InputError
        There are no sounds, a part has no sounds, a word occurs only in validation or testing, there are fewer than two
        words, a setting is not valid, or `out` exists.
    RunError
        The loss is no longer finite.
    """
    settings = settings or TrainingSettings()
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"train: expected an output whose name ends in .safetensors, got {out}")
    if out.exists() and not overwrite:
        raise InputError(f"train: {out} exists; give --overwrite to train it again")
    check_settings(settings)
    parts, classes = read_parts(data, settings)
    return Training(parts, classes, settings, out).finish()


def read_parts(data: str | Path, settings: TrainingSettings) -> tuple[dict[Part, Sounds], tuple[str, ...]]:
    """Read the sounds of a training as its network takes them, by parts, and the words, which every part may have."""
    taken = settings.input or get_zoo_front_end(settings.network, rate=settings.rate)
    sounds = load_sounds(data, rate=settings.rate, seconds=settings.seconds, front_end=taken)
    parts = split_sounds(sounds, Path(data))
    classes = tuple(sorted(set(parts["training"].conditions)))
    check_enough(len(classes), 2, "train", "words in the training part", f", {classes[0]!r}")
    for part, sounds in parts.items():
        check_known(sounds, classes, f"train: {part} part")
    return parts, classes


def check_settings(settings: TrainingSettings) -> None:
    """Refuse settings that no training can have, before any sound is read.

    Raises
    ------
    InputError
    """
    check_choice(settings.network, network_names(), "network")
    if settings.dropout is not None and "do" not in settings.variant:
        raise InputError(
            f"train: expected a variant with dropout (do or do+bn) beside dropout {settings.dropout:g}, got "
            f"{settings.variant!r}; take one, or leave dropout out"
        )
    for name in ("epochs", "batch_size", "learning_rate"):
        value = getattr(settings, name)
        if not 0 < value < math.inf or (name != "learning_rate" and value != int(value)):
            wanted = "more than 0" if name == "learning_rate" else "1 or more, as a whole number"
            raise InputError(f"train: expected {name} of {wanted}, got {value}")
    own = get_zoo_front_end(settings.network, rate=settings.rate)
    if settings.input is not None and settings.input.is_waveform != own.is_waveform:
        wanted = "waveform" if own.is_waveform else "a spectrogram"
        raise InputError(
            f"train: expected the input {wanted} for {settings.network!r}, got {settings.input.describe()!r}; leave "
            "input out, or take another network (base-2d takes spectrograms)"
        )
    if settings.seed < 0:
        raise InputError(f"train: expected a seed of 0 or more, got {settings.seed}")
    check_device(settings.device)


def evaluate_network(
    data: str | Path, checkpoint: str | Path, *, part: str = "all", device: str = "cpu", architecture: str | None = None
) -> Evaluation:
    """Evaluate a checkpoint on a folder of class folders, a `stimuli.tsv` or a part of a data set.

    Sounds of words that the network does not know raise an error that names the words.

    Parameters
    ----------
    data : path
        A folder with a folder for each class, or a table of sounds.
    checkpoint : path
        A checkpoint that names its classes.
    part : {"all", "training", "validation", "testing"}
        The part of a data set, as `train_network` divides it.
    device : str
        Where the network runs, as torch names it.
    architecture : str, optional
        For weights of others: a name of the zoo, or "module:function".

    Returns
    -------
    Evaluation
        The accuracy, the confusion table, the number of sounds, and their logits.
    """
    model, sounds, classes = load_evaluated(data, checkpoint, part=part, architecture=architecture)
    return evaluate_model(model, sounds, classes, device=device)


def load_evaluated(
    data: str | Path, checkpoint: str | Path, *, part: str = "all", architecture: str | None = None
) -> tuple[nn.Module, Sounds, tuple[str, ...]]:
    """Load a network, the sounds on which it is evaluated, and its classes, as `evaluate_network` takes them."""
    stored = load_checkpoint(checkpoint)
    model = load_network(checkpoint, architecture=architecture)
    sounds = stored.load_sounds(data)
    if part != "all":
        check_choice(part, ("training", "validation", "testing"), "part")
        sounds = split_sounds(sounds, Path(data))[part]  # type: ignore[index]
    return model, sounds, stored.classes


def evaluate_model(
    model: nn.Module, sounds: Sounds, classes: Sequence[str], *, device: str = "cpu", batch_size: int = 32
) -> Evaluation:
    """Evaluate a model whose logits are in the order of `classes`."""
    check_known(sounds, classes, "evaluate: the data")
    rows: list[NDArray[np.float32]] = []
    with evaluating(model, device), torch.inference_mode():
        for batch in iterate_tensors(sounds, batch_size, device=device):
            logits = forward(model, batch)
            if logits.ndim != 2 or logits.shape[1] != len(classes):
                raise InputError(
                    f"evaluate: expected a network with one logit for each of its {len(classes)} classes, got "
                    f"{tuple(logits.shape[1:])} for each sound"
                )
            rows.append(logits.float().cpu().numpy())
    given = np.concatenate(rows)
    truth = pd.Categorical(sounds.conditions, categories=list(classes))
    guess = pd.Categorical([classes[i] for i in given.argmax(axis=1)], categories=list(classes))
    confusion = pd.crosstab(truth, guess, dropna=False, rownames=["condition"], colnames=["called"])
    right = float(np.mean(truth.codes == guess.codes))
    return Evaluation(accuracy=right, confusion=confusion, n=len(sounds), logits=given)


class Training:
    """Run one training, whose state is saved every few hundred steps, so that an interruption costs only minutes."""

    save_every = 200  # steps

    def __init__(
        self, parts: dict[Part, Sounds], classes: tuple[str, ...], settings: TrainingSettings, out: Path
    ) -> None:
        self.parts, self.classes, self.settings = parts, classes, settings
        self.out, self.state_path = out, out.with_suffix(".resume.pt")
        first = parts["training"]
        self.checkpoint = Checkpoint(
            architecture=settings.network,
            variant=settings.variant,
            activation=settings.activation,
            head=settings.head,
            kernel=settings.kernel,
            dropout=settings.dropout,
            classes=classes,
            rate=settings.rate,
            n_samples=first.n_samples,
            level=first.level,
            align=first.align,
            input=settings.input,
        )
        with torch.random.fork_rng(devices=[]):  # building draws weights that are drawn again below
            self.model = self.checkpoint.build()
        initialize(self.model, torch.Generator().manual_seed(settings.seed))
        start = None if settings.start_from is None else self._start_from(settings.start_from)
        fixed = replace(settings, device="cpu", compile=False, start_from=start)
        sizes = [len(p) for p in parts.values()]
        self.key = hashlib.sha256(repr((fixed, classes, sizes, first.items)).encode()).hexdigest()
        self.model.to(settings.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)
        self.codes = np.array([classes.index(c) for c in first.conditions])
        self.steps_per_epoch = max(1, len(first) // settings.batch_size)
        self.epoch = self.step = 0
        self.running = 0.0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}

    def _start_from(self, path: str) -> str:
        """Take the weights of a checkpoint, and return their digest.

        Raises
        ------
        InputError
            It is another network, or one of other classes or sounds.
        """
        stored = load_checkpoint(path)
        for name in ("architecture", "activation", "head", "kernel", "classes", "rate", "n_samples"):
            wanted, found = getattr(self.checkpoint, name), getattr(stored, name)
            if wanted != found:
                raise InputError(
                    f"train: expected a start with the {name} {wanted!r} of this training, got {found!r} in {path}; "
                    "start from a checkpoint of the same network, or leave start_from out"
                )
        weights = load_network(path).state_dict()
        if weights.keys() != self.model.state_dict().keys():
            raise InputError(
                f"train: expected a start of the variant {self.checkpoint.variant!r}, got {stored.variant!r} in "
                f"{path}; "
                "with and without batch normalization are two networks"
            )
        self.model.load_state_dict(weights)
        return hash_weights(weights, "")

    def finish(self) -> Evaluation:
        """Train to the end, evaluate the best validation epoch on the testing part, and write the checkpoint."""
        checkpoint, model = self.go()
        test = evaluate_model(model, self.parts["testing"], self.classes, device=self.settings.device)
        history = {
            **(checkpoint.training or {}),
            "test_accuracy": test.accuracy,
            "test_n": test.n,
            "test_confusion": test.confusion.to_numpy().tolist(),
        }
        save_checkpoint(model, self.out, replace(checkpoint, training=history))
        self.state_path.unlink(missing_ok=True)
        return test

    def go(self) -> tuple[Checkpoint, nn.Module]:
        """Train to the end and return the best validation epoch."""
        total = self.settings.epochs * self.steps_per_epoch
        with torch.random.fork_rng(self._list_gpus()):
            torch.manual_seed(self.settings.seed)
            self._load()
            done = self.epoch * self.steps_per_epoch + self.step
            run = torch.compile(self.model) if self.settings.compile else self.model
            with progress(f"training {self.settings.network}", total, every=30, done=done) as bar:
                while self.epoch < self.settings.epochs:
                    self._train_epoch(run, bar)
                    self._close_epoch()
        self.model.load_state_dict(self.best)
        accuracies = [h["validation_accuracy"] for h in self.history]
        best_epoch = max(h["epoch"] for h in self.history if h["validation_accuracy"] == max(accuracies))
        training = {
            **asdict(self.settings),
            "best_epoch": int(best_epoch),
            "history": self.history,
            "validation_n": len(self.parts["validation"]),
            "training_n": len(self.parts["training"]),
            "key": self.key,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        return replace(self.checkpoint, training=training), self.model.eval()

    def _list_gpus(self) -> list[torch.device]:
        """Return the GPU in use, whose random state (dropout) is stored and restored like the CPU's."""
        device = torch.device(self.settings.device)
        return [torch.device("cuda", device.index or 0)] if device.type == "cuda" else []

    def _train_epoch(self, run: Any, bar: Progress) -> None:
        self.model.train()
        for batch, codes in self._iterate_batches(self.epoch, start=self.step):
            for group in self.optimizer.param_groups:
                group["lr"] = self._compute_learning_rate()
            self.optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(run(batch.to(self.settings.device)), codes.to(self.settings.device))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise RunError(
                    f"train: the loss is {value} in epoch {self.epoch + 1}, step {self.step + 1}; "
                    "lower the learning rate"
                )
            torch.autograd.backward(loss)
            self.optimizer.step()
            self.running += value
            self.step += 1
            if self.step % self.save_every == 0:
                self._save()
            bar.advance(note=f"epoch {self.epoch + 1}, loss {self.running / self.step:.2f}")

    def _close_epoch(self) -> None:
        validation, device = self.parts["validation"], self.settings.device
        accuracy = evaluate_model(self.model, validation, self.classes, device=device).accuracy
        loss = self.running / self.step
        log.info("epoch %d: training loss %.3f, validation accuracy %.3f", self.epoch + 1, loss, accuracy)
        self.history.append({"epoch": self.epoch + 1, "loss": loss, "validation_accuracy": accuracy})
        if accuracy >= max(h["validation_accuracy"] for h in self.history):
            self.best = copy.deepcopy(self.model.state_dict())
        self.epoch, self.step, self.running = self.epoch + 1, 0, 0.0
        self._save()

    def _compute_learning_rate(self) -> float:
        done = (self.epoch * self.steps_per_epoch + self.step) / (self.settings.epochs * self.steps_per_epoch)
        rise = min(1.0, (done + 1e-3) / 0.05)
        return self.settings.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def _iterate_batches(self, epoch: int, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batches of one epoch from step `start`; the random numbers of a clip depend on seed, epoch and clip."""
        seed, size, sounds = self.settings.seed, self.settings.batch_size, self.parts["training"]
        order = np.random.default_rng([seed, epoch]).permutation(len(sounds))
        for step in range(start, self.steps_per_epoch):
            rows = order[step * size : (step + 1) * size]
            clips = [self._prepare_clip(sounds.waveforms[row, 0], int(row), epoch) for row in rows]
            taken = sounds.front_end.compute(np.stack(clips)[:, None], rate=sounds.rate)
            yield torch.from_numpy(taken), torch.from_numpy(self.codes[rows])

    def _prepare_clip(self, sound: NDArray[np.float32], row: int, epoch: int) -> NDArray[np.float32]:
        if self.settings.augmentation is None:
            return sound
        rng = np.random.default_rng([self.settings.seed, epoch, row])
        return augment(sound, rate=self.settings.rate, settings=self.settings.augmentation, rng=rng)

    def _save(self) -> None:
        with atomic(self.state_path) as beside:
            torch.save(
                {
                    "key": self.key,
                    "epoch": self.epoch,
                    "step": self.step,
                    "running": self.running,
                    "history": self.history,
                    "model": self.model.state_dict(),
                    "best": self.best,
                    "optimizer": self.optimizer.state_dict(),
                    "rng": torch.get_rng_state(),
                    "gpu_rng": [torch.cuda.get_rng_state(d) for d in self._list_gpus()],
                },
                beside,
            )

    def _load(self) -> None:
        if not self.state_path.exists():
            return
        try:
            state = torch.load(self.state_path, map_location=self.settings.device, weights_only=True)
            key = state["key"]
        except Exception as error:  # torch raises whatever its zip and pickle readers raise
            raise InputError(
                f"train: {self.state_path} cannot be read ({type(error).__name__}); remove it to begin anew"
            ) from None
        if key != self.key:
            raise InputError(
                f"train: {self.state_path} belongs to a training with other settings or sounds; remove it to begin anew"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.running = state["epoch"], state["step"], state["running"]
        self.history, self.best = state["history"], state["best"]
        torch.set_rng_state(state["rng"].cpu())
        for device, rng in zip(self._list_gpus(), state.get("gpu_rng", []), strict=False):
            torch.cuda.set_rng_state(rng.cpu(), device)
        log.info("train: going on in epoch %d after %d steps", self.epoch + 1, self.step)
