"""Find the functions that users name as `module:function`: builders of networks, front ends."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from brainmap.checks import suggest_word
from brainmap.errors import InputError


def is_reference(text: str) -> bool:
    """Tell whether a text has the form `module:function`.

    Examples
    --------
    >>> is_reference("nets:build"), is_reference("log-mel"), is_reference("nets:")
    (True, False, False)
    """
    module, _, function = text.partition(":")
    return bool(module and function)


def find_function(reference: str, what: str, *, beside: str | Path = "") -> Callable[..., Any]:
    """Import `module:function`; the current folder is searched first, and that of the checkpoint last.

    Parameters
    ----------
    reference : str
    what : str
        Name of the setting, which begins the message of an error.
    beside : str or Path, optional
        Folder of the checkpoint, which is searched where the module lies nowhere else.

    Raises
    ------
    InputError
        The module cannot be imported, or has no such function; or another module of its name is in use.

    Examples
    --------
    >>> find_function("math:sqrt", "front end")(9.0)
    3.0
    """
    module_name, _, function_name = reference.partition(":")
    folder = str(Path(beside).resolve()) if beside else ""
    with _search_folders(folder):
        _check_origin(module_name, what, folder)
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise InputError(
                f"{what}: {module_name!r} cannot be imported ({type(error).__name__}: "
                f"{first_line(error)}); is it installed, in this folder{' or beside the checkpoint' * bool(folder)}?"
            ) from None
    function: Callable[..., Any] | None = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(
            f"{what}: {module_name} has no function {function_name!r}{suggest_word(function_name, dir(module))}"
        )
    return function


@contextmanager
def _search_folders(beside: str) -> Iterator[None]:
    """Search the current folder first, and one more folder last, where modules are imported."""
    first, last = str(Path.cwd()), [beside] if beside and beside not in sys.path else []
    sys.path[:] = [first, *sys.path, *last]
    try:
        yield
    finally:
        sys.path.remove(first)
        for folder in last:
            sys.path.remove(folder)


def _check_origin(module: str, what: str, beside: str) -> None:
    """Refuse a module beside a checkpoint while another one of its name is in use."""
    top = module.partition(".")[0]
    known = getattr(sys.modules.get(top), "__file__", None)
    found = PathFinder.find_spec(top) if known and beside not in ("", str(Path.cwd())) else None
    if found is None or found.origin is None or not Path(found.origin).is_relative_to(beside):
        return
    if Path(str(known)).resolve() != Path(found.origin).resolve():
        raise InputError(f"{what}: expected module {found.origin}, got {known}, which is in use; rename one of them")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 120 characters, or the error's kind where it says nothing.

    Examples
    --------
    >>> first_line(ValueError("one\\ntwo")), first_line(KeyError())
    ('one', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
