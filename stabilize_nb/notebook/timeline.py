"""
Timeline: what stages did when, as a Gantt chart.

Time runs from the start of each run, so that several can be compared. A picture as those of `draw`: drawn by the
element API, with the same colours and marks, on a transparent ground and without style sheets, for light and dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as ET

from markupsafe import Markup

from stabilize_nb.events.firings import Doing, Firing, RunPast, Span
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.cards import LINE_SIZE, TITLE_SIZE, text_width
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.draw import FONT, data_uri
from stabilize_nb.notebook.looks import LOOKS, NAME_COLUMNS, Look, columns_of, shorten
from stabilize_nb.notebook.marks import END_INK, status_mark
from stabilize_nb.notebook.tables import duration

S = WorkflowStatus
#: Lanes that are drawn; of more stages those that took longest.
DRAWN: Final = 300
#: px.
WIDTH: Final = 800
LANE: Final = 24
BAR: Final = 14
THIN: Final = 4
LEAST: Final = 2.5
MARK_X: Final = 12
NAME_X: Final = 24
GAP: Final = 12
RIGHT: Final = 76
LABEL_ROOM: Final = 84
#: Lanes from which on the axis stands below them too.
TALL: Final = 24
#: Columns of the bars in a timeline that is text.
TEXT_BARS: Final = 48
TEXT_LANES: Final = 60

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_STEPS: Final = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(count * _SECOND for count in (1, 2, 5, 10, 15, 30)),
    *(count * _MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * _HOUR for count in (1, 2, 3, 6, 12)),
    *(count * _DAY for count in (1, 2, 7, 14, 30, 90, 365)),
)
_IMAGE: Final = Markup('<p><img alt="{}" src="{}"></p>')
_LETTERS: Final = {Doing.QUEUED: "·", Doing.RUNNING: "█", Doing.WAITING: "‖"}
_MARKS: Final = {
    S.TERMINAL: "a try that failed", S.REDIRECT: "jumped", S.CANCELED: "cancelled", S.STOPPED: "stopped",
}  # fmt: skip
_KEY: Final = ((Doing.QUEUED, "queued"), (Doing.RUNNING, "running"), (Doing.WAITING, "waiting for somebody"))


@dataclass(frozen=True, slots=True)
class Lane:
    """A stage of a run with all its firings, in order."""

    past: RunPast
    firings: Sequence[Firing]

    @property
    def name(self) -> str:
        return shorten(self.firings[0].stage, NAME_COLUMNS) or "?"

    @property
    def status(self) -> WorkflowStatus:
        return _status(self.firings[-1].status)

    @property
    def spent(self) -> int:
        return sum(span.length for firing in self.firings for span in firing.spans)


class Timeline:
    """A Gantt chart; `svg` is the picture as text. Each stage has a lane, and in it a bar for each try."""

    def __init__(self, pasts: Sequence[RunPast]) -> None:
        self._pasts = pasts
        lanes = [lane for past in pasts for lane in _lanes(past)]
        longest = sorted(range(len(lanes)), key=lambda at: -lanes[at].spent)
        self._lanes = [lanes[at] for at in sorted(longest[:DRAWN])]
        self._left_out = len(lanes) - len(self._lanes)
        self._whole = max([1, *(past.end - past.begin for past in pasts)])

    @property
    def svg(self) -> str:
        """The picture as SVG."""
        return ET.tostring(_Drawing(self._lanes, self._whole, self._remarks(), self.description).root, "unicode")

    @property
    def description(self) -> str:
        """What the picture shows, in a line."""
        runs = [f"{shorten(past.workflow, NAME_COLUMNS)} {duration(past.end - past.begin)}" for past in self._pasts[:3]]
        more = ["…"] if len(self._pasts) > len(runs) else []
        failed = [lane.name for lane in self._lanes if lane.status is S.TERMINAL][:3]
        told = [f"timeline of {', '.join([*runs, *more]) or 'no run'}", f"{len(self._lanes)} stages"]
        return ", ".join([*told, *([f"failed: {' '.join(failed)}"] if failed else [])])

    def save(self, path: str) -> None:
        """Write the SVG to a file."""
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - as Picture.save
            file.write(self.svg)

    def __repr__(self) -> str:
        return "\n".join([*_text(self._lanes[:TEXT_LANES], self._whole), *self._remarks(TEXT_LANES)])

    def _repr_svg_(self) -> str | None:
        return None if settings().display == "text" else self.svg

    def _repr_html_(self) -> str | None:
        return None if settings().display == "text" else str(_IMAGE.format(self.description, data_uri(self.svg)))

    def _remarks(self, most: int = DRAWN) -> list[str]:
        hidden = self._left_out + max(0, len(self._lanes) - most)
        if not self._lanes:
            return ["no stage has begun"]
        told = [f"{hidden:,} more stages are not shown"] if hidden else []
        return [*filter(None, map(_taken_over, self._pasts)), *told]


def _taken_over(past: RunPast) -> str:
    count = len({each.stage for each in past.taken_over} - {each.stage for each in past.firings})
    return f"{count} stage{'s' * (count != 1)} taken over from {shorten(past.origin)}" if count else ""


def _lanes(past: RunPast) -> Iterator[Lane]:
    firings: dict[str, list[Firing]] = {}
    for firing in past.firings:
        firings.setdefault(firing.stage, []).append(firing)
    for each in firings.values():
        yield Lane(past, each)


def _status(name: str) -> WorkflowStatus:
    return S.__members__.get(name, S.RUNNING)


def ticks(whole: int, most: int) -> list[int]:
    """Return the times, in ms from 0 to `whole`, that an axis with room for `most` names: multiples of a round step."""
    step = next((step for step in _STEPS if whole // step <= most), _STEPS[-1] * (whole // (_STEPS[-1] * most) + 1))
    return list(range(0, whole + 1, step))


# -- as text ------------------------------------------------------------------------------------------


def _text(lanes: Sequence[Lane], whole: int) -> Iterator[str]:
    wide = max((columns_of(lane.name) for lane in lanes), default=0)
    before: Lane | None = None
    for lane in lanes:
        if before is None or before.past is not lane.past:
            yield _heading(lane.past)
        before = lane
        cells = [" "] * TEXT_BARS
        spans = [span for firing in lane.firings for span in firing.spans]
        for span in sorted(
            spans, key=lambda span: (span.failed, span.doing is not Doing.QUEUED)
        ):  # the last one is seen
            first, last = ((at - lane.past.begin) * TEXT_BARS // whole for at in (span.begin, span.end))
            for at in range(min(first, TEXT_BARS - 1), min(max(last, first + 1), TEXT_BARS)):
                cells[at] = "✕" if span.failed else _LETTERS[span.doing]
        name = lane.name + " " * (wide - columns_of(lane.name))
        yield f"{LOOKS[lane.status].symbol} {name} {''.join(cells)} {duration(lane.spent)}"
    if lanes:
        yield "  ".join([*(f"{_LETTERS[doing]} {words}" for doing, words in _KEY), "✕ a try that failed"])


def _heading(past: RunPast) -> str:
    look = LOOKS[_status(past.status)]
    facts = [shorten(past.workflow, NAME_COLUMNS), shorten(past.run_id), f"{look.symbol} {look.word}"]
    return " · ".join([*facts, duration(past.end - past.begin)])


# -- as picture ---------------------------------------------------------------------------------------


class _Drawing:
    """Draws from the top down; `y` is how far it came."""

    def __init__(self, lanes: Sequence[Lane], whole: int, remarks: Sequence[str], description: str) -> None:
        self.y = 4.0
        self._whole = whole
        self._left = NAME_X + GAP + max((text_width(lane.name, LINE_SIZE + 1) for lane in lanes), default=0)
        self._scale = (WIDTH - self._left - RIGHT) / whole
        self.root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": FONT})
        self._grid = ET.SubElement(self.root, "g")
        self._key({status for lane in lanes for firing in lane.firings for status, _ in _marks(firing)})
        for before, lane in pairwise([None, *lanes]):
            if lane is not None and (before is None or before.past is not lane.past):
                self._run(lane.past)
            if lane is not None:
                self._lane(lane)
        if len(lanes) > TALL:
            self._axis()
        for remark in remarks:
            self._words(remark, NAME_X, self.y + 16)
            self.y += LANE
        height = f"{self.y + 4:.0f}"
        size = {"width": f"{WIDTH}", "height": height, "viewBox": f"0 0 {WIDTH} {height}"}
        self.root.attrib.update({**size, "aria-label": description})

    def _x(self, at: int) -> float:
        return self._left + at * self._scale

    def _words(self, words: str, x: float, y: float, anchor: str = "start", *, size: int = LINE_SIZE) -> ET.Element:
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-size": f"{size}", "fill": END_INK}
        made = ET.SubElement(self.root, "text", place)
        made.text = words
        return made

    def _key(self, marks: set[WorkflowStatus]) -> None:
        x = float(NAME_X)
        for doing, words in _KEY:
            self._bar(self.root, doing, LOOKS[S.SUCCEEDED], x, 26, self.y + LANE / 2)
            self._words(words, x + 32, self.y + LANE / 2 + 4)
            x += 32 + text_width(words, LINE_SIZE) + 20
        for status, words in _MARKS.items():
            if status in marks:
                self.root.extend(status_mark(status, LOOKS[status], x, self.y + LANE / 2, scale=0.6))
                self._words(words, x + 12, self.y + LANE / 2 + 4)
                x += 12 + text_width(words, LINE_SIZE) + 24
        self.y += LANE

    def _run(self, past: RunPast) -> None:
        self.y += 6
        self._words(_heading(past), 4, self.y + 17, size=TITLE_SIZE).set("font-weight", "bold")
        self.y += LANE
        self._axis()

    def _axis(self) -> None:
        for at in ticks(self._whole, int((WIDTH - self._left - RIGHT) / LABEL_ROOM)):
            self._words(duration(at) if at else "0", self._x(at), self.y + 13, "middle")
        self.y += LANE - 6

    def _lane(self, lane: Lane) -> None:
        top, middle = self.y, self.y + LANE / 2
        for at in ticks(self._whole, int((WIDTH - self._left - RIGHT) / LABEL_ROOM)):
            line = {"d": f"M{self._x(at):.1f},{top:.1f}V{top + LANE:.1f}", "stroke": END_INK, "stroke-opacity": "0.25"}
            ET.SubElement(self._grid, "path", line)
        self.root.extend(status_mark(lane.status, LOOKS[lane.status], MARK_X, middle, scale=0.75))
        self._words(lane.name, NAME_X, middle + 4, size=LINE_SIZE + 1)
        for number, firing in enumerate(lane.firings, 1):
            group = ET.SubElement(self.root, "g")
            round_ = f", run {number}" if len(lane.firings) > 1 else ""
            ET.SubElement(group, "title").text = f"{lane.name}{round_}: {', '.join(_told(firing))}"
            for span in firing.spans:
                self._span(group, lane, firing, span, middle)
            for status, at in _marks(firing):
                x = max(self._x(at - lane.past.begin), self._x(firing.queued - lane.past.begin) + LEAST)
                group.extend(status_mark(status, LOOKS[status], x, middle, scale=0.6))
        end = max(firing.end for firing in lane.firings) - lane.past.begin
        self._words(duration(lane.spent), self._x(end) + 10, middle + 4)
        self.y += LANE

    def _span(self, group: ET.Element, lane: Lane, firing: Firing, span: Span, y: float) -> None:
        begin, length = self._x(span.begin - lane.past.begin), span.length * self._scale
        is_last = span is next((each for each in reversed(firing.spans) if each.doing is Doing.RUNNING), None)
        look = LOOKS[S.TERMINAL if span.failed else _status(firing.status) if is_last else S.SUCCEEDED]
        self._bar(group, span.doing, look, begin, length, y)

    def _bar(self, group: ET.Element, doing: Doing, look: Look, x: float, width: float, y: float) -> None:
        height, paint = BAR, {"fill": look.fill, "stroke": look.stroke, "stroke-width": "1.4", "rx": "3"}
        if doing is Doing.QUEUED:
            height, paint = THIN, {"fill": END_INK}
        if doing is Doing.WAITING:
            look = LOOKS[S.SUSPENDED]
            paint |= {"fill": look.fill, "stroke": look.stroke, "stroke-dasharray": "4 2"}
        if doing is not Doing.QUEUED and width < 2 * LEAST:
            paint["fill"] = look.stroke
        place = {"x": f"{x:.1f}", "y": f"{y - height / 2:.1f}", "height": f"{height}"}
        ET.SubElement(group, "rect", {**place, "width": f"{max(width, LEAST):.1f}", **paint})


def _marks(firing: Firing) -> Iterator[tuple[WorkflowStatus, int]]:
    """Yield what is marked on the bars of a firing, and where, in ms since the epoch."""
    for span in firing.spans:
        if span.failed:
            yield S.TERMINAL, span.end
    if firing.ended is not None and firing.status in {"REDIRECT", "CANCELED", "STOPPED"}:
        yield _status(firing.status), firing.ended


def _told(firing: Firing) -> Iterator[str]:
    for span in firing.spans:
        yield f"{span.doing} {duration(span.length)}" + (" (failed)" if span.failed else "")
    yield LOOKS[_status(firing.status)].word
