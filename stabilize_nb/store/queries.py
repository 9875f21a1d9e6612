"""The statements of sql/queries.sql by name."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HEAD = re.compile(r"^-- (\w+) -- (.+)$", re.MULTILINE)
_PARAMETER = re.compile(r":([a-z]\w*)")


class Statement(NamedTuple):
    """
    A statement with its parameters by number, and what puts those given by name into that order.

    SQLite would otherwise look up the name of every parameter again whenever the statement is run.
    """

    sql: str
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]


def sql_file(name: str) -> str:
    """Return the text of a file in store/sql."""
    return files("stabilize_nb.store").joinpath("sql", *name.split("/")).read_text(encoding="utf-8")


@cache
def queries() -> dict[str, str]:
    """Return name -> statement."""
    return statements_in("queries.sql")


def statements_in(file: str) -> dict[str, str]:
    """Return name -> statement of a file in store/sql."""
    text = sql_file(file)
    heads = list(_HEAD.finditer(text))
    names = Counter(head.group(1) for head in heads)
    if twice := [name for name, times in names.items() if times > 1]:
        msg = f"{file} has more than one statement of the name {', '.join(twice)}"
        raise ValueError(msg)
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head.group(1): " ".join(text[head.end() : end].split()) for head, end in zip(heads, ends, strict=True)}


@cache
def purposes() -> dict[str, str]:
    """Return name -> the line of purpose."""
    return {head.group(1): head.group(2) for head in _HEAD.finditer(sql_file("queries.sql"))}


@cache
def statements() -> dict[str, Statement]:
    """Return name -> statement as it is run."""
    return {name: _numbered(text) for name, text in queries().items()}


def numbered(text: str, sign: str) -> tuple[str, list[str]]:
    """Return a statement whose parameters are numbers after a sign, and their names in that order."""
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    return _PARAMETER.sub(lambda found: f"{sign}{names.index(found.group(1)) + 1}", text), names


def _numbered(text: str) -> Statement:
    sql, names = numbered(text, "?")
    match names:
        case []:
            return Statement(sql, lambda _: ())
        case [name]:
            return Statement(sql, lambda params: (params[name],))
        case _:
            return Statement(sql, itemgetter(*names))
