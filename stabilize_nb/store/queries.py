"""The statements of sql/queries.sql by name."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_HEAD = re.compile(r"^-- (\w+) -- (.+)$", re.MULTILINE)


def sql_file(name: str) -> str:
    """Return the text of a file in store/sql."""
    return files("stabilize_nb.store").joinpath("sql", *name.split("/")).read_text(encoding="utf-8")


@cache
def queries() -> dict[str, str]:
    """Return name -> statement."""
    text = sql_file("queries.sql")
    heads = list(_HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head.group(1): " ".join(text[head.end() : end].split()) for head, end in zip(heads, ends, strict=True)}


@cache
def purposes() -> dict[str, str]:
    """Return name -> the line of purpose."""
    return {head.group(1): head.group(2) for head in _HEAD.finditer(sql_file("queries.sql"))}
