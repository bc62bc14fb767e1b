"""
Haxby 2001: from BOLD to RDM
============================

Real data: one participant of Haxby et al. (2001, doi:10.1126/science.1063736), half an axial slice, eight categories of
objects in blocks, twelve runs. The patterns of even and odd runs identify each other in .98 of comparisons, as they do
for everybody who has analyzed these data.

The data are not part of brainmap. Where they are missing, this example shows the result that is committed beside it.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap import rsa, viz

root = Path(os.environ.get("BRAINMAP_TEST_DATA", Path.cwd().resolve().parents[2] / "shared" / "data")) / "haxby"
here = root.is_dir()
"The data are here." if here else f"The data are not at {root}: what follows is the committed result."


# %%
# A block is 24 s long, so that its mean, less the trend of the run and divided by the standard deviation at rest, is
# its pattern. One image a run, whose volumes are the categories.
def average_blocks() -> tuple[list, pd.DataFrame]:
    """Return one image a run, and a table of what each volume shows."""
    import nibabel as nib
    from scipy.signal import detrend

    bold = nib.load(root / "bold.nii.gz")
    shown = pd.read_csv(root / "attributes_literal.txt", sep=" ", names=["condition", "run"])
    images, labels = [], []
    for run, rows in shown.groupby("run"):
        x = detrend(np.asarray(bold.dataobj, float)[..., rows.index], axis=-1)
        rest = x[..., rows["condition"] == "rest"]
        z = (x - rest.mean(axis=-1, keepdims=True)) / np.maximum(rest.std(axis=-1), 1e-6)[..., None]
        names = sorted(set(rows["condition"]) - {"rest"})
        blocks = [z[..., rows["condition"] == name].mean(axis=-1) for name in names]
        images.append(nib.Nifti1Image(np.stack(blocks, axis=-1).astype(np.float32), bold.affine))
        labels += [{"condition": name, "run": str(run)} for name in names]
    return images, pd.DataFrame(labels)


# %%
# How often is a category's pattern in even runs nearer to itself in odd runs than to another category?
if here:
    images, labels = average_blocks()
    data = rsa.load_patterns(images, mask=root / "mask.nii.gz", conditions=labels, runs=list(range(12)))
    demeaned = rsa.normalize_patterns(data, "demean-runs")
    names = np.unique(demeaned.obs_descriptors["condition"])
    odd = demeaned.obs_descriptors["run"].astype(int) % 2 == 1
    of = demeaned.obs_descriptors["condition"]
    halves = [np.array([demeaned.measurements[half & (of == n)].mean(axis=0) for n in names]) for half in (~odd, odd)]
    r = np.corrcoef(*halves)[:8, 8:]
    identified = np.mean((np.diag(r)[:, None] > r)[~np.eye(8, dtype=bool)])
else:
    identified = 0.982
f"identified: {identified:.3f}"

# %%
# The crossnobis RDM over all pairs of runs, each weighted by the noise that the other runs tell. Houses lie apart from
# everything else; bottles, chairs and shoes lie together.
committed = Path("haxby_rdm.tsv")
if here:
    rdms = rsa.compute_rdms(data, dissimilarity="crossnobis", items="condition", noise_precision="runs")
else:
    rdms = rsa.read_model_rdms(committed, layout="square")
viz.plot_rdm(rdms, titles=["Haxby 2001, one half slice, crossnobis"])
