"""
`{key}` in a command, filled in by the context's value, which never becomes code or an option.

In a shell's text a value is not inserted at all: it becomes a variable of the shell's environment, and its place says
`"$variable"`, with the quotes around it closed before and opened after. A shell does not read again what a variable
holds, so a wrong idea of where quotes begin (in a comment, in a here document) costs a wrong text and runs nothing; and
no list of processes shows the value. In a list each element is one argument, whatever it holds.

A text that begins with "-" at the beginning of an argument would be an option: it is refused, unless `--` comes before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from stabilize_nb.errors import ConfigError

#: Before the names of values among the variables of a shell.
PREFIX: Final = "STABILIZE_NB_"
#: What closes arithmetic: the second of two parentheses has this mark, the first one that of a command.
ARITHMETIC: Final = "))"
#: What ends an argument, and what ends only that.
_BREAKS: Final = frozenset(" \t\n;|&()<>")
_BLANKS: Final = frozenset(" \t")
#: `${key}` is the shell's own.
_PLACE: Final = re.compile(r"(?<!\$)\{([A-Za-z][A-Za-z0-9_]*)\}")
_TOKEN: Final = re.compile(rf"\\.|\$\(|{_PLACE.pattern}|.", re.DOTALL)


def places(command: Any) -> list[str]:
    """Return the names that stand in braces in a command, each once."""
    texts = [command] if isinstance(command, str) else command if isinstance(command, list) else []
    return [*dict.fromkeys(name for text in texts if isinstance(text, str) for name in _PLACE.findall(text))]


def whole_places(value: Any) -> list[str]:
    """Return the names of places that are all of a text, or of texts in a mapping."""
    texts = value.values() if isinstance(value, Mapping) else [value]
    return [name for text in texts if (name := place_in(text)) is not None]


def place_in(value: Any) -> str | None:
    """Return the name of a place that is all of a text; None for anything else."""
    found = _PLACE.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else found[1]


def in_shell(text: str, context: Mapping[str, Any], options: Collection[str]) -> tuple[str, dict[str, str]]:
    """Return a shell's text with variables at the places of values, and the variables; raises ConfigError."""
    variables: dict[str, str] = {}
    written: list[str] = []
    scan = _Scan()
    for token in _TOKEN.finditer(text):
        piece, name = token[0], token[1]
        if name is None or name not in context or name in options:
            scan.take(piece)
            written.append(piece)
            continue
        if scan.is_arithmetic:
            msg = f"{{{name}}} stands in arithmetic, in which some shells run what a value says; compute it in Python"
            raise ConfigError(msg)
        if not scan.word and not scan.is_behind:
            _refuse_option(name, context[name])
        variables[PREFIX + name] = as_text(name, context[name])
        written.append(f'{scan.quote}"${PREFIX}{name}"{scan.quote}')
        scan.word += piece
    return "".join(written), variables


class _Scan:
    """Where in a shell's text one is: in which quotes, what the argument has so far, whether `--` came before it."""

    def __init__(self) -> None:
        self.quote = ""
        self.word = ""
        self.is_behind = False
        self._is_comment = False
        self._around: list[tuple[str, str]] = []  # what closes a command in a command, and the quotes around it
        self._before = ""

    @property
    def is_arithmetic(self) -> bool:
        """Whether one is in `((...))`."""
        return any(end == ARITHMETIC for end, _ in self._around)

    def take(self, piece: str) -> None:
        """Go on behind a piece of the text."""
        before, self._before = self._before, piece
        if self._is_comment:
            self._is_comment = piece != "\n"
        elif self.quote == "'":
            self._in_single_quotes(piece)
        elif piece == "$(" or (piece == "(" and not self.quote):
            self._enter(ARITHMETIC if piece == "(" and before in {"(", "$("} else ")")
        elif self._around and not self.quote and self._around[-1][0] in {piece, piece + piece}:
            _, self.quote = self._around.pop()
            self.word = piece
        elif piece == "`":
            self._enter(piece)
        elif piece == '"' or (piece == "'" and not self.quote):
            self.quote = "" if self.quote else piece
        elif self.quote or piece not in _BREAKS:
            self._is_comment = piece == "#" and not self.word and not self.quote
            self.word += piece
        else:
            self.is_behind = (self.is_behind or self.word == "--") and piece in _BLANKS
            self.word = ""

    def _enter(self, end: str) -> None:
        self._around.append((end, self.quote))
        self.quote, self.word, self.is_behind = "", "", False

    def _in_single_quotes(self, piece: str) -> None:
        if piece.endswith("'"):  # also behind a backslash, which means nothing there
            self.quote = ""
        else:
            self.word += piece


def in_arguments(command: Sequence[str], context: Mapping[str, Any], options: Collection[str]) -> list[str]:
    """Return the elements of a list with the values in their places; raises ConfigError."""
    return [*_filled(command, context, options)]


def _filled(command: Sequence[str], context: Mapping[str, Any], options: Collection[str]) -> Iterator[str]:
    is_behind = False
    for element in command:

        def value_of(place: re.Match[str]) -> str:
            name = place[1]
            if name not in context or name in options:
                return place[0]
            if place.start() == 0 and not is_behind:  # noqa: B023 - called at once
                _refuse_option(name, context[name])
            return as_text(name, context[name])

        yield _PLACE.sub(value_of, element)
        is_behind = is_behind or element == "--"


def as_text(name: str, value: Any) -> str:
    """Return a value as an argument: text as it is, everything else as JSON; raises ConfigError."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if "\0" in text:
        raise ConfigError(f"the value of {{{name}}} holds a NUL character, which no argument can; take it out before")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"the value of {{{name}}} holds half of a surrogate pair, which is no character; take it out before"
        raise ConfigError(msg) from error
    return text


def _refuse_option(name: str, value: Any) -> None:
    if isinstance(value, str) and value.startswith("-"):
        msg = (
            f"the value of {{{name}}} begins with '-' and would be taken for an option; write '--' before {{{name}}} "
            f"in the command, or './{{{name}}}' for a file, or give text by stdin"
        )
        raise ConfigError(msg)
