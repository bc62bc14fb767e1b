"""The command `features encoder-maps`: where in sounds an encoding model reads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from brainmap import features
from brainmap.features.networks.checkpoints import load_network, save_checkpoint
from brainmap.features.networks.description import load_checkpoint


def test_table_figure_and_answer_are_those_of_the_maps(tiny_inputs: Any, tmp_path: Any, brainmap_command: Any) -> None:
    network, table = tiny_inputs.folder / "net.safetensors", tiny_inputs.folder / "stimuli.tsv"
    about, model = load_checkpoint(network), load_network(network)
    sounds = about.load_sounds(table)
    layer = features.list_layers(model, sounds)[0]
    weights = np.random.default_rng(0).standard_normal((layer.shape[0], 2))
    zero, one = np.zeros(len(weights)), np.ones(len(weights))
    made = features.readout_network(
        model, sounds, layer=layer.name, weights=weights, mean=zero, sd=one, names=["left-A1", "right-A1"]
    )
    encoder = save_checkpoint(made, tmp_path / "encoder.safetensors", about)
    words = ("features", "encoder-maps", "--sounds", table, "--checkpoint")
    out, figure = tmp_path / "maps.tsv", tmp_path / "maps.png"
    answer = brainmap_command(*words, encoder, "--regions", "right-A1", "--out", out, "--figure", figure, "--json")
    assert answer.code == 0, answer.err
    found = features.map_encoder(load_network(encoder), sounds, regions=["right-A1"])
    written = pd.read_csv(out, sep="\t")
    np.testing.assert_allclose(written["map"], found.average_in_steps().maps.ravel(), rtol=1e-5, atol=1e-8)
    assert set(written["region"]) == {"right-A1"}
    (row,) = json.loads(answer.out)
    np.testing.assert_allclose(row["r_energy"], found.follow_energy()["r_energy"][0], rtol=1e-5)
    assert figure.exists()
    answer = brainmap_command(*words, network)
    assert answer.code == 2
    assert "holds no encoding model" in answer.err
