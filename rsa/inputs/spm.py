"""Read first-level folders of SPM: the betas of stimuli, the session of each, and what else was in the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from brainmap.checks import check_one_each, list_some
from brainmap.errors import InputError
from brainmap.rsa.images.files import image_info
from brainmap.rsa.inputs.runs import RunInputs, make_natural_key
from brainmap.rsa.inputs.spm_design import SpmDesign, read_spm_design

_DESIGN = "SPM.mat"
_ENDINGS = (".nii", ".nii.gz")
_BETA = re.compile(r"beta_\d{4,}\.(nii|nii\.gz|img|hdr)")
_SAID = re.compile(r"spm_spm:beta \((?P<number>\d+)\) - (?P<name>.+)")
_LENGTH = 79  # characters of a NIfTI header's description, whose last byte of 80 is often 0
_REGRESSOR = re.compile(r"Sn\((?P<session>\d+)\) (?P<name>.+)")
_CONVOLVED = re.compile(r"(?P<name>.+)\*bf\((?P<basis>\d+)\)")
_MODULATOR = re.compile(r".+x.+\^\d+")
_HRF = 3  # basis functions of the hemodynamic response: itself, and derivatives by time and dispersion
_KINDS = {
    "modulator": ("parametric modulator", "parametric modulators"),
    "derivative": ("derivative of the response", "derivatives of the response"),
    "interaction": ("Volterra interaction", "Volterra interactions"),
    "nuisance": ("regressor of no interest", "regressors of no interest"),
    "constant": ("constant", "constants"),
}


class _Beta(NamedTuple):
    """Hold one regressor with its image; `kind` is "pattern" or a key of `_KINDS`."""

    image: Path
    kind: str
    session: str
    name: str


def find_runs(folder: Path, participant: str, *, session: str = "", run: str = "") -> list[RunInputs]:
    """Return the betas of stimuli in a first-level folder, one entry per beta, in the order of the regressors.

    Parameters
    ----------
    folder : Path
        Folder with `SPM.mat`, or with betas whose headers name their regressors, and `mask.nii`.
    participant, session : str
    run : str
        The run that the folder holds, where each run was fitted alone; by default runs are the sessions of the model.

    Raises
    ------
    InputError
        If the folder holds no estimated model, a beta is missing, SPM.mat and headers contradict each other, or a
        regressor cannot be told.
    """
    who = f"participant {participant}: " if participant else ""
    if not folder.is_dir():
        above = sorted(p.name for p in folder.parent.iterdir()) if folder.parent.is_dir() else []
        said = f"{list_some(above, 4) or 'nothing'} in {folder.parent}" if folder.parent.is_dir() else "none"
        raise InputError(f"{who}expected the folder of SPM's first level {folder}, got {said}; correct folder")
    try:
        betas = _list_betas(folder)
    except InputError as error:
        raise InputError(f"{who}{error}") from None
    patterns = [beta for beta in betas if beta.kind == "pattern"]
    sessions = sorted({beta.session for beta in patterns}, key=make_natural_key)
    if run and len(sessions) > 1:
        raise InputError(
            f"{who}expected one session in {folder}, whose name tells the run, got sessions {list_some(sessions)}; "
            "leave {run} out"
        )
    mask = next((str(folder / f"mask{end}") for end in _ENDINGS if (folder / f"mask{end}").is_file()), None)
    design, note = folder / _DESIGN, _describe(betas, patterns, sessions)
    found = []
    for beta in patterns:
        of_run = run or beta.session
        label = f"{session}-{of_run}" if session else of_run
        found.append(
            RunInputs(
                participant=participant,
                session=session,
                run=of_run,
                image=str(beta.image),
                masks=(mask,) if mask else (),
                volumes=((0, beta.name, beta.name, label),),
                sidecars=(str(design),) if design.is_file() else (),
                note=note,
            )
        )
    return found


def is_beta(image: str | Path) -> bool:
    """Tell whether an image is one beta of SPM's first level, by its name and its header."""
    path = Path(image)
    return _BETA.fullmatch(path.name) is not None and path.is_file() and bool(_SAID.match(_read_description(path)))


def _list_betas(folder: Path) -> list[_Beta]:
    """List every regressor of the model with its image."""
    design = folder / _DESIGN
    betas = _list_by_design(folder, read_spm_design(design)) if design.is_file() else _list_by_headers(folder)
    if not any(beta.kind == "pattern" for beta in betas):
        names = list_some([beta.name for beta in betas], 4)
        raise InputError(
            f"{folder}: expected regressors of conditions, such as Sn(1) NAME*bf(1), got {names}; name the folder of "
            "the first level, which is a participant's own"
        )
    return betas


def _list_by_design(folder: Path, design: SpmDesign) -> list[_Beta]:
    if not design.files:
        raise InputError(f"{folder / _DESIGN}: expected an estimated model, got a design without betas; estimate it")
    check_one_each(
        design.files, len(design.names), f"{folder / _DESIGN}: betas", "regressors", "; estimate the model again"
    )
    betas = []
    for file, name in zip(design.files, design.names, strict=True):
        kind, session, plain = classify_regressor(name, design)
        image = _find_image(folder, file)
        if kind == "pattern":
            if image is None:
                raise InputError(
                    f"{folder}: expected {file}, the beta of {name!r} by {_DESIGN}, got no such file; copy it there, "
                    "or convert .img to .nii"
                )
            _refuse_other_name(image, name)
        betas.append(_Beta(image or folder / file, kind, session, plain))
    return betas


