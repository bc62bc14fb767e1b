"""The explorer in a real browser, driven from end to end; skipped where there is no Chromium."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("uvicorn")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from tests.conftest import TinyStudy, find_serious, write_checkpoint, write_sounds  # noqa: E402
from tests.explore.running import Running, flac, wait_until  # noqa: E402
from tests.study.test_surface import ball  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]


class Tab:
    """A tab, with what it said in the console and asked for elsewhere."""

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self.said: list[str] = []
        self.elsewhere: list[str] = []
        self.base = address.split("/?")[0]
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", self._see)
        self.page.set_default_timeout(60_000)
        self.page.goto(address)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def _dismiss(self, dialog: Any) -> None:
        self.said.append(dialog.message)
        dialog.dismiss()

    def _see(self, request: Any) -> None:
        if not request.url.startswith((self.base, "blob:")):
            self.elsewhere.append(request.url)

    def settle(self) -> None:
        """Wait until everything that was asked for is there."""
        self.page.wait_for_selector(".bar")
        self.page.wait_for_selector(".sounds li")
        self.until("!document.querySelector('.mapping')")

    def until(self, true: str, given: Any = None) -> None:
        """Wait until JavaScript says so; the page's policy forbids that the browser does the waiting."""
        code = true if true.startswith(("name =>", "before =>")) else f"() => {true}"
        wait_until(lambda: bool(self.page.evaluate(code, given)), seconds=60)

    def choose(self, label: str, value: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(value)

    def save(self, button: Any) -> Any:
        """Click a button that saves, once the page rests, and return the download.

        A card that is drawn anew between press and release swallows a click, as it would a person's, so the button is
        clicked a second time where nothing came.
        """
        self.page.wait_for_load_state("networkidle")
        for patience in (15_000, 60_000):
            try:
                with self.page.expect_download(timeout=patience) as saved:
                    button.click()
                return saved.value
            except sync_api.TimeoutError:
                near = "button => button.closest('.card, article, figure')?.textContent.slice(0, 200)"
                around = button.evaluate(near)
        raise AssertionError(f"nothing was saved by the button in {around!r}")

    @property
    def caption(self) -> str:
        return str(self.page.locator(".card.wide .caption").first.inner_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sounds of the tiny study, of which one has a name that is HTML, and its network."""
    made = tmp_path_factory.mktemp("explorer")
    write_sounds(made)
    write_checkpoint(made / "net.safetensors")
    table = pd.read_csv(made / "stimuli.tsv", sep="\t")
    table.loc[1, ["stimulus_id", "condition"]] = HOSTILE
    table.to_csv(made / "stimuli.tsv", sep="\t", index=False)
    return made


@pytest.fixture(scope="module")
def running(folder: Path, start_explorer: Callable[..., Running]) -> Running:
    return start_explorer("--checkpoint", folder / "net.safetensors", "--sounds", folder / "stimuli.tsv")


@pytest.fixture
def tab(browser: Any, running: Running) -> Iterator[Tab]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        made = Tab(context, running.address)
        made.settle()
        yield made
        assert made.said == []
        assert made.elsewhere == []


def test_a_sound_is_chosen_played_and_explained(tab: Tab) -> None:
    page = tab.page
    tab.choose("Sound", "tree_ben")
    tab.until("document.querySelector('.card h3')?.textContent.startsWith('tree_ben')")
    page.get_by_role("button", name="Play the sound").click()
    tab.until("!document.querySelector('.head').hidden && parseFloat(document.querySelector('.head').style.left) > 47")
    name = page.locator(".bar .name").nth(2).inner_text()
    page.locator(".bar").nth(2).click()
    tab.until(f"document.querySelector('.card .caption')?.textContent.includes('class {name},')")
    assert f"class={name}" in page.url
    assert page.locator(".bar[aria-pressed=true] .name").inner_text() == name
    tab.choose("Method", "lrp")
    tab.choose("LRP rules", "epsilon")
    tab.until("document.querySelector('.card .caption')?.textContent.includes('Map: lrp,')")
    assert "method=lrp&rules=epsilon" in page.url
    before = page.evaluate("document.querySelector('.card canvas').toDataURL()")
    tab.choose("Colors", "PiYG")
    tab.until("before => document.querySelector('.card canvas').toDataURL() !== before", before)
    tab.choose("Layer", "conv1")
    tab.until("document.querySelector('.pair h4')?.textContent === 'In conv1'")
    address = page.url
    page.reload()
    tab.settle()
    assert page.url == address
    assert page.get_by_label("Colors", exact=True).input_value() == "PiYG"


def test_names_are_text_everywhere(tab: Tab) -> None:
    page = tab.page
    tab.choose("Sound", HOSTILE)
    tab.until("name => document.querySelector('.card h3')?.textContent.startsWith(name)", HOSTILE)
    tab.settle()
    assert page.locator("img").count() == 0
    page.locator("input[type=file]").set_input_files({"name": HOSTILE, "mimeType": "audio/flac", "buffer": flac()})
    tab.until("document.querySelector('select.sound optgroup').label === 'Dropped or recorded'")
    assert page.locator("img").count() == 0


def test_a_unit_shows_its_answer_and_its_favorite_sounds(tab: Tab) -> None:
    page = tab.page
    page.locator(".strip canvas").nth(1).click(position={"x": 300, "y": 20})
    page.wait_for_selector("article:has-text('Unit') figure canvas")
    assert "unit=" in page.url
    assert "layer=conv2" in page.url
    page.get_by_text("Favorite sounds").or_(page.get_by_text("No sound drives")).first.wait_for()


def test_points_of_the_plane_play(tab: Tab) -> None:
    page = tab.page
    tab.choose("Plane", "pca")
    canvas = page.locator("article:has-text('All sounds in a plane') canvas")
    canvas.wait_for()
    assert "plane=pca" in page.url
    page.evaluate(
        """() => {
            window.played = 0;
            HTMLMediaElement.prototype.play = () => { window.played += 1; return Promise.resolve(); };
        }"""
    )

    def click_points() -> bool:  # again where the card was drawn anew with the other plane
        page.evaluate(
            """() => {
                const all = [...document.querySelectorAll("canvas")];
                const canvas = all.find(one => one.ariaLabel.includes("in a plane"));
                const box = canvas.getBoundingClientRect();
                for (let x = 0; x < box.width && !document.querySelector("article p.tip button"); x += 8)
                    for (let y = 0; y < box.height; y += 8)
                        if (!document.querySelector("article p.tip button")) canvas.dispatchEvent(
                            new MouseEvent("click", { clientX: box.left + x, clientY: box.top + y, bubbles: true }));
            }"""
        )
        return bool(page.evaluate("window.played") > 0)

    wait_until(click_points)
    page.locator(".tip button.text").click()


def test_a_sound_is_dropped_and_recorded(tab: Tab) -> None:
    page = tab.page
    page.evaluate(
        """bytes => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(bytes)], "dropped.flac", { type: "audio/flac" }));
            document.querySelector(".view").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }""",
        list(flac()),
    )
    tab.until("document.querySelector('.card h3')?.textContent.startsWith('dropped.flac')")
    assert "sound=upload%3A" in page.url
    page.get_by_role("button", name="Record").click()
    tab.until("document.body.textContent.includes('Stop (0.')")
    page.get_by_role("button", name="Stop (").click()
    tab.until("document.querySelector('.card h3')?.textContent.startsWith('recording.wav')")


def test_uploads_that_are_no_sounds_or_too_large_are_refused_in_words(tab: Tab) -> None:
    page, picker = tab.page, tab.page.locator("input[type=file]")
    before = page.locator(".card h3").first.inner_text()
    picker.set_input_files({"name": "broken.flac", "mimeType": "audio/flac", "buffer": flac()[:300]})
    page.get_by_role("alert").get_by_text("broken.flac").wait_for()
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([new Uint8Array(100e6)], "large.wav"));
            document.querySelector(".view").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }"""
    )
    page.get_by_role("alert").get_by_text("large.wav has 100.0 MB").wait_for()
    assert page.locator(".card h3").first.inner_text() == before
    tab.said[:] = [line for line in tab.said if "422" not in line]


