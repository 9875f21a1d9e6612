"""How a status looks, and how a string of a workflow is made fit to be shown.

1. Status is told three times: by colour, by symbol and by word. `LOOKS` is the only place that knows them; its
   symbols are in the fonts that terminals and browsers bring.
2. Names, conditions and errors may come from a model: every string passes `shorten` before it is shown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.plain import is_shown
from stabilize_nb.secrets.patterns import masked

S = WorkflowStatus

#: Columns of a name and of any other line before they are cut.
NAME_COLUMNS = 28
LINE_COLUMNS = 56


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a status is shown. Colours are safe for colour-blind eyes; `width` is of the border, in px."""

    symbol: str
    word: str
    stroke: str
    fill: str
    border: str = "solid"
    width: float = 1.2


#: In the order in which a status wants attention: of several runs of a stage the first gives the look.
LOOKS: Mapping[WorkflowStatus, Look] = {
    S.TERMINAL: Look(symbol="✕", word="failed", stroke="#c62828", fill="#ffebee", width=2.4),
    S.SUSPENDED: Look(symbol="‖", word="waiting", stroke="#b26a00", fill="#fff8e1", border="dashed", width=2),
    S.PAUSED: Look(symbol="■", word="paused", stroke="#455a64", fill="#eceff1", border="dashed", width=2),
    S.REDIRECT: Look(symbol="↪", word="jumping", stroke="#1565c0", fill="#e3f2fd", border="dashed"),
    S.RUNNING: Look(symbol="▶", word="running", stroke="#1565c0", fill="#e3f2fd", width=2.4),
    S.BUFFERED: Look(symbol="⋯", word="queued", stroke="#757575", fill="#f5f5f5", border="dashed"),
    S.STOPPED: Look(symbol="⊘", word="stopped", stroke="#c62828", fill="#ffebee"),
    S.FAILED_CONTINUE: Look(symbol="!", word="failed but went on", stroke="#bf360c", fill="#fbe9e7"),
    S.CANCELED: Look(symbol="–", word="cancelled", stroke="#6a1b9a", fill="#f3e5f5"),
    S.SUCCEEDED: Look(symbol="✓", word="succeeded", stroke="#2e7d32", fill="#e8f5e9"),
    S.NOT_STARTED: Look(symbol="○", word="not started", stroke="#757575", fill="#f5f5f5"),
    S.SKIPPED: Look(symbol="»", word="skipped", stroke="#757575", fill="#fafafa", border="dotted"),
}


#: Characters behind what is shown that may belong to a key of which the beginning is shown.
LONGEST_KEY: Final = 4_096


def shorten(text: str, columns: int = LINE_COLUMNS) -> str:
    """Return `text` as one line of at most `columns` columns that cannot disturb what stands around it.

    Control characters, bidi controls, lone surrogates and noncharacters are left out, white space is one
    space, and combining marks take a column each, so that they cannot pile up. Keys are masked.
    """
    text = masked(text[: 20 * columns + LONGEST_KEY])
    cut = text[: 20 * columns]
    plain = " ".join("".join(filter(is_shown, cut)).split())
    if len(cut) == len(text) and columns_of(plain) <= columns:
        return plain
    fits = sum(reached < columns for reached in accumulate(map(columns_of, plain)))
    return plain[:fits].rstrip() + "…"


def columns_of(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
