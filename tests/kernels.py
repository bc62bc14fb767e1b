"""Compile the kernels that take seconds before a long session begins, so that its first tests do not wait for them."""

from __future__ import annotations

import doctest
import fcntl
import importlib
import warnings

from brainmap.compiled import _cache_folder

COMPILING = (
    ("brainmap.rsa.searchlights.ceilings", "ceiling_maps"),
    ("brainmap.rsa.searchlights.surface", "surface_searchlight"),
    ("brainmap.features.activations.acoustics", "acoustic_features"),
    ("brainmap.rsa.group.enhancement", "tfce"),
)
"""Functions whose examples call the kernels that take longest to compile: ours, and those of librosa."""


def compile_kernels(turn: int) -> None:
    """Run the examples of functions that compile; each by one of the workers, which begin with another one each."""
    folder = _cache_folder()
    first = turn % len(COMPILING)
    for name, function in COMPILING[first:] + COMPILING[:first]:
        with (folder / f"compiled-by-{function}").open("a+") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX)  # another worker is at it
            if mark.tell() == 0:
                run_example(name, function)
                mark.write("done\n")


def run_example(name: str, function: str) -> None:
    """Run the example of a function; what it prints is the affair of its doctest."""
    module = importlib.import_module(name)
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(module, function), function, globs=vars(module).copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None, clear_globs=False)
