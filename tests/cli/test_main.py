"""The command line as a whole: help is cheap and complete, and a mistake is a line or two, never a traceback."""

from __future__ import annotations

import dataclasses
import inspect
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.text import Text

from brainmap import cli
from brainmap.errors import InputError, RunError

COMMANDS = [
    "networks",
    "train",
    "evaluate",
    "demo",
    "init",
    "check",
    "run",
    "report",
    "features activations",
    "features maximize",
    "features cam",
    "rsa rdm",
    "rsa compare",
    "rsa searchlight",
    "rsa group",
    "viz rdm",
    "viz profile",
    "viz brain",
    "viz maximization",
    "viz cam",
    "viz sheet",
]
HEAVY = ("torch", "nilearn", "librosa", "numba", "rsatoolbox", "nibabel", "numpy", "pandas", "matplotlib", "zarr")


@pytest.mark.parametrize("words", ["", *COMMANDS, "features", "rsa", "viz"])
def test_every_command_explains_itself(words, brainmap_command):
    answer = brainmap_command(*words.split(), "--help")
    assert answer.code == 0
    assert "Usage: brainmap" in answer.out
    assert "Traceback" not in answer.err


def test_help_names_every_command(brainmap_command):
    shown = {group: brainmap_command(*group.split(), "--help").out for group in ("", "features", "rsa", "viz")}
    for command in COMMANDS:
        *group, name = command.split()
        assert f"│ {name} " in shown[" ".join(group)]


@pytest.mark.parametrize("group", ["features", "rsa"])
def test_a_command_is_the_module_of_its_name(group):
    cli.load_commands()
    commands = typer.main.get_command(cli.app).commands[group].commands
    for name, command in commands.items():
        assert inspect.unwrap(command.callback).__module__ == f"brainmap.cli.{group}.{name.replace('-', '_')}"


def test_help_loses_nothing_that_stands_in_brackets():
    # Help is Rich's markup, where [ms] is a tag that is not seen: write "in ms", or escape the bracket.
    cli.load_commands()

    def lost(command: Any) -> list[str]:
        texts = [command.help, *(getattr(one, "help", None) for one in command.params)]
        here = [text for text in texts if text and Text.from_markup(text).plain != text.replace("\\[", "[")]
        return here + [text for one in getattr(command, "commands", {}).values() for text in lost(one)]

    assert lost(typer.main.get_command(cli.app)) == []


@pytest.mark.parametrize(("words", "most"), [(["--help"], 0.5), (["rsa", "searchlight", "--help"], 1.0)])
def test_help_is_cheap_and_loads_nothing_heavy(words, most):
    # A process of its own. CPU time counts, the least of three: what else the machine does only adds to it.
    program = (
        "import sys, json\n"
        f"sys.argv = ['brainmap', *{words!r}]\n"
        "from brainmap.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))\n"
    )
    seconds = []
    while len(seconds) < 3 and min(seconds, default=most) >= most:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "Usage: brainmap" in done.stdout
        assert json.loads(done.stderr) == []
    assert min(seconds) < most


def test_version_is_said(brainmap_command):
    from brainmap import __version__

    assert brainmap_command("--version").out.strip() == f"brainmap {__version__}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_misspelt_option_gives_no_traceback_and_exit_code_2(command, brainmap_command):
    answer = brainmap_command(*command.split(), "--sedd", "1")
    assert answer.code == 2
    assert "--sedd" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("typed", "meant"), [("netwroks", "networks"), ("rsa comparr", "compare"), ("viz bran", "brain")]
)
def test_a_misspelt_command_gives_the_nearest_and_exit_code_2(typed, meant, brainmap_command):
    answer = brainmap_command(*typed.split())
    assert answer.code == 2
    assert typed.split()[-1] in answer.err
    assert meant in answer.err
    assert "Traceback" not in answer.err


def test_the_installed_program_gives_the_same_exit_code_and_one_line(tmp_path):
    program = "import sys; from brainmap.cli import main; sys.exit(main())"
    words = ["rsa", "rdm", "--out", str(tmp_path / "rdms.h5")]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("brainmap: ")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("wrong"), 2, "brainmap: wrong\n"),
        (InputError("one\ntwo"), 2, "brainmap: one\nbrainmap: two\n"),
        (RunError("failed"), 1, "brainmap: failed\n"),
        (PermissionError(13, "Permission denied", "out.tsv"), 1, "brainmap: out.tsv: Permission denied\n"),
        (KeyboardInterrupt(), 130, "brainmap: stopped; run the same command again to go on\n"),
    ],
)
def test_what_goes_wrong_is_a_line_and_an_exit_code(error, code, said, brainmap_command, monkeypatch):
    import brainmap.cli

    def fail():
        raise error

    brainmap_command("--version")  # commands are added to the real app at the first call
    monkeypatch.setattr(brainmap.cli, "app", fail)
    answer = brainmap_command()
    assert (answer.code, answer.err) == (code, said)


