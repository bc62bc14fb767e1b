"""Commands that are killed, disturbed, doubled and starved end, said again, with the bytes of an undisturbed run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.campaign import KILLS, record
from tests.conftest import N_SAMPLES, RATE, TinyStudy, write_brain
from tests.forking import Ended, Forge

pytestmark = [pytest.mark.slow, pytest.mark.campaign]
RUN = ("run", "study.toml", "--jobs", "2", "--device", "cpu")
MB = 1 << 20


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name; claims and what is half written must not be there at the end.

    A chunk that zarr was writing when it was killed names no process, and stays until it is a minute old.
    """
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".partial")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of files that are not the same, or only in one."""
    return sorted(name for name in one | other if one.get(name) != other.get(name))


@dataclass(frozen=True)
class Command:
    """A command, the folder of inputs it is given in, where its results lie, and what an undisturbed one left there."""

    words: tuple[str, ...]
    inputs: Path
    results: str
    wanted: dict[str, bytes]
    seconds: float

    def fresh(self, folder: Path) -> Path:
        """A copy of the inputs."""
        shutil.copytree(self.inputs, folder, symlinks=True)
        return folder

    def found(self, folder: Path) -> dict[str, bytes]:
        """What lies there now."""
        return bytes_of(folder / self.results) if self.results else bytes_of(folder)


@pytest.fixture(scope="module")
def forge(tiny_inputs: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A process with everything imported and compiled."""
    made = Forge()
    folder = tmp_path_factory.mktemp("warm") / "study"
    shutil.copytree(tiny_inputs.folder, folder)
    made.warm(folder, *RUN)
    yield made
    made.close()


def undisturbed(forge: Forge, folder: Path, inputs: Path, words: tuple[str, ...], results: str) -> Command:
    shutil.copytree(inputs, folder)
    ended = forge.run(folder, *words)
    assert ended.code == 0, ended.said
    left = bytes_of(folder / results) if results else bytes_of(folder)
    return Command(words, inputs, results, left, ended.seconds)


@pytest.fixture(scope="module")
def study(forge: Forge, tiny_inputs: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return undisturbed(forge, tmp_path_factory.mktemp("whole") / "study", tiny_inputs.folder, RUN, "out")


def write_classes(folder: Path) -> None:
    """Two 'words', a low and a high tone in noise, of eight speakers."""
    import soundfile

    rng, t = np.random.default_rng(0), np.arange(N_SAMPLES) / RATE
    for word, hertz in (("low", 300.0), ("high", 2_000.0)):
        (folder / word).mkdir(parents=True)
        for speaker in range(8):
            sound = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.8, 1.2) * t) + 0.05 * rng.standard_normal(N_SAMPLES)
            soundfile.write(folder / word / f"s{speaker}_nohash_0.wav", sound, RATE)
    for part, speaker in (("validation", 6), ("testing", 7)):
        (folder / f"{part}_list.txt").write_text("".join(f"{w}/s{speaker}_nohash_0.wav\n" for w in ("low", "high")))


def killed(forge: Forge, command: Command, folder: Path, moments: list[float]) -> int:
    """Kill the command at each of these moments in turn, in one folder; give how many were alive to be killed."""
    count = 0
    for moment in moments:
        ended = forge.run(folder, *command.words, seconds=moment)
        if ended.code == -9:
            count += 1
        else:
            assert ended.is_clear(), ended.said
    return count


