"""limit_blas: nested and overlapping blocks, and what was there before."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from brainmap.threads import limit_blas


def count_blas_threads() -> set[int]:
    """Numbers of threads of the BLAS libraries of this process."""
    np.ones((2, 2)) @ np.ones((2, 2))  # it is loaded
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_blas_has_one_thread_within_nested_blocks_and_its_own_number_afterwards() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = count_blas_threads()
        with limit_blas():
            with limit_blas():
                assert count_blas_threads() == {1}
            assert count_blas_threads() == {1}
        assert count_blas_threads() == before == {2}


def test_blocks_of_two_threads_that_overlap_restore_the_number_that_was_there_before_both() -> None:
    with threadpool_limits(2, user_api="blas"):
        one, other = limit_blas(), limit_blas()
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        assert count_blas_threads() == {1}
        other.__exit__(None, None, None)
        assert count_blas_threads() == {2}


def test_an_error_within_a_block_restores_blas() -> None:
    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ValueError, match="within"), limit_blas():
            raise ValueError("within")
        assert count_blas_threads() == {2}
