"""Which sub-bricks of an AFNI bucket are stimuli: what its history, its design and its labels tell of each.

A bucket of 3dDeconvolve or 3dREMLfit holds a coefficient `name#n` for every column of the design that is asked for:
stimuli, contrasts (general linear tests), drifts and motion, each with its statistics. Labels alone do not always
tell one from another; what could be either is refused, never guessed.

References
----------
https://afni.nimh.nih.gov/pub/dist/doc/program_help/3dDeconvolve.html
https://afni.nimh.nih.gov/pub/dist/doc/program_help/3dREMLfit.html
"""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from brainmap.checks import some
from brainmap.errors import InputError
from brainmap.rsa.glm.afni_matrix import Design, read_design

Kind = Literal["stimulus", "trials", "baseline", "contrast"]

OWN = "brainmap betas"  # begins the history of betas that were fit here
_OTHERS = "*"  # the name of a regressor that stands for all that are not named
_COEFFICIENT = re.compile(r"(?P<name>.+)#(?P<n>\d+)_Coef")
_COLUMN = re.compile(r"(?P<name>.+)#(?P<n>\d+)")  # as `3dREMLfit -Rbeta` labels its coefficients
_CONTRAST = re.compile(r".+_GLT|GLT[ #_]*\d+ *", re.IGNORECASE)
_DRIFT = re.compile(r"Run ?# ?\d+ ?Pol|.+\[\d+\]")  # the second: a column of a file, from -ortvec or -addbase
_MOTION = re.compile(
    r"(roll|pitch|yaw|dS|dL|dP|(trans|rot)_[xyz]|mot(ion)?)([-._]?(r|run)?\d+|[-._]?(demean|deriv)\w*)*"
)
_SHIFTS = re.compile(r"(dS|dL|dP)\b|(trans|rot)_[xyz]|mot(ion)?[-._]?(demean|deriv|\d)")  # no stimulus is called so
_CONTRASTED = re.compile(r"[-+<>*/&]|(?<![A-Za-z])(vs|minus|mean|avg|average|diff|contrast)(?![A-Za-z])|[a-z]VS?[A-Z]")
_JOINT = r"[^A-Za-z0-9]*(?:vs?|V|VS|minus|m|and|plus)?[^A-Za-z0-9]*"  # of cat_vs_dog, catVdog, cat-dog
_SEVERAL = re.compile(r"(TENT|CSPLIN|POLY|SIN|I?SPMG(?!1)|EXPR\(.*\)\s+\S+\s+\S)")  # models of several parameters


class Regressor(NamedTuple):
    """What is known of the coefficients of one name; `model` is the response function of a stimulus."""

    name: str
    kind: Kind
    model: str = ""


class Coefficient(NamedTuple):
    """One coefficient: `name#n` in sub-brick `volume`."""

    volume: int
    name: str
    n: int


def regressors_of(history: str, folder: Path | None = None) -> tuple[Regressor, ...]:
    """What the commands in a bucket's history say of its regressors; of a name used twice the last one counts.

    Parameters
    ----------
    history : str
        AFNI's HISTORY_NOTE.
    folder : Path, optional
        Where the bucket lies: 3dREMLfit names only the design, which is read where it lies beside the bucket.

    Examples
    --------
    >>> regressors_of("3dDeconvolve -stim_times_IM 1 a.1D 'GAM' -stim_label 1 cat -glt_label 1 V-A")
    (Regressor(name='V-A', kind='contrast', model=''), Regressor(name='cat', kind='trials', model='GAM'))
    """
    found: dict[str, Regressor] = {}
    for entry in re.split(r"\n(?=\s*\[)", html.unescape(history)):
        words = _words(entry)
        program = next((w for w in words if Path(w).name in ("3dDeconvolve", "3dREMLfit")), None)
        if OWN in entry:
            found = {_OTHERS: Regressor(_OTHERS, "trials")}
        elif program is not None:
            said = words[words.index(program) + 1 :]
            found.pop(_OTHERS, None)  # said of another fit
            chosen = _deconvolved(said) if program.endswith("3dDeconvolve") else _remlfit(said, folder)
            found |= {one.name: one for one in chosen}
    return tuple(found.values())


