"""Every public name is documented: validated by numpydoc, with its errors and its sources, and has its page."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brainmap import features, rsa, viz

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "extensions"
ROOMS = {"features": features, "rsa": rsa, "viz": viz}
CHECKS = {
    "GL03",  # two blank lines in a row
    "GL05",  # tabs
    "GL06",  # an unknown section
    "GL07",  # sections in another order than numpydoc's
    "GL08",  # no docstring
    "GL09",  # deprecation behind the summary
    "GL10",  # directives that are none
    "SS01",  # no summary
    "SS02",  # a summary in small letters
    "SS03",  # a summary without a period
    "SS04",  # blanks before the summary
    "PR01",  # a parameter without a place in the docstring (of classes: see below)
    "PR02",  # a parameter that the function does not take
    "PR03",  # parameters in another order than the function takes them
    "PR10",  # no space before the colon of a type
    "RT01",  # no section Returns
    "YD01",  # no section Yields
}
PAPER = re.compile(
    r"\bet al\.|\bdoi:10\.|\b[A-Z][a-zöüé]+ and [A-Z][a-zöüé]+,? \(?(19|20)\d\d|\([A-Z][a-zöüé]+,? (19|20)\d\d\)"
)


def public_names() -> Iterator[tuple[str, Any]]:
    """Every public name with what it stands for."""
    for room, module in ROOMS.items():
        for name in dir(module):
            yield f"brainmap.{room}.{name}", getattr(module, name)


def documented() -> Iterator[tuple[str, Any]]:
    """Public functions and classes, and the public methods that the project's own classes define."""
    for name, found in public_names():
        if not callable(found):
            continue
        yield name, found
        if isinstance(found, type):
            for word, member in vars(found).items():
                function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                own = getattr(function, "__module__", "").startswith("brainmap") and inspect.isfunction(function)
                if not word.startswith("_") and own and function.__qualname__ == f"{found.__name__}.{word}":
                    yield f"{name}.{word}", function


def body_of(function: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))


def sections(found: Any) -> set[str]:
    return set(re.findall(r"^([A-Z][A-Za-z ]+)\n-{3,}$", inspect.getdoc(found) or "", re.M))


@pytest.mark.slow
def test_numpydoc_finds_every_public_docstring_in_order() -> None:
    validate = pytest.importorskip(
        "numpydoc.validate", reason="numpydoc is not installed (pip install '.[docs]')"
    ).validate
    wrong = []
    for name, found in public_names():
        if not callable(found):
            continue
        if isinstance(found, type) and found.__module__.split(".")[0] != "brainmap":
            continue
        for code, message in validate(name)["errors"]:
            if code in CHECKS and not (code in ("PR01", "PR03") and isinstance(found, type)):
                wrong.append(f"{name}: {code} {message}")
    assert wrong == []


def test_public_classes_document_what_they_hold_in_order() -> None:
    """Fields of dataclasses stand under Attributes or Parameters, which numpydoc does not compare with the class."""
    docscrape = pytest.importorskip("numpydoc.docscrape", reason="numpydoc is not installed (pip install '.[docs]')")
    wrong = []
    for name, found in public_names():
        if not dataclasses.is_dataclass(found):
            continue
        parsed = docscrape.NumpyDocString(inspect.getdoc(found) or "")
        told = [
            word.strip()
            for part in ("Parameters", "Attributes")
            for one in parsed[part]
            for word in one.name.split(",")
        ]
        held = [word for word in inspect.signature(found).parameters if not word.startswith("_")]
        known = {word for word in dir(found) if not word.startswith("_")} | set(held)
        if [word for word in told if word in held] != held or not known.issuperset(told):
            wrong.append(f"{name}: holds {held}, tells {told}")
    assert wrong == []


def test_public_functions_that_raise_say_what() -> None:
    wrong = []
    for name, found in documented():
        if isinstance(found, type):
            continue
        raises = [node for node in ast.walk(body_of(found)) if isinstance(node, ast.Raise) and node.exc is not None]
        if raises and "Raises" not in sections(found):
            wrong.append(name)
    assert wrong == []


def test_public_functions_that_name_a_paper_give_it_as_a_reference() -> None:
    """A method that leans on a paper, in its own docstring or in its module's, says which."""
    wrong = []
    for name, found in documented():
        text = inspect.getdoc(found) or ""
        if PAPER.search(text) and "References" not in sections(found):
            wrong.append(name)
    assert wrong == []


METHODS = {
    "features": (
        "attention_cover attribute cascading_randomization class_activation_maps deletion_curves embed localize "
        "map_agreement maximize_activation match_activation relevance condition_direction find_voicing "
        "picture_filters acoustic_features"
    ),
    "rsa": (
        "bootstrap bootstrap_models bootstrap_rois category_rdm ceiling_maps choose_items cluster_mass compare_rdms "
        "compare_rdms_partial encode encode_bands encode_stories encoding_group_test fit_betas fit_weights group_test "
        "linear_cka noise_ceiling noise_precision normalize_patterns partition_variance permutation_test "
        "phonetic_rdm power_analysis project_to_surface rdm_reliability relabeling_test score_models searchlight "
        "split_half_best_layer surface_searchlight tfce"
    ),
}


@pytest.mark.parametrize("room", METHODS)
def test_methods_of_the_literature_give_their_sources(room: str) -> None:
    lacking = []
    for name in METHODS[room].split():
        text = inspect.getdoc(getattr(ROOMS[room], name)) or ""
        head = text.find("\nReferences\n")
        if head < 0 or not re.search(r"doi:10\.\d{4,}/|https://|\b(19|20)\d\d\b", text[head:]):
            lacking.append(name)
    assert lacking == []


def test_every_public_name_has_a_place_in_the_reference() -> None:
    """The pages are generated from the stubs; none is left out, none is there twice."""
    spec = importlib.util.spec_from_file_location("api_pages", FOLDER / "api_pages.py")
    assert spec is not None
    assert spec.loader is not None
    api_pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api_pages)
    pages = dict(api_pages.list_pages())
    for room, module in ROOMS.items():
        listed = re.findall(r"^(?:   |\.\. py:data:: )([A-Za-z_]+)$", pages[f"{room}.rst"], re.M)
        assert sorted(listed) == sorted(dir(module))