def test_a_long_job_shows_that_it_runs_and_is_stopped(tab: Tab, running: Running) -> None:
    page, computing = tab.page, running.list_children()
    for process in computing:  # no job is long on a fast machine
        os.kill(process, signal.SIGSTOP)
    try:
        page.evaluate(
            """() => { window.answers = ["cat", "dog"].map(name => fetch(
                `/api/map?network=net&sound=cat_anna&method=lime&classes=${name}`).then(found => found.status)); }"""
        )
        page.locator(".job button", has_text="Stop").first.wait_for()
        page.locator(".job button", has_text="Stop").first.click()
    finally:
        for process in computing:
            os.kill(process, signal.SIGCONT)
    tab.until("Promise.any(window.answers.map(a => a.then(s => s === 410 ? s : Promise.reject())))")
    tab.said[:] = [line for line in tab.said if "410" not in line]


def test_two_views_stand_side_by_side_in_one_address(tab: Tab, running: Running) -> None:
    page = tab.page
    page.get_by_role("button", name="Compare").click()
    tab.until("document.querySelectorAll('.view').length === 2")
    page.locator(".view").nth(1).get_by_label("Sound", exact=True).select_option("yes_anna")
    tab.until("document.querySelectorAll('.view')[1].querySelector('.card h3').textContent.startsWith('yes_anna')")
    assert "b.sound=yes_anna" in page.url
    other = Tab(page.context, f"{running.base}/?{page.url.split('?')[1]}")
    other.until("document.querySelectorAll('.view .bar').length === 8")
    assert other.page.locator(".view").nth(1).locator(".card h3").first.inner_text().startswith("yes_anna")
    assert other.said == []


