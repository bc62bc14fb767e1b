"""Stores that know when they are damaged: never other numbers, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from brainmap import features, rsa
from brainmap.errors import BrainmapError, InputError
from brainmap.features.activations import sealed as _sealed, store as stores
from brainmap.features.attribution.results import ClassActivationMaps
from brainmap.features.representations import files as explanations
from brainmap.features.sounds.files import sounds_from_array
from tests.mutations import copy_of, mutate_folder

LAYERS = {"0": 12, "..": 5, "yes/no": 5, "../..": 5, "CON": 4, "a\nb": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "a.zarr"
    net = nn.Sequential(nn.Conv1d(1, 8, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for weights in net.parameters():
            nn.init.normal_(weights)
    rng = np.random.default_rng(0)
    sounds = sounds_from_array(rng.standard_normal((6, 1, 64)).astype("f4"), rate=16_000)
    features.extract_activations(net, sounds, store=path)
    cams = ClassActivationMaps(
        maps=rng.standard_normal((6, 4, 64)).astype("f4"),
        items=tuple(sounds.items),
        conditions=tuple(sounds.conditions),
        class_names=("a", "b", "c", "d"),
        method="cam",
        layer="0",
        logits=rng.standard_normal((6, 4)).astype("f4"),
    )
    explanations.save_cams(cams, path, rate=16_000)
    return path


def read(path: Path) -> list[Any]:
    acts = features.open_activations(path)
    cams = explanations.open_cams(path)
    vectors = rsa.compute_rdms(acts, dissimilarity="correlation", units="zscore").dissimilarities
    about = [acts.items, acts.conditions, acts.layers, acts.network, cams.rate, cams.cams.class_names]
    return [*about, vectors.tobytes(), cams.cams.maps.tobytes(), cams.cams.logits.tobytes()]


def test_damage_is_refused_or_changes_nothing(whole: Path, tmp_path: Path) -> None:
    right, refused = read(whole), 0
    for seed in range(30):
        path = copy_of(whole, tmp_path / "b.zarr")
        what = mutate_folder(path, Random(seed))
        try:
            assert read(path) == right, what
        except BrainmapError:
            refused += 1
    assert refused > 12


def first_chunk(path: Path) -> Path:
    return next(p for p in sorted((path / "activations").rglob("*")) if p.is_file() and "c" in p.parts)


def test_a_chunk_that_is_missing_is_refused_and_made_again(whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path / "a.zarr")
    first_chunk(path).unlink()
    with pytest.raises(InputError, match=r"the chunk c/0/0 is missing"):
        features.open_activations(path)


def test_a_chunk_that_changes_after_the_store_was_opened_is_refused(whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path / "a.zarr")
    acts = features.open_activations(path)
    chunk = first_chunk(path)
    content = bytearray(chunk.read_bytes())
    content[6] ^= 1
    chunk.write_bytes(content)
    layer = chunk.relative_to(path).parts[1]
    with pytest.raises(InputError, match="is damaged"):
        np.asarray(acts[layer])


def test_chunks_that_changed_places_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_CHUNK_BYTES", 24)
    root = stores.open_store(tmp_path / "a.zarr")
    stores.keep_array(root, ("kind", "layer"), np.arange(12.0).reshape(4, 3), {}, network="n")
    one, other = sorted(p for p in (tmp_path / "a.zarr").rglob("c/*/0"))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(InputError, match="changed"):
        stores.get_current_arrays(root, "kind")


def test_a_damaged_array_is_computed_again(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(240, 3)).eval()
    sounds = np.random.default_rng(0).standard_normal((4, 1, 64)).astype("f4")
    right = {k: np.asarray(v) for k, v in features.extract_activations(net, sounds)._arrays.items()}
    for damage in ("chunk", "metadata", "group"):
        features.extract_activations(net, sounds, store=tmp_path / "a.zarr")
        if damage == "chunk":
            first_chunk(tmp_path / "a.zarr").unlink()
        elif damage == "metadata":
            next((tmp_path / "a.zarr").glob("activations/*/*/zarr.json")).write_text("{")
        else:
            (tmp_path / "a.zarr" / "activations" / "zarr.json").write_text("{")
        again = features.extract_activations(net, sounds, store=tmp_path / "a.zarr")
        for layer, values in right.items():
            np.testing.assert_array_equal(np.asarray(again[layer]), values)


def test_arrays_of_zeros_and_of_nan_keep_all_their_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_CHUNK_BYTES", 4096)
    for value in (0.0, np.nan):
        root = stores.open_store(tmp_path / f"{value}.zarr")
        stores.keep_array(root, ("kind", "layer"), np.full((8, 1024), value), {}, network="n")
        assert len(list((tmp_path / f"{value}.zarr").rglob("c/*/0"))) == 8
        np.testing.assert_array_equal(stores.get_current_arrays(root, "kind")["layer"][:], np.full((8, 1024), value))


def test_names_of_layers_choose_no_path(tmp_path: Path) -> None:
    root = stores.open_store(tmp_path / "deep" / "a.zarr")
    rng = np.random.default_rng(0)
    values = {layer: rng.normal(size=(2, units)).astype("f4") for layer, units in LAYERS.items()}
    for layer, x in values.items():
        stores.keep_array(root, ("am", layer), x, {}, network="n")
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
    assert sorted(p.name for p in (tmp_path / "deep" / "a.zarr").iterdir()) == ["am", "zarr.json"]
    found = stores.get_current_arrays(stores.open_store(tmp_path / "deep" / "a.zarr", create=False), "am")
    assert list(found) == list(LAYERS)
    for layer, x in values.items():
        np.testing.assert_array_equal(found[layer][:], x)


def forged(path: Path, change: dict[str, Any], attributes: dict[str, Any] | None = None) -> None:
    """Metadata by somebody who knows how digests are made."""
    file = next(path.glob("activations/0/*/zarr.json"))
    about = json.loads(file.read_text()) | change
    about["attributes"] |= attributes or {}
    about["attributes"]["digest"] = _sealed._hash_chunks(file.parent.relative_to(path).as_posix(), about)
    file.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [10**9, 10**9]}, "not as brainmap writes it"),
        ({"shape": [10**9, 8]}, "another number of chunks"),
        (
            {"shape": [6, 10**12], "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [6, 10**12]}}},
            "too small to hold",
        ),
        ({"data_type": "int32"}, "not as brainmap writes it"),
        ({"codecs": [{"name": "bytes"}]}, "not as brainmap writes it"),
        ({"chunk_grid": {}}, "KeyError"),
        ({"shape": None}, "TypeError"),
    ],
)
def test_sizes_are_checked_against_the_files_before_memory_is_taken(
    whole: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = copy_of(whole, tmp_path / "a.zarr")
    forged(path, change)
    with pytest.raises(InputError, match=said):
        features.open_activations(path)


def test_keys_of_arrays_choose_no_path(whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path / "a.zarr")
    root = stores.open_store(path)
    stores.set_current(root, "activations", {"0": "../../../other"}, network="n")
    with pytest.raises(InputError, match="its key is"):
        features.open_activations(path)
