"""Run a preset of `brainmap init` on a simulated study of the shape that it names: time and peak memory.

tuckute2023: 165 sounds of 2 s, 8 participants, 960 voxels, 3 repetitions; 2 networks of 9 layers, each with a permuted
control, and acoustic models. stories: 10 stories of 300 scans, 3 participants, a tiny network with an untrained
control. The study is run by `brainmap run` in a process of its own, with its page; what was planted must be found.

    python benchmarks/presets.py [--only tuckute2023] [--jobs 2] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

WANTED = {"tuckute2023": (480.0, 3.0), "stories": (300.0, 3.0)}  # seconds on two cores, GB


def main() -> None:
    """The time of all stages, CPU time and peak memory, and whether planted layers are found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(WANTED))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="Folder of the studies, which are removed without it.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for preset in WANTED if given.only is None else [given.only]:
            folder = Path(scratch if given.keep is None else given.keep) / preset
            folder.mkdir(parents=True, exist_ok=True)
            write_inputs(preset, folder)
            run_study(preset, folder / "study.toml", given.jobs)


def write_inputs(preset: str, folder: Path) -> None:
    """Write sounds, networks, brains and the study file."""
    if preset == "tuckute2023":
        from tests.study.encoding_inputs import write_study

        write_study(folder, sounds=165, people=8, n_samples=32_000, shape=(12, 10, 8))
        return
    from tests.study.story_inputs import write_study as write_stories

    fewer = (('layers = ["conv2", "conv6"]', 'layers = ["conv2", "conv4"]'),)
    write_stories(folder, stories=10, scans=300, people=3, changes=fewer)


def run_study(preset: str, path: Path, jobs: int) -> None:
    """Run the study in another process, and print what it took."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "brainmap", "run", str(path), "--jobs", str(jobs)]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall, cpu, memory = time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9
    most, gigabytes = WANTED[preset]
    print(f"{preset}: {wall:.0f} s ({cpu:.0f} s of CPU, {jobs} jobs), peak {memory:.2f} GB")
    print(f"  wanted: at most {most:.0f} s on two cores, {gigabytes:g} GB")
    if child.returncode or not find_planted(preset, path) or wall > most or memory > gigabytes:
        raise SystemExit("  behind")


def find_planted(preset: str, path: Path) -> bool:
    """Tell whether the best layer of each planted region is the planted one, and significant."""
    name, regions = {
        "tuckute2023": ("encoding", {"primary": "conv2", "anterior": "conv6"}),
        "stories": ("stories", {"early": "conv2"}),
    }[preset]
    table = pd.read_csv(path.parent / "derivatives" / "brainmap" / "group" / f"{name}.tsv", sep="\t")
    mine = table[table["network"] == "first"].sort_values("mean", ascending=False, kind="stable")
    best = mine.drop_duplicates("roi").set_index("roi").loc[list(regions)]
    print(f"  best layers: {best['layer'].to_dict()}")
    return bool((best["layer"] == list(regions.values())).all() and (best["p_corrected"] < 0.05).all())


if __name__ == "__main__":
    main()
