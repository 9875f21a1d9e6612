"""
The line behind a magic as words, options and values.

Values are Python literals when they can be, else text: `n=3`, `topics=['a', 'b']`, `question="two words"`, `who=Ada`.
So quotes and brackets hold a word together, and quotes are still there when a value is read.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from IPython.core.error import UsageError

_ASSIGNMENT: Final = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)
_PAIRS: Final = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What was asked for: words in order, `name=value` pairs, and options; an option without a value is True."""

    words: list[str] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def split_words(line: str) -> list[str]:
    """Split at white space that is neither in quotes nor in brackets; quotes are kept.

    Raises UsageError when a quote or a bracket is never closed.
    """
    words, word, quote, closing = [], "", "", ""
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote and line[at - 1] != "\\" else quote
        elif char in "\"'" and not word[-1:].isalnum():
            quote = char
        elif char in _PAIRS:
            closing += _PAIRS[char]
        elif closing and char == closing[-1]:
            closing = closing[:-1]
        elif char.isspace() and not closing:
            words.append(word)
            word = ""
            continue
        word += char
    if quote or closing:
        raise UsageError(f"{quote or closing[-1]} is missing at the end of: {line.strip()}")
    return [each for each in [*words, word] if each]


def parse(line: str, options: Mapping[str, bool], usage: str) -> Line:
    """
    Read a line; `options` says of each that is known whether a value follows it.

    Raises UsageError for what is not known, with `usage` as the hint.
    """
    parsed = Line()
    words = iter(split_words(line))
    for word in words:
        if word.startswith("-") and not _is_number(word):
            name, given, value = word.partition("=")
            _take_option(parsed, name, value if given else None, words, options, usage)
        elif match := _ASSIGNMENT.fullmatch(word):
            parsed.given[match[1]] = literal(match[2])
        else:
            parsed.words.append(unquoted(word))
    return parsed


def _take_option(
    parsed: Line, name: str, value: str | None, words: Iterable[str], options: Mapping[str, bool], usage: str
) -> None:
    if name not in options:
        raise UsageError(f"option {name} is not known{did_you_mean(name, options)}; usage: {usage}")
    if not options[name]:
        parsed.options[name] = True
        return
    value = next(iter(words), None) if value is None else value
    if value is None:
        raise UsageError(f"option {name} needs a value; usage: {usage}")
    parsed.options[name] = unquoted(value)


def literal(text: str) -> Any:
    """Return what a Python literal means, and any other text as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return unquoted(text)


def unquoted(text: str) -> str:
    """Take away the quotes around a word."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the end of a sentence that names what is close to `name`; nothing when nothing is."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"-\d.*", word))
