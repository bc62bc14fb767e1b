"""Make the accuracy table of the source study on any corpus: architectures by variants, each trained to the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from brainmap.checks import check_each
from brainmap.errors import InputError
from brainmap.features.networks.architectures import ARCHITECTURES, network_names
from brainmap.features.networks.description import load_checkpoint
from brainmap.features.networks.training import Training, TrainingSettings, check_settings, read_parts
from brainmap.features.networks.zoo import count_parameters
from brainmap.features.sounds.files import Sounds
from brainmap.types import Part, Variant

SOURCE_NETWORKS = ("base", "ch32", "ch64", "vgg", "ch128")
ACCURACY_COLUMNS = {
    "network": "architecture",
    "variant": "regularization: dropout (do), batch normalization (bn), both, or none (plain)",
    "dropout": "probability of dropout; 0 without",
    "parameters": "number of trainable parameters",
    "best_epoch": "epoch whose weights were kept: the last one with the highest accuracy on the validation part",
    "validation_accuracy": "share of the sounds of the validation part that are called by their word in that epoch",
    "accuracy": "share of the sounds of the testing part that are called by their word",
    "low": "lower end of the 95 % interval of accuracy (Wilson), over sounds",
    "high": "upper end of the 95 % interval of accuracy (Wilson), over sounds",
    "n": "number of sounds of the testing part",
    "source_study": "accuracy of this network and variant in the source study, on Speech Commands",
}


@dataclass(frozen=True, kw_only=True)
class AccuracyTable:
    """Hold the accuracies of architectures by variants on one corpus.

    Attributes
    ----------
    table : DataFrame
        A row for each network and variant, with the columns of `ACCURACY_COLUMNS`.
    confusions : dict of str to DataFrame
        By "network variant": number of sounds of the row's word that were called by the column's word.
    checkpoints : dict of str to Path
    """

    table: pd.DataFrame
    confusions: Mapping[str, pd.DataFrame] = field(repr=False)
    checkpoints: Mapping[str, Path] = field(repr=False)


def train_accuracy_table(
    data: str | Path,
    folder: str | Path,
    *,
    networks: Sequence[str] = SOURCE_NETWORKS,
    variants: Sequence[Variant] = get_args(Variant),
    settings: TrainingSettings | None = None,
) -> AccuracyTable:
    """Train each network in each variant on one corpus, and say what each reaches on the testing part.

    The same call goes on with a table that was stopped: networks whose checkpoints are in the folder are not trained
    again, and the one that was being trained goes on where it was.

    Parameters
    ----------
    data : path
        Folder of class folders, as `train_network` takes it.
    folder : path
        Where the checkpoints are written, each as `<network>-<variant>.safetensors` (a `+` becomes `-`).
    networks, variants : sequence of str
    settings : TrainingSettings, optional
        What all trainings share. `network` and `variant` are replaced, and `dropout` holds for variants that have it.

    Returns
    -------
    AccuracyTable

    Raises
    ------
    InputError
        A name is unknown or given twice, the corpus is refused by `train_network`, or a checkpoint in the folder is of
        another training; all of this is looked at before anything is trained.
    RunError
        The loss of a training is no longer finite.

    Notes
    -----
    The interval treats sounds as independent draws. A testing part of few speakers tells less about new speakers than
    it says, and trainings with another seed differ from each other too.
    """
    shared, folder = settings or TrainingSettings(), Path(folder)
    if shared.start_from is not None:
        raise InputError("accuracy table: expected networks that start from random weights; leave start_from out")
    cells = [
        replace(shared, network=network, variant=variant, dropout=shared.dropout if "do" in variant else None)
        for network in _check_names(networks, network_names(), "network")
        for variant in _check_names(variants, get_args(Variant), "variant")
    ]
    for one in cells:
        check_settings(one)
    folder.mkdir(parents=True, exist_ok=True)
    read: dict[bool, tuple[dict[Part, Sounds], tuple[str, ...]]] = {}
    trainings = []
    for one in cells:
        flat = ARCHITECTURES[one.network].dims == 1
        if flat not in read:
            read[flat] = read_parts(data, one)
        name = f"{one.network}-{one.variant.replace('+', '-')}.safetensors"
        parts, classes = read[flat]
        trainings.append(Training(parts, classes, one, folder / name))
    done = {training.out: _is_done(training) for training in trainings}
    for training in trainings:
        if not done[training.out]:
            training.finish()
    return _collect(trainings)


def _check_names(names: Sequence[Any], known: Sequence[str], what: str) -> Sequence[Any]:
    check_each(names, known, what)
    if not names or len(set(names)) < len(names):
        raise InputError(f"accuracy table: expected each {what} once, got {', '.join(names) or 'none'}")
    return names


def _is_done(training: Training) -> bool:
    """Tell whether a training has its checkpoint already, and refuse one of another training."""
    if not training.out.exists():
        return False
    if (load_checkpoint(training.out).training or {}).get("key") != training.key:
        raise InputError(
            f"accuracy table: {training.out} was trained with other settings or sounds; give another folder, or remove "
            "it to train it again"
        )
    return True


def _collect(trainings: Sequence[Training]) -> AccuracyTable:
    """Read the table from the checkpoints."""
    from scipy.stats import binomtest  # slow to import

    rows, confusions, checkpoints = [], {}, {}
    for training in trainings:
        settings, spec = training.settings, ARCHITECTURES[training.settings.network]
        about = dict(load_checkpoint(training.out).training or {})
        own = spec.dropout if settings.dropout is None else settings.dropout
        right = round(about["test_accuracy"] * about["test_n"])
        interval = binomtest(right, about["test_n"]).proportion_ci(method="wilson")
        row = {
            "network": settings.network,
            "variant": settings.variant,
            "dropout": own if "do" in settings.variant else 0.0,
            "parameters": count_parameters(training.model),
            "best_epoch": about["best_epoch"],
            "validation_accuracy": max(h["validation_accuracy"] for h in about["history"]),
            "accuracy": about["test_accuracy"],
            "low": interval.low,
            "high": interval.high,
            "n": about["test_n"],
            "source_study": spec.accuracy.get(settings.variant, math.nan),
        }
        rows.append(row)
        name, words = f"{settings.network} {settings.variant}", list(training.classes)
        confusions[name] = pd.DataFrame(
            about["test_confusion"], index=pd.Index(words, name="condition"), columns=pd.Index(words, name="called")
        )
        checkpoints[name] = training.out
    return AccuracyTable(table=pd.DataFrame(rows), confusions=confusions, checkpoints=checkpoints)
