"""Compare the seconds between a sound and the response to it with what a hemodynamic response can be.

The canonical response of SPM and nilearn is highest 5 s after a brief sound, is lowest, in its undershoot, at about
16 s, and ends at 32 s. Regions and people differ from it by seconds (Handwerker et al. 2004,
doi:10.1016/j.neuroimage.2003.11.029), and not by tens of seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from brainmap.errors import InputError

LONGEST = 32.0  # [s]; a response to a brief sound is over by then
PEAK = (2.0, 10.0)  # [s]; between them a response is high, in any region
_UNDERSHOOT = 16.0  # [s]


def check_latencies(seconds: Sequence[float], what: str) -> None:
    """Refuse seconds after which no response to a sound is left, or values below 0.

    Raises
    ------
    InputError

    Examples
    --------
    >>> check_latencies([5.0], "lag")
    >>> check_latencies([60.0], "lag")
    Traceback (most recent call last):
    brainmap.errors.InputError: lag: expected 0 to 32 s, after which a hemodynamic response is over, got 60 s; give ...
    """
    wrong = [value for value in seconds if not 0 <= value <= LONGEST]
    if wrong:
        raise InputError(
            f"{what}: expected 0 to {LONGEST:g} s, after which a hemodynamic response is over, got {wrong[0]:g} s; "
            "give seconds from a sound to the response to it, no scans or milliseconds"
        )


def describe_lag(lag: float) -> Iterator[str]:
    """Say that a lag lies outside of the seconds in which a response is high.

    Examples
    --------
    >>> list(describe_lag(5.0)), next(describe_lag(20.0))[:60]
    ([], 'A lag of 20 s lies outside of the 2 to 10 s after a sound in')
    """
    if not PEAK[0] <= lag <= PEAK[1]:
        yield (
            f"A lag of {lag:g} s lies outside of the {PEAK[0]:g} to {PEAK[1]:g} s after a sound in which the "
            "hemodynamic response to it is high (the canonical one is highest at 5 s), so that RDMs of segments hold "
            "little of the response to their own sounds."
        )


def describe_delays(delays: Sequence[float] | None) -> Iterator[str]:
    """Say that delays end before a response is high, or reach beyond its undershoot.

    Examples
    --------
    >>> list(describe_delays(None)), list(describe_delays([2.0, 4.0, 6.0, 8.0]))
    ([], [])
    >>> [line[:35] for line in describe_delays([1.0, 2.0])], [line[:25] for line in describe_delays([4.0, 20.0])]
    (['The delays end 2 s after a sound, b'], ['Delays reach to 20 s afte'])
    """
    if not delays:
        return
    if max(delays) < 4:
        yield (
            f"The delays end {max(delays):g} s after a sound, before the hemodynamic response to it is highest (the "
            "canonical one at 5 s), so that encoding models miss most of the response; delays are in seconds."
        )
    elif max(delays) > _UNDERSHOOT:
        yield (
            f"Delays reach to {max(delays):g} s after a sound, beyond the undershoot of the canonical hemodynamic "
            f"response (at {_UNDERSHOOT:g} s), where little of a response is left; delays are in seconds, and each "
            "adds as many features as a layer has units."
        )
