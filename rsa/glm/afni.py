"""Read what AFNI writes of a model: the columns of a design matrix, and which coefficients of a bucket are stimuli.

A bucket of 3dDeconvolve or 3dREMLfit holds a coefficient `name#n` for every requested column of the design: stimuli,
contrasts (general linear tests), drifts and motion, each with its statistics. Labels alone do not always distinguish
them; an ambiguous coefficient is refused, never guessed.

References
----------
https://afni.nimh.nih.gov/pub/dist/doc/program_help/3dDeconvolve.html
https://afni.nimh.nih.gov/pub/dist/doc/program_help/3dREMLfit.html
"""

from __future__ import annotations

import html
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.types import BucketKind


@dataclass(frozen=True)
class Design:
    """Hold what an `X.xmat.1D` file records about a regression.

    Attributes
    ----------
    columns : tuple of str
        `name#k` for every regressor.
    stimuli : tuple of str
        Names of the stimuli; drift, motion and contrasts are not among them.
    run_starts : ndarray of int
        First volume of each run.
    rows : ndarray of int
        The volume of each row; censored volumes are left out.
    matrix : ndarray, (n_rows, n_columns)
    bases : mapping of name to (option, model)
        The option (`-stim_times`, `-stim_times_IM`) and the response function of each stimulus.
    contrasts : tuple of str
        Names of the general linear tests.
    """

    columns: tuple[str, ...]
    stimuli: tuple[str, ...]
    run_starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    matrix: NDArray[np.float64]
    bases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    contrasts: tuple[str, ...] = ()

    def run_of(self, column: str) -> str | None:
        """Return the only run (from 1) in which a regressor is not 0; None if there is no such run or more than one."""
        if column not in self.columns:
            return None
        there = np.flatnonzero(np.abs(self.matrix[:, self.columns.index(column)]) > 1e-6)
        runs = np.unique(np.searchsorted(self.run_starts, self.rows[there], side="right"))
        return str(runs[0]) if len(runs) == 1 else None


def read_design(path: Path) -> Design:
    """Read a design matrix of 3dDeconvolve.

    Raises
    ------
    InputError
        If the file is not a design matrix of 3dDeconvolve, or if its parts do not fit each other.
    """
    try:
        text = path.read_text(encoding="latin-1")
        said = dict(re.findall(r'^#\s*(\w+)\s*=\s*"([^"]*)"', text, re.M))
        columns = tuple(label.strip() for label in said["ColumnLabels"].split(";"))
        body = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        matrix = np.array(body.split(), float).reshape(-1, len(columns))
        rows = _parse_integers(said["GoodList"]) if "GoodList" in said else np.arange(len(matrix))
        starts = _parse_integers(said.get("RunStart", "0"))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: expected a design matrix of 3dDeconvolve, got another file ({error}); look for X.xmat.1D"
        ) from None
    if len(matrix) > len(rows):  # the matrix still holds the rows that the fit left out
        rows = np.arange(len(matrix))
    if len(matrix) != len(rows) or not len(starts):
        raise InputError(
            f"{path}: expected {len(rows)} rows, the volumes that GoodList names, got {len(matrix)}; make the design "
            "again"
        )
    lists = [said.get(key, "").split(";") for key in ("StimLabels", "GltLabels")]
    stimuli, contrasts = (tuple(name.strip() for name in names if name.strip()) for names in lists)
    numbers = [key.removeprefix("BasisName_") for key in said if key.startswith("BasisName_")]
    bases = {
        said[f"BasisName_{k}"].strip(): (said.get(f"BasisOption_{k}", "").strip(), said.get(f"BasisFormula_{k}", ""))
        for k in numbers
    }
    return Design(columns, stimuli, starts, rows, matrix, bases, contrasts)


def _parse_integers(text: str) -> NDArray[np.int64]:
    """Parse AFNI's compact notation for integers.

    Examples
    --------
    >>> _parse_integers("0..3,7,2@9").tolist()
    [0, 1, 2, 3, 7, 9, 9]
    """
    numbers: list[int] = []
    for word in re.split(r"[,\s]+", text.strip()):
        if match := re.fullmatch(r"(-?\d{1,9})(?:\.\.|:)(-?\d{1,9})", word):
            numbers += range(int(match[1]), int(match[2]) + 1)
        elif match := re.fullmatch(r"(\d{1,6})@(-?\d{1,9})", word):
            numbers += [int(match[2])] * int(match[1])
        else:
            numbers.append(int(word))
    return np.array(numbers, np.int64)


