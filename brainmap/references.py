"""Find the functions that users name as `module:function`: builders of networks, front ends."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
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


def find_function(reference: str, what: str) -> Callable[..., Any]:
    """Import `module:function`; the current folder is searched first.

    Parameters
    ----------
    reference : str
    what : str
        Name of the setting, which begins the message of an error.

    Raises
    ------
    InputError
        The module cannot be imported, or has no such function.

    Examples
    --------
    >>> find_function("math:sqrt", "front end")(9.0)
    3.0
    """
    module_name, _, function_name = reference.partition(":")
    added = str(Path.cwd())
    sys.path.insert(0, added)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise InputError(
            f"{what}: {module_name!r} cannot be imported ({type(error).__name__}: "
            f"{first_line(error)}); is it installed or in this folder?"
        ) from None
    finally:
        sys.path.remove(added)
    function: Callable[..., Any] | None = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(
            f"{what}: {module_name} has no function {function_name!r}{suggest_word(function_name, dir(module))}"
        )
    return function


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 120 characters, or the error's kind where it says nothing.

    Examples
    --------
    >>> first_line(ValueError("one\\ntwo")), first_line(KeyError())
    ('one', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