def _find_image(folder: Path, name: str) -> Path | None:
    stem = re.sub(r"\.(nii|nii\.gz|img|hdr)$", "", name)
    return next((path for end in _ENDINGS if (path := folder / f"{stem}{end}").is_file()), None)


def _refuse_other_name(image: Path, name: str) -> None:
    """Refuse a beta whose header names another regressor than SPM.mat; one that SPM did not write says nothing."""
    said = _SAID.fullmatch(_read_description(image).rstrip())
    if said and not name.startswith(said["name"]):
        raise InputError(
            f"{image}: {_DESIGN} says that this is {name!r}, its header says {said['name']!r}; one of them is of "
            "another model: estimate it again"
        )


def _list_by_headers(folder: Path) -> list[_Beta]:
    """List the betas by the descriptions in their headers, which SPM cuts to 80 characters."""
    there = sorted((p.name for p in folder.iterdir()), key=make_natural_key)
    found = [name for name in there if _BETA.fullmatch(name)]
    images = [folder / name for name in found if name.endswith(_ENDINGS)]
    if not images:
        raise InputError(
            f"{folder}: expected {_DESIGN} or beta_0001.nii of SPM's first level, got "
            f"{list_some(found or there, 4) or 'an empty folder'}"
            + ("; convert .img to .nii" if found else "; correct folder")
        )
    betas = []
    for image in images:
        text = _read_description(image)
        said = _SAID.fullmatch(text.rstrip())
        if said is None:
            raise InputError(
                f"{image}: expected a header such as 'spm_spm:beta (0001) - Sn(1) NAME*bf(1)', got {text!r}; copy "
                f"{_DESIGN} into the folder"
            )
        kind, session, plain = classify_regressor(said["name"])
        if len(text) >= _LENGTH and kind == "nuisance":
            raise InputError(
                f"{image}: the name of its regressor is cut off in the header ({said['name']!r}); copy {_DESIGN} into "
                "the folder"
            )
        betas.append(_Beta(image, kind, session, plain))
    return betas


def _read_description(image: Path) -> str:
    return image_info(image).description


def classify_regressor(regressor: str, design: SpmDesign | None = None) -> tuple[str, str, str]:
    """Return kind, session and name of a regressor of SPM.

    Only the first basis function of a condition is a pattern. With SPM.mat, its conditions and modulators are known;
    without it, a modulator is told by its name, `TonexPitch^1`.

    Raises
    ------
    InputError
        If the basis functions are not the hemodynamic response and its derivatives, so that none of them is the
        response to a stimulus.

    Examples
    --------
    >>> classify_regressor("Sn(2) Tone*bf(1)"), classify_regressor("Sn(1) R6")
    (('pattern', '2', 'Tone'), ('nuisance', '1', 'R6'))
    >>> [classify_regressor(name)[0] for name in ("Sn(1) Tone*bf(2)", "Sn(1) TonexPitch^1*bf(1)", "Sn(1) constant")]
    ['derivative', 'modulator', 'constant']
    """
    of_session = _REGRESSOR.fullmatch(regressor)
    if of_session is None:
        return ("constant" if regressor == "constant" else "nuisance"), "", regressor
    session, name = of_session["session"], of_session["name"]
    convolved = _CONVOLVED.fullmatch(name)
    if convolved is None:
        return ("constant" if name == "constant" else "nuisance"), session, name
    name, basis = convolved["name"], int(convolved["basis"])
    if "*bf(" in name:
        return "interaction", session, of_session["name"]
    if basis > _HRF or (basis > 1 and design is not None and design.basis and not design.basis.startswith("hrf")):
        used = f" ({design.basis})" if design is not None and design.basis else ""
        raise InputError(
            f"expected betas of the hemodynamic response, got {regressor!r}, one of several basis functions{used}, of "
            "which none is the response alone; estimate the model with the canonical response"
        )
    k = int(session) - 1
    known = design is not None and k < len(design.conditions)
    if design is not None and known and name in design.conditions[k]:
        is_modulator = False
    elif design is not None and known and name in design.modulators[k]:
        is_modulator = True
    else:
        is_modulator = _MODULATOR.fullmatch(name) is not None
    return ("modulator" if is_modulator else "pattern" if basis == 1 else "derivative"), session, name


def _describe(betas: Sequence[_Beta], patterns: Sequence[_Beta], sessions: Sequence[str]) -> str:
    """Say how many betas are patterns, and name what was left out."""
    n_names = len({beta.name for beta in patterns})
    several = "sessions" if len(sessions) > 1 else "session"
    counts = Counter(beta.kind for beta in betas)
    left = []
    for kind, (one, many) in _KINDS.items():
        if counts[kind]:
            names = list(dict.fromkeys(beta.name for beta in betas if beta.kind == kind))
            named_some = "" if kind == "constant" else f" ({list_some(names, 4)})"
            left.append(f"{counts[kind]} {one if counts[kind] == 1 else many}{named_some}")
    said = f"; left out: {', '.join(left)}" if left else ""
    return (
        f"SPM: {len(patterns)} of {len(betas)} betas are patterns ({n_names} names in {several} {', '.join(sessions)})"
        f"{said}"
    )