OWN = "brainmap betas"  # the history of betas fitted by this package begins with these words
_OTHERS = "*"  # the name of a regressor that stands for all names that are not listed
_COEFFICIENT = re.compile(r"(?P<name>.+)#(?P<n>\d+)_Coef")
_COLUMN = re.compile(r"(?P<name>.+)#(?P<n>\d+)")  # the labels that `3dREMLfit -Rbeta` gives its coefficients
_CONTRAST = re.compile(r".+_GLT|GLT[ #_]*\d+ *", re.IGNORECASE)
_DRIFT = re.compile(r"Run ?# ?\d+ ?Pol|.+\[\d+\]")  # second: a column of an -ortvec or -addbase file
_MOTION = re.compile(
    r"(roll|pitch|yaw|dS|dL|dP|(trans|rot)_[xyz]|mot(ion)?)([-._]?(r|run)?\d+|[-._]?(demean|deriv)\w*)*"
)
_SHIFTS = re.compile(r"(dS|dL|dP)\b|(trans|rot)_[xyz]|mot(ion)?[-._]?(demean|deriv|\d)")  # names that no stimulus has
_CONTRASTED = re.compile(r"[-+<>*/&]|(?<![A-Za-z])(vs|minus|mean|avg|average|diff|contrast)(?![A-Za-z])|[a-z]VS?[A-Z]")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # a part of a name, as in happyVsSad or happy_vs_sad
# words and signs that the name of a contrast has, and that of a stimulus seldom
_OF_CONTRASTS = frozenset((
    "vs", "versus", "minus", "diff", "difference", "contrast", "glt", "main", "effect", "interaction", "avg", "average",
    "mean",
))  # fmt: skip
_SIGNS = re.compile(r"[<>*]")
_DIFFERENCE = re.compile(r"([^-]+)-([^-]+)")
_OF_NUISANCES = frozenset((  # words that only the name of a regressor of no interest has
    "csf", "wm", "gm", "gsr", "dvars", "fd", "rmsd", "ventricle", "ventricles", "vent", "fvent", "acompcor", "tcompcor",
    "compcor", "anaticor", "nuisance", "nuis", "confound", "confounds", "outlier", "outliers", "censor", "retroicor",
    "ricor", "physio", "cosine", "regressor", "motion",
))  # fmt: skip
_NUISANCE = re.compile(  # whole names that stimuli may have too
    r"(global|wme|fs[-_. ]?(vent|wm)|[at]?[-_. ]?comp[-_. ]?cor|roi[-_. ]?pc|white[-_. ]?matter|"
    r"framewise[-_. ]?displacement|constant|baseline|drift|trend|linear|quadratic|cubic|mot|"
    r"resp(iration)?|card(iac)?|heart|pulse|gs|[xyz][-_. ]?(trans(lation)?|rot(ation)?)|rp[-_. ]?[1-6]|"
    r"[rtd][-_. ]?[xyz]|(trans(lation)?|rot(ation)?)([-_. ]?[xyz])?)"
    r"([-_. ]?(signal|mean|avg|rate|run|pc|roi|deriv(ative)?s?|demean(ed)?|power|rvt|r|\d))*",
    re.IGNORECASE,
)
_JOINT = r"[^A-Za-z0-9]*(?:vs?|V|VS|minus|m|and|plus)?[^A-Za-z0-9]*"  # joins the names in cat_vs_dog, catVdog, cat-dog
_SEVERAL = re.compile(r"(TENT|CSPLIN|POLY|SIN|I?SPMG(?!1)|EXPR\(.*\)\s+\S+\s+\S)")  # models with several parameters


class Regressor(NamedTuple):
    """Describe the coefficients of one name; `model` is the response function of a stimulus."""

    name: str
    kind: BucketKind
    model: str = ""


class Coefficient(NamedTuple):
    """Identify one coefficient: `name#n` in sub-brick `volume`."""

    volume: int
    name: str
    n: int


