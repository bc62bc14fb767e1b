"""Compute the RDMs of the hypotheses of a study (stage 1), over the same items as those of layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainmap.checks import check_choice, check_file, gather_problems, list_some
from brainmap.errors import InputError, name_place
from brainmap.record import content_key
from brainmap.rsa.rdm.files import save_rdms
from brainmap.rsa.rdm.hypotheses import category_rdm, compute_model, phonetic_rdm
from brainmap.rsa.rdm.hypothesis_files import FoundRdm, read_hypothesis
from brainmap.study.results.context import Context, make_parent
from brainmap.study.settings.hypotheses import HYPOTHESES, Hypotheses, Hypothesis
from brainmap.study.stages.networks import Version, build_rdm_path, list_inputs
from brainmap.study.stages.wording import join_names
from brainmap.types import Floats, RDMs

VERSION = 1
FAVORS_TIES = ("spearman", "tau-b", "pearson")
"""Measures that score a model with many equal dissimilarities too high beside models without (Nili et al. 2014)."""
_FEW = 0.5  # share of pairs that equal another one, from which on a model is said to have ties


def run_hypotheses(context: Context) -> None:
    """Compute the RDMs of all hypotheses, where the study file has some, and write them like those of a network."""
    asked = context.study.settings.hypotheses
    if asked is None:
        return
    context.run_stage(HYPOTHESES, _compute_key(context, asked), partial(_write_hypotheses, context, asked))


def check_hypotheses(context: Context) -> list[str]:
    """Compute the RDMs of all hypotheses, and return what is noted of them, in one line each.

    Raises
    ------
    InputError
        One line for each hypothesis that cannot be compared.
    """
    asked = context.study.settings.hypotheses
    if asked is None:
        return []
    try:
        _ = context.stimuli
    except InputError:  # the sounds are told once, and not again for each hypothesis
        return []
    problems: list[str] = []
    notes: list[str] = []
    for one in asked.entries:
        gather_problems(problems, partial(_check_hypothesis, context, one, notes))
    if problems:
        raise InputError("\n".join(problems))
    return notes


def _check_hypothesis(context: Context, one: Hypothesis, notes: list[str]) -> None:
    notes.extend(_note(context, one, _compute_rdm(context, one)))


def compute_hypotheses(context: Context, asked: Hypotheses) -> RDMs:
    """Compute the RDMs of all hypotheses: the RDM descriptors `network` and `layer` are "hypotheses" and their names.

    Raises
    ------
    InputError
        A hypothesis cannot be compared, as `check_hypotheses` says.
    """
    from rsatoolbox.rdm.rdms import RDMs

    level = context.study.settings.rsa.items
    items, conditions = _list_items(context), list(context.stimuli.values())
    labels = {"condition": items} if level == "condition" else {"stimulus_id": items, "condition": conditions}
    return RDMs(
        np.stack([_compute_rdm(context, one).vector for one in asked.entries]),
        dissimilarity_measure="of each hypothesis",
        descriptors={"level": level},
        rdm_descriptors={"network": [asked.name] * len(asked.layers), "layer": list(asked.layers)},
        pattern_descriptors={key: np.array(values) for key, values in labels.items()},
    )


def _compute_key(context: Context, asked: Hypotheses) -> str:
    """Return the key of everything that the RDMs of hypotheses depend on."""
    table = context.sound_columns
    columns = {name: table[name].astype(str).tolist() for one in asked.entries for name in one.columns if name in table}
    files = [context.digest(file) for one in asked.entries for file in list_files(context, one)]
    return content_key(VERSION, asked.model_dump(), columns, files, context.stimuli, context.study.settings.rsa.items)


def list_files(context: Context, one: Hypothesis) -> list[str]:
    """List the files of the user that the RDM of a hypothesis comes from, besides the table of sounds."""
    return [context.study.resolve(name) for name in (one.rdm, one.labels) if name]


def _write_hypotheses(context: Context, asked: Hypotheses) -> Iterator[Path]:
    version = Version(asked, "")
    path = save_rdms(compute_hypotheses(context, asked), make_parent(build_rdm_path(context, version)))
    settings = {"hypotheses": asked.model_dump(), "items": context.study.settings.rsa.items}
    about = context.build_provenance(settings, list_inputs(context, version))
    yield from (path, context.write_sidecar(path, about))


def _list_items(context: Context) -> list[str]:
    """List the items of the RDMs, in the order of the table of sounds."""
    stimuli = context.stimuli
    return list(stimuli if context.study.settings.rsa.items == "stimulus" else dict.fromkeys(stimuli.values()))


def _compute_rdm(context: Context, one: Hypothesis) -> FoundRdm:
    """Compute the RDM of a hypothesis over the items of the study.

    Raises
    ------
    InputError
        A column, value, label or file is not as it must be, or all dissimilarities are equal.
    """
    with name_place(f"[[hypothesis]] {one.name}"):
        items = _list_items(context)
        if one.rdm:
            path = check_file(context.study.resolve(one.rdm), "rdm")
            with name_place("rdm"):
                labels = context.study.resolve(one.labels) if one.labels else None
                found = read_hypothesis(path, one.name, items=items, labels=labels)
        elif one.category:
            found = FoundRdm(_compute_categories(context, one, one.category), ())
        elif one.phonetic:
            found = FoundRdm(_compute_phonetic(context, one), ())
        else:
            found = FoundRdm(_compute_features(context, one), ())
        low, high = found.vector.min(), found.vector.max()
        if not high - low > 1e-12 * max(abs(low), abs(high)):
            raise InputError(f"expected dissimilarities that differ, got {low:.3g} for every pair; leave it out")
    return found


def _read_column(context: Context, name: str, key: str) -> list[str]:
    """Read a column of the table of sounds, in which no cell may be empty."""
    table = context.sound_columns
    check_choice(name, [str(column) for column in table if column != "path"], f"{key}: column of the table of sounds")
    values = [str(value).strip() for value in table[name]]
    empty = [item for item, value in zip(context.stimuli, values, strict=True) if value in ("", "n/a", "nan", "NaN")]
    if empty:
        raise InputError(f"{key}: expected a value of {name!r} for every sound, got none for {list_some(empty, 4)}")
    return values


def _compute_categories(context: Context, one: Hypothesis, column: str) -> Floats:
    categories, level = _read_column(context, column, "category"), context.study.settings.rsa.items
    items = list(context.stimuli if level == "stimulus" else context.stimuli.values())
    return _take_vector(category_rdm(items, categories, level=level, name=column))


def _compute_phonetic(context: Context, one: Hypothesis) -> Floats:
    stimuli, level = context.stimuli, context.study.settings.rsa.items
    words = list(stimuli.values())
    said: dict[str, str] = {}
    if isinstance(one.phonetic, str):
        for word, phonemes in zip(words, _read_column(context, one.phonetic, "phonetic"), strict=True):
            if said.setdefault(word, phonemes) != phonemes:
                raise InputError(
                    f"phonetic: expected one pronunciation of {word!r} in the column {one.phonetic!r}, got "
                    f"{said[word]!r} and {phonemes!r}; write them alike"
                )
    try:
        rdm = phonetic_rdm(
            words if level == "stimulus" else list(dict.fromkeys(words)),
            items=list(stimuli) if level == "stimulus" else None,
            pronunciations=said,
        )
    except InputError as error:
        lacks = "there is no pronunciation" in str(error)
        how = "; write a column of phonemes (ARPAbet, as K AE T) into the table of sounds: phonetic = 'phonemes'"
        raise InputError(str(error).partition("; give them as")[0] + (how if lacks else "")) from None
    return _take_vector(rdm)


def _compute_features(context: Context, one: Hypothesis) -> Floats:
    """Compute the RDM of columns of numbers: means over the sounds of a condition where these are items, z-scored."""
    columns = []
    for name in one.features:
        cells = pd.Series(_read_column(context, name, "features"))
        numbers = pd.to_numeric(cells, errors="coerce")
        wrong = ~np.isfinite(numbers.to_numpy(dtype=np.float64))
        if wrong.any():
            raise InputError(f"features: expected numbers in the column {name!r}, got {cells[wrong].iloc[0]!r}")
        columns.append(numbers.to_numpy(dtype=np.float64))
    values = np.stack(columns, axis=1)
    if context.study.settings.rsa.items == "condition":
        owner = list(context.stimuli.values())
        values = np.stack([values[[one == item for one in owner]].mean(axis=0) for item in _list_items(context)])
    spread = values.std(axis=0)
    flat = [name for name, sd in zip(one.features, spread, strict=True) if not sd > 0]
    if flat:
        raise InputError(f"features: expected values that differ, got the constant column {flat[0]!r}; leave it out")
    return compute_model((values - values.mean(axis=0)) / spread, one.dissimilarity, one.name)


def _take_vector(rdm: RDMs) -> Floats:
    vectors: Floats = np.asarray(rdm.dissimilarities, dtype=np.float64)
    return np.asarray(vectors[0])


def _note(context: Context, one: Hypothesis, found: FoundRdm) -> Iterator[str]:
    """Note what a reader must know of a hypothesis that can be compared."""
    where, settings = f"[[hypothesis]] {one.name}", context.study.settings
    yield f"{where}: {_describe_reading(context, one, found)}"
    if one.category:
        yield from (
            f"{where}: {line}" for line in _note_odd_categories(_read_column(context, one.category, "category"))
        )
    if found.others:
        yield (
            f"{where}: {Path(str(one.rdm)).name} has {len(found.others)} further items, which are left out "
            f"({list_some(found.others, 4)})"
        )
    below = int((found.vector < 0).sum())
    if below:
        yield (
            f"{where}: {below} of {len(found.vector)} dissimilarities are negative, the lowest "
            f"{found.vector.min():.3g}; right for cross-validated distances, and not for similarities (write 1 - r)"
        )
    measures = {"[rsa]": settings.rsa.measure, "[searchlight]": getattr(settings.searchlight, "measure", "")}
    favors = [f"{section} measure = {measure!r}" for section, measure in measures.items() if measure in FAVORS_TIES]
    if favors and count_tied_share(found.vector) > _FEW:
        yield (
            f"{where}: it has {len(np.unique(found.vector))} different dissimilarities, and {' and '.join(favors)} "
            "scores models with ties too high beside layers, which have none; 'rho-a' compares them fairly "
            "(Nili et al. 2014)"
        )


def _describe_reading(context: Context, one: Hypothesis, found: FoundRdm) -> str:
    """Say what a hypothesis was read as: its categories and their sounds, or the items that were matched."""
    n = len(_list_items(context))
    low, high = found.vector.min(), found.vector.max()
    if one.category:
        counts = Counter(_read_column(context, one.category, "category"))
        listed = [f"{name} ({count})" for name, count in counts.items()]
        return f"{len(counts)} categories of sounds in the column {one.category!r}: {join_names(listed, 12)}"
    if one.rdm:
        items = _list_items(context)
        return (
            f"{n} of {n} labels ({list_some(items, 3)}) found in {Path(one.rdm).name}, values {low:.3g} to {high:.3g}"
        )
    return f"{_describe_source(one)}, over {n} items, values {low:.3g} to {high:.3g}"


def _note_odd_categories(values: Sequence[str]) -> Iterator[str]:
    """Note categories that differ in upper and lower case or in spaces alone, and categories of one sound.

    Examples
    --------
    >>> list(_note_odd_categories(["a b", "A  b", "c", "c"]))[1]
    "categories of one sound: 'a b', 'A  b'; each is unlike every other sound"
    """
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(values):
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            yield (
                f"the categories {list_some(names)} differ only in upper and lower case or in spaces, and count as "
                "different; write them alike"
            )
    single = [name for name, count in Counter(values).items() if count == 1]
    if single:
        yield f"categories of one sound: {list_some(single, 6)}; each is unlike every other sound"


def count_tied_share(vector: Floats) -> float:
    """Return the share of dissimilarities that another one equals.

    Examples
    --------
    >>> count_tied_share(np.array([0.0, 1.0, 1.0, 2.0]))
    0.5
    """
    _, counts = np.unique(vector, return_counts=True)
    return float(counts[counts > 1].sum() / len(vector))


def describe_sources(entries: Sequence[Hypothesis]) -> list[dict[str, Any]]:
    """Say of each hypothesis in words where its RDM comes from, for the methods section of a page."""
    return [{"name": one.name, "words": _describe_source(one)} for one in entries]


def _describe_source(one: Hypothesis) -> str:
    if one.category:
        return f"0 within and 1 between the categories of the column {one.category!r}"
    if one.phonetic:
        return "the Euclidean distance of the articulatory features of words, averaged over their phonemes"
    if one.features:
        kind = {"euclidean": "Euclidean"}.get(one.dissimilarity, one.dissimilarity)
        return f"the {kind} distance of {list_some(one.features, 6)}, z-scored over items"
    return f"the RDM of the file {Path(str(one.rdm)).name}, matched by label"
