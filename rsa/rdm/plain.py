"""Hold RDMs for comparisons without rsatoolbox, whose import takes longer than most comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PlainRdms:
    """Hold what comparisons and figures read of an rsatoolbox `RDMs`, under the same names, with two of its methods.

    Parameters
    ----------
    dissimilarities : ndarray (n_rdms, n_pairs)
    dissimilarity_measure : str, optional
    descriptors : mapping
    rdm_descriptors, pattern_descriptors : mapping of str to sequence
        `index` counts from 0 where it is not given, as in rsatoolbox.

    Examples
    --------
    >>> rdms = PlainRdms(np.ones((2, 3)), pattern_descriptors={"condition": ["a", "b", "c"]})
    >>> rdms.n_rdm, rdms.n_cond, rdms.rdm_descriptors["index"]
    (2, 3, [0, 1])
    """

    def __init__(
        self,
        dissimilarities: NDArray[Any],
        *,
        dissimilarity_measure: str | None = None,
        descriptors: Mapping[str, Any] | None = None,
        rdm_descriptors: Mapping[str, Sequence[Any]] | None = None,
        pattern_descriptors: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self.dissimilarities, self.dissimilarity_measure = dissimilarities, dissimilarity_measure
        self.n_rdm = len(dissimilarities)
        self.n_cond = (1 + round((1 + 8 * dissimilarities.shape[1]) ** 0.5)) // 2
        self.descriptors = dict(descriptors or {})
        self.rdm_descriptors = {"index": list(range(self.n_rdm)), **(rdm_descriptors or {})}
        self.pattern_descriptors = {"index": list(range(self.n_cond)), **(pattern_descriptors or {})}

    def subset(self, by: str, value: Any) -> PlainRdms:
        """Select the RDMs whose descriptor `by` is a value, or one of several."""
        wanted = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
        rows = [k for k, one in enumerate(self.rdm_descriptors[by]) if one in wanted]
        return PlainRdms(
            self.dissimilarities[rows],
            dissimilarity_measure=self.dissimilarity_measure,
            descriptors=self.descriptors,
            rdm_descriptors={key: [values[k] for k in rows] for key, values in self.rdm_descriptors.items()},
            pattern_descriptors=self.pattern_descriptors,
        )

    def get_matrices(self) -> NDArray[Any]:
        """Return the RDMs as square matrices (n_rdms, n, n) with zeros on the diagonal."""
        squares = np.zeros((self.n_rdm, self.n_cond, self.n_cond))
        i, j = np.triu_indices(self.n_cond, 1)
        squares[:, i, j] = squares[:, j, i] = self.dissimilarities
        return squares


def make_plain_rdms(content: Mapping[str, Any]) -> PlainRdms | None:
    """Make RDMs of the content of a file; None for content that only rsatoolbox knows how to arrange.

    Such are square matrices, a single vector, and descriptors that are no lists.
    """
    vectors, described = content["dissimilarities"], (content["rdm_descriptors"], content["pattern_descriptors"])
    values = [one for group in described for one in group.values()]
    if vectors.ndim != 2 or any(isinstance(one, str | Mapping) or np.ndim(one) != 1 for one in values):
        return None
    rdm_descriptors, pattern_descriptors = ({key: list(values) for key, values in one.items()} for one in described)
    return PlainRdms(
        vectors,
        dissimilarity_measure=content["dissimilarity_measure"],
        descriptors=content["descriptors"],
        rdm_descriptors=rdm_descriptors,
        pattern_descriptors=pattern_descriptors,
    )
