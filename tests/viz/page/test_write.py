"""The page: self-contained, whole, graceful about what is missing, and the same for the same content."""

from __future__ import annotations

import base64
import functools
import io
import re
import wave
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs
from scipy.ndimage import gaussian_filter
from scipy.signal import butter, sosfilt
from scipy.spatial.distance import pdist

from brainmap.errors import InputError, RunError
from brainmap.viz.page.content import NetworkMaps, PatternPanel, RdmPair, ReportContent
from brainmap.viz.page.sheet import SheetRow
from brainmap.viz.page.write import methods_paragraph, write_report

WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "bed",
    "bird",
    "tree",
    "cat",
    "house",
    "dog",
]
LAYERS = [f"conv{i}" for i in range(1, 9)] + ["output"]
ROIS = {
    "left Heschl": ((-45, -21, 7), "conv2"),
    "right Heschl": ((46, -18, 6), "conv2"),
    "left posterior STG": ((-59, -29, 4), "conv4"),
    "right posterior STG": ((61, -23, 3), "conv4"),
    "left anterior STG": ((-57, -5, -7), "conv7"),
    "right anterior STG": ((59, -1, -9), "conv7"),
    "visual control": ((10, -88, 4), ""),
}
RATE = 16_000


def _profile(planted: str, rng: np.random.Generator) -> np.ndarray:
    if not planted:
        return rng.normal(0, 0.012, len(LAYERS))
    return 0.34 * np.exp(-((np.arange(len(LAYERS)) - LAYERS.index(planted)) ** 2) / 7) + rng.normal(
        0, 0.008, len(LAYERS)
    )


