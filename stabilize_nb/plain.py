"""
Text of others as text: what nothing obeys that shows it.

A terminal obeys control characters, and sequences that begin with one: they move its cursor, name its window, make
links. Controls of the direction of writing have a line read otherwise than it is. Both are left out where text is
shown; what is stored stays as it came.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: A sequence that sets colours or moves the cursor (ECMA-48, CSI).
SEQUENCE: Final = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")


def obeyed_by_none(text: str) -> str:
    """Return text of several lines without what a terminal obeys, or what turns the direction of writing."""
    if text.isprintable():
        return text
    plain = SEQUENCE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(char for char in plain if char in "\n\t" or (is_shown(char) and not _is_break(char)))


def is_shown(char: str) -> bool:
    """Whether a character may be shown; white space is, also where it breaks a line."""
    if char.isspace() or char in "\u200c\u200d":
        return True
    return unicodedata.category(char) not in {"Cc", "Cf", "Cs"} and not _is_noncharacter(ord(char))


def _is_break(char: str) -> bool:
    return char.isspace() and unicodedata.category(char) != "Zs"


def _is_noncharacter(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # noqa: PLR2004 - the block as Unicode has it
