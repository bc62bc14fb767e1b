"""Datasets of SUMA are read in every form, and damaged or partial ones are refused."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from brainmap import rsa
from brainmap.errors import InputError

N = 12
LABELS = ("cat", "a < b", "c")


def write_block(values: np.ndarray, form: str) -> bytes:
    """Write rows as AFNI does: one after another, in the order of bytes that the form names."""
    if form == "text":
        return ("\n" + "\n".join(" ".join(f"{x:.9g}" for x in row) for row in values) + "\n").encode()
    encoding, order = form.split(".")
    kind = "i4" if values.dtype.kind == "i" else "f4"
    raw = values.astype((">" if order == "msbfirst" else "<") + kind).tobytes()
    return base64.encodebytes(raw) if encoding == "base64" else raw


def write_niml(path: Path, values: np.ndarray, nodes: np.ndarray, form: str, kind: str = "Node_Bucket") -> Path:
    """Write a dataset with the elements, the attributes and the order that AFNI's programs give it."""
    parts = [
        f'<AFNI_dataset\n  dset_type="{kind}"\n  self_idcode="XYZ_abc"\n  ni_form="ni_group" >\n'.encode(),
        f'<SPARSE_DATA\n  ni_type="{values.shape[1]}*float"\n  ni_dimen="{len(values)}"\n'.encode(),
        f'  data_type="{kind}_data"\n  ni_form="{form}" >'.encode(),
        write_block(values, form),
        b'</SPARSE_DATA>\n<AFNI_atr\n  ni_type="String"\n  ni_dimen="1"\n  atr_name="COLMS_LABS" >',
        b'"cat;a &lt; b;c"</AFNI_atr>\n<AFNI_atr ni_type="String" ni_dimen="1" atr_name="HISTORY_NOTE" >',
        b'"3dVol2Surf -x"</AFNI_atr>\n',
        f'<INDEX_LIST\n  ni_type="int"\n  ni_dimen="{len(nodes)}"\n  ni_form="{form}" >'.encode(),
        write_block(nodes[:, None].astype("i4"), form),
        b"</INDEX_LIST>\n</AFNI_dataset>\n",
    ]
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("form", ["binary.lsbfirst", "binary.msbfirst", "base64.lsbfirst", "text"])
def test_nodes_are_put_in_their_order(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    left, right = rng.normal(size=(2, N, 3)).astype("f4")
    left[0] = np.frombuffer(b"</SP>\n<A b>x", "<f4")  # bytes that look like a tag
    for side, values in (("lh", left), ("rh", right)):
        nodes = rng.permutation(N)
        write_niml(tmp_path / f"run-1.{side}.niml.dset", values[nodes], nodes, form)
    data = rsa.load_surface(tmp_path / "run-1.{hemi}.niml.dset")
    assert data.labels == LABELS
    np.testing.assert_allclose(data.left, left, rtol=1e-6)
    np.testing.assert_allclose(data.right, right, rtol=1e-6)
    with pytest.raises(InputError, match="does not say its hemisphere"):
        rsa.load_surface(tmp_path / "run-1.lh.niml.dset")


def test_partial_and_label_datasets_are_refused(tmp_path: Path) -> None:
    values = np.ones((N, 3), "f4")
    file = {"left": tmp_path / "x.niml.dset"}
    write_niml(file["left"], values, np.arange(N) + 2, "text")
    with pytest.raises(InputError, match=r"every node of the mesh from 0, got 12 nodes.*-pad_to_node"):
        rsa.load_surface(file)
    write_niml(file["left"], values, np.arange(N - 1), "text")
    with pytest.raises(InputError, match="nodes: expected one for each of 12 rows, got 11"):
        rsa.load_surface(file)
    write_niml(file["left"], values, np.arange(N), "text", "Node_Label")
    with pytest.raises(InputError, match=r"got labels; write regions as \.label\.gii"):
        rsa.load_surface(file)
    file["left"].write_bytes(file["left"].read_bytes().replace(b"3*float", b"3*rgb").replace(b"_Label", b"_Bucket"))
    with pytest.raises(InputError, match=r"expected columns of byte, .*, got rgb"):
        rsa.load_surface(file)
    file["left"].write_text("1 2 3")
    with pytest.raises(InputError, match="expected a dataset of SUMA"):
        rsa.load_surface(file)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
@example(place=0.4140625, value=127, cut=False)  # a signalling NaN
def test_a_flipped_byte_or_a_cut_is_refused_or_read(tmp_path: Path, place: float, value: int, cut: bool) -> None:
    file = tmp_path / "x.niml.dset"
    write_niml(file, np.arange(3.0 * N).reshape(N, 3), np.arange(N), "binary.lsbfirst")
    raw = bytearray(file.read_bytes())
    k = int(place * len(raw))
    raw[k] = value
    file.write_bytes(bytes(raw[:k] if cut else raw))
    try:
        data = rsa.load_surface({"left": file})
    except InputError:
        return
    assert data.left.ndim == 2


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    file = write_niml(tmp_path / "x.niml.dset", np.ones((N, 3)), np.arange(N), "binary.lsbfirst")
    whole = file.read_bytes()
    for end in (whole.index(b"</SPARSE_DATA>") - 5, whole.index(b"<INDEX_LIST"), whole.index(b"</INDEX_LIST>") - 3, 40):
        file.write_bytes(whole[:end])
        with pytest.raises(InputError):
            rsa.load_surface({"left": file})
