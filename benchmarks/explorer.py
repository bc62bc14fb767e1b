"""What a person waits for in the explorer, and what it takes: first paint, a map, another class, memory.

`brainmap explore` runs over ch32 and the words of the package, or over the results of a study, with headless Chromium
in front of it. Told are medians of wall times in the browser, as a person meets them, and the peak memory (VmHWM) of
the server and of its computing process. Wanted: first paint at most 1 s and the page ready within 3 s, a class
activation map of a one-second word at most 250 ms, another class at most 100 ms, and under 600 MB, with clicks on the
brain where a study is given, and with the sound that a region wants where it has encoding models.

    python benchmarks/explorer.py [OUT] [--rounds 9]      (an idle machine; OUT: results of a study)
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from brainmap import data

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WANTED = {
    "first paint [ms]": 1000,
    "ready [ms]": 3000,
    "map of a new sound [ms]": 250,
    "another class [ms]": 100,
    "peak memory [MB]": 600,
    "with a sound sought [MB]": 600,
}
FETCH = """async address => {
    const from = performance.now();
    const found = await fetch(address);
    if (!found.ok) throw new Error(await found.text());
    await found.arrayBuffer();
    return performance.now() - from;
}"""


def start(out: Path | None) -> tuple[subprocess.Popen[str], str]:
    """Start the explorer on a free port; return it with its address."""
    folder = data.folder()
    what = (
        [str(out)]
        if out
        else [
            "--checkpoint",
            str(folder / "networks" / "ch32.safetensors"),
            "--sounds",
            str(folder / "words" / "stimuli.tsv"),
        ]
    )
    command = [sys.executable, "-m", "brainmap", "explore", *what, "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def read_peaks(process: int) -> dict[str, float]:
    """Peak memory [MB] of a process and its children."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    peaks = {}
    for name, number in zip(("server", "computing"), (str(process), *children), strict=False):
        lines = Path(f"/proc/{number}/status").read_text(encoding="ascii").splitlines()
        peaks[name] = next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    return peaks


def measure(page: Any, address: str, rounds: int) -> dict[str, float]:
    """Times of the page [ms]: the first from when it is opened, the others as medians."""
    began = time.perf_counter()
    page.goto(address)
    page.locator(".bar").first.wait_for()
    ready = 1000 * (time.perf_counter() - began)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
    found = {"first paint [ms]": paint, "ready [ms]": ready}
    about = page.evaluate("async () => (await fetch('/api/describe')).json()")
    network = about["networks"][0]
    classes = page.evaluate(f"async () => (await fetch('/api/network?network={network}')).json()")["classes"]
    sounds = [one["id"] for one in about["sounds"]][1 : rounds + 1]
    ask = f"/api/map?network={network}&method=grad-cam&sound="
    new = [page.evaluate(FETCH, f"{ask}{sound}&classes={classes[0]}") for sound in sounds]
    other = [page.evaluate(FETCH, f"{ask}{sounds[0]}&classes={name}") for name in (classes * rounds)[1 : rounds + 1]]
    return {**found, "map of a new sound [ms]": statistics.median(new), "another class [ms]": statistics.median(other)}


def click_the_brain(page: Any, address: str) -> None:
    """Open the maps of a study, and click five places of them."""
    page.goto(f"{address}/?see=brain")
    page.locator(".slices, .cortex canvas").first.wait_for()
    page.wait_for_timeout(5000)
    for k in range(5):
        page.locator(".slices, .cortex canvas").first.click(position={"x": 120 + 25 * k, "y": 150 + 10 * k})
        page.get_by_role("heading", name="at").first.wait_for()
        page.wait_for_timeout(1000)


def seek_a_sound(page: Any) -> bool:
    """Find the sound that a region wants, where encoding models predict one."""
    ask = "async address => (await fetch(address)).json()"
    about = page.evaluate(ask, "/api/brain")
    for region in about["regions"] if about["encodes"] else ():
        for gate in page.evaluate(ask, f"/api/gates?region={region}").get("gates", ()):
            if gate["passed"]:
                page.evaluate(FETCH, f"/api/wanted?region={region}&network={gate['network']}")
                return True
    return False


def main() -> None:
    """Measure, and tell what is wanted beside it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    if browser is None:
        print("  Chromium and playwright are needed: skipped (pip install brainmap[test])")
        return
    process, address = start(given.out)
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
            page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.set_default_timeout(120_000)
            found = measure(page, address, given.rounds)
            if given.out:
                click_the_brain(page, address.split("/?")[0])
            peaks = read_peaks(process.pid)
            found["peak memory [MB]"] = sum(peaks.values())
            if given.out and seek_a_sound(page):
                found["with a sound sought [MB]"] = sum(read_peaks(process.pid).values())
            chromium.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    for name, value in found.items():
        print(f"  {name:26} {value:8.0f}   wanted: at most {WANTED[name]}")
    print("  of it: " + ", ".join(f"{name} {value:.0f} MB" for name, value in peaks.items()))


if __name__ == "__main__":
    main()
