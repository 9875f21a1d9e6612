"""
Small tables and lines, as HTML and as text.

An untrusted notebook loses style sheets, GitHub loses style attributes too: the markup means something by itself, and
the few attributes only align. Every string becomes markup through markupsafe, which escapes what is not `Markup`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

from stabilize_nb.deterministic import is_deterministic
from stabilize_nb.plain import obeyed_by_none

_CELL: Final = Markup('<td style="text-align:left">{}</td>')
_HEAD: Final = Markup('<th style="text-align:left">{}</th>')
_ROW: Final = Markup("<tr>{}</tr>")
_TABLE: Final = Markup("<table><thead>{}</thead><tbody>{}</tbody></table>")
MINUTE, HOUR, DAY = 60, 3_600, 86_400
SHORT_MS = 100
ROUNDING = 0.05


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under column names; columns in which no row has anything are left out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def shown(self) -> Table:
        """Return the table without its empty columns."""
        used = [at for at in range(len(self.columns)) if any(row[at] for row in self.rows)]
        return Table([self.columns[at] for at in used], [[row[at] for at in used] for row in self.rows])

    def html(self) -> Markup:
        """Return the table as HTML; the empty text for one without rows."""
        table = self.shown()
        if not table.rows:
            return Markup()
        body = join(_ROW.format(join(_CELL.format(cell) for cell in row)) for row in table.rows)
        return _TABLE.format(_ROW.format(join(_HEAD.format(name) for name in table.columns)), body)

    def text(self) -> str:
        """Return the table as text in columns."""
        table = self.shown()
        lines = [table.columns, *table.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(table.columns))]
        rows = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return obeyed_by_none("\n".join(row.rstrip() for row in rows))

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": str(self.html()), "text/plain": self.text()}


def join(parts: Iterable[Markup]) -> Markup:
    """Join pieces of markup."""
    return Markup().join(parts)


def duration(ms: int | None) -> str:
    """Say how long something took: 40 ms, 0.3 s, 7 s, 2 min 5 s, 3 h 10 min, 2 d 4 h."""
    if ms is None:
        return ""
    if ms < SHORT_MS:
        return f"{max(0, ms)} ms"
    seconds = ms / 1_000
    if seconds < MINUTE - ROUNDING:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for size, name, smaller, its_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {its_name}" if rest else "")
    return f"{whole} s"


def moment(ms: int | None, now: int) -> str:
    """Say when something was, in local time (deterministic: UTC), with the day unless it is that of `now`."""
    if ms is None:
        return ""
    at, today = _local(ms), _local(now)
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def _local(ms: int) -> datetime:
    at = datetime.fromtimestamp(ms / 1_000, UTC)
    return at if is_deterministic() else at.astimezone()
