"""Attributes of a run: short texts by which it is found again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.values import plain

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: Characters of a value, and attributes of a run that are set at a time.
LONGEST: Final = 200
MOST: Final = 50


def attributes_of(given: Any, what: str = "attributes") -> dict[str, str]:
    """
    Return attributes as text: numbers and truth values as JSON writes them.

    Raises ConfigError for a name or a value that cannot be one.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping) or len(given) > MOST:
        raise ConfigError(f"{what}: a mapping of at most {MOST} names to texts is expected, as in {{'customer': 'x'}}")
    return {_name(name, what): _text(name, value, what) for name, value in given.items()}


def _name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{what}: {name!r} is no name of an attribute; use up to 64 of A-Z, a-z, 0-9, '_', '.', '-'")
    return name


def _text(name: str, value: Any, what: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ConfigError(f"{what}: {name} is {_short(value)}; text of at most {LONGEST} characters is expected")
    return str(plain(value, f"{what} {name}"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - what fits into a sentence
