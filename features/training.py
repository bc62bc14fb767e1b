"""Training and evaluating the zoo: Adam, cross-entropy, the best validation epoch kept, resumable, the same seed the same weights."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import one_of
from brainmap.errors import InputError, RunError
from brainmap.features.augmentation import Augmentation, augment
from brainmap.features.checkpoints import Checkpoint, load_checkpoint, load_network, save_checkpoint
from brainmap.features.networks import Head, Nonlinearity, Variant, initialize
from brainmap.features.sounds import Sounds, load_sounds, read_lists
from brainmap.progress import progress

log = logging.getLogger("brainmap")
Part = Literal["training", "validation", "testing"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a network of the zoo is trained.

    Attributes
    ----------
    network, variant, activation, head : str
        As `build_network` takes them.
    epochs : int
    batch_size : int
        16 keeps the first layers' maps in a CPU's cache, which is faster a clip than larger batches.
    learning_rate : float
        Adam's largest; it rises over the first 5 % of the steps and falls along a cosine to nearly zero.
    seed : int
        Fixes weights, order, dropout and augmentation; on one CPU and thread count the same seed gives the same weights.
    augmentation : Augmentation or None
    rate, seconds : int [Hz], float [s]
    device : str
    compile : bool
        Let `torch.compile` fuse the steps; needs a C++ compiler, about 1.4 times faster on a CPU.
    """

    network: str = "ch32"
    variant: Variant = "do+bn"
    activation: Nonlinearity = "relu"
    head: Head = "flatten"
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 2e-3
    seed: int = 0
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    rate: int = 16_000
    seconds: float = 1.0
    device: str = "cpu"
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How often a network is right.

    Attributes
    ----------
    accuracy : float
        Share of sounds whose largest logit is their own class.
    confusion : DataFrame
        Sounds of the row's word that were called the column's word.
    n : int
    """

    accuracy: float
    confusion: pd.DataFrame
    n: int


def train_network(
    data: str | Path, out: str | Path, *, settings: TrainingSettings | None = None, overwrite: bool = False
) -> Evaluation:
    """Train a network of the zoo on a class-folder data set; write the checkpoint, and say how good it is on the testing part.

    A training that was interrupted goes on where it stopped when it is called again with the same settings.

    Parameters
    ----------
    data : path
        Folder of class folders, with the data set's own validation and testing lists or split 80/10/10 by speaker.
    out : path
        `.safetensors`.
    settings : TrainingSettings, optional
    overwrite : bool
        Train again where `out` exists.

    Returns
    -------
    Evaluation
        On the testing part, of the best validation epoch.

    Raises
    ------
    InputError
        No sounds, a part without sounds, `out` exists.
    RunError
        The loss is no longer finite.
    """
    settings = settings or TrainingSettings()
    out = Path(out)
    if out.exists() and not overwrite:
        raise InputError(f"train: {out} exists; give --overwrite to train it again")
    if out.suffix != ".safetensors":
        raise InputError(f"train: output {out}, wanted a name that ends in .safetensors")
    parts = split_sounds(load_sounds(data, rate=settings.rate, seconds=settings.seconds), Path(data))
    classes = tuple(sorted(set(parts["training"].conditions)))
    run = _Training(parts, classes, settings, out.with_suffix(".resume.pt"))
    checkpoint, model = run.go()
    test = evaluate_model(model, parts["testing"], classes, device=settings.device)
    history = {**(checkpoint.training or {}), "test_accuracy": test.accuracy, "test_n": test.n}
    save_checkpoint(model, out, replace(checkpoint, training=history))
    run.state_path.unlink(missing_ok=True)
    return test


def split_sounds(sounds: Sounds, folder: Path) -> dict[Part, Sounds]:
    """Training, validation and testing parts: the data set's own lists, else 80/10/10 by a hash of the speaker.

    As in Speech Commands, the part of a file name before `_nohash_` is its speaker, and no speaker is in two parts.
    """
    lists = read_lists(folder)
    base = folder.resolve()
    parts = [
        (lists.get(Path(p).relative_to(base).as_posix(), "training") if lists else _part_by_hash(Path(p)))
        for p in sounds.table["path"]
    ]
    found: dict[Part, Sounds] = {}
    for part in ("training", "validation", "testing"):
        rows = np.flatnonzero([p == part for p in parts])
        if not len(rows):
            raise InputError(f"train: {folder} has {len(sounds)} sounds and none for {part}; more speakers or lists are needed")
        found[part] = sounds.take(rows)  # type: ignore[index]
    return found


def _part_by_hash(path: Path) -> str:
    speaker = path.stem.split("_nohash_")[0]
    share = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 1000 / 10
    return "validation" if share < 10 else "testing" if share < 20 else "training"


def evaluate_network(
    data: str | Path, checkpoint: str | Path, *, part: str = "all", device: str = "cpu", architecture: str | None = None
) -> Evaluation:
    """Accuracy and confusion table of a checkpoint on a folder of class folders, a `stimuli.tsv` or part of a data set.

    Sounds of words the network does not know are an error that names them.
    """
    stored = load_checkpoint(checkpoint)
    model = load_network(checkpoint, architecture=architecture)
    seconds = stored.n_samples / stored.rate
    sounds = load_sounds(data, rate=stored.rate, seconds=seconds, level=stored.level, align=stored.align)  # type: ignore[arg-type]
    if part != "all":
        one_of(part, ("training", "validation", "testing"), "part")
        sounds = split_sounds(sounds, Path(data))[part]  # type: ignore[index]
    return evaluate_model(model, sounds, stored.classes, device=device)


def evaluate_model(
    model: nn.Module, sounds: Sounds, classes: Sequence[str], *, device: str = "cpu", batch_size: int = 32
) -> Evaluation:
    """Accuracy and confusion of a model whose logits are in the order of `classes`."""
    unknown = sorted(set(sounds.conditions) - set(classes))
    if unknown:
        raise InputError(f"evaluate: the network does not know {', '.join(unknown)}; its classes are {', '.join(classes)}")
    modes = {module: module.training for module in model.modules()}
    model.eval().to(device)
    called: list[int] = []
    try:
        with torch.inference_mode():
            for batch in sounds.batches(batch_size):
                called += model(torch.from_numpy(batch).to(device)).argmax(dim=1).tolist()
    finally:
        for module, training in modes.items():
            module.training = training
    truth = pd.Categorical(sounds.conditions, categories=list(classes))
    guess = pd.Categorical.from_codes(called, categories=list(classes))
    confusion = pd.crosstab(truth, guess, dropna=False, rownames=["spoken"], colnames=["called"])
    return Evaluation(accuracy=float(np.mean(truth.codes == guess.codes)), confusion=confusion, n=len(sounds))


class _Training:
    """One training run: its state lives in one file, written every few hundred steps, so that a kill costs minutes."""

    save_every = 200  # steps

    def __init__(
        self, parts: dict[Part, Sounds], classes: tuple[str, ...], settings: TrainingSettings, state_path: Path
    ) -> None:
        self.parts, self.classes, self.settings, self.state_path = parts, classes, settings, state_path
        first = parts["training"]
        self.checkpoint = Checkpoint(
            architecture=settings.network, variant=settings.variant, activation=settings.activation, head=settings.head,
            classes=classes, rate=settings.rate, n_samples=first.n_samples, level=first.level, align=first.align,
        )
        self.key = hashlib.sha256(repr((replace(settings, device="cpu", compile=False), classes,
                                        [len(p) for p in parts.values()], first.items)).encode()).hexdigest()
        self.model = self.checkpoint.build()
        initialize(self.model, torch.Generator().manual_seed(settings.seed))
        self.model.to(settings.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)
        self.codes = np.array([classes.index(c) for c in first.conditions])
        self.steps_per_epoch = max(1, len(first) // settings.batch_size)
        self.epoch = self.step = 0
        self.running = 0.0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}

    def go(self) -> tuple[Checkpoint, nn.Module]:
        """Train to the end and give the best validation epoch back."""
        total = self.settings.epochs * self.steps_per_epoch
        with torch.random.fork_rng(devices=[]), progress(f"training {self.settings.network}", total, every=30) as bar:
            torch.manual_seed(self.settings.seed)
            self._load()
            bar.advance(self.epoch * self.steps_per_epoch + self.step)
            forward = torch.compile(self.model) if self.settings.compile else self.model
            while self.epoch < self.settings.epochs:
                self._train_epoch(forward, bar)
                self._close_epoch()
        self.model.load_state_dict(self.best)
        training = {**asdict(self.settings), "history": self.history, "validation_n": len(self.parts["validation"]),
                    "training_n": len(self.parts["training"]), "torch": torch.__version__}
        return replace(self.checkpoint, training=training), self.model.eval()

    def _train_epoch(self, forward: Any, bar: Any) -> None:
        self.model.train()
        for batch, codes in self._batches(self.epoch, start=self.step):
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate()
            self.optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(forward(batch.to(self.settings.device)), codes.to(self.settings.device))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise RunError(f"train: the loss is {value} in epoch {self.epoch + 1}, step {self.step + 1}; lower the learning rate")
            loss.backward()
            self.optimizer.step()
            self.running += value
            self.step += 1
            if self.step % self.save_every == 0:
                self._save()
            bar.advance(note=f"epoch {self.epoch + 1}, loss {self.running / self.step:.2f}")

    def _close_epoch(self) -> None:
        accuracy = evaluate_model(self.model, self.parts["validation"], self.classes, device=self.settings.device).accuracy
        loss = self.running / self.step
        log.info("epoch %d: training loss %.3f, validation accuracy %.3f", self.epoch + 1, loss, accuracy)
        self.history.append({"epoch": self.epoch + 1, "loss": loss, "validation_accuracy": accuracy})
        if accuracy >= max(h["validation_accuracy"] for h in self.history):
            self.best = copy.deepcopy(self.model.state_dict())
        self.epoch, self.step, self.running = self.epoch + 1, 0, 0.0
        self._save()

    def _learning_rate(self) -> float:
        done = (self.epoch * self.steps_per_epoch + self.step) / (self.settings.epochs * self.steps_per_epoch)
        rise = min(1.0, (done + 1e-3) / 0.05)
        return self.settings.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of one epoch from step `start`; each clip's random numbers depend on seed, epoch and clip alone."""
        seed, size, sounds = self.settings.seed, self.settings.batch_size, self.parts["training"]
        order = np.random.default_rng([seed, epoch]).permutation(len(sounds))
        for step in range(start, self.steps_per_epoch):
            rows = order[step * size : (step + 1) * size]
            clips = [self._clip(sounds.waveforms[row, 0], int(row), epoch) for row in rows]
            yield torch.from_numpy(np.stack(clips)[:, None]), torch.from_numpy(self.codes[rows])

    def _clip(self, sound: NDArray[np.float32], row: int, epoch: int) -> NDArray[np.float32]:
        if self.settings.augmentation is None:
            return sound
        rng = np.random.default_rng([self.settings.seed, epoch, row])
        return augment(sound, rate=self.settings.rate, settings=self.settings.augmentation, rng=rng)

    def _save(self) -> None:
        self.state_path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.state_path.with_name(f".{self.state_path.name}.{os.getpid()}.tmp")
        torch.save({
            "key": self.key, "epoch": self.epoch, "step": self.step, "running": self.running, "history": self.history,
            "model": self.model.state_dict(), "best": self.best, "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }, beside)
        beside.replace(self.state_path)

    def _load(self) -> None:
        if not self.state_path.exists():
            return
        state = torch.load(self.state_path, map_location=self.settings.device, weights_only=True)
        if state["key"] != self.key:
            raise InputError(f"train: {self.state_path} belongs to a training with other settings or sounds; remove it to begin anew")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.running = state["epoch"], state["step"], state["running"]
        self.history, self.best = state["history"], state["best"]
        torch.set_rng_state(state["rng"].cpu())
        log.info("train: going on in epoch %d after %d steps", self.epoch + 1, self.step)
