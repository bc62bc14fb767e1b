"""What the columns of RSA's tables mean, for the sidecars of tables on disk."""

from __future__ import annotations

SCORE_COLUMNS = {
    "participant": "label of the participant",
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "roi": "region of interest",
    "score": "similarity of the model's and the region's RDM, in the measure named below",
}
STATISTICS_COLUMNS = {
    "network": "network, or a control of it",
    "layer": "layer",
    "roi": "region of interest",
    "mean": "mean score over participants",
    "standard_error": "of that mean",
    "statistic": "test statistic",
    "p": "one-sided, uncorrected",
    "p_corrected": "corrected over all rows of the table: networks and their controls x layers x regions",
    "n": "participants",
    "smallest_p": "smallest p that so many participants can reach",
}
CEILING_COLUMNS = {
    "roi": "region of interest",
    "lower": "lower noise ceiling: each participant against the others' mean",
    "upper": "upper noise ceiling: each participant against the mean of all",
    "n": "participants",
    "approximate": "whether the upper bound is approximate (tau-a, tau-b, bures, partial scores)",
}

VOXEL_COLUMNS = {
    "roi": "region; the first row is the whole mask",
    "voxels": "voxels of the region",
    "outside_mask": "of these, outside the mask",
    "dropped_nan": "left out: NaN or infinite in a pattern",
    "dropped_constant": "left out: constant over the patterns of a run",
    "dropped_unresponsive": "left out: no answer to sound",
    "dropped_unreliable": "left out: responses of odd and even runs do not correlate enough",
    "kept": "voxels used",
}
