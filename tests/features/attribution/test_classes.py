"""Classes to explain: probabilities are refused, logits that look like them are not."""

from __future__ import annotations

import pytest
import torch

from brainmap.errors import InputError
from brainmap.features.attribution.task import choose_classes


def test_logits_of_a_network_that_is_sure_are_logits() -> None:
    """exp(-1100) is zero and exp(0) one, so these sum to one as probabilities do."""
    assert choose_classes(torch.tensor([[-1100.0, 0.0], [0.0, -900.0]]), "all", None).names == ("0", "1")


def test_log_probabilities_are_refused_even_where_some_sounds_are_sure() -> None:
    values = torch.tensor([[0.0, 1100.0], [0.3, -0.2]]).log_softmax(1)
    with pytest.raises(InputError, match="log-probabilities"):
        choose_classes(values, "all", None)
    with pytest.raises(InputError, match="probabilities"):
        choose_classes(values.exp(), "all", None)
