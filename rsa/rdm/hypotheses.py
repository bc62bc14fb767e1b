"""Compute model RDMs of hypotheses: categories, the pronunciation of words, and tables of the user.

Places, manners, heights and backness follow the chart of the International Phonetic Association (2015) for the sounds
of General American, which have their ARPAbet names here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.checks import check_choice, check_enough, check_one_each, list_some, refuse_some, suggest_word
from brainmap.errors import InputError
from brainmap.rsa.rdm.alignment import LABEL_OF
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities
from brainmap.rsa.rdm.phonemes import list_phoneme_features
from brainmap.tables import read_table
from brainmap.types import Dissimilarity, Floats, Level, RDMs, TableLayout

PRONUNCIATIONS = {
    "zero": "Z IH R OW",
    "one": "W AH N",
    "two": "T UW",
    "three": "TH R IY",
    "four": "F AO R",
    "five": "F AY V",
    "six": "S IH K S",
    "seven": "S EH V AH N",
    "eight": "EY T",
    "nine": "N AY N",
    "bed": "B EH D",
    "bird": "B ER D",
    "tree": "T R IY",
    "cat": "K AE T",
    "house": "HH AW S",
    "dog": "D AO G",
}


def category_rdm(
    items: Sequence[str],
    categories: Sequence[str],
    *,
    level: Level = "condition",
    name: str = "category",
) -> RDMs:
    """Compute the RDM of the hypothesis that only categories matter: 0 within a category, 1 between categories.

    Parameters
    ----------
    items, categories : sequences of str
        The label of each item and its category, such as two columns of a table of conditions. Rows may repeat.
    level : {"condition", "stimulus"}
        Whether the items are conditions or stimuli.
    name : str
        RDM descriptor `name`.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Its dissimilarities are tied; compare it by rho-a or tau-a, as Spearman's correlation favors models with ties.

    Raises
    ------
    InputError
        There are fewer than three items, an item has two categories, or there is only one category or one per item.

    References
    ----------
    Nili et al. 2014, doi:10.1371/journal.pcbi.1003553

    Examples
    --------
    >>> category_rdm(["cat", "dog", "one"], ["animal", "animal", "number"]).dissimilarities
    array([[0., 1., 1.]])
    """
    check_one_each(categories, len(items), "category_rdm: categories", "items")
    of: dict[str, str] = {}
    for item, category in zip(items, categories, strict=True):
        if of.setdefault(str(item), str(category)) != str(category):
            raise InputError(f"category_rdm: expected one category of {item!r}, got {of[str(item)]!r} and {category!r}")
    n = len(set(of.values()))
    if len(of) >= 3 and n in (1, len(of)):
        raise InputError(
            "category_rdm: expected more than one category, and some that items share, got "
            f"{'one category for all' if n == 1 else 'a category of its own for each of'} {len(of)} items in {name!r}; "
            "all dissimilarities would be equal"
        )
    _, code = np.unique(list(of.values()), return_inverse=True)
    i, j = np.triu_indices(len(of), 1)
    return _build_rdms([(code[i] != code[j]).astype(float)], list(of), [name], level, "category")


def phonetic_rdm(
    words: Sequence[str],
    *,
    items: Sequence[str] | None = None,
    pronunciations: Mapping[str, str] | None = None,
    dissimilarity: Dissimilarity = "euclidean",
    name: str = "phonetic features",
) -> RDMs:
    """Compute the RDM of the pronunciation of words from articulatory features, averaged over the phonemes of a word.

    Parameters
    ----------
    words : sequence of str
        Words, in lower or upper case.
    items : sequence of str, optional
        The label of the stimulus in which each word is spoken. With labels the RDM is over stimuli, else over the words
        as conditions.
    pronunciations : mapping word -> phonemes, optional
        ARPAbet phonemes separated by blanks, as "K AE1 T" (stress is ignored). The digits and the words of the demo
        are built in, in General American as in the CMU Pronouncing Dictionary.
    dissimilarity : {"euclidean", "correlation", "cosine"}
        The dissimilarity of the mean features; euclidean is squared and divided by the number of features.
    name : str
        RDM descriptor `name`.

    Returns
    -------
    rsatoolbox.rdm.RDMs

    Raises
    ------
    InputError
        A word has no known pronunciation, a phoneme is unknown, or there are fewer than three items.

    Notes
    -----
    The features of a phoneme are 0 or 1: syllabic, voiced, place and manner of consonants, height, backness, rounding
    and tenseness of vowels, as on the chart of the International Phonetic Association; a diphthong is the mean of its
    two vowels. Averaging over phonemes forgets their order.

    References
    ----------
    International Phonetic Association 2015, https://www.internationalphoneticassociation.org/content/ipa-chart;
    Weide 1998, The CMU Pronouncing Dictionary

    Examples
    --------
    >>> phonetic_rdm(["three", "tree", "house"]).dissimilarities.round(3)  # three is near tree
    array([[0.021, 0.058, 0.069]])
    """
    check_choice(dissimilarity, ("euclidean", "correlation", "cosine"), "dissimilarity")
    known = {**PRONUNCIATIONS, **{word.lower(): said for word, said in (pronunciations or {}).items()}}
    absent = sorted({str(w) for w in words if str(w).lower() not in known})
    if absent:
        raise InputError(
            f"phonetic_rdm: there is no pronunciation of {list_some(absent)}{suggest_word(absent[0], known)}; give "
            "them as pronunciations={'cat': 'K AE T'}"
        )
    labels = [str(label) for label in (words if items is None else items)]
    check_one_each(labels, len(words), "phonetic_rdm: items", "words")
    word_of = dict(zip(labels, (str(word).lower() for word in words), strict=True))
    patterns = np.stack([list_phoneme_features(known[word], word).mean(axis=0) for word in word_of.values()])
    vector = compute_model(patterns, dissimilarity, name)
    return _build_rdms([vector], list(word_of), [name], "condition" if items is None else "stimulus", dissimilarity)


def read_model_rdms(
    table: str | Path | pd.DataFrame,
    *,
    layout: TableLayout | None = None,
    dissimilarity: Dissimilarity = "euclidean",
    name: str | None = None,
) -> RDMs:
    """Read model RDMs from a table (TSV) of features or of dissimilarities.

    Parameters
    ----------
    table : path or DataFrame
        The name of the first column, `stimulus_id` or `condition`, gives the level.
        features: one row per item and numbers in the other columns, which give one RDM together. square: a matrix of
        dissimilarities with one row and one column per item. long: one row per pair; the first columns are
        `condition_1` and `condition_2` (or `stimulus_id_1` and `stimulus_id_2`), and each further column is an RDM.
    layout : {"features", "square", "long"}, optional
        By default it is inferred from the names of the columns.
    dissimilarity : {"euclidean", "correlation", "cosine"}
        The dissimilarity of features; euclidean is squared and divided by the number of features.
    name : str, optional
        RDM descriptor `name` (default: the name of the file). The RDMs of a long table have the names of their columns.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Empty cells and n/a become NaN; they are allowed in dissimilarities only.

    Raises
    ------
    InputError
        The columns give no level, labels occur twice or differ between rows and columns, a matrix is not symmetric or
        its diagonal is not zero, a pair is repeated or missing, cells hold no numbers, or there are fewer than three
        items.

    Examples
    --------
    >>> table = pd.DataFrame({"condition": ["a", "b", "c"], "size": [1, 2, 4]})
    >>> rdm = read_model_rdms(table, name="size")
    >>> rdm.dissimilarities, rdm.rdm_descriptors["name"]
    (array([[1., 9., 4.]]), ['size'])
    """
    what = "model table" if isinstance(table, pd.DataFrame) else f"model table {table}"
    if name is None:
        name = "table" if isinstance(table, pd.DataFrame) else Path(table).stem
    read = read_table(table, "model table")
    columns = [str(column) for column in read.columns]
    first = columns[0].removesuffix("_1")
    levels = [level for level, label in LABEL_OF.items() if label == first]
    if not levels or len(columns) < 2:
        raise InputError(
            f"{what}: expected a first column 'stimulus_id' or 'condition' (for pairs: 'condition_1', 'condition_2') "
            f"and then numbers, got the columns {list_some(columns)}"
        )
    pairs = columns[:2] == [f"{first}_1", f"{first}_2"]
    labels = read.iloc[:, 0].astype(str).tolist()
    if layout is None:
        layout = "long" if pairs else "square" if set(columns[1:]) == set(labels) else "features"
    check_choice(layout, ("features", "square", "long"), "layout")
    if layout == "long":
        if not pairs or len(columns) < 3:
            raise InputError(
                f"{what}: expected the columns '{first}_1', '{first}_2' and then dissimilarities, got "
                f"{list_some(columns)}"
            )
        items, vectors = _parse_pairs(read, what)
        return _build_rdms(vectors, items, columns[2:], levels[0], "table")  # type: ignore[arg-type]
    twice = {label for label, n in Counter(labels).items() if n > 1}
    refuse_some(sorted(twice), f"{what}: {first} ", " occurs in more than one row; make labels unique")
    values = _convert_cells(read.iloc[:, 1:], what)
    if layout == "square":
        vector, kind = parse_square(values, labels, columns[1:], what), "table"
    else:
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise InputError(f"{what}: a feature of {labels[row]!r} is missing; fill it in, or leave the column out")
        vector, kind = compute_model(values, dissimilarity, name), dissimilarity
    return _build_rdms([vector], labels, [name], levels[0], kind)  # type: ignore[arg-type]


def _parse_pairs(read: pd.DataFrame, what: str) -> tuple[list[str], list[Floats]]:
    left, right = (read.iloc[:, k].astype(str).tolist() for k in (0, 1))
    items = list(dict.fromkeys([label for both in zip(left, right, strict=True) for label in both]))
    place = {label: k for k, label in enumerate(items)}
    seen = np.zeros((len(items), len(items)), dtype=int)
    i, j = np.array([place[x] for x in left]), np.array([place[x] for x in right])
    own = np.flatnonzero(i == j)
    if len(own):
        raise InputError(f"{what}: the table pairs {left[own[0]]!r} with itself; leave that row out")
    np.add.at(seen, (np.minimum(i, j), np.maximum(i, j)), 1)
    a, b = np.triu_indices(len(items), 1)
    for wrong, told in ((seen[a, b] > 1, "more than once"), (seen[a, b] == 0, "missing (write n/a where unknown)")):
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{what}: expected each pair once, but the pair {items[a[k]]!r}, {items[b[k]]!r} is {told}"
            )
    values = _convert_cells(read.iloc[:, 2:], what)
    vectors = []
    for column in values.T:
        matrix = np.zeros(seen.shape)
        matrix[i, j] = matrix[j, i] = column
        vectors.append(matrix[a, b])
    return items, vectors


def parse_square(values: Floats, rows: Sequence[str], columns: Sequence[str], what: str) -> Floats:
    """Return the pairs `(n_pairs,)` of a matrix of dissimilarities, whose columns may come in another order than rows.

    Raises
    ------
    InputError
        Labels differ between rows and columns, or the matrix is not symmetric with zeros on its diagonal.
    """
    if sorted(rows) != sorted(columns):
        told = sorted(set(rows) ^ set(columns)) or "repeated columns"
        raise InputError(f"{what}: expected the same labels in rows and columns, but they differ in {list_some(told)}")
    matrix = values[:, [columns.index(label) for label in rows]]
    if not np.allclose(matrix, matrix.T, equal_nan=True):
        i, j = np.argwhere(~np.isclose(matrix, matrix.T, equal_nan=True))[0]
        raise InputError(
            f"{what}: expected a symmetric matrix, got {matrix[i, j]:g} from {rows[i]!r} to {rows[j]!r} and "
            f"{matrix[j, i]:g} back"
        )
    if np.nan_to_num(np.diagonal(matrix)).any():
        raise InputError(
            f"{what}: expected 0 on the diagonal, got {np.nanmax(np.abs(np.diagonal(matrix))):g}; are these "
            "similarities? write dissimilarities"
        )
    return np.asarray(matrix[np.triu_indices(len(rows), 1)])


def _convert_cells(cells: pd.DataFrame, what: str) -> Floats:
    """Convert cells to numbers; empty cells and n/a become NaN."""
    said = cells.astype(str).replace({"": "nan", "n/a": "nan", "NaN": "nan"})
    values = said.apply(pd.to_numeric, errors="coerce")
    wrong = values.isna() & (said != "nan")
    if wrong.to_numpy().any():
        row, column = np.argwhere(wrong.to_numpy())[0]
        found_cell = str(cells.iloc[row, column])
        comma = re.fullmatch(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*", found_cell)
        hint = "; write decimals with a point, as 0.5 (in R: dec = '.')" if comma else ""
        raise InputError(f"{what}: expected a number in column {cells.columns[column]!r}, got {found_cell!r}{hint}")
    found: Floats = values.to_numpy(dtype=np.float64)
    if np.isinf(found).any():
        raise InputError(
            f"{what}: expected finite numbers, got an infinite one; write n/a where a dissimilarity is not known"
        )
    return found


def compute_model(patterns: Floats, dissimilarity: Dissimilarity, name: str) -> Floats:
    """Compute the dissimilarities `(n_pairs,)` of features `(n_items, n_features)`.

    Raises
    ------
    InputError
        A dissimilarity is not defined, as the correlation of constant features.
    """
    check_choice(dissimilarity, ("euclidean", "correlation", "cosine"), "dissimilarity")
    vector = compute_dissimilarities(patterns, dissimilarity=dissimilarity)
    if np.isnan(vector).any():
        raise InputError(f"model {name!r}: {dissimilarity} of constant features is not defined; choose 'euclidean'")
    return vector


def _build_rdms(vectors: Sequence[Floats], items: list[str], names: list[str], level: Level, measure: str) -> RDMs:
    from rsatoolbox.rdm.rdms import RDMs

    check_enough(len(items), 3, f"model {names[0]!r}", "items", f" ({list_some(items)})")
    return RDMs(
        np.stack(vectors),
        dissimilarity_measure=measure,
        descriptors={"level": level},
        rdm_descriptors={"name": list(names)},
        pattern_descriptors={LABEL_OF[level]: np.array(items)},
    )
