"""
From a region back to sound
===========================

An encoding model predicts a region's response to any sound, and so it can be climbed: which sound is the region
predicted to want? The climbed model cannot say whether that is true, since ascent climbs the errors of its weights too.
A model of another network, fitted on other runs, judges it. Here the truth is known, and stands beside the judge.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap import data, features, rsa, viz

networks = data.folder() / "networks"
words = pd.read_csv(data.folder() / "words" / "stimuli.tsv", sep="\t")
words["path"] = [str(data.folder() / "words" / name) for name in words["path"]]
model = {name: features.load_network(networks / f"{name}.safetensors") for name in ("ch32", "ch64", "vgg")}
sounds = features.load_checkpoint(networks / "ch32.safetensors").load_sounds(words)

# %%
# Two regions respond to what conv4 of ch32 hears, each with weights of its own, and a third one to nothing. Four runs.
rng = np.random.default_rng(1)
heard = features.extract_activations(model["ch32"], sounds, layers=["conv4"])["conv4"][:]
mean, sd = heard.mean(axis=0), np.maximum(heard.std(axis=0), 1e-6)
planted = np.column_stack([rng.normal(size=(heard.shape[1], 2)), np.zeros(heard.shape[1])])


def respond(waves) -> np.ndarray:
    """Return the true responses of the three regions, in standard deviations over the words."""
    x = features.extract_activations(model["ch32"], waves, layers=["conv4"])["conv4"][:]
    return (x - mean) / sd @ planted / np.maximum(((heard - mean) / sd @ planted).std(axis=0), 1e-9)


truth, names = respond(sounds), ["left-A", "left-B", "empty"]
runs = truth[:, :, None] + rng.normal(size=(*truth.shape, 4))

# %%
# The encoding models: conv5 of ch64 on runs 1 and 2, to be climbed, and conv5 of vgg on runs 3 and 4, to judge.
folder = Path(tempfile.mkdtemp())


def fit_encoder(name: str, which: list[int]) -> features.Encoder:
    """Fit a layer of a network to some runs, and return the encoding model as a network."""
    np.save(folder / "responses.npy", runs[:, :, which])
    responses = rsa.load_response_table(
        folder / "responses.npy", items=words[["stimulus_id", "condition"]], voxels=pd.DataFrame({"roi": names})
    )
    fit = rsa.encode(features.extract_activations(model[name], sounds, layers=["conv5"]), responses, targets="roi")
    w = fit.weights("conv5")
    given = {"weights": w.weights, "mean": w.mean, "sd": w.sd, "intercept": w.intercept}
    network = features.readout_network(model[name], sounds, layer="conv5", names=list(w.targets["roi"]), **given)
    tested = rsa.encoding_test(fit, permutations=200, correction="max", rng=np.random.default_rng(0)).set_index("roi")
    r = fit.scores.set_index("roi")["r"]
    known = frozenset(f"run-{k + 1}" for k in which)
    return features.Encoder(name=name, model=network, scores=dict(r), p=dict(tested["p_corrected"]), data=known)


climbed, judge = fit_encoder("ch64", [0, 1]), fit_encoder("vgg", [2, 3])
pd.DataFrame({one.name: one.scores for one in (climbed, judge)}).round(2)

# %%
# The sounds, from what a decoder of speech can say. ``empty`` is left out: its score is not above the maximum null, and
# it would be refused.
found = features.maximize_regions(
    [climbed], sounds, regions=["left-A", "left-B"], judges=[judge], decoder=features.load_decoder(), rng=rng
)
viz.play_sounds(found.am, labels=["predicted: left-A", "predicted: left-B"])

# %%
viz.plot_maximization(found.am, labels=["predicted: left-A", "predicted: left-B"], columns=2)

# %%
# In standard deviations over the recordings: the prediction that was climbed, what the judge says of the sound, the
# truth that only a simulation has, and the judged value of the best recording. A prediction may overshoot by far.
table = found.table.assign(truth=np.diag(respond(found.am.patterns)[:, :2]))
table[["region", "predicted", "judged", "truth", "best_real"]].round(1)
