"""Read result folders of AFNI's afni_proc.py: the statistics of a participant, and the run of each trial."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from brainmap.checks import list_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.afni import Design, Regressor, list_design_regressors, read_design
from brainmap.rsa.images.files import image_info
from brainmap.rsa.inputs.runs import RunInputs, make_natural_key
from brainmap.rsa.patterns.labels import label_patterns
from brainmap.rsa.patterns.volume import describe_source

_STATS = re.compile(
    r"stats\.(?P<who>.+?)(?:[._](?:r|run-?)(?P<run>\d+))?(?P<reml>_REML)?(?:\+(?P<view>orig|acpc|tlrc)\.HEAD|\.nii(?:\.gz)?)"
)
_COEFFICIENT = re.compile(r"(?P<name>.+)#(?P<n>\d+)_Coef")
_DEPTH = 4  # number of folder levels that are searched for results
_MASKS = ("full_mask", "mask_epi_anat")  # masks of afni_proc.py for a participant, the wider one first


def find_stats(folder: Path) -> dict[str, list[Path]]:
    """Find every statistics file of 3dDeconvolve and 3dREMLfit below a folder, by the participant in its name."""
    found: dict[str, list[Path]] = {}
    level = [folder]
    for _ in range(_DEPTH):
        for place in level:
            for path in sorted(place.glob("stats.*")):
                if match := _STATS.fullmatch(path.name):
                    found.setdefault(match["who"].removeprefix("sub-"), []).append(path)
        level = [p for place in level for p in sorted(place.iterdir()) if p.is_dir()]
    return found


def find_runs(
    folder: Path, participant: str, stats: Mapping[str, Sequence[Path]], *, fit: str | None, space: str | None
) -> list[RunInputs]:
    """Return a participant's betas, one entry per fit; `fit` selects the fit, by default REML if both exist."""
    files = list(stats.get(participant, ()))
    if not files:
        there = sorted(stats, key=make_natural_key)
        raise InputError(
            f"participant {participant}: expected stats.{participant}+tlrc or stats.sub-{participant}+tlrc below "
            f"{folder}, got "
            f"{f'those of {list_some(there)}' if there else 'no stats.* at all'}{suggest_word(participant, there)}"
        )
    files = _choose_fit(files, participant, fit)
    files = _choose_view(files, participant, space)
    runs = [_split_results(path)["run"] or "" for path in files]
    if len(set(runs)) < len(runs):
        raise InputError(
            f"participant {participant}: expected one result, got {list_some([str(p) for p in files])}; remove one, or "
            "give files = with {run} where the fits of the runs differ in their names"
        )
    return [_describe_betas(path, run, participant) for path, run in zip(files, runs, strict=True)]


def _split_results(path: Path) -> dict[str, str | None]:
    match = _STATS.fullmatch(path.name)
    assert match is not None  # find_stats selected files by this pattern
    return match.groupdict()


def _choose_fit(files: Sequence[Path], participant: str, fit: str | None) -> list[Path]:
    reml = [path for path in files if _split_results(path)["reml"]]
    ols = [path for path in files if path not in reml]
    if fit is not None:
        if fit.upper() not in ("REML", "OLS"):
            raise InputError(
                "desc: expected 'REML' or 'OLS', which afni_proc writes, got "
                f"{fit!r}{suggest_word(fit, ('REML', 'OLS'))}"
            )
        chosen = reml if fit.upper() == "REML" else ols
        if not chosen:
            there = list_some([path.name for path in files])
            raise InputError(f"participant {participant}: expected statistics of {fit}, got {there}")
        return chosen
    if reml and ols:
        warnings.warn(
            f"participant {participant}: there are statistics of REML and of OLS; those of REML are used (choose the "
            "others by desc =)",
            BrainmapWarning,
            stacklevel=2,
        )
    return reml or ols


def _choose_view(files: Sequence[Path], participant: str, space: str | None) -> list[Path]:
    views = sorted({view for path in files if (view := _split_results(path)["view"])})
    if len(views) > 1:
        if space is None:
            raise InputError(
                f"participant {participant}: there are results in the views {list_some(views)}; choose one by space ="
            )
        wanted = "orig" if space.lower() in ("native", "orig") else "tlrc"
        files = [path for path in files if _split_results(path)["view"] in (wanted, None)]
    return list(files)


def _describe_betas(path: Path, run: str, participant: str) -> RunInputs:
    """Describe the betas of one fit; the design beside it gives the stimulus coefficients and the run of each trial."""
    where, parts = path.parent, _split_results(path)
    named, view = f"{parts['who']}", f"+{parts['view']}.HEAD" if parts["view"] else ".nii*"
    mask = next((str(p) for kind in _MASKS for p in sorted(where.glob(f"{kind}.{named}{view}"))), None)
    suffix = f"{'_REML' if parts['reml'] else ''}{view}"
    between = path.name[len(f"stats.{named}") :].split("_REML")[0].split("+")[0].split(".nii")[0]
    left = next((str(p) for p in sorted(where.glob(f"errts.{named}{between}{suffix}"))), None)
    design = next((p for p in (where / f"X.xmat{between}.1D", where / "X.xmat.1D") if p.is_file()), None)
    return RunInputs(
        participant=participant,
        run=run,
        image=str(path),
        masks=(mask,) if mask else (),
        volumes=_list_run_volumes(path, read_design(design), run) if design else (),
        sidecars=(str(design),) if design else (),
        residuals=left,
    )


def _list_run_volumes(path: Path, design: Design, run: str) -> tuple[tuple[int, str, str, str], ...]:
    """Return volume, stimulus, condition and run of every beta; the regressor of a single trial gives its run."""

    source, labels = describe_source(path), image_info(path).labels
    known = list_design_regressors(design)
    if known:  # a name that is no column of the design is a contrast, not a condition
        named = {match["name"] for label in labels if (match := _COEFFICIENT.fullmatch(label.strip()))}
        others = named - {one.name for one in known}
        source = replace(source, regressors=(*known, *(Regressor(name, "contrast") for name in sorted(others))))
    rows = []
    for volume, stimulus, condition in label_patterns(source):
        coefficient = _COEFFICIENT.fullmatch(labels[volume].strip())
        column = f"{coefficient['name']}#{coefficient['n']}" if coefficient else stimulus
        trial = design.run_of(column) if "#" in stimulus and len(design.run_starts) > 1 else None
        rows.append((volume, stimulus, condition, run or trial or "1"))
    return tuple(rows)
