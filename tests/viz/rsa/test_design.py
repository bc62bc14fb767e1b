"""The picture of a design shows what the design is."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import rsa, viz
from brainmap.errors import InputError


@pytest.mark.filterwarnings("ignore:design. drift terms:brainmap.errors.BrainmapWarning")
def test_a_design_is_drawn_with_its_regressors_and_the_rdms_it_makes() -> None:
    bold = nib.Nifti1Image(np.random.default_rng(0).normal(100, 1, (2, 2, 2, 80)).astype("f4"), np.eye(4))
    events = pd.DataFrame({"onset": [5, 35, 65, 95, 125], "duration": 2, "trial_type": ["a", "b", "c", "a", "b"]})
    betas = rsa.fit_betas(bold, events, t_r=2.0)
    figure = viz.plot_design(betas)
    matrix, scale, noise, _, time, _ = figure.axes
    assert [tick.get_text() for tick in matrix.get_xticklabels()] == list(betas.design[0].columns)
    shown = np.asarray(matrix.images[0].get_array())
    np.testing.assert_allclose(np.abs(shown).max(axis=0), 1.0)
    assert matrix.get_ylabel() == "time in the run [s]"
    assert scale.get_ylabel() == "of the largest value"
    assert (noise.get_title(loc="left") or noise.get_title(), time.get_title(loc="left") or time.get_title()) == (
        "RDM of noise alone",
        "RDM of elapsed time",
    )
    expected = betas.design_rdms().get_matrices()[1]
    np.testing.assert_allclose(np.asarray(time.images[0].get_array())[0, 1:], expected[0, 1:])
    with pytest.raises(InputError, match="expected one of the runs '1', got '2'"):
        viz.plot_design(betas, run="2")