def _tables(rng: np.random.Generator) -> dict[str, Any]:
    scores, statistics, ceilings, best, recovery = [], [], [], [], []
    for roi, (_, planted) in ROIS.items():
        level = _profile(planted, rng)
        values = level[:, None] + rng.normal(0, 0.045, (len(LAYERS), 8)) + rng.normal(0, 0.03, 8)
        for layer, row in zip(LAYERS, values, strict=True):
            scores += [
                {"network": "ch32", "layer": layer, "roi": roi, "participant": f"{i + 1:02d}", "score": s}
                for i, s in enumerate(row)
            ]
            p = 1 / 256 if row.mean() > 0.05 else 0.6
            statistics.append(
                {
                    "network": "ch32",
                    "layer": layer,
                    "roi": roi,
                    "mean": row.mean(),
                    "standard_error": row.std(ddof=1) / 8**0.5,
                    "p": p,
                    "p_corrected": min(1.0, p * 2.1),
                }
            )
        found = LAYERS[int(values.mean(axis=1).argmax())]
        ceilings.append({"roi": roi, "lower": 0.36 if planted else -0.01, "upper": 0.46 if planted else 0.19})
        best.append(
            {"roi": roi, "layer": found, "test_score": values.mean(axis=1).max() - 0.02, "chosen_in": "8 of 10 splits"}
        )
        if planted:
            off = abs(LAYERS.index(found) - LAYERS.index(planted))
            recovery.append(
                {
                    "roi": roi,
                    "planted": planted,
                    "recovered": found,
                    "layers_off": off,
                    "score": values.mean(axis=1).max(),
                }
            )
    tables = {
        "scores": scores,
        "statistics": statistics,
        "ceilings": ceilings,
        "best_layers": best,
        "recovery": recovery,
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


@functools.cache
def _mask() -> nibabel.Nifti1Image:
    from nilearn.datasets import load_mni152_brain_mask

    mask: nibabel.Nifti1Image = load_mni152_brain_mask(resolution=4)
    return mask


def _maps(rng: np.random.Generator) -> dict[str, Any]:
    mask = _mask()
    inside = np.asarray(mask.dataobj) > 0
    world = np.moveaxis(np.indices(inside.shape), 0, -1) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    maps, p_maps, stack = {}, {}, []
    for layer in LAYERS:
        data = gaussian_filter(rng.normal(0, 1, inside.shape), 1.6) * 0.18
        for center, planted in ROIS.values():
            if planted:
                close = np.exp(-((LAYERS.index(layer) - LAYERS.index(planted)) ** 2) / 6)
                data += 0.33 * close * np.exp(-((world - center) ** 2).sum(axis=-1) / (2 * 8.5**2))
        data = np.where(inside, data, np.nan).astype(np.float32)
        stack.append(data)
        maps[layer] = nibabel.Nifti1Image(data, mask.affine)
        p = np.where(data > 0.12, 0.01, 0.8).astype(np.float32)
        p_maps[layer] = nibabel.Nifti1Image(p, mask.affine)
    volume = np.nan_to_num(np.stack(stack))
    best = np.where(volume.max(axis=0) > 0.12, volume.argmax(axis=0) + 1, 0).astype(np.float32)
    best_layer = nibabel.Nifti1Image(best, mask.affine)
    return {"maps": {"ch32": NetworkMaps(means=maps, p=p_maps, best_layer=best_layer)}}


def _voice(rng: np.random.Generator, *, pitch: float, formants: tuple[float, ...]) -> np.ndarray:
    t = np.arange(RATE) / RATE
    buzz = np.sign(np.sin(2 * np.pi * pitch * t * (1 + 0.1 * np.sin(2 * np.pi * 3 * t)))) + rng.normal(0, 0.6, t.size)
    voiced = sum(sosfilt(butter(2, [f * 0.85, f * 1.15], "bandpass", fs=RATE, output="sos"), buzz) for f in formants)
    burst = rng.uniform(0.2, 0.7)
    return np.asarray(voiced * (np.exp(-((t - burst) ** 2) / 0.02) + 0.04), dtype=np.float32)


def _sounds(rng: np.random.Generator) -> tuple[SimpleNamespace, SimpleNamespace]:
    heard = [w for w in WORDS for _ in range(3)]
    audio = np.stack(
        [
            _voice(rng, pitch=rng.uniform(80, 220), formants=(400 + 30 * WORDS.index(w), 1500 + 90 * WORDS.index(w)))
            for w in heard
        ]
    )
    items = [f"{w}-{i % 3}" for i, w in enumerate(heard)]
    loud = np.repeat(gaussian_filter(np.abs(audio).reshape(48, 200, -1).mean(axis=-1), (0, 6)), RATE // 200, axis=-1)
    loud /= loud.max(axis=1, keepdims=True)
    maps = np.repeat(gaussian_filter(rng.normal(0, 1, (48, 16, 100)), (0, 0, 4)) * 1.5, RATE // 100, axis=-1)
    for i, w in enumerate(heard):
        maps[i] -= 0.15 * loud[i]
        maps[i, WORDS.index(w)] += 1.5 * loud[i]
    sounds = SimpleNamespace(waveforms=audio[:, None], rate=RATE, items=items, conditions=heard)
    return sounds, SimpleNamespace(maps=maps, class_names=WORDS)


def _pair(roi: str, layer: str, sounds: SimpleNamespace, rng: np.random.Generator) -> RdmPair:
    named = {"stimulus_id": sounds.items, "condition": sounds.conditions}
    base = np.repeat(rng.normal(size=(16, 30)), 3, axis=0) + 0.8 * rng.normal(size=(48, 30))
    model = pdist(base, "correlation")
    brain = np.stack([model + rng.normal(0, 0.35, model.size) for _ in range(8)])
    made = [
        RDMs(d, dissimilarity_measure="correlation", pattern_descriptors=named, rdm_descriptors={key: [value] * len(d)})
        for d, key, value in ((model[None], "layer", layer), (brain, "roi", roi))
    ]
    return RdmPair(roi=roi, layer=layer, model=made[0], brain=made[1], note="rho-a = .31, lower noise ceiling .36")


SETTINGS = {
    "study": {"name": "words", "seed": 0},
    "stimuli": {"rate": 16_000, "seconds": 1.0, "level": "rms"},
    "network": [
        {"name": "ch32", "layers": "all", "pooling": "mean", "dissimilarity": "correlation", "units": "zscore"}
    ],
    "rsa": {
        "items": "stimulus",
        "dissimilarity": "crossnobis",
        "measure": "rho-a",
        "inference": {"test": "signed-rank", "correction": "fdr"},
    },
    "searchlight": {
        "radius_mm": 9.0,
        "dissimilarity": "correlation",
        "measure": "spearman",
        "group": {"test": "sign-flip", "permutations": 5000, "correction": "max-t"},
    },
    "explain": {
        "maximization": {"regularizers": ["spectrum", "jitter", "tv"]},
        "cam": {"method": "grad-cam", "layer": "conv8"},
    },
    "facts": {
        "stimuli": 48,
        "conditions": 16,
        "participants": 8,
        "runs": 4,
        "mask_voxels": 29_398,
        "simulated": True,
        "planted": {roi: layer for roi, (_, layer) in ROIS.items() if layer},
        "version": "0.1.0",
        "networks": {"ch32": {"parameters": 94_768, "layers": 9, "accuracy": 0.953}},
    },
}


def fake_content(seed: int = 0) -> ReportContent:
    """A whole study's results, made up, in the shapes that real ones have."""
    rng = np.random.default_rng(seed)
    tables, images, (sounds, cams) = _tables(rng), _maps(rng), _sounds(rng)
    patterns = {
        layer: np.stack([_voice(rng, pitch=60 + 25 * i, formants=(200 + 120 * i, 900 + 330 * i)) for i in range(n)])
        for layer, n in (("output", 16), ("conv2", 8), ("conv4", 8), ("conv7", 8))
    }
    panels = [
        PatternPanel(
            title="The words" if layer == "output" else f"Channels of {layer}",
            layer=layer,
            patterns=p[:, None],
            rate=RATE,
            units=WORDS if layer == "output" else [f"channel {4 * i + 1}" for i in range(len(p))],
            quality=pd.DataFrame(
                {
                    "unit": WORDS[: len(p)],
                    "gain": rng.uniform(1.5, 4, len(p)),
                    "centroid_hz": rng.uniform(400, 900, len(p)),
                }
            ),
        )
        for layer, p in patterns.items()
    ]
    depth = np.arange(len(LAYERS))
    alike = pd.DataFrame(np.exp(-np.abs(depth[:, None] - depth) / 4.5), index=LAYERS, columns=LAYERS)
    clusters = pd.DataFrame(
        [
            {
                "layer": layer,
                "x": c[0],
                "y": c[1],
                "z": c[2],
                "peak_score": 0.3,
                "p_corrected": 0.004,
                "size_mm3": 64 * 60,
            }
            for c, layer in ROIS.values()
            if layer
        ]
    )
    counts = pd.DataFrame(
        [{"roi": roi, "voxels": 60, "dropped_constant": 0, "dropped_nan": i % 2} for i, roi in enumerate(ROIS)]
    )
    sheet = [
        SheetRow(
            layer=layer,
            image=images["maps"]["ch32"].means[layer],
            pattern=patterns[layer][2],
            rate=RATE,
            unit="channel 9",
            where=w,
        )
        for layer, w in (
            ("conv2", "best in Heschl"),
            ("conv4", "best in posterior STG"),
            ("conv7", "best in anterior STG"),
        )
    ]
    pairs = [_pair(roi, layer, sounds, rng) for roi, (_, layer) in list(ROIS.items())[::2] if layer]
    return ReportContent(
        title="Sixteen words, from sound to cortex",
        question="Which layer of a network that recognizes spoken words shares its geometry with which part "
        "of auditory cortex?",
        simulated=True,
        key_results=[
            ("6 of 6", "planted layers found within one layer"),
            (".31", "mean score of the best layers (rho-a)"),
            (".36–.46", "noise ceiling of the planted regions"),
            ("n.s.", "visual control, as it should be"),
        ],
        layers=LAYERS,
        measure="rho-a",
        **tables,
        layer_correlations={"ch32": alike},
        **images,
        clusters=clusters,
        sheet=sheet,
        rdm_pairs=pairs,
        maximization=panels,
        sounds=sounds,
        cams=cams,
        counts=counts,
        methods=methods_paragraph(SETTINGS),
        provenance={
            "command": "brainmap demo demo-study",
            "seed": 0,
            "versions": {"brainmap": "0.1.0", "torch": "2.13.0"},
            "inputs, SHA-256": {"stimuli.tsv": "9f" * 32, "ch32.safetensors": "0a" * 32},
        },
    )


def small_content() -> ReportContent:
    """The least a page is made of, quick to draw."""
    rng = np.random.default_rng(1)
    scores = pd.DataFrame(
        [
            {"network": "n", "layer": layer, "roi": "A1", "participant": p, "score": rng.normal(0.2, 0.05)}
            for layer in ("conv1", "conv2")
            for p in "abc"
        ]
    )
    wave_ = np.sin(np.arange(1600) / 3)[None, None]
    return ReportContent(
        title="A <small> study",
        simulated=True,
        scores=scores,
        recovery=pd.DataFrame({"roi": ["A1"], "planted": ["conv2"], "recovered": ["conv1"]}),
        maximization=[PatternPanel(title="Words", layer="conv2", patterns=wave_, units=["zero"], rate=16_000)],
        methods="Compared as usual (Nili et al. 2014, doi:10.1371/journal.pcbi.1003553).",
        provenance={"command": "brainmap run", "inputs": {"a.tsv": "00ff"}},
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: Any) -> Any:
    path = write_report(small_content(), tmp_path_factory.mktemp("out") / "report.html")
    return path, path.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_outside_the_file(page: Any) -> None:
    _, html = page
    loaded = re.findall(r'(?:src|srcset|poster|data)="([^"]*)"|url\(([^)]*)\)|@import|<link|<iframe', html)
    assert loaded
    assert all((a or b).startswith("data:") for a, b in loaded)
    assert all(link.startswith(("#", "data:", "https://doi.org/")) for link in re.findall(r'href="([^"]*)"', html))


def test_every_section_and_the_title_say_that_the_data_are_simulated(page: Any) -> None:
    _, html = page
    sections = html.split("<section")[1:]
    assert len(sections) == 5
    assert all("Simulated data" in section for section in sections)
    assert "<title>[simulated data] A &lt;small&gt; study</title>" in html


def test_real_data_are_not_called_simulated(tmp_path: Any) -> None:
    path = write_report(replace(small_content(), simulated=False, maximization=(), scores=None), tmp_path / "r.html")
    assert "imulated data" not in path.read_text(encoding="utf-8")


def test_what_is_missing_leaves_its_section_and_its_entry_in_the_contents_out(tmp_path: Any) -> None:
    html = write_report(ReportContent(title="Nothing yet"), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<section" not in html
    assert "<li><a" not in html
    assert "Nothing yet" in html


@pytest.mark.parametrize("heard", [True, False])
def test_maps_without_sounds_are_not_said_to_stand_beside_them(tmp_path: Any, heard: bool) -> None:
    image = nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    pattern = np.sin(np.arange(1600) / 5) if heard else None
    content = ReportContent(title="x", sheet=[SheetRow(layer="a", image=image, pattern=pattern, where="best in HG")])
    html = write_report(content, tmp_path / "report.html").read_text(encoding="utf-8")
    title = "Network beside brain" if heard else "Best layers in the brain"
    assert re.findall(r'<h2 id="sheet">([^<]*)<', html) == [title]
    assert f'<a href="#sheet">{title}</a>' in html
    assert ("Left, the sound that drives one of its units most" in html) is heard
    assert ("a layer that matches some region best" in html) is not heard


def test_contents_lead_to_sections_that_exist(page: Any) -> None:
    _, html = page
    targets = re.findall(r'<li><a href="#([^"]+)"', html)
    assert targets == ["known", "layers", "hears", "methods", "provenance"]
    assert all(f'id="{t}"' in html for t in targets)


def test_the_sound_on_the_page_is_the_pattern(page: Any) -> None:
    _, html = page
    coded = re.search(r'<audio[^>]*src="data:audio/wav;base64,([^"]+)"', html)
    assert coded is not None
    with wave.open(io.BytesIO(base64.b64decode(coded[1]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (
            16_000,
            1,
            2,
            1600,
        )
        samples = np.frombuffer(file.readframes(1600), "<i2")
    assert np.corrcoef(samples, np.sin(np.arange(1600) / 3))[0, 1] > 0.9999


def test_sound_files_are_played_as_they_are(tmp_path: Any) -> None:
    from brainmap.viz.features.players import encode_wav
    from brainmap.viz.page.cards import make_pattern_cards

    file = tmp_path / "zero.wav"
    file.write_bytes(encode_wav(np.ones(100), 8_000))
    panel = replace(small_content().maximization[0], wavs=[file])
    card = make_pattern_cards(panel, {})[0]
    assert base64.b64decode(card.audio.split(",")[1]) == file.read_bytes()
    with pytest.raises(InputError, match="no sound file"):
        make_pattern_cards(replace(panel, wavs=[tmp_path / "gone.wav"]), {})


def test_figures_lie_beside_the_page_and_no_scrap_is_left(page: Any) -> None:
    path, _ = page
    names = {p.name for p in (path.parent / "figures").iterdir()}
    assert {"layer-profile.png", "layer-profile.svg"} <= names
    embedded = set(re.findall(r'data-name="([^"]+)"', page[1]))
    assert {name.rpartition(".")[0] for name in names} == embedded, "what nobody sees is not drawn"
    assert not [n for n in [*names, *(p.name for p in path.parent.iterdir())] if n.startswith(".")]
    assert (path.parent / "figures" / "layer-profile.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_content_gives_the_same_page(page: Any, tmp_path: Any) -> None:
    assert write_report(small_content(), tmp_path / "again.html").read_text(encoding="utf-8") == page[1]


def test_citations_can_be_followed(page: Any) -> None:
    assert '(Nili et al. 2014, <a href="https://doi.org/10.1371/journal.pcbi.1003553">doi:' in page[1]


def test_a_page_that_cannot_be_written_is_said_in_one_line(tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_report(ReportContent(title="x"), tmp_path / "file" / "report.html")


def test_methods_say_what_the_settings_say_and_nothing_else() -> None:
    text = methods_paragraph(SETTINGS)
    for phrase in (
        "48 sounds of 16 conditions",
        "8 participants",
        "each with 4 runs",
        "ch32 (94,768 parameters, 9 layers",
        "averaged over time",
        "crossnobis",
        "rho-a",
        "Wilcoxon signed-rank",
        "9.0 mm radius",
        "29,398 voxels",
        "Grad-CAM",
        "conv2 in left Heschl",
        "simulated",
        "brainmap 0.1.0, seed 0",
    ):
        assert phrase in text, phrase
    assert not re.search(r"[{}]|undefined|None|\s[.,;](?!\d)|\(\s|\s\)|  ", text)
    assert "searchlight" not in methods_paragraph({"rsa": SETTINGS["rsa"]})
    assert methods_paragraph({}) == ""
    assert "baselines: mel-spectrogram" in methods_paragraph({"baselines": {"models": ["mel-spectrogram"]}})


def test_methods_say_how_runs_and_noise_entered_the_dissimilarities() -> None:
    def said(dissimilarity: str, noise: str, *, between: bool) -> str:
        settings = {"rsa": {"dissimilarity": dissimilarity}, "brain": [{"noise": noise}]}
        return methods_paragraph({**settings, "facts": {"between_runs": between}})

    assert "pairs of different runs" in said("correlation", "runs", between=True)
    assert "different runs" not in said("correlation", "runs", between=False)
    assert "shrunk to its diagonal" in said("crossnobis", "runs", between=True)
    assert "distances are Euclidean" in said("crossnobis", "none", between=True)
    assert "shrunk" not in said("correlation", "runs", between=True)
    settings = {"rsa": {"inference": {"test": "t", "correction": "none"}}}
    assert "p values were not corrected" in methods_paragraph(settings)
    assert "one half" not in methods_paragraph({**settings, "facts": {"halved": False}})


@pytest.mark.slow
def test_a_whole_study_fits_on_one_page(tmp_path: Any) -> None:
    path = write_report(fake_content(), tmp_path / "report.html")
    html = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 12e6
    wanted = ["known", "sheet", "layers", "geometry", "brain", "hears", "attends", "data", "methods", "provenance"]
    assert re.findall(r'<h2 id="([^"]+)"', html) == wanted
    assert html.count("<audio") == 16 + 3 * 8 + 16 + 3  # the last: rows of the network beside the brain


def test_a_browser_is_told_to_run_the_page_s_own_script_and_to_load_nothing(page: Any) -> None:
    import hashlib
    import re

    html = page[1]
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    assert policy is not None
    said = policy[1].replace("&#39;", "'")
    assert said.startswith("default-src 'none'")
    scripts, styles = (re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL) for tag in ("script", "style"))
    assert len(styles) == 1
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in [*scripts, *styles]}
    assert "unsafe" not in said
    assert not re.search(r"<[^>]*\sstyle=", html), "no element has a style of its own, which the policy would refuse"
    assert set(re.findall(r"'sha256-([^']+)'", said)) == hashes
    assert len(scripts) == html.count("<script")
    assert "http" not in said
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert not re.search(r"\son\w+=", re.sub(r"<script>.*?</script>|<style>.*?</style>", "", html, flags=re.DOTALL))


def test_figures_of_pixels_are_svg_too_where_asked(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    sounds = SimpleNamespace(items=[f"{word}-{k}" for word in WORDS for k in range(3)], conditions=np.repeat(WORDS, 3))
    content = replace(small_content(), rdm_pairs=[_pair("A1", "conv2", sounds, rng)], maximization=())
    page = write_report(content, tmp_path / "plain" / "report.html")
    both = write_report(content, tmp_path / "svg" / "report.html", svg=True)
    drawn = {name: {one.name for one in (tmp_path / name / "figures").iterdir()} for name in ("plain", "svg")}
    assert drawn["svg"] - drawn["plain"] == {"rdms-a1.svg"}
    assert "<text" in (tmp_path / "svg" / "figures" / "rdms-a1.svg").read_text()
    assert both.read_bytes() == page.read_bytes()


def test_the_numbers_of_a_figure_are_saved_as_a_table(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    heard = [word for word in WORDS for _ in range(3)]
    sounds = SimpleNamespace(items=[f"{word}-{k}" for k, word in enumerate(heard)], conditions=heard)
    pair = _pair("A1", "conv2", sounds, rng)
    content = replace(small_content(), rdm_pairs=[pair], maximization=())
    html = write_report(content, tmp_path / "r.html").read_text(encoding="utf-8")
    links = dict(
        re.findall(r'<a download="([^"]+)\.tsv" href="data:text/tab-separated-values;base64,([^"]+)">TSV', html)
    )
    assert set(links) == {"layer-profile", "rdms-a1"}
    assert content.scores is not None
    scores = pd.read_csv(io.BytesIO(base64.b64decode(links["layer-profile"])), sep="\t")
    np.testing.assert_allclose(scores["score"], content.scores["score"])
    table = pd.read_csv(io.BytesIO(base64.b64decode(links["rdms-a1"])), sep="\t")
    assert len(table) == 48 * 47 // 2
    np.testing.assert_allclose(table["conv2"], pair.model.dissimilarities[0])
    np.testing.assert_allclose(table["A1"], pair.brain.dissimilarities.mean(axis=0))