def test_a_click_on_the_brain_shows_the_scores_there(
    browser: Any, tiny_results: TinyStudy, start_explorer: Callable[..., Running]
) -> None:
    before = tiny_results.files()
    own = start_explorer(tiny_results.out)
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        tab = Tab(context, f"{own.address}&see=brain&layer=conv3")
        tab.until("document.querySelector('.card h3')?.textContent.includes('conv3 of net')")
        page = tab.page
        page.get_by_label("Region", exact=True).select_option("belt")
        page.get_by_role("heading", name="Region belt").wait_for()
        tab.until("document.querySelectorAll('figure canvas').length === 3")
        label = page.locator("figure canvas").first.get_attribute("aria-label")
        asked = page.evaluate("async () => (await fetch('/api/region?region=belt')).json()")
        best = max((row for row in asked["rows"] if row["kind"] == "network"), key=lambda row: row["mean"])
        assert f"highest at {best['layer']}" in label
        tab.until("document.querySelector('.stage + .caption').textContent.startsWith('At ')")
        page.wait_for_timeout(1000)
        page.locator(".slices").click(position={"x": 150, "y": 200})
        page.get_by_role("heading", name="Voxel at").wait_for()
        place = page.url.split("mm=")[1].split("&")[0].replace("%2C", ",")
        asked = page.evaluate(f"async () => (await fetch('/api/voxel?mm={place}')).json()")
        heading = page.get_by_role("heading", name="Voxel at").inner_text().replace("\N{MINUS SIGN}", "-")
        assert heading.startswith("Voxel at " + ", ".join(f"{one:g}" for one in asked["mm"]))
        page.get_by_role("textbox", name="Voxel at [mm]").fill("\N{MINUS SIGN}3, 0, -3")
        page.get_by_role("textbox", name="Voxel at [mm]").press("Enter")
        page.get_by_role("heading", name="Voxel at −3, 0, −3 mm, in belt").wait_for()
        page.goto(f"{tab.base}/?see=brain&mm=-3,0,-3")
        page.get_by_role("heading", name="Voxel at −3, 0, −3 mm, in belt").wait_for()
        asked = page.evaluate("async () => (await fetch('/api/voxel?mm=-3,0,-3')).json()")
        saved = tab.save(page.locator(".card").nth(1).get_by_role("button", name="TSV").first)
        rows = pd.read_csv(saved.path(), sep="\t")
        assert rows["mean"].tolist() == pytest.approx([row["mean"] for row in asked["rows"]])
        page.locator(".card").first.get_by_role("button", name="PNG").wait_for()
        page.get_by_role("button", name="Look and listen").click()
        tab.settle()
        tab.said[:] = [line for line in tab.said if "GL" not in line]  # what software rendering says of itself
        assert tab.said == []
        assert tab.elsewhere == []
    assert tiny_results.files() == before


def test_figures_and_tables_are_saved(tab: Tab) -> None:
    page = tab.page
    for words, ending, begins in (
        ("PNG", ".png", b"\x89PNG"),
        ("SVG", ".svg", b"<svg xmlns"),
        ("TSV", ".tsv", b"second\t"),
    ):
        saved = tab.save(page.locator(".card").first.get_by_role("button", name=words))
        assert saved.suggested_filename.endswith(ending)
        assert Path(saved.path()).read_bytes().startswith(begins)


