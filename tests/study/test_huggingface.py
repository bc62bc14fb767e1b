"""A study of a Hugging Face folder runs to its page, from the study file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainmap.features.activations.stored import open_activations
from brainmap.rsa.rdm.files import load_rdms
from tests.features.networks.folders import make_folder

EXPLAIN = "[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "page"), [("wav2vec2-class", True), ("whisper", False)])
def test_a_study_of_a_folder_and_its_control_runs(tiny_study: Any, name: str, page: bool) -> None:
    folder: Path = tiny_study.folder
    make_folder(folder, name)
    tiny_study.edit(
        ('checkpoint = "net.safetensors"', f'checkpoint = "{name}"'),
        ('layers = ["conv1", "conv3", "output"]', 'layers = ["hidden.*"]\ncontrols = ["untrained"]'),
        *(() if page else ((EXPLAIN, ""),)),  # a network without classes explains none
    )
    tiny_study.run(page=page)
    stores = sorted((tiny_study.out / "features").glob("network-*_features.zarr"))
    rdms = [load_rdms(path) for path in sorted((tiny_study.out / "rdms").glob("network-*_rdms.h5"))]
    assert len(stores) == len(rdms) == 2
    for store, one in zip(stores, rdms, strict=True):
        assert set(one.rdm_descriptors["layer"]) == {"hidden.0", "hidden.1", "hidden.2"}
        assert np.isfinite(one.dissimilarities).all()
        assert open_activations(store)["hidden.1"].shape == (8, {"whisper": 16}.get(name, 24))
    assert not np.allclose(rdms[0].dissimilarities, rdms[1].dissimilarities)
    if page:
        assert "hidden.1" in (tiny_study.out / "report.html").read_text(encoding="utf-8")