def survives_kills(forge: Forge, command: Command, folder: Path, *, what: str, kills: int = KILLS) -> None:
    """The command, killed at random moments three times a folder and said again, ends as the undisturbed one."""
    rng, done, began = np.random.default_rng(len(what)), 0, time.monotonic()
    for k in range(-(-kills // 3)):
        place = command.fresh(folder / f"{k}")
        done += killed(forge, command, place, list(rng.uniform(0.02, 0.7, size=3) * command.seconds))
        ended = forge.run(place, *command.words)
        assert ended.is_clear(), ended.said  # what was done before the last kill may be refused to be done again
        assert differing(command.found(place), command.wanted) == [], ended.said
    assert done >= kills // 3
    record(f"kills of {what}", kills=done, differing=0, seconds=round(time.monotonic() - began))


def test_a_run_killed_at_random_moments_ends_the_same(forge: Forge, study: Command, tmp_path: Path) -> None:
    survives_kills(forge, study, tmp_path, what="run")


def test_a_training_killed_at_random_moments_ends_the_same(forge: Forge, tmp_path: Path) -> None:
    write_classes(tmp_path / "in" / "words")
    words = (
        "train",
        "words",
        "--out",
        "a.safetensors",
        "--network",
        "ch32",
        "--epochs",
        "3",
        "--batch-size",
        "4",
        "--threads",
        "1",
    )
    survives_kills(forge, undisturbed(forge, tmp_path / "whole", tmp_path / "in", words, ""), tmp_path, what="train")


def test_a_standalone_searchlight_killed_at_random_moments_ends_the_same(
    forge: Forge, study: Command, tmp_path: Path
) -> None:
    shutil.copytree(study.inputs, tmp_path / "in")
    (tmp_path / "in" / "models.h5").write_bytes(study.wanted["rdms/network-net_rdms.h5"])
    betas = [word for run in (1, 2, 3) for word in ("--betas", f"sub-03/betas_run-{run}.nii.gz")]
    words = (
        "rsa",
        "searchlight",
        *betas,
        "--models",
        "models.h5",
        "--mask",
        "sub-03/mask.nii.gz",
        "--radius",
        "6",
        "--out",
        "maps.nii.gz",
        "--jobs",
        "2",
        "--overwrite",
    )
    survives_kills(
        forge, undisturbed(forge, tmp_path / "whole", tmp_path / "in", words, ""), tmp_path, what="searchlight"
    )


def test_activations_killed_at_random_moments_end_the_same(forge: Forge, study: Command, tmp_path: Path) -> None:
    words = (
        "features",
        "activations",
        "--checkpoint",
        "net.safetensors",
        "--sounds",
        "stimuli.tsv",
        "--out",
        "acts.zarr",
    )
    survives_kills(
        forge, undisturbed(forge, tmp_path / "whole", study.inputs, words, ""), tmp_path, what="features activations"
    )


def test_a_demo_killed_at_random_moments_ends_the_same(forge: Forge, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    words = ("demo", "demo", "--quick", "--participants", "4", "--jobs", "2")
    survives_kills(
        forge,
        undisturbed(forge, tmp_path / "whole", tmp_path / "in", words, ""),
        tmp_path,
        what="demo",
        kills=KILLS if KILLS > 50 else KILLS // 2,
    )


def test_the_threads_of_libraries_change_no_byte(study: Command, tmp_path: Path) -> None:
    four = Forge(threads=4)
    try:
        ended = four.run(study.fresh(tmp_path / "study"), "run", "study.toml", "--jobs", "2", "--device", "cpu")
        assert ended.code == 0, ended.said
        assert differing(study.found(tmp_path / "study"), study.wanted) == []
    finally:
        four.close()


# disturbed


def reversed_sound(folder: Path) -> None:
    import soundfile

    wave, rate = soundfile.read(folder / "sounds" / "cat_anna.wav")
    soundfile.write(folder / "sounds" / "cat_anna.wav", wave[::-1], rate)


def other_brain(folder: Path) -> None:
    write_brain(folder, "03", afni=False, seed=5)


def other_words(folder: Path) -> None:
    path = folder / "stimuli.tsv"
    path.write_text(path.read_text().replace("\tyes\t", "\tyeah\t"))


@pytest.mark.parametrize("change", [reversed_sound, other_brain, other_words])
def test_inputs_that_change_during_a_run_are_noticed(
    forge: Forge, study: Command, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    fresh = study.fresh(tmp_path / "fresh")
    change(fresh)
    assert forge.run(fresh, *RUN).code == 0
    rng = np.random.default_rng(1)
    for k in range(max(1, KILLS // 6)):
        place = study.fresh(tmp_path / f"{k}")
        child = forge.start(place, *RUN)
        time.sleep(rng.uniform(0.05, 0.8) * study.seconds)
        change(place)
        first = forge.wait(child)
        assert first.is_clear(), first.said
        second = forge.run(place, *RUN)
        assert second.code == 0, second.said
        # The group of a layer that was best before stays in the store, empty. Patterns do not depend on the words, and
        # their sidecar names the table that they were computed with.
        kept = {"features/network-net_maximization.json", ".brainmap/explain_maximization.json"}
        left = differing(study.found(place), study.found(fresh))
        assert [n for n in left if not (n.endswith("/zarr.json") or (change is other_words and n in kept))] == []
    record(f"input changed in a run: {change.__name__}", differing=0)


def test_a_results_folder_that_is_removed_during_a_run_is_one_line(
    forge: Forge, study: Command, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    ends: list[Ended] = []
    for k in range(max(3, KILLS // 3)):
        place = study.fresh(tmp_path / f"{k}")
        child = forge.start(place, *RUN)
        time.sleep(rng.uniform(0.2, 0.8) * study.seconds)
        while (place / "out").exists():  # what is written meanwhile stops a removal
            shutil.rmtree(place / "out", ignore_errors=True)
        ends.append(forge.wait(child))
        assert ends[-1].is_clear(), ends[-1].said
        assert forge.run(place, *RUN).code == 0
        assert differing(study.found(place), study.wanted) == []
    record("results folder removed in a run", said=sum(e.code != 0 for e in ends), ended=sum(e.code == 0 for e in ends))


def test_a_results_folder_may_be_a_link(forge: Forge, study: Command, tmp_path: Path) -> None:
    place = study.fresh(tmp_path / "study")
    (tmp_path / "elsewhere").mkdir()
    (place / "out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for _ in range(2):
        ended = forge.run(place, *RUN)
        assert ended.code == 0, ended.said
        assert (place / "out").is_symlink()
        # the way from the results to the study is another one
        named = {"dataset_description.json", ".brainmap/description.json", ".brainmap/report.json"}
        assert set(differing(study.found(place), study.wanted)) == named
    (place / "out").unlink()
    (place / "out").symlink_to(tmp_path / "nowhere" / "at all")
    assert forge.run(place, *RUN).is_clear()


def test_two_runs_in_one_folder_at_once_end_as_one(forge: Forge, study: Command, tmp_path: Path) -> None:
    for k, pause in enumerate(np.linspace(0, 0.7, max(2, KILLS // 3))):
        place = study.fresh(tmp_path / f"{k}")
        one = forge.start(place, *RUN)
        time.sleep(pause * study.seconds)
        other = forge.start(place, *RUN)
        ends = [forge.wait(child) for child in (one, other)]
        for ended in ends:
            assert ended.is_clear(), ended.said
        assert forge.run(place, *RUN).code == 0
        assert differing(study.found(place), study.wanted) == []
    record("two runs in one folder", pairs=max(2, KILLS // 3), differing=0)


@pytest.mark.parametrize("more", [1, 4, 16])
def test_scarce_memory_is_a_clear_last_line(forge: Forge, study: Command, tmp_path: Path, more: int) -> None:
    place = study.fresh(tmp_path / "study")
    ended = forge.run(place, *RUN, more_bytes=more * MB)
    assert ended.is_clear(), ended.said
    assert ended.code == 0 or "memory" in ended.last or "thread" in ended.last, ended.said
    assert forge.run(place, *RUN).code == 0
    assert differing(study.found(place), study.wanted) == []
    record(f"{more} MB of memory left", code=ended.code)


@pytest.mark.parametrize("most", [300, 900])
def test_scarce_memory_while_everything_is_imported_is_a_clear_last_line(
    study: Command, tmp_path: Path, most: int
) -> None:
    place = study.fresh(tmp_path / "study")
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({most * MB},) * 2); import brainmap.cli; "
    code += f"import sys; sys.argv = ['brainmap', *{RUN!r}]; brainmap.cli.main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False, timeout=300
    )
    last = ended.stderr.rstrip().rpartition("\n")[2]
    assert "Traceback" not in ended.stderr, ended.stderr
    assert ended.returncode == 0 or "memory" in last.lower() or "thread" in last, ended.stderr
    record(f"{most} MB of memory in all", code=ended.returncode)


# names

ODD = {
    "spaces": "my study (1)",
    "unicode": "étude ünï 語 😀",
    "quotes": 'it\'s "a" $HOME `x` *',
    "newline": "one\ntwo",
    "dash": "-rf",
}


@pytest.mark.parametrize("kind", ODD)
def test_folders_and_sounds_may_have_odd_names_or_are_refused_in_a_line(
    forge: Forge, study: Command, tmp_path: Path, kind: str
) -> None:
    odd = ODD[kind]
    place = study.fresh(tmp_path / odd)
    table = pd.read_csv(place / "stimuli.tsv", sep="\t", dtype=str)
    shutil.move(place / "sounds", place / odd)
    table["path"] = [f"{odd}/{Path(path).name}" for path in table["path"]]
    table.to_csv(place / "stimuli.tsv", sep="\t", index=False)
    shutil.move(place / "sub-03", place / f"{odd}-03")
    text = place.joinpath("study.toml").read_text()
    toml = odd.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    text = text.replace('out = "out"', f'out = "{toml}-out"')
    head, _, rest = text.partition('participants = ["03"]')
    text = head + 'participants = ["03"]' + rest.replace("sub-{participant}", f"{toml}-{{participant}}")
    place.joinpath("study.toml").write_text(text)
    ended = forge.run(place, *RUN)
    assert ended.is_clear(), ended.said
    if ended.code == 0:
        again = forge.run(place, *RUN)
        assert "need nothing" in again.said
    record(f"odd names: {kind}", code=ended.code)


def test_a_file_where_the_results_go_is_one_line(forge: Forge, study: Command, tmp_path: Path) -> None:
    place = study.fresh(tmp_path / "study")
    (place / "out").write_text("a file where the results go")
    ended = forge.run(place, *RUN)
    assert ended.is_clear(), ended.said
    assert ended.code != 0
    assert (place / "out").read_text() == "a file where the results go"