def test_every_figure_is_saved_as_shapes_and_text(tab: Tab) -> None:
    page = tab.page
    page.locator(".strip canvas").first.click(position={"x": 300, "y": 20})
    page.wait_for_selector("article:has-text('Unit') figure canvas")
    tab.choose("Plane", "pca")
    page.get_by_label("Tuning", exact=True).select_option("tone")
    assert "tuning=tone" in page.url
    page.locator("article:has-text('All sounds in a plane') canvas").wait_for()
    page.get_by_text("Response less that to silence").wait_for()
    tab.until("!document.querySelector('.mapping')")
    buttons = page.get_by_role("button", name="SVG", exact=True)
    heads = page.locator(".downloads", has=buttons).all()
    assert len(heads) >= 10
    for head in heads:
        assert head.get_by_role("button", name="PNG").count() == 1
        saved = tab.save(head.get_by_role("button", name="SVG"))
        drawn = ET.fromstring(Path(saved.path()).read_text(encoding="utf-8"))
        assert drawn.find("{http://www.w3.org/2000/svg}title") is not None
        assert len(list(drawn.iter())) > 3, saved.suggested_filename


def test_two_tabs_at_once_each_have_their_own_answers(browser: Any, running: Running) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        tabs = [Tab(context, running.address), Tab(context, running.address)]
        for k, name in enumerate(("tree_ben", "yes_anna", "dog_ben", "cat_anna")):
            tabs[k % 2].choose("Sound", name)  # neither waits for the other
        for one, name in zip(tabs, ("dog_ben", "cat_anna"), strict=True):
            one.until("name => document.querySelector('.card h3')?.textContent.startsWith(name)", name)
            one.settle()
            asked = one.page.evaluate(
                "async name => (await fetch(`/api/scores?network=net&sound=${name}`)).json()", name
            )
            logits = np.frombuffer(base64.b64decode(asked["logits"]["base64"]), "<f4")
            best = asked["classes"][int(logits.argmax())]
            assert one.page.locator(".bar .name").first.inner_text() == best
            assert one.page.locator("#gone").is_hidden()
            assert one.said == []


def test_a_click_on_the_cortex_shows_the_scores_of_its_vertex(
    browser: Any, surface_results: TinyStudy, start_explorer: Callable[..., Running]
) -> None:
    own = start_explorer(surface_results.out)
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        tab = Tab(context, f"{own.address}&see=brain&layer=conv3&vertex=left:11")
        page = tab.page
        page.get_by_role("heading", name="Vertex left:11 at").wait_for()
        canvas = page.locator(".cortex canvas")
        canvas.wait_for()
        tab.until("document.querySelector('.cortex canvas').ariaLabel.includes('vertex left:11 is chosen')")
        box = canvas.bounding_box()
        assert box is not None
        canvas.click(position={"x": box["width"] / 4, "y": 150})
        tab.until("!document.querySelector('.cortex canvas').ariaLabel.includes('left:11 is chosen')")
        vertex = page.url.split("vertex=")[1].split("&")[0].replace("%3A", ":")
        assert vertex.startswith("left:")
        page.get_by_role("heading", name=f"Vertex {vertex} at").wait_for()
        points, _ = ball(-30)
        seen = points[int(vertex.partition(":")[2])]  # the middle of the outer side of a ball of 20 mm
        assert np.linalg.norm(seen - [-50, 0, 0]) < 10  # edges are about 8 mm long
        asked = page.evaluate("async v => (await fetch(`/api/vertex?vertex=${v}`)).json()", vertex)
        saved = tab.save(page.locator(".card").nth(1).get_by_role("button", name="TSV").first)
        rows = pd.read_csv(saved.path(), sep="\t")
        assert rows["mean"].tolist() == pytest.approx([row["mean"] for row in asked["rows"]])
        canvas.focus()
        page.keyboard.press("ArrowUp")
        tab.until("name => !document.querySelector('.cortex canvas').ariaLabel.includes(`vertex ${name} is`)", vertex)
        above = page.url.split("vertex=")[1].split("&")[0].replace("%3A", ":")
        triangles = ball(-30)[1]
        both = [(triangles == int(name.partition(":")[2])).any(axis=1) for name in (vertex, above)]
        assert (both[0] & both[1]).any(), "they share an edge"
        assert points[int(above.partition(":")[2]), 2] > seen[2]
        page.get_by_role("heading", name=f"Vertex {above} at").wait_for()
        page.get_by_role("textbox", name="Vertex").fill("right:90")
        page.get_by_role("textbox", name="Vertex").press("Enter")
        page.get_by_role("alert").get_by_text(
            "Expected a vertex of this mesh, such as left:0, got right:90."
        ).wait_for()
        page.get_by_role("textbox", name="Vertex").fill("right:3")
        page.get_by_role("textbox", name="Vertex").press("Enter")
        page.get_by_role("heading", name="Vertex right:3 at").wait_for()
        assert "vertex=right%3A3" in page.url
        page.get_by_label("Seen from", exact=True).select_option("heights")
        assert "seen=heights" in page.url
        tab.choose("Whose", "02")
        page.get_by_text("score of participant 02: conv3 of net", exact=False).first.wait_for()
        assert "person=02" in page.url
        assert tab.said == []
        assert tab.elsewhere == []


