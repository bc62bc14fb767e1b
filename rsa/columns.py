"""What the columns of RSA's tables mean, for the sidecars of tables on disk."""

from __future__ import annotations

SCORE_COLUMNS = {
    "participant": "label of the participant",
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "time": "center of the window of the sound [s]",
    "roi": "region of interest",
    "score": "similarity of the model's and the region's RDM, in the measure named below",
}
STATISTICS_COLUMNS = {
    "network": "network, or a control of it",
    "layer": "layer",
    "time": "center of the window of the sound [s]",
    "roi": "region of interest",
    "mean": "mean score over participants",
    "standard_error": "of that mean",
    "statistic": "test statistic",
    "p": "one-sided, uncorrected",
    "p_corrected": "corrected over all rows of the table: networks and their controls x layers x regions",
    "n": "participants",
    "smallest_p": "smallest p that so many participants can reach",
}
BOOTSTRAP_COLUMNS = {
    "model": "model",
    "network": "network, or a control of it",
    "layer": "layer",
    "roi": "region of interest",
    "score": "mean score over participants on the data as they are",
    "mean": "mean score over the resamples, which the tests are about",
    "standard_error": "of that mean, over participants, conditions or both, as said below",
    "ci_low": "lower end of its 95 % confidence interval",
    "ci_high": "upper end",
    "t": "of the mean against 0",
    "p": "one-sided, uncorrected",
    "p_corrected": "corrected over all rows of the table: models x regions",
    "below_ceiling": "how far the score lies below the lower noise ceiling, a band to look at: not tested",
}
DIFFERENCE_COLUMNS = {
    "model": "model",
    "other": "model that it is compared with",
    "roi": "region of interest",
    "difference": "mean score of the model less that of the other",
    "standard_error": "of that difference",
    "t": "test statistic",
    "statistic": "test statistic",
    "p": "two-sided, uncorrected",
    "p_corrected": "corrected over all rows of the table: pairs of models x regions",
    "n": "participants",
    "smallest_p": "smallest p that so many participants can reach",
}
RELABELING_COLUMNS = {
    "model": "model",
    "roi": "region of interest",
    "mean": "mean score over participants, by the measure that relabelings are compared by",
    "chance": "its mean over the relabelings of the sounds",
    "statistic": "mean less chance, in standard deviations over the relabelings",
    "p": "share of relabelings with a statistic as high, uncorrected",
    "p_corrected": "corrected over all rows, by the highest statistic of each relabeling",
    "n": "participants",
    "smallest_p": "smallest p that relabelings of this model can reach",
}
PERMUTATION_COLUMNS = {
    "model": "model",
    "participant": "label of the participant",
    "roi": "region of interest",
    "score": "score with the true labels of the conditions",
    "p": "share of relabelings whose score is as high",
    "p_corrected": "corrected over the models of that region and participant, by the highest score of each relabeling",
    "n": "relabelings",
    "enumerated": "whether these are all that differ",
    "distinct": "different RDMs that relabeling the model can give",
    "smallest_p": "smallest p that these relabelings can reach",
}
BEST_COLUMNS = {
    "network": "network",
    "roi": "region of interest",
    "layer": "layer chosen most often on one half of the stimuli",
    "chosen_share": "share of the splits in which it was chosen",
    "score": "score of the chosen layers on the other half, median over splits, mean over participants",
    "standard_error": "of that mean",
    "p": "of the score above 0, one-sided t test over participants (these sounds only), uncorrected",
    "position": "mean relative depth of the layers chosen over splits, 0 first to 1 last; n/a where p is above .05",
    "position_sd": "standard deviation of that depth over splits",
    "position_low": "least depth of a layer that was chosen in a split",
    "position_high": "greatest depth of a layer that was chosen in a split",
    "n": "participants",
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