def read_regressors(history: str, folder: Path | None = None) -> tuple[Regressor, ...]:
    """Read the regressors from the commands in a bucket's history; the last command wins for a name used twice.

    Parameters
    ----------
    history : str
        AFNI's HISTORY_NOTE.
    folder : Path, optional
        Folder of the bucket. 3dREMLfit names only the design file, which is read if it lies beside the bucket.

    Examples
    --------
    >>> read_regressors("3dDeconvolve -stim_times_IM 1 a.1D 'GAM' -stim_label 1 cat -glt_label 1 V-A")
    (Regressor(name='V-A', kind='contrast', model=''), Regressor(name='cat', kind='trials', model='GAM'))
    """
    found: dict[str, Regressor] = {}
    for entry in re.split(r"\n(?=\s*\[)", html.unescape(history)):
        words = _split_command(entry)
        program = next((w for w in words if Path(w).name in ("3dDeconvolve", "3dREMLfit")), None)
        if OWN in entry:
            found = {_OTHERS: Regressor(_OTHERS, "trials")}
        elif program is not None:
            said = words[words.index(program) + 1 :]
            found.pop(_OTHERS, None)  # it belongs to an earlier fit
            chosen = _read_deconvolve(said) if program.endswith("3dDeconvolve") else _read_remlfit(said, folder)
            found |= {one.name: one for one in chosen}
    return tuple(found.values())


