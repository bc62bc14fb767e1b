"""RDM files that are damaged, or made to harm: one line, and never other RDMs from what brainmap wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import pytest
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm.rdms import load_rdm

from brainmap.errors import BrainmapError, InputError
from brainmap.rsa.rdm.files import load_rdms, save_rdms
from tests.mutations import mutate


def rdms() -> RDMs:
    vectors = np.random.default_rng(0).random((2, 6))
    return RDMs(
        vectors,
        dissimilarity_measure="corr",
        descriptors={"session": "a"},
        rdm_descriptors={"roi": ["x", "y"]},
        pattern_descriptors={"stimulus": list("abcd"), "order": [1.0, 2.0, 3.0, 4.0]},
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rdms")
    rdms().save(str(folder / "peer.h5"), "hdf5")
    return {"ours": save_rdms(rdms(), folder / "ours.h5"), "peer": folder / "peer.h5"}


def same(one: RDMs, other: RDMs) -> bool:
    pairs = [(a.pattern_descriptors | a.rdm_descriptors | a.descriptors) for a in (one, other)]
    return np.array_equal(one.dissimilarities, other.dissimilarities) and all(
        np.array_equal(value, pairs[1].get(name)) for name, value in pairs[0].items()
    )


def test_rsatoolbox_reads_a_file_with_a_digest_and_its_own_files_are_read(files: dict[str, Path]) -> None:
    assert same(load_rdm(str(files["ours"]), "hdf5"), load_rdms(files["ours"]))
    assert same(load_rdms(files["peer"]), load_rdms(files["ours"]))


def test_no_damage_changes_the_rdms_of_our_files_and_none_is_a_traceback(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "x.h5"
    for name, file in files.items():
        right, content, refused = load_rdms(file), file.read_bytes(), 0
        for seed in range(300):
            path.write_bytes(mutate(content, Random(seed)))
            try:
                found = load_rdms(path)
                assert name == "peer" or same(right, found)
            except BrainmapError:
                refused += 1
        assert refused == 300 if name == "ours" else refused > 150


def replaced(values: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file["dissimilarities"]
        file["dissimilarities"] = values

    return change


def huge(file: Any, **how: Any) -> None:
    del file["dissimilarities"]
    file.create_dataset("dissimilarities", shape=(10**6, 499_500), dtype="f8", **how)


def outside(file: Any) -> None:
    del file["dissimilarities"]
    Path("secret.raw").write_bytes(np.arange(12.0).tobytes())
    file.create_dataset("dissimilarities", shape=(2, 6), dtype="f8", external=[("secret.raw", 0, 96)])


def virtual(file: Any) -> None:
    del file["dissimilarities"]
    with h5py.File("source.h5", "w") as source:
        source["d"] = np.ones((2, 6))
    layout = h5py.VirtualLayout(shape=(2, 6), dtype="f8")
    layout[:] = h5py.VirtualSource("source.h5", "d", shape=(2, 6))
    file.create_virtual_dataset("dissimilarities", layout)


def external_link(file: Any) -> None:
    with h5py.File("source.h5", "w") as source:
        source["d"] = np.ones((2, 6))
    del file["dissimilarities"]
    file["dissimilarities"] = h5py.ExternalLink("source.h5", "/d")


def short_labels(file: Any) -> None:
    del file["pattern_descriptors/stimulus"]
    file["pattern_descriptors/stimulus"] = np.array([b"a", b"b"])


def no_group(file: Any) -> None:
    del file["descriptors"]
    file["descriptors"] = 1.0


HOSTILE: dict[str, tuple[Callable[[Any], None], str]] = {
    "external link": (external_link, "link to somewhere else"),
    "external storage": (outside, "lies in another file"),
    "virtual": (virtual, "lies in another file"),
    "soft link": (lambda f: f.__setitem__("descriptors/x", h5py.SoftLink("/descriptors")), "link to somewhere else"),
    "loop": (lambda f: f.__setitem__("descriptors/x", f["descriptors"]), "is there twice"),
    "loop to the top": (lambda f: f.__setitem__("descriptors/x", f["/"]), "is there twice"),
    "huge chunks": (lambda f: huge(f, chunks=(1, 1000)), "claims"),
    "huge, compressed": (lambda f: huge(f, chunks=(1, 1000), compression="gzip"), "claims"),
    "huge": (huge, "claims"),
    "no triangle": (replaced(np.zeros((1, 7))), "all pairs"),
    "complex": (replaced(np.ones((1, 6), complex)), "expected numbers"),
    "text": (replaced(np.array([b"a"])), "expected numbers"),
    "infinite": (replaced(np.full((1, 6), np.inf)), "infinite"),
    "empty": (replaced(np.zeros((0, 6))), "expected numbers"),
    "one number": (replaced(1.0), "expected numbers"),
    "fewer labels": (short_labels, "expected 4"),
    "bad utf-8": (lambda f: f.__setitem__("pattern_descriptors/bad", np.array([b"\xff\xfe"] * 4)), "codec"),
    "compound": (lambda f: f.__setitem__("descriptors/c", np.zeros(2, [("a", "f4")])), "expected numbers or text"),
    "descriptors is data": (no_group, "is no group"),
}


@pytest.mark.parametrize(("make", "said"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_and_follow_nothing(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Any], None], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.h5"
    path.write_bytes(files["peer"].read_bytes())
    with h5py.File(path, "a") as file:
        make(file)
    with pytest.raises(InputError, match=said) as found:
        load_rdms(path)
    assert "\n" not in str(found.value)


def test_compressed_rdms_of_others_are_read(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(files["peer"].read_bytes())
    with h5py.File(path, "a") as file:
        values = file["dissimilarities"][()]
        del file["dissimilarities"]
        how = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("dissimilarities", data=values, **how)
    np.testing.assert_array_equal(load_rdms(path).dissimilarities, values)


def test_rsatoolbox_reads_labels_with_letters_beyond_ascii(tmp_path: Path) -> None:
    labels, regions = ["Grüße", "žena", "猫", "cat"], ["größe", "y"]
    mine = rdms()
    mine.pattern_descriptors["stimulus"], mine.rdm_descriptors["roi"] = labels, regions
    path = save_rdms(mine, tmp_path / "umlaut.h5")
    theirs = load_rdm(str(path), "hdf5")
    assert [str(x) for x in theirs.pattern_descriptors["stimulus"]] == labels
    assert [str(x) for x in theirs.rdm_descriptors["roi"]] == regions
    assert same(theirs, load_rdms(path))
    assert same(load_rdms(save_rdms(load_rdms(path), tmp_path / "again.h5")), mine)
    assert theirs.subset_pattern("stimulus", labels[:3]).n_cond == 3


def test_labels_that_earlier_versions_wrote_as_bytes_are_read(tmp_path: Path) -> None:
    rdms().save(str(tmp_path / "old.h5"), "hdf5")
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        del file["pattern_descriptors/stimulus"]
        file["pattern_descriptors/stimulus"] = np.char.encode(np.array(["ü", "b", "c", "d"]), "utf-8")
    assert list(load_rdms(tmp_path / "old.h5").pattern_descriptors["stimulus"]) == ["ü", "b", "c", "d"]
