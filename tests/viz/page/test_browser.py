"""The page in a real browser, from a file: it asks for nothing, and all of it works; skipped without Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from brainmap.rsa import Mesh, SurfaceData
from brainmap.viz.page.content import DesignContent, DesignedRun, NetworkMaps, PeopleContent, ReportContent
from brainmap.viz.page.write import write_report
from tests.conftest import TinyStudy, find_serious
from tests.study.runs import run
from tests.study.story_inputs import write_study as write_stories
from tests.study.test_bold import write_bold_study
from tests.study.test_surface import ball
from tests.viz.page.test_people import person
from tests.viz.page.test_write import small_content

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>"
AFFINE = np.array([[-8.0, 0, 0, 56], [0, 8, 0, -80], [0, 0, 8, -40], [0, 0, 0, 1]])  # left is at the end of the rows
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]


def make_map(seed: int) -> nibabel.Nifti1Image:
    rng = np.random.default_rng(seed)
    values = rng.normal(0.2, 0.1, (14, 18, 14)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[11, 9, 6] = 0.9 + seed / 100
    return nibabel.Nifti1Image(values, AFFINE)


@dataclass(frozen=True)
class Written:
    """A page and what it was made of."""

    path: Path
    content: ReportContent

    @property
    def maps(self) -> NetworkMaps:
        return self.content.maps["n"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Two networks, maps, a participant and a sound, with names that are HTML."""
    small = small_content()
    assert small.scores is not None
    means = {"conv1": make_map(1), "conv2": make_map(2)}
    p = {
        name: nibabel.Nifti1Image(np.where(np.nan_to_num(m.dataobj) > 0.3, 0.01, 0.9), AFFINE)
        for name, m in means.items()
    }
    best = nibabel.Nifti1Image(np.where(np.nan_to_num(means["conv1"].dataobj) > 0.3, 2, 0).astype(np.float32), AFFINE)
    other = small.scores.assign(network="other")
    pattern = replace(small.maximization[0], units=[HOSTILE], patterns=np.sin(np.arange(64_000) / 3)[None, None])
    matrix = pd.DataFrame({HOSTILE: [0.0, 1, 2, 0], "drift_1": [1.0, 0.5, -0.5, -1]}, index=[0.0, 2, 4, 6])
    events = pd.DataFrame({"onset": [1.0], "duration": [2.0], "name": [HOSTILE]})
    run = DesignedRun(participant="01", run="1", matrix=matrix, kinds=["event", "drift"], events=events)
    content = replace(
        small,
        question=HOSTILE,
        cautions=[HOSTILE],
        about=[("Participants", HOSTILE)],
        scores=pd.concat([small.scores.assign(participant=HOSTILE), other]),
        networks={"n": [], "other": []},
        layers=["conv1", "conv2"],
        maps={"n": NetworkMaps(means=means, p=p, best_layer=best)},
        measure="rho-a",
        maximization=[pattern, replace(pattern, prior="decoder")],
        designs=DesignContent(runs=[run], table=pd.DataFrame({"participant": ["01"], "volumes": [4]}), notes=[HOSTILE]),
        people=pd.DataFrame({"participant": [HOSTILE, "02"], "agreement": [0.1, 0.3]}),
        persons=PeopleContent(
            persons=[person(HOSTILE, outlier=True), person("02")], maps={"02": make_map(3)}, shown="conv1"
        ),
        notices=[(HOSTILE, [HOSTILE])],
        provenance={HOSTILE: HOSTILE},
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    return Written(write_report(content, path), content)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


def open_page(browser: Any, path: Path, said: list[str], **context: Any) -> Any:
    """Open the page, and note what it says in the console, asks for, or asks of the user."""

    def dismiss(dialog: Any) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
    page.set_default_timeout(60_000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", dismiss)
    page.on("request", lambda request: None if request.url.startswith(("data:", "blob:")) else said.append(request.url))
    page.goto(path.as_uri())
    if page.locator(".viewer").count():
        page.wait_for_selector(".viewer:not([hidden])")
    return page


@pytest.fixture(scope="module")
def on_cortex(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A network with two maps on two balls of 90 vertices, and the best layer."""
    (left, triangles), (right, other) = ball(-30), ball(30)
    mesh = Mesh(np.concatenate([left, right]), np.concatenate([triangles, other + len(left)]), (90, 90), "balls")
    rng = np.random.default_rng(4)
    values = {name: rng.uniform(0.1, 0.4, (180, 1)).astype(np.float32) for name in ("conv1", "conv2")}
    values["conv1"][7], values["conv1"][11], values["conv2"][95] = np.nan, 0.9, 0.8

    def make(of: np.ndarray) -> SurfaceData:
        return SurfaceData(of[:90].astype(np.float32), of[90:].astype(np.float32), ("m",))

    p = {name: make(np.where(of > 0.3, 0.01, 0.9)) for name, of in values.items()}
    best = make(np.where(values["conv1"] > 0.3, 1, np.nan))
    maps = {"n": NetworkMaps(means={name: make(of) for name, of in values.items()}, p=p, best_layer=best, mesh=mesh)}
    content = replace(small_content(), layers=["conv1", "conv2"], maps=maps, measure="rho-a")
    path = tmp_path_factory.mktemp("cortex") / "report.html"
    return Written(write_report(content, path), content)


@pytest.fixture
def page(browser: Any, written: Written) -> Iterator[Any]:
    said: list[str] = []
    made = open_page(browser, written.path, said)
    yield made
    made.context.close()
    assert said == [written.path.as_uri()], "no error, no request but the page itself"


def set_place(page: Any, place: tuple[float, ...]) -> float | None:
    """Move the cross to a place in mm, and return the value that the viewer shows there."""
    for axis, mm in zip("xyz", place, strict=True):
        page.locator(f"[data-axis={axis}]").fill(f"{mm:g}")
        page.locator(f"[data-axis={axis}]").press("Enter")
    shown = page.locator(".found data").first.get_attribute("value")
    return float(shown) if shown else None


def test_the_viewer_shows_the_values_of_the_file(page: Any, written: Written) -> None:
    page.get_by_label("Map", exact=True).select_option("conv1")
    page.wait_for_selector(".viewer[data-map='conv1']")
    values = np.asarray(written.maps.means["conv1"].dataobj)
    step = np.nanmax(np.abs(values)) / 32_767
    rng = np.random.default_rng(5)
    voxels = [tuple(int(i) for i in rng.integers(2, (12, 16, 12))) for _ in range(12)] + [(11, 9, 6)]
    missing = 0
    for voxel in voxels:
        found, wanted = set_place(page, tuple(AFFINE[:3, :3] @ voxel + AFFINE[:3, 3])), values[voxel]
        missing += found is None
        assert (found is None) == np.isnan(wanted)
        assert found is None or abs(found - wanted) <= step / 2 + 1e-7, "the numbers of a browser have 32 bits here"
    assert 0 < missing < len(voxels)
    assert page.locator(".found").first.inner_text() == "Cross (−32, −8, 8) mm: rho-a .910, significant"


def test_the_viewer_is_moved_by_keys_and_by_the_pointer(page: Any) -> None:
    assert page.locator(".viewer").get_attribute("data-map") == "conv2", "the map with the highest value comes first"
    assert page.locator(".found").first.inner_text().startswith("Cross (−32, −8, 8) mm: rho-a .920")
    axial = page.locator("[data-view=z]")
    axial.focus()
    for key in ("ArrowRight", "Shift+ArrowUp", "PageDown"):
        page.keyboard.press(key)
    assert [page.locator(f"[data-axis={axis}]").input_value() for axis in "xyz"] == ["-30", "2", "6"]
    box = axial.bounding_box()
    axial.click(position={"x": box["width"] * (77 + 40.5) / 154, "y": box["height"] * (78 - 0.5 - 20) / 188})
    assert [page.locator(f"[data-axis={axis}]").input_value() for axis in "xyz"] == ["40", "20", "6"]
    assert page.locator(".found").nth(1).inner_text().startswith("Pointer (40, 20, 6) mm")
    page.get_by_role("button", name="Highest place").click()
    assert page.locator("[data-axis=x]").input_value() == "-32"


def test_the_cortex_shows_the_values_of_its_vertices_by_pointer_by_name_and_by_keys(
    browser: Any, on_cortex: Written
) -> None:
    said: list[str] = []
    page = open_page(browser, on_cortex.path, said)
    found, points = page.locator(".found").first, on_cortex.maps.mesh.points
    assert page.locator(".viewer").get_attribute("data-map") == "conv1", "the map with the highest value comes first"
    place = ", ".join(f"{one:.1f}" for one in points[11]).replace("-", "\N{MINUS SIGN}")
    assert found.inner_text() == f"Chosen left:11 ({place}) mm: rho-a .900, significant"
    field = page.get_by_role("textbox", name="Vertex")
    for map_name in ("conv1", "conv2"):
        page.get_by_label("Map", exact=True).select_option(map_name)
        page.wait_for_selector(f".viewer[data-map='{map_name}']")
        wanted = on_cortex.maps.means[map_name].values[:, 0]
        for row in (0, 7, 89, 95, 179):
            field.fill(f"left:{row}" if row < 90 else f"right:{row - 90}")
            field.press("Enter")
            shown = page.locator(".found data").first.get_attribute("value")
            assert (shown == "") == np.isnan(wanted[row])
            assert not shown or abs(float(shown) - wanted[row]) < np.nanmax(wanted) / 32_767
    field.fill("left:90")
    field.press("Enter")
    assert not field.evaluate("(one) => one.checkValidity()"), "the ball ends at left:89"
    field.fill("left:11")
    field.press("Enter")
    triangles = on_cortex.maps.mesh.triangles
    canvas = page.locator(".cortex canvas").first
    canvas.focus()
    at, steps = 11, 0
    for key, axis, sign in (("ArrowRight", 1, -1), ("ArrowUp", 2, 1), ("ArrowLeft", 1, 1), ("ArrowDown", 2, -1)) * 2:
        page.keyboard.press(key)  # the left hemisphere from outside: its front is on the left
        side, number = field.input_value().split(":")
        assert side == "left"
        if int(number) != at:
            assert ((triangles == at).any(axis=1) & (triangles == int(number)).any(axis=1)).any(), "they share an edge"
            assert sign * (points[int(number), axis] - points[at, axis]) > 0
            at, steps = int(number), steps + 1
    assert steps >= 6
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
    name = page.locator(".found data").nth(1).inner_text().split(" ")[0]
    nearest = points[int(name.removeprefix("left:"))]
    assert np.linalg.norm(nearest - [-50, 0, 0]) < 6, "the middle of the outer side of a ball of 20 mm"
    canvas.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert field.input_value() == name
    page.get_by_label("Seen from").select_option("ends")
    assert page.locator(".cortex figcaption").all_inner_texts()[0] == "left, from the front"
    page.get_by_role("button", name="Highest place").click()
    assert field.input_value() == "right:5"
    assert page.locator(".cortex canvas:visible").count() == 4
    page.context.close()
    assert said == [on_cortex.path.as_uri()]


@pytest.mark.parametrize("surface", [False, True])
def test_the_numbers_of_a_figure_of_maps_are_those_of_its_maps(
    browser: Any, written: Written, on_cortex: Written, surface: bool
) -> None:
    one = on_cortex if surface else written
    page = open_page(browser, one.path, [])
    with page.expect_download() as loading:
        page.get_by_role("button", name="Save as TSV").first.click()
    table = pd.read_csv(loading.value.path(), sep="\t")
    names = json.loads(page.locator(".picture[data-maps]").first.get_attribute("data-maps"))
    page.context.close()
    assert names == (["conv1", "conv2", "best layer"] if surface else ["best layer"])
    places = {"hemisphere", "vertex"} if surface else {"x", "y", "z"}
    assert set(table.columns) == places | set(names) | (
        {"conv1 significant", "conv2 significant"} if surface else set()
    )
    if surface:
        values = one.maps.means["conv1"].values[:, 0]
        rows = table["vertex"] + 90 * (table["hemisphere"] == "right")
        np.testing.assert_allclose(table["conv1"], values[rows], atol=np.nanmax(values) / 32_767)
        assert list(table["conv1 significant"]) == [
            int(v > 0.3) if np.isfinite(v) else pytest.approx(np.nan, nan_ok=True) for v in values[rows]
        ]
    else:
        best = np.asarray(one.maps.best_layer.dataobj)
        assert len(table) == np.count_nonzero(best)
        voxels = np.linalg.inv(AFFINE) @ np.c_[table[["x", "y", "z"]], np.ones(len(table))].T
        assert (best[tuple(np.rint(voxels[:3]).astype(int))] == 2).all()
        assert set(table["best layer"]) == {"conv2"}


COLORED = """(canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let n = 0;
  for (let k = 0; k < data.length; k += 4) n += data[k + 3] > 0 && data[k] - Math.min(data[k + 1], data[k + 2]) > 25;
  return n;
}"""


def test_what_is_lower_than_the_threshold_or_not_significant_is_hidden(page: Any) -> None:
    canvas, level = page.locator("[data-view=z]"), page.get_by_label("Threshold")
    page.get_by_label("Map", exact=True).select_option("conv1")
    page.wait_for_selector(".viewer[data-map='conv1']")
    level.fill("0.1")
    low = canvas.evaluate(COLORED)
    page.get_by_label("significant voxels only").check()
    significant = canvas.evaluate(COLORED)
    page.get_by_label("significant voxels only").uncheck()
    level.fill("0.9")
    assert low > 2 * significant > 8 * canvas.evaluate(COLORED) > 0
    assert page.locator(".level output").inner_text() == ".828"
    page.get_by_label("Map", exact=True).select_option("best layer")
    page.wait_for_selector(".viewer[data-map='best layer']")
    assert level.is_disabled()
    assert page.locator(".found").first.inner_text().endswith("mm: conv2")


def test_sounds_play_and_tabs_tables_and_participants_open(page: Any) -> None:
    button = page.locator(".card button").first
    button.click()
    page.wait_for_selector(".card.playing")
    assert button.get_attribute("aria-label") == "stop"
    button.click()
    page.wait_for_selector(".card.playing", state="detached")  # of all cards: others never played
    assert button.get_attribute("aria-label") == f"play {HOSTILE}, without it, from noise"
    panels = page.locator("#layers ~ .tabs > .panel")
    assert [panels.nth(k).is_visible() for k in (0, 1)] == [True, False]
    page.locator("label[for=network-2]").click()
    assert [panels.nth(k).is_visible() for k in (0, 1)] == [False, True]
    people = page.locator("details.person")
    assert "outlier" in people.first.inner_text()
    people.nth(1).locator("summary").first.click()
    assert people.nth(1).locator(".picture img").is_visible()
    with page.expect_download() as loading:
        page.get_by_role("link", name="Download TSV: Participants").first.click()
    assert loading.value.suggested_filename.endswith(".tsv")


def test_names_that_are_html_are_text(page: Any) -> None:
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("body").inner_text().count(HOSTILE) >= 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(browser: Any, written: Written, scheme: str) -> None:
    said: list[str] = []
    page = open_page(browser, written.path, said, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for view in "xyz":
        assert page.locator(f"[data-view={view}]").bounding_box()["width"] > 130
    page.emulate_media(media="print")
    assert not page.locator(".viewer").is_visible()
    panel = page.locator('.panel:has(img[alt^="Slices of conv2"])')
    assert panel.evaluate("(one) => getComputedStyle(one).display") == "block", "the figures are printed"
    page.context.close()
    assert said == [written.path.as_uri()]


@pytest.fixture(scope="module")
def of_stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of stories."""
    changes = (("permutations = 1000 ", "permutations = 19 "), ("hop = 0.5 ", "hop = 1 "))
    folder = tmp_path_factory.mktemp("stories")
    run(write_stories(folder, stories=4, scans=40, people=2, runs=1, changes=changes), page=True)
    return folder / "derivatives" / "brainmap" / "report.html"


@pytest.fixture(scope="module")
def of_bold(tiny_inputs: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study that begins with BOLD."""
    study = TinyStudy(write_bold_study(tiny_inputs, tmp_path_factory.mktemp("bold") / "study"))
    study.run(page=True)
    return next(study.folder.rglob("report.html"))


@pytest.mark.parametrize("name", ["written", "on_cortex", "of_stories", "of_bold"])
def test_axe_finds_nothing_serious(browser: Any, axe: str, name: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(name)
    path = made.path if isinstance(made, Written) else made
    for scheme in ("light", "dark"):
        said: list[str] = []
        page = open_page(browser, path, said, color_scheme=scheme)
        serious = find_serious(page, axe)
        page.context.close()
        assert serious == [], json.dumps([scheme, serious], indent=1)
        assert said == [path.as_uri()]