def _words(entry: str) -> list[str]:
    lexer = shlex.shlex(entry, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:  # a quote that does not end
        return [word.strip("'\"") for word in entry.split()]


def _deconvolved(words: Sequence[str]) -> list[Regressor]:
    """Stimuli, baseline and contrasts by the options of 3dDeconvolve; with all stimuli, other names are contrasts."""
    names: dict[str, str] = {}
    kinds: dict[str, Kind] = {}
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
        name = names.get(k, f"Stim#{k}")  # 3dDeconvolve's own name for it
        moved = k in by_file and _MOTION.fullmatch(name) is not None
        found.append(Regressor(name, "baseline" if k in base or moved else kind, models.get(k, "")))
    # A contrast may be called as a stimulus is: its sub-brick is `name_GLT#0_Coef`.
    whole = [Regressor(_OTHERS, "contrast")] if str(len(found)) in told else []
    return [*whole, *(Regressor(name, "contrast") for name in contrasts), *found]


def _remlfit(words: Sequence[str], folder: Path | None) -> list[Regressor]:
    """Contrasts of 3dREMLfit, and the regressors of its design where that lies beside the bucket."""
    found: list[Regressor] = []
    for at, option in enumerate(words[:-1]):
        beside = None if folder is None else folder / Path(words[at + 1]).name
        if option == "-matrix" and beside is not None and beside.is_file():
            found += design_regressors(read_design(beside))
        if option == "-gltsym" and at + 2 < len(words):
            found.append(Regressor(words[at + 2].strip(), "contrast"))
    return found


def design_regressors(design: Design) -> tuple[Regressor, ...]:
    """What a design matrix says of its columns and contrasts."""
    names = dict.fromkeys(column.rsplit("#", 1)[0] for column in design.columns)
    found = []
    for name in names if design.stimuli else ():
        option, model = design.bases.get(name, ("", ""))
        trials: Kind = "trials" if option == "-stim_times_IM" else "stimulus"
        found.append(Regressor(name, trials if name in design.stimuli else "baseline", model))
    return (*(Regressor(name, "contrast") for name in design.contrasts), *found)


def stimuli_in(
    labels: Sequence[str], statistics: Iterable[int], regressors: Sequence[Regressor], what: str
) -> list[tuple[int, str, str]] | None:
    """Volume, stimulus and condition of every coefficient of a stimulus; None where there are no coefficients.

    A name with one coefficient is the stimulus; the trials `-stim_times_IM` of a name are the stimuli `name#0`,
    `name#1` and so on of the condition `name`.

    Raises
    ------
    InputError
        Coefficients that could be stimuli or something else, several basis functions of one condition, or none of a
        stimulus.

    Examples
    --------
    >>> stimuli_in(["F", "yes#0_Coef", "yes-no_GLT#0_Coef"], [0], [], "stats")
    [(1, 'yes', 'yes')]
    """
    coefficients = _coefficients(labels, set(statistics), bool(regressors))
    if not coefficients:
        return None
    known = {one.name: one for one in regressors}
    others = known.pop(_OTHERS, None)
    if others is not None and others.kind == "trials":
        known |= {one.name: Regressor(one.name, "trials") for one in coefficients}
    strange = {one.name for one in coefficients} - set(known)
    moved = any(_SHIFTS.match(name) and _MOTION.fullmatch(name) for name in strange)
    kept = [one for one in coefficients if _may_be_stimulus(one.name, known, moved)]
    if not kept:
        names = some(dict.fromkeys(one.name for one in coefficients))
        raise InputError(f"patterns: {what} holds contrasts and baseline terms only ({names}), wanted stimuli")
    _refuse_unsure(kept, known, what, complete=others is not None and any(one.name in known for one in kept))
    _refuse_bases(kept, known, what)
    several = _counted(kept)
    return [(c.volume, c.name if several[c.name] == 1 else f"{c.name}#{c.n}", c.name) for c in kept]


def _coefficients(labels: Sequence[str], statistics: set[int], fitted: bool) -> list[Coefficient]:
    """The coefficients among sub-bricks; without `_Coef` only where it is known that a design gave them."""
    plain = fitted or any(_DRIFT.fullmatch(label.strip().rsplit("#", 1)[0]) for label in labels)
    found = []
    for volume, label in enumerate(labels):
        match = _COEFFICIENT.fullmatch(label.strip()) or (_COLUMN.fullmatch(label.strip()) if plain else None)
        if match and volume not in statistics:
            found.append(Coefficient(volume, match["name"].strip(), int(match["n"])))
    return found


def _counted(coefficients: Iterable[Coefficient]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in coefficients:
        counts[one.name] = counts.get(one.name, 0) + 1
    return counts


def _may_be_stimulus(name: str, known: Mapping[str, Regressor], moved: bool) -> bool:
    """Whether nothing says that a name is a contrast or of the baseline; `moved`: some name can only be motion."""
    if name in known:
        return known[name].kind in ("stimulus", "trials")
    bare = re.sub("_GLT$", "", name)
    contrast = _CONTRAST.fullmatch(name) or (bare in known and known[bare].kind == "contrast")
    return not (contrast or _DRIFT.fullmatch(name) or (moved and _MOTION.fullmatch(name)))


def _refuse_unsure(kept: Sequence[Coefficient], known: Mapping[str, Regressor], what: str, *, complete: bool) -> None:
    """Refuse names of which only the user knows what they are."""
    counts = _counted(kept)
    some_separated = 0 < sum(bool(_CONTRASTED.search(name)) for name in counts) < len(counts)
    why: dict[str, str] = {}
    for name in (name for name in counts if name not in known):
        if _MOTION.fullmatch(name):
            why[name] = "motion"
        elif complete or (some_separated and _CONTRASTED.search(name)) or _is_joined(name, counts):
            why[name] = "a contrast"
        elif counts[name] > 1:
            why[name] = "single trials (-stim_times_IM) or basis functions (SPMG2, TENT)"
    if not why:
        return
    name, reason = next(iter(why.items()))
    several = counts[name] > 1
    could = f"{'' if several else 'a stimulus or '}{reason}"
    told = "its history does not name it" if complete else "no history tells which"
    raise InputError(
        f"patterns: {what}: {name!r} ({counts[name]} coefficient{'s' if several else ''}) could be {could}, and "
        f"{told}; in question: {some(why)}; say which sub-bricks are stimuli in a table (labels: columns volume, "
        f"stimulus_id, condition){_selection(kept, why, what)}"
    )


def _is_joined(name: str, names: Iterable[str]) -> bool:
    """Whether a name begins with one of the others, followed by another one.

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
    """Refuse several coefficients of one response, and different ones of different names."""
    counts = _counted(kept)
    for name, n in counts.items():
        one = known.get(name, Regressor(name, "stimulus"))
        several = n > 1 and (one.kind == "stimulus" or _SEVERAL.match(one.model))
        if several:
            model = f" ({one.model})" if one.model else ""
            of = "each trial's" if one.kind == "trials" else "one"
            raise InputError(
                f"patterns: {what}: {name!r} has {n} coefficients, which are basis functions or modulations of {of} "
                f"response{model}, not stimuli; choose one for each condition in a table (labels: columns volume, "
                f"stimulus_id){_selection(kept, (), what)}"
            )
    of_one = {c.name: c.n for c in kept if known.get(c.name, Regressor("", "stimulus")).kind == "stimulus"}
    if len(set(of_one.values())) > 1:
        first, *others = of_one.items()
        other = next(pair for pair in others if pair[1] != first[1])
        raise InputError(
            f"patterns: {what}: {first[0]}#{first[1]} and {other[0]}#{other[1]} are different basis functions, which "
            "do not compare; choose the same one for every condition"
        )


def _selection(kept: Sequence[Coefficient], unsure: Iterable[str], what: str) -> str:
    """How the first coefficient of each name that is sure may be selected in AFNI's way; empty where it may not."""
    left = set(unsure)
    first = {one.name: one for one in reversed(kept) if one.name not in left}
    chosen = sorted(first.values())
    if len(chosen) < 3 or what.endswith(("]", ">")):  # an RDM wants three
        return ""
    volumes = ",".join(str(one.volume) for one in chosen)
    return f", or select them: '{what}[{volumes}]' takes {some([f'{one.name}#{one.n}' for one in chosen], 3)}"