def test_what_a_region_is_predicted_to_want_is_found_and_judged(
    browser: Any, encoding_results: Path, start_explorer: Callable[..., Running]
) -> None:
    own = start_explorer(encoding_results)
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        tab = Tab(context, f"{own.address}&see=brain&region=lateral")
        page = tab.page
        page.get_by_text("no sound can be said to drive it").first.wait_for()
        assert page.get_by_role("button", name="Find the sound").count() == 0
        tab.choose("Region", "primary")
        page.get_by_role("button", name="Find the sound").first.click()
        page.locator(".facts tbody tr").first.wait_for()
        assert "wanted=first" in page.url
        asked = page.evaluate("async () => (await fetch('/api/wanted?region=primary&network=first')).json()")
        shown = page.locator(".facts tbody tr").first.locator("td").first.inner_text().replace("\N{MINUS SIGN}", "-")
        assert float(shown) == pytest.approx(asked["judged"], rel=0.01)
        page.evaluate("HTMLMediaElement.prototype.play = () => { window.played = true; return Promise.resolve(); }")
        page.get_by_role("button", name="Play the predicted sound").click()
        tab.until("window.played")
        assert tab.said == []


@pytest.mark.parametrize("see", ["look", "brain"])
def test_axe_finds_nothing_serious(
    browser: Any, surface_results: TinyStudy, start_explorer: Callable[..., Running], axe: str, see: str
) -> None:
    own = start_explorer(surface_results.out)
    for scheme in ("light", "dark"):
        with browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme) as context:
            tab = Tab(context, f"{own.address}&see={see}&layer=conv3&vertex=left:11")
            if see == "look":
                tab.settle()
            else:
                tab.page.get_by_role("heading", name="Vertex left:11 at").wait_for()
                tab.until("document.querySelector('.cortex canvas')?.ariaLabel.includes('vertex left:11 is chosen')")
            assert find_serious(tab.page, axe) == []


def test_a_telephone_scrolls_down_only(browser: Any, running: Running) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        small = Tab(context, running.address)
        small.settle()
        assert small.page.evaluate("document.documentElement.scrollWidth") == 390
        assert small.said == []


def test_without_the_token_the_page_says_what_to_open(browser: Any, running: Running) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        answer = page.goto(f"{running.base}/?token=wrong")
        assert answer is not None
        assert answer.status == 403
        assert "Open the address that the terminal shows" in page.inner_text("body")


def test_another_origin_gets_nothing(browser: Any, running: Running) -> None:
    with browser.new_context() as context:
        Tab(context, running.address).settle()  # the cookie is there
        page = context.new_page()
        page.route("http://evil.example/**", lambda route: route.fulfill(body="<p>evil", content_type="text/html"))
        page.goto("http://evil.example/")
        for options in ("{}", "{mode: 'no-cors'}", "{method: 'POST', credentials: 'include'}"):
            found = page.evaluate(
                f"address => fetch(address, {options}).then(a => a.type === 'opaque' ? 0 : a.status, () => -1)",
                f"{running.base}/api/describe",
            )
            assert found in (0, -1), options


def test_a_server_that_ends_is_said_in_the_tab(
    browser: Any, folder: Path, run_explorer: Callable[..., Running]
) -> None:
    own = run_explorer("--checkpoint", folder / "net.safetensors", "--sounds", folder / "stimuli.tsv")
    with browser.new_context() as context:
        tab = Tab(context, own.address)
        tab.page.wait_for_selector(".bar")
        own.process.send_signal(signal.SIGKILL)
        own.process.wait()
        wait_until(lambda: tab.page.locator("#gone").is_visible())
        assert "Start it in the terminal" in tab.page.locator("#gone").inner_text()
