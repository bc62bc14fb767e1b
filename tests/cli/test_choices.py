"""Options that take several choices, parted by commas: a misspelt one is refused before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, get_args

import pytest
import typer

from brainmap import cli, types
from brainmap.errors import InputError
from brainmap.features.activations.acoustics import MODELS
from brainmap.features.attribution.methods import METHODS
from tests.cli.test_once import commands

LISTS = {
    ("features", "acoustics", "--models"): (types.AcousticModel, "modulation"),
    ("features", "attribute", "--method"): (types.AttributionMethod, "smoothgrad"),
    ("features", "faithfulness", "--method"): (types.MapMethod, "smoothgrad"),
    ("features", "randomization", "--method"): (types.MapMethod, "layer-cam"),
    ("features", "localize", "--method"): (types.MapMethod, "saliency"),
    ("rsa", "rdm", "--normalize"): (types.Normalization, "zscore-runs"),
}


def test_the_vocabulary_names_what_the_library_has() -> None:
    assert get_args(types.AttributionMethod) == tuple(METHODS)
    assert get_args(types.AcousticModel) == tuple(MODELS)


@pytest.mark.parametrize("place", LISTS)
def test_each_of_several_choices_is_checked(place: tuple[str, ...]) -> None:
    *words, option = place
    choices, name = LISTS[place]
    command: Any = next(command for found, command in commands(typer.main.get_command(cli.app)) if [*found] == words)
    text = f"{get_args(choices)[0]},{name[:-1]}"
    with pytest.raises(InputError, match=rf"^{option}: expected one of .*, got '{name[:-1]}'; did you mean '{name}'"):
        command.make_context(" ".join(words), [option, text])


@pytest.mark.parametrize(
    ("words", "option", "value", "nearest"),
    [
        (
            ("features", "attribute", "--checkpoint", "no.pt", "--sounds", "no", "--out", "x.zarr"),
            "--method",
            "salincy",
            "saliency",
        ),
        (("features", "acoustics", "--sounds", "no", "--out", "x.zarr"), "--models", "mfcc,cochleogram", "cochleagram"),
        (("features", "voicing", "--checkpoint", "no.pt", "--sounds", "no"), "--method", "oclusion", "occlusion"),
        (("rsa", "rdm", "--out", "x.h5"), "--normalize", "demean-run", "demean-runs"),
        (("run", "study.toml"), "--device", "cudda", "cuda"),
    ],
)
def test_a_misspelt_one_is_one_line_before_anything_heavy_is_loaded(
    words: tuple[str, ...], option: str, value: str, nearest: str
) -> None:
    program = (
        f"import sys\nsys.argv = ['brainmap', *{words!r}, {option!r}, {value!r}]\n"
        "from brainmap.cli import main\ntry:\n    main()\nexcept SystemExit as e:\n    print(e.code)\n"
        "print([m for m in ('numpy', 'pandas', 'torch', 'nibabel') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n[]\n"
    assert done.stderr.startswith(f"brainmap: {option}: expected one of ")
    assert done.stderr.endswith(f"; did you mean {nearest!r}?\n")
