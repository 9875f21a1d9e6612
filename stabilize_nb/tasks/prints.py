"""
Prints of code: what tells whether the code of a stage is what it was.

A print is a hash of code objects: comments, layout, file names and line numbers change nothing, and neither does a
docstring. Functions that the code calls are not part of it. Another version of Python compiles differently, so it
gives other prints.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, Final

#: Between the name of a task and the print of its code, where it is registered.
MARK: Final = "@"
_LENGTH: Final = 5  # bytes; a print tells apart the few versions of one stage


def print_of(*parts: Any) -> str:
    """Return the print of values, functions and what they consist of."""
    text = "\x1f".join(_written(part, frozenset()) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=_LENGTH).hexdigest()


def marked(name: str, code: str) -> str:
    """Return the name under which code of this print is registered."""
    return f"{name}{MARK}{code}"


def plain_name(name: str) -> str:
    """Return the name of a task without the print of its code."""
    return name.partition(MARK)[0]


def is_marked(name: str) -> bool:
    """Whether a name has a print."""
    return MARK in name


def _written(value: Any, inside: frozenset[int]) -> str:
    """Write a value out; what is no plain value and no code is written by its type alone."""
    if isinstance(value, str | bytes | int | float | complex | type(None) | type(...)):
        return repr(value)
    if id(value) in inside:
        return "again"
    inside |= {id(value)}
    if isinstance(value, CodeType):
        return _of_code(value, None, inside)
    if isinstance(value, Mapping):
        return str(sorted((_written(key, inside), _written(each, inside)) for key, each in value.items()))
    if isinstance(value, set | frozenset):
        return str(sorted(_written(each, inside) for each in value))
    if isinstance(value, tuple | list):
        return str([_written(each, inside) for each in value])
    if isinstance(value, functools.partial):
        return str([_written(each, inside) for each in (value.func, value.args, value.keywords)])
    if inspect.ismethod(value):
        return _written(value.__func__, inside)
    if inspect.isfunction(value):
        return str([*_of_function(inspect.unwrap(value), inside)])
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _of_function(function: Any, inside: frozenset[int]) -> Iterator[str]:
    code = getattr(function, "__code__", None)
    if code is None:
        yield _written(function, inside)
        return
    yield _of_code(code, function.__doc__, inside)
    yield _written((function.__defaults__, function.__kwdefaults__), inside)
    for cell in function.__closure__ or ():
        try:
            yield _written(cell.cell_contents, inside)
        except ValueError:
            yield "empty"


def _of_code(code: CodeType, doc: str | None, inside: frozenset[int]) -> str:
    constants = list(code.co_consts)
    if constants and doc is not None and constants[0] == doc:
        constants[0] = None
    return str((
        code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags,
        code.co_argcount, code.co_kwonlyargcount, [_written(each, inside) for each in constants],
    ))  # fmt: skip