def _split_command(entry: str) -> list[str]:
    lexer = shlex.shlex(entry, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:  # an unbalanced quote
        return [word.strip("'\"") for word in entry.split()]


def _read_deconvolve(words: Sequence[str]) -> list[Regressor]:
    """Read stimuli, baseline and contrasts from 3dDeconvolve; if all stimuli are known, the rest are contrasts."""
    names: dict[str, str] = {}
    kinds: dict[str, BucketKind] = {}
    models: dict[str, str] = {}
    by_file, base, contrasts = set(), set(), []
    told = {words[at + 1] for at, word in enumerate(words[:-1]) if word == "-num_stimts"}
    for at, option in enumerate(words):
        k, value, model = [*words[at + 1 : at + 4], "", "", ""][:3]
        if option == "-stim_label":
            names[k] = value.strip()
        elif option == "-stim_base":
            base.add(k)
        elif option == "-stim_file":
            by_file.add(k)
            kinds.setdefault(k, "stimulus")
        elif option.startswith("-stim_times"):
            kinds[k] = "trials" if option == "-stim_times_IM" else "stimulus"
            models[k] = model
        elif option == "-glt_label":
            contrasts.append(value.strip())
    found = []
    for k, kind in kinds.items():
        name = names.get(k, f"Stim#{k}")  # the name that 3dDeconvolve gives it
        moved = k in by_file and _MOTION.fullmatch(name) is not None
        found.append(Regressor(name, "baseline" if k in base or moved else kind, models.get(k, "")))
    # A contrast may have the name of a stimulus: its sub-brick is `name_GLT#0_Coef`.
    whole = [Regressor(_OTHERS, "contrast")] if str(len(found)) in told else []
    return [*whole, *(Regressor(name, "contrast") for name in contrasts), *found]


def _read_remlfit(words: Sequence[str], folder: Path | None) -> list[Regressor]:
    """Read the contrasts of 3dREMLfit, and the regressors of its design if that file lies beside the bucket."""
    found: list[Regressor] = []
    for at, option in enumerate(words[:-1]):
        beside = None if folder is None else folder / Path(words[at + 1]).name
        if option == "-matrix" and beside is not None and beside.is_file():
            found += list_design_regressors(read_design(beside))
        if option == "-gltsym" and at + 2 < len(words):
            found.append(Regressor(words[at + 2].strip(), "contrast"))
    return found


def list_design_regressors(design: Design) -> tuple[Regressor, ...]:
    """Return the regressors that a design matrix lists in its columns and contrasts."""
    names = dict.fromkeys(column.rsplit("#", 1)[0] for column in design.columns)
    found = []
    for name in names if design.stimuli else ():
        option, model = design.bases.get(name, ("", ""))
        trials: BucketKind = "trials" if option == "-stim_times_IM" else "stimulus"
        found.append(Regressor(name, trials if name in design.stimuli else "baseline", model))
    return (*(Regressor(name, "contrast") for name in design.contrasts), *found)


def find_stimuli(
    labels: Sequence[str], statistics: Iterable[int], regressors: Sequence[Regressor], what: str
) -> list[tuple[int, str, str]] | None:
    """Return volume, stimulus and condition of every stimulus coefficient; None if the image holds no coefficients.

    A name with one coefficient is one stimulus. The trials that `-stim_times_IM` estimates for a name become the
    stimuli `name#0`, `name#1` and so on of the condition `name`.

    Raises
    ------
    InputError
        If a coefficient could be a stimulus or something else, if a condition has several basis functions, or if no
        coefficient belongs to a stimulus.

    Examples
    --------
    >>> find_stimuli(["F", "yes#0_Coef", "yes-no_GLT#0_Coef"], [0], [], "stats")
    [(1, 'yes', 'yes')]
    """
    coefficients = _find_coefficients(labels, set(statistics), bool(regressors))
    if not coefficients:
        return None
    known = {one.name: one for one in regressors}
    others = known.pop(_OTHERS, None)
    if others is not None and others.kind == "trials":
        known |= {one.name: Regressor(one.name, "trials") for one in coefficients}
    strange = {one.name for one in coefficients} - set(known)
    moved = any(_SHIFTS.match(name) and _MOTION.fullmatch(name) for name in strange)
    kept = [one for one in coefficients if _can_be_stimulus(one.name, known, moved)]
    if not kept:
        names = list_some(dict.fromkeys(one.name for one in coefficients))
        raise InputError(
            f"patterns: expected coefficients of stimuli, got contrasts and baseline terms only in {what} ({names})"
        )
    _refuse_unsure(kept, known, what, complete=others is not None and any(one.name in known for one in kept))
    _refuse_bases(kept, known, what)
    several = Counter(one.name for one in kept)
    return [(c.volume, c.name if several[c.name] == 1 else f"{c.name}#{c.n}", c.name) for c in kept]


def _find_coefficients(labels: Sequence[str], statistics: set[int], fitted: bool) -> list[Coefficient]:
    """Find the coefficients among sub-bricks; a label without `_Coef` counts only if a design produced it."""
    plain = fitted or any(_DRIFT.fullmatch(label.strip().rsplit("#", 1)[0]) for label in labels)
    found = []
    for volume, label in enumerate(labels):
        match = _COEFFICIENT.fullmatch(label.strip()) or (_COLUMN.fullmatch(label.strip()) if plain else None)
        if match and volume not in statistics:
            found.append(Coefficient(volume, match["name"].strip(), int(match["n"])))
    return found


def _can_be_stimulus(name: str, known: Mapping[str, Regressor], moved: bool) -> bool:
    """Return whether a name may be a stimulus; `moved` says that some other name can only be a motion regressor."""
    if name in known:
        return known[name].kind in ("stimulus", "trials")
    bare = re.sub("_GLT$", "", name)
    contrast = _CONTRAST.fullmatch(name) or (bare in known and known[bare].kind == "contrast")
    return not (contrast or _DRIFT.fullmatch(name) or (moved and _MOTION.fullmatch(name)))


def refuse_unsure_labels(labels: Sequence[str], regressors: Sequence[Regressor], what: str) -> None:
    """Refuse an image whose labels are plain names, some of which could be those of contrasts or nuisances.

    Raises
    ------
    InputError
        Only the user can say which labels are stimuli.
    """
    if _OTHERS in {one.name for one in regressors}:  # betas of this package, or a design that tells all its stimuli
        return
    names = [Coefficient(volume, label, -1) for volume, label in enumerate(labels)]
    others = {one.name for one in regressors}
    why = {
        name: reason for name in labels if name not in others and (reason := _explain_doubt(name, labels, plain=True))
    }
    _refuse_doubtful(why, names, what, told="no history tells which")


def _refuse_unsure(kept: Sequence[Coefficient], known: Mapping[str, Regressor], what: str, *, complete: bool) -> None:
    """Refuse names that only the user can identify."""
    counts = Counter(one.name for one in kept)
    some_separated = 0 < sum(bool(_CONTRASTED.search(name)) for name in counts) < len(counts)
    why: dict[str, str] = {}
    for name in (name for name in counts if name not in known):
        doubt = _explain_doubt(name, counts)
        if doubt:
            why[name] = doubt
        elif complete or (some_separated and _CONTRASTED.search(name)):
            why[name] = "a contrast"
        elif counts[name] > 1:
            why[name] = "single trials (-stim_times_IM) or basis functions (SPMG2, TENT)"
    _refuse_doubtful(why, kept, what, told="its history does not name it" if complete else "no history tells which")


def _explain_doubt(name: str, names: Iterable[str], *, plain: bool = False) -> str:
    """Say what else than a stimulus a name could be, by its words and by the names beside it; empty if nothing.

    Plain labels are no coefficients of a design, so that a `pitch` among them is taken for the sound that it says.

    Examples
    --------
    >>> [_explain_doubt(name, ("V-A", "A-B", "cat")) for name in ("happyVsSad", "WM_mean", "roll", "A-B", "cat")]
    ['a contrast', 'a regressor of no interest', 'motion', 'a contrast', '']
    """
    words = {word.lower() for word in _WORD.findall(name)}
    if not plain and _MOTION.fullmatch(name):
        return "motion"
    if words & _OF_NUISANCES or (not plain and _NUISANCE.fullmatch(name)):
        return "a regressor of no interest"
    contrast = words & _OF_CONTRASTS or _SIGNS.search(name) or _is_joined(name, names) or _is_difference(name, names)
    return "a contrast" if contrast else ""


def _is_difference(name: str, names: Iterable[str]) -> bool:
    """Return whether a name subtracts what another one adds, as A-B does beside V-A."""
    own = _DIFFERENCE.fullmatch(name)
    if own is None:
        return False
    parts = [found.groups() for other in names if (found := _DIFFERENCE.fullmatch(other))]
    both = {left for left, _ in parts} & {right for _, right in parts}
    return bool(both & set(own.groups()))


def _refuse_doubtful(why: Mapping[str, str], kept: Sequence[Coefficient], what: str, *, told: str) -> None:
    if not why:
        return
    counts = Counter(one.name for one in kept)
    name, reason = next(iter(why.items()))
    several = counts[name] > 1
    could = f"{'' if several else 'a stimulus or '}{reason}"
    raise InputError(
        f"patterns: {what}: {name!r} ({counts[name]} coefficient{'s' if several else ''}) could be {could}, and "
        f"{told}; in question: {list_some(why)}; say which sub-bricks are stimuli in a table (labels: columns volume, "
        f"stimulus_id, condition, and run where a stimulus occurs again){_suggest_selection(kept, why, what)}"
    )


def _is_joined(name: str, names: Iterable[str]) -> bool:
    """Return whether a name joins two of the other names, as the name of a contrast does.

    Examples
    --------
    >>> [_is_joined(name, ("cat", "dog", "s1", "s10")) for name in ("cat_vs_dog", "catVdog", "s101", "cat_anna")]
    [True, True, False, False]
    """
    others = [other for other in names if other != name]
    return any(
        re.match(rf"{re.escape(first)}{_JOINT}{re.escape(other)}(?![A-Za-z0-9])", name)
        for first in others
        if name.startswith(first)
        for other in others
        if other != first
    )


def _refuse_bases(kept: Sequence[Coefficient], known: Mapping[str, Regressor], what: str) -> None:
    """Refuse several coefficients of one response, and different basis functions under different names."""
    counts = Counter(one.name for one in kept)
    for name, n in counts.items():
        one = known.get(name, Regressor(name, "stimulus"))
        several = n > 1 and (one.kind == "stimulus" or _SEVERAL.match(one.model))
        if several:
            model = f" ({one.model})" if one.model else ""
            of = "each trial's" if one.kind == "trials" else "one"
            raise InputError(
                f"patterns: {what}: {name!r} has {n} coefficients, which are basis functions or modulations of {of} "
                f"response{model}, not stimuli; choose one for each condition in a table (labels: columns volume, "
                f"stimulus_id){_suggest_selection(kept, (), what)}"
            )
    of_one = {c.name: c.n for c in kept if known.get(c.name, Regressor("", "stimulus")).kind == "stimulus"}
    if len(set(of_one.values())) > 1:
        first, *others = of_one.items()
        other = next(pair for pair in others if pair[1] != first[1])
        raise InputError(
            f"patterns: {what}: {first[0]}#{first[1]} and {other[0]}#{other[1]} are different basis functions, which "
            "cannot be compared; choose the same one for every condition"
        )


def _suggest_selection(kept: Sequence[Coefficient], unsure: Iterable[str], what: str) -> str:
    """Suggest an AFNI selector for the first coefficient of each identified name; empty if none can be given."""
    left = set(unsure)
    first = {one.name: one for one in reversed(kept) if one.name not in left}
    chosen = sorted(first.values())
    if len(chosen) < 3 or what.endswith(("]", ">")):  # an RDM needs at least three items
        return ""
    volumes = ",".join(str(one.volume) for one in chosen)
    names = [one.name if one.n < 0 else f"{one.name}#{one.n}" for one in chosen]
    return f", or select them: '{what}[{volumes}]' takes {list_some(names, 3)}"
