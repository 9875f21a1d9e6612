"""What is written in a box, how large the box is for it, and which way a picture runs.

The layout engine knows other font metrics than the browser. So each box gets its size here, measured for DejaVu Sans,
the widest of the fonts that a picture may be shown in, and `draw` sets the text at this size.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from stabilize_nb.errors import ConfigError
from stabilize_nb.notebook.looks import shorten
from stabilize_nb.notebook.shown import Box, Part, Sketch
from stabilize_nb.notebook.signs import Detail, Frame

#: "LR" runs to the right, "TB" down; "auto" runs to the right unless only running down fits on a page.
Direction = Literal["LR", "TB", "auto"]

# px. The same numbers place the text in `draw`.
TITLE_SIZE: Final = 13
LINE_SIZE: Final = 11
TITLE_HEIGHT: Final = 17
LINE_HEIGHT: Final = 14
PAD_Y: Final = 8
TEXT_X: Final = 34
PAD_RIGHT: Final = 12
PERSON_WIDTH: Final = 22
SHEET: Final = 4
END_SIZE: Final = 22
PAGE_WIDTH: Final = 1100
MIN_WIDTH: Final = 96
EVEN_WIDTH: Final = 260
BOX_COLUMNS: Final = 30
LABEL_COLUMNS: Final = 24

#: Stages beside each other from which on title and status share a line.
CROWD: Final = 8

# Advance widths in em of DejaVu Sans Bold, rounded up; the regular cut is narrower.
_WIDTHS: Final = {
    0.35: " ijl'",
    0.42: "/\\|IJ,.:;-",
    0.52: '!()[]frt_`"*',
    0.68: "zcs?ELTFkavxy",
    0.74: "bdeghnopquSYPCZ$0123456789{}",
    0.86: "ABDGHKNOQRUVX#+<=>^~&",
    1.1: "wmMW%@",
}
_WIDTH: Final = {char: width for width, chars in _WIDTHS.items() for char in chars}
_REGULAR: Final = 0.93


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of `text` in px that no common sans-serif font exceeds; `size` in px."""
    em = sum(map(_advance, unicodedata.normalize("NFD", text)))
    return em * size * (1 if bold else _REGULAR)


def _advance(char: str) -> float:
    if char in _WIDTH:
        return _WIDTH[char]
    if unicodedata.combining(char):
        return 0
    return 1.1 if unicodedata.east_asian_width(char) in "WF" else 0.95


def rankdir_of(seen: Sketch, direction: Direction) -> str:
    """Return which way a picture runs; raises ConfigError for a direction that is none."""
    if direction not in get_args(Direction):
        raise ConfigError(f"direction {direction!r} is none: use one of {', '.join(get_args(Direction))}")
    if direction != "auto":
        return direction
    to_the_right, down = _extent(seen)
    return "TB" if to_the_right > PAGE_WIDTH and down < to_the_right else "LR"


def _extent(seen: Sketch) -> tuple[float, float]:
    """How wide the picture gets, in px, when it runs to the right, and when it runs down."""
    layers = seen.layers()
    boxes: dict[int, list[float]] = {}
    for box in seen.boxes:
        boxes.setdefault(layers[box.ref], []).append(size_of(box, rows_of(box, box.frames), crowded=False)[0])
    labels: dict[int, float] = {}
    for arrow in seen.arrows:
        layer = max(layers[arrow.head], layers[arrow.tail])
        labels[layer] = max(labels.get(layer, 0), text_width(arrow.label, LINE_SIZE))
    to_the_right = sum(max(widths) + 36 + labels.get(layer, 0) for layer, widths in boxes.items())
    return to_the_right, max((sum(widths) + 16 * len(widths) for widths in boxes.values()), default=0)


def is_crowded(seen: Sketch) -> bool:
    """Whether many boxes stand beside each other."""
    return max(Counter(seen.layers().values()).values(), default=0) > CROWD


def is_short(box: Box, *, crowded: bool) -> bool:
    """Whether title and status share a line: in a crowd, unless there is a person to be drawn."""
    return crowded and not box.is_gate


@dataclass(frozen=True, slots=True)
class Row:
    """One line of text in a box, and what is drawn beside it."""

    words: str
    mark: str = ""


def rows_of(box: Box, drawn: Sequence[Frame]) -> list[Row]:
    """Return the lines under the title. Frames that are drawn need not be written."""
    rows = [Row(line.label if isinstance(line, Part) else line.words, _mark(line)) for line in box.lines]
    rows += [Row(shorten(frame.words)) for frame in box.frames if frame not in drawn]
    return [part for row in rows for part in _wrapped_row(row)]


def _mark(line: Detail | Part) -> str:
    if line.status is not None:
        return line.status.name
    return "" if line.sign is None else line.sign.value


def _wrapped_row(row: Row) -> Iterator[Row]:
    for number, words in enumerate(wrapped(row.words, BOX_COLUMNS)):
        yield Row(words, "" if number else row.mark)


def size_of(box: Box, rows: Sequence[Row], *, crowded: bool) -> tuple[float, float]:
    """Width and height of a box in px."""
    title = text_width(box.title, TITLE_SIZE, bold=True) + (PERSON_WIDTH if box.is_gate else 0)
    if is_short(box, crowded=crowded):
        title += 12 + text_width(rows[0].words, LINE_SIZE)
        rows = rows[1:]
    wide = max(title, MIN_WIDTH - TEXT_X, *(text_width(row.words, LINE_SIZE) for row in rows), 0)
    pad = PAD_Y if rows else PAD_Y - 2
    sheets = 2 * SHEET if box.is_stack else 0
    return TEXT_X + wide + PAD_RIGHT + sheets, 2 * pad + TITLE_HEIGHT + LINE_HEIGHT * len(rows) + sheets


def wrapped(text: str, columns: int) -> list[str]:
    """Return text as at most two lines."""
    return textwrap.wrap(text, columns, max_lines=2, placeholder="…")