def test_networks_lists_the_parameters_of_the_source_study(brainmap_command):
    listed = json.loads(brainmap_command("networks", "--json").out)
    counts = {network["name"]: network["parameters"] for network in listed}
    counts_2d = counts.pop("base-2d")
    assert counts_2d == counts["base"]
    assert counts == {"base": 1855056, "ch32": 94768, "ch64": 363600, "vgg": 470736, "ch128": 2071184}
    assert "conv8" in brainmap_command("networks", "ch32").out
    wrong = brainmap_command("networks", "ch33")
    assert wrong.code == 2
    assert "did you mean 'ch32'" in wrong.err


def test_init_never_overwrites(tmp_path, brainmap_command):
    file = tmp_path / "study.toml"
    assert brainmap_command("init", file).code == 0
    written = file.read_text()
    again = brainmap_command("init", file)
    assert again.code == 2
    assert "exists" in again.err
    assert file.read_text() == written


def test_evaluate_answers_in_json(tiny_inputs, brainmap_command):
    answer = brainmap_command(
        "evaluate", tiny_inputs.folder / "stimuli.tsv", "--checkpoint", tiny_inputs.folder / "net.safetensors", "--json"
    )
    found = json.loads(answer.out)
    assert found["n"] == 8
    right = sum(row.get(word, 0) for word, row in found["confusion"].items())
    assert found["accuracy"] == pytest.approx(right / 8)


def test_check_run_and_report_of_a_tiny_study(finished, brainmap_command):
    assert "Nothing is wrong" in brainmap_command("check", finished.file).out
    before = finished.files()
    again = brainmap_command("run", finished.file)
    assert again.code == 0, again.err
    assert "report.html" in again.out
    assert finished.files() == before
    assert brainmap_command("report", finished.folder, "--svg").code == 0
    figures = finished.out / "figures"
    assert {one.stem for one in figures.glob("*.svg")} == {one.stem for one in figures.glob("*.png")}
    wrong = brainmap_command("run", finished.file, "--participant", "99")
    assert wrong.code == 2
    assert wrong.err.count("\n") == 1


def test_demo_refuses_a_folder_that_holds_something_else(tmp_path, brainmap_command):
    (tmp_path / "notes.txt").write_text("mine")
    answer = brainmap_command("demo", tmp_path)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_train_refuses_a_folder_without_sounds(tmp_path, brainmap_command):
    answer = brainmap_command("train", tmp_path, "--out", tmp_path / "net.safetensors")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "net.safetensors").exists()


def test_the_package_is_the_command():
    done = subprocess.run([sys.executable, "-m", "brainmap", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("brainmap ")


def test_evaluate_says_what_is_likely_wrong_as_the_commands_that_explain_do(tmp_path, brainmap_command):
    import pandas as pd

    import brainmap.data
    from brainmap import features

    folder = Path(str(brainmap.data.__file__)).parent
    table = pd.read_csv(folder / "words" / "stimuli.tsv", sep="\t").groupby("condition").head(3)
    table["path"] = [str(folder / "words" / name) for name in table["path"]]
    table.to_csv(tmp_path / "stimuli.tsv", sep="\t", index=False)
    about = features.load_checkpoint(folder / "networks" / "ch32.safetensors")
    turned = dataclasses.replace(about, classes=(*about.classes[1:], about.classes[0]))
    model = features.load_network(folder / "networks" / "ch32.safetensors")
    path = features.save_checkpoint(model, tmp_path / "turned.safetensors", turned)
    plain = brainmap_command("evaluate", tmp_path / "stimuli.tsv", "--checkpoint", path)
    assert plain.code == 0, plain.err
    said = next(line for line in plain.err.splitlines() if "network turned calls" in line)
    assert "near chance" in said
    assert "class names" in said
    words = ("--checkpoint", path, "--sounds", tmp_path / "stimuli.tsv", "--out", tmp_path / "cam.zarr")
    other = brainmap_command("features", "cam", *words)
    assert said.removeprefix("note: ") in other.out + other.err
    right = brainmap_command(
        "evaluate", tmp_path / "stimuli.tsv", "--checkpoint", folder / "networks" / "ch32.safetensors", "--json"
    )
    assert json.loads(right.out)["calls"].startswith("network ch32 calls 48 of 48 sounds by their condition (chance 3)")
