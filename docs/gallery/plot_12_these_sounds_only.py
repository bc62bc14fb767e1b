"""
These sounds only: what a test over participants claims
=======================================================

Participants share the geometry of a region. A model that has nothing to do with it still falls on one side of it, by
the chance of which sounds were taken, and a test over participants finds that side with certainty. It is right: other
participants who hear *these sounds* would show it. About the network it says nothing.
"""

import numpy as np
import pandas as pd

from brainmap import rsa, viz

# %%
# Forty studies. In each, twelve participants share a reliable geometry of 16 sounds, and a network of one layer has
# another one, drawn independently. The truth is that the network has nothing to do with the region.
rng = np.random.default_rng(0)
names = {"stimulus_id": [f"sound{k:02d}" for k in range(16)]}


def draw_geometry(label: str):
    """Return the RDM of 16 random points, unrelated to any other."""
    return rsa.compute_rdms(rng.normal(size=(16, 30)), descriptors={**names, "layer": label})


rows = []
for _study in range(40):
    brains = rsa.simulate_rdms(draw_geometry("region"), ceiling=0.6, n_participants=12, specific=0.1, rng=rng)
    network = draw_geometry("conv1")
    scores = rsa.compare_rdms(network, brains)
    over_participants = rsa.score_statistics(scores, test="signed-rank", correction="none")
    over_sounds = rsa.relabeling_test(network, brains, permutations=500, rng=rng)
    rows.append(
        {
            "mean score": scores.mean(),
            "participants": float(over_participants["p"].iloc[0]),
            "sounds relabeled": float(over_sounds["p"].iloc[0]),
        }
    )
table = pd.DataFrame(rows)

# %%
# How often each test calls the unrelated network significantly above 0 at .05.
(table[["participants", "sounds relabeled"]] <= 0.05).mean().to_frame("share of studies").round(2)

# %%
# The last study: the network's RDM, and the mean of the participants'. There is nothing to see between them.
viz.plot_rdm_pair(network, brains)

# %%
# The scores of these studies: their mean is 0, and each of them is stable over participants.
table.describe().loc[["mean", "std", "min", "max"], ["mean score"]].round(3)

# %%
# That is why a study of brainmap tests scores by relabeling the sounds, jointly for all participants, and differences
# by a bootstrap over participants and sounds. The test over participants stands beside them and is named *these sounds
# only*.
