"""Compute the sign-flip test over participants, corrected by the largest t, TFCE or cluster mass of all tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainmap.checks import check_choice, check_enough, count_threads
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.types import Floats, UpperAlternative

# Size of a block of flips times tests that fits into a core's cache; with 250 flips the hits fit into one byte.
_FLIPS, _TESTS = 250, 1024
# Sums of two flips that differ only by rounding must count as equal.
TIE = 1e-10
# Number of maps that a thread enhances at a time, so that they fit into a core's cache.
_MAPS = 16


class Enhancement(Protocol):
    """Enhance maps under each flip, as TFCE or cluster mass do (`brainmap.rsa.group.clusters`)."""

    @property
    def kind(self) -> str: ...

    @property
    def neighbors(self) -> Sized: ...

    def kernel(self, n_participants: int, two_sided: bool) -> Callable[[Floats, Floats], Any]: ...


@dataclass(frozen=True, eq=False)
class SignFlip:
    """Hold the results of a sign-flip test, with one entry per test; NaN where a test was excluded.

    Attributes
    ----------
    statistic : ndarray (n_tests,)
        One-sample t over participants.
    p, p_corrected : ndarray (n_tests,)
        Uncorrected p of t, and p against the largest statistic of all tests (family-wise).
    n_flips : int
        Number of sign patterns used, including the identity if they were enumerated.
    enumerated : bool
        Whether every one of the 2^n sign patterns was used.
    max_statistic : ndarray (n_flips,)
        The largest t, or enhanced t (its absolute value, if two-sided), under each flip, sorted.
    n_excluded : int
        Number of excluded tests, with NaN or infinity in a participant or 0 in all participants.
    enhanced : ndarray (n_tests,), optional
        TFCE, or the mass of the cluster of each test, if one of them was requested.
    """

    statistic: Floats
    p: Floats
    p_corrected: Floats
    n_flips: int
    enumerated: bool
    max_statistic: Floats
    n_excluded: int
    enhanced: Floats | None = None

    @property
    def smallest_p(self) -> float:
        """Return the smallest p that is possible with this number of flips."""
        return 1 / self.n_flips if self.enumerated else 1 / (self.n_flips + 1)

    def critical(self, alpha: float = 0.05) -> float:
        """Return the smallest statistic whose corrected p is at most `alpha`; infinity if there is none."""
        extra = 0 if self.enumerated else 1
        allowed = math.floor(alpha * (self.n_flips + extra) + 1e-9) - extra
        if allowed < 1 - extra:
            return np.inf
        if allowed >= self.n_flips:
            return -np.inf
        return float(np.nextafter(self.max_statistic[-allowed - 1], np.inf))


def sign_flip_test(
    scores: ArrayLike,
    *,
    alternative: UpperAlternative = "greater",
    permutations: int = 5000,
    rng: np.random.Generator | None = None,
    enhancement: Enhancement | None = None,
    threads: int | None = None,
) -> SignFlip:
    """Test each column's mean over participants against 0 by flipping participants' signs.

    Under the null hypothesis each participant's scores are symmetric about 0, so that the signs of a participant may be
    flipped in all tests at once without changing the joint distribution. The statistic is the one-sample t. Corrected p
    control the family-wise error when the null hypothesis holds in all tests (weak control). Those of max-t also hold
    for each single test (strong control); those of TFCE and cluster mass hold for clusters, not for single places.

    Parameters
    ----------
    scores : array_like (n_participants, n_tests)
        Scores, or differences of scores. They must not be squared, as a square is never below 0.
    alternative : {"greater", "two-sided"}
        Use "greater" for scores and "two-sided" for differences.
    permutations : int
        All 2^n sign patterns are used if there are at most this many; else this many are drawn.
    rng : numpy.random.Generator, optional
        Used only when patterns are drawn.
    enhancement : Enhancement, optional
        If given, corrected p come from the largest TFCE or cluster mass in place of the largest t. The tests are then
        one or more concatenated maps, each with as many places as the neighbors have.
    threads : int, optional
        Number of threads for the enhancement; all cores by default. Results do not depend on it.

    Returns
    -------
    SignFlip
        p is count / 2^n if flips are enumerated (the identity is counted), else (count + 1) / (permutations + 1).

    Raises
    ------
    InputError
        There are fewer than 2 participants or permutations below 1, or scores are not 2-D. With an enhancement: the
        tests are not whole maps, or t is infinite under a flip.

    References
    ----------
    Nichols and Holmes 2002, doi:10.1002/hbm.1058; Smith and Nichols 2009, doi:10.1016/j.neuroimage.2008.03.061

    Examples
    --------
    >>> scores = np.array([[0.2, 0.1], [0.3, -0.2], [0.1, 0.1], [0.2, -0.1]])
    >>> found = sign_flip_test(scores)
    >>> found.enumerated, found.n_flips, found.p.tolist()
    (True, 16, [0.0625, 0.75])
    """
    check_choice(alternative, ("greater", "two-sided"), "sign_flip_test alternative")
    check_enough(permutations, 1, "sign_flip_test", "permutation")
    x = np.asarray(scores, dtype=np.float64)
    if x.ndim != 2:
        raise InputError(f"sign_flip_test: expected scores of shape (n_participants, n_tests), got {x.shape}")
    n, n_tests = x.shape
    check_enough(n, 2, "sign_flip_test", "participants (a p under .05 needs 5 or more)")

    length = np.sqrt(np.einsum("ij,ij->j", x, x))
    used = np.isfinite(length) & (length > 0)
    # Flips do not change a test's sum of squares, so t increases with the sum of the unit-length scores:
    # flips are compared by these sums, and t itself is computed only for the report.
    unit = x[:, used] / length[used]
    observed = unit.sum(axis=0)
    two_sided = alternative == "two-sided"
    enumerated = n < 63 and 2**n <= permutations
    signs = list_signs(n) if enumerated else draw_signs(n, permutations, rng or np.random.default_rng())
    hits, largest = _count_flips(signs, unit, np.abs(observed) if two_sided else observed, two_sided)

    t, enhanced = _compute_t_of_sum(observed, n), None
    size, top = (np.abs(observed) if two_sided else observed), _compute_t_of_sum(largest, n)
    if enhancement is not None:
        whole = np.zeros((n, n_tests))
        whole[:, used] = unit
        t_maps = np.zeros(n_tests)
        t_maps[used] = t
        enhanced, largest = _enhance_flips(signs, whole, t_maps, enhancement, two_sided, enumerated, threads)
        enhanced, top = np.where(used, enhanced, np.nan), largest
        size = np.abs(enhanced[used]) if two_sided else enhanced[used]
    beaten = np.searchsorted(largest, size - TIE * (1 + np.abs(size)), side="left")
    extra = 0 if enumerated else 1
    n_flips = len(signs)
    return SignFlip(
        statistic=place_tested(t, used),
        p=place_tested((hits + extra) / (n_flips + extra), used),
        p_corrected=place_tested((n_flips - beaten + extra) / (n_flips + extra), used),
        n_flips=n_flips,
        enumerated=enumerated,
        max_statistic=top,
        n_excluded=n_tests - int(used.sum()),
        enhanced=enhanced,
    )


def list_signs(n: int) -> Floats:
    """Return all sign patterns `(2^n, n)`, with the identity first."""
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return (1 - 2 * bits).astype(np.float64)


def draw_signs(n: int, count: int, rng: np.random.Generator) -> Floats:
    """Draw random sign patterns `(count, n)`."""
    return rng.choice(np.array([-1.0, 1.0]), size=(count, n))


def _count_flips(signs: Floats, unit: Floats, observed: Floats, two_sided: bool) -> tuple[NDArray[np.int64], Floats]:
    """Count the flips that reach each test's sum, and return each flip's largest sum over tests, sorted."""
    hits = np.zeros(observed.size, dtype=np.int64)
    largest = np.full(len(signs), -np.inf)
    for tests in cut_slices(observed.size, _TESTS):
        block, wanted = np.ascontiguousarray(unit[:, tests]), observed[tests] - TIE
        for flips in cut_slices(len(signs), _FLIPS):
            sums = signs[flips] @ block
            if two_sided:
                np.abs(sums, out=sums)
            np.maximum(largest[flips], sums.max(axis=1), out=largest[flips])
            hits[tests] += np.add.reduce((sums >= wanted).view(np.uint8), axis=0, dtype=np.uint8)
    return hits, np.sort(largest)


def _enhance_flips(
    signs: Floats,
    unit: Floats,
    t: Floats,
    enhancement: Enhancement,
    two_sided: bool,
    enumerated: bool,
    threads: int | None,
) -> tuple[Floats, Floats]:
    """Return the enhanced maps `(n_tests,)` and each flip's largest value over all maps, sorted."""
    from brainmap.rsa.inference.flip_kernels import compute_t_of_flips

    n, places = len(unit), len(enhancement.neighbors)
    if not places or unit.shape[1] % places:
        raise InputError(f"sign_flip_test: expected maps of {places} places each, got {unit.shape[1]} tests")
    # where all values have the same absolute value, some flip has no variance
    flat = np.abs(unit).sum(axis=0) >= np.sqrt(n) * (1 - 1e-12)
    if flat.any():
        raise InputError(
            f"sign_flip_test: {np.count_nonzero(flat)} tests have one value in all participants but for the sign, so "
            f"that t is infinite; {enhancement.kind} needs values that differ: mask them out, or choose max-t"
        )
    maps = [np.ascontiguousarray(unit[:, part]) for part in cut_slices(unit.shape[1], places)]
    kernel = enhancement.kernel(n, two_sided)
    observed = np.empty((len(maps), places))
    for k, out in enumerate(observed):
        kernel(t[None, k * places : (k + 1) * places], out)

    def one(flips: slice) -> int:
        t_maps, room = np.empty((len(signs[flips]), places)), np.empty(places)
        for each in maps:
            compute_t_of_flips(signs[flips], each, t_maps)
            np.maximum(largest[flips], kernel(t_maps, room), out=largest[flips])
        return len(t_maps)

    largest = np.zeros(len(signs))
    with progress("sign flips", len(signs)) as shown:
        pool = ThreadPoolExecutor(count_threads(threads, "sign_flip_test"))
        try:
            for done in pool.map(one, cut_slices(len(signs), _MAPS)):
                shown.advance(done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if enumerated:  # the identity comes first; rounding must not let it fall below the observed maximum
        largest[0] = np.abs(observed).max() if two_sided else observed.max()
    return observed.ravel(), np.sort(largest)


def cut_slices(total: int, step: int) -> Iterator[slice]:
    """Return the slices of `total` things in steps, of which the last may be shorter."""
    return (slice(start, min(start + step, total)) for start in range(0, total, step))


def _compute_t_of_sum(sums: Floats, n: int) -> Floats:
    """Compute the one-sample t from the sum of unit-length scores; infinite where all participants agree exactly.

    t = s sqrt((n - 1) / (n - s^2)) for the sum s of n scores of unit length.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t: Floats = sums * np.sqrt((n - 1) / np.maximum(n - sums**2, 0.0))
    return t


def place_tested(values: Floats, used: NDArray[np.bool_]) -> Floats:
    """Place the rows of what was tested among all; what was not tested is NaN."""
    whole = np.full((*used.shape, *values.shape[1:]), np.nan)
    whole[used] = values
    return whole
