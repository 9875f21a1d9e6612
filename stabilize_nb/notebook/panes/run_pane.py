"""
The pane of a run: header, graph, gates, stages, log, buttons; about thirty widgets whatever the size of the graph.

Every part is markup in one widget that is replaced when its text has changed. The only widgets that a person can use
are buttons, the fields of gates, and what folds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import ipywidgets as w
from markupsafe import Markup

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.gates import deadline_words
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.panes.afterlife import Life, Pictures
from stabilize_nb.notebook.panes.buttons import Buttons
from stabilize_nb.notebook.panes.drawings import Drawings
from stabilize_nb.notebook.panes.fold import Fold
from stabilize_nb.notebook.panes.gate_list import GateForms
from stabilize_nb.notebook.panes.log_tail import LogTail
from stabilize_nb.notebook.panes.painter import PAINTER
from stabilize_nb.notebook.panes.widgets import close_all, hear_at_once, html, show
from stabilize_nb.notebook.progress import StageTable, badge, count_of, status_of
from stabilize_nb.notebook.tables import duration
from stabilize_nb.notebook.views import run_bundle

if TYPE_CHECKING:
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.notebook.panes.snapshot import Snapshot
    from stabilize_nb.run import Run

S = WorkflowStatus
#: Seconds that pictures are not brought up to date again, and that widgets are shown at least: a page that is still
#: making a widget when it is closed shows an error in its place.
PICTURE: Final = 2.0
SHORTEST: Final = 1.0
#: Seconds between two paintings of the rows that are folded: there may be hundreds.
REST: Final = 1.0
COLUMNS: Final = 200
#: Pixels of height that the graph may take beside what else there is.
TALL: Final = 900
#: Deadlines of gates that the header shows.
DUE: Final = 2

_HEADER: Final = Markup('<div role="status" aria-live="polite"><b>{}</b> <small><code>{}</code></small> {} {}</div>')
_CLOCK: Final = Markup("<span>{}</span>")
_NOTE: Final = Markup('<div role="note">{}</div>')


class RunPane:
    """The widgets of one run; `box` holds them all. The painter calls `paint` and `beat`."""

    def __init__(self, run: Run, pictures: Pictures, name: str) -> None:
        self.run = run
        self.life = Life(name, swaps=True)
        self._pictures = pictures
        self._seen: Snapshot | None = None
        self._born = time.monotonic()
        self._pictured = self._born
        self._rested = 0.0
        self._views = 0
        self._status, self._clock, self._note = html(), html(), html()
        self._graph, self._table, self._rest = html(flex="0 1 auto", max_width="100%"), html(), html()
        self._drawings: Drawings | None = None
        self._fold = Fold("more stages", self._rest)
        self._fold.paint("", hidden=True)
        self._gates = GateForms(lambda _: run)
        self._log = LogTail()
        self._buttons = Buttons(run, self.refresh, self.close)
        head = w.HBox([self._status, self._clock], layout=w.Layout(flex_flow="row wrap", grid_gap="0 16px"))
        alive = [html(self.life.hiding), head, self._note, self._body(), self._buttons.box]
        for part in alive:
            part.add_class("sn-alive")
        self.box = self.life.box(*alive, self.life.pulse)
        hear_at_once(self.box)
        self.box._view_count = 0  # noqa: SLF001 - ipywidgets has no other name for it
        self.box.observe(self._viewed, "_view_count")

    def _body(self) -> w.HBox:
        """Return the picture with the rest beside it, or beneath it where the page is narrow."""
        rest = w.VBox(
            [self._gates.box, self._table, self._fold.box, self._log.box],
            layout=w.Layout(flex="1 1 480px", min_width="0"),
        )
        return w.HBox([self._graph, rest], layout=w.Layout(flex_flow="row wrap", align_items="flex-start"))

    def display(self) -> None:
        """Show the pane in the output of the cell that runs."""
        self.life.begin(self.box, f"Buttons and live progress of run {self.run.id} are here while its kernel runs.")

    def refresh(self) -> None:
        """Read the run anew and paint it."""
        PAINTER.stir(self.run.engine, self.run.id)

    # -- called by the painter --------------------------------------------------------------------

    def paint(self, seen: Snapshot) -> None:
        """Show what was read."""
        if self.life.is_over:
            return
        self._seen = seen
        show(self._status, value=_header(seen))
        show(self._note, value=_notes(seen))
        self._drawings = self._drawings or Drawings(seen.workflow, TALL)
        show(self._graph, value=self._drawings.of(seen.workflow))
        self._gates.paint(seen.gates, seen.now)
        self._paint_time(seen, seen.now)
        self._log.paint(seen)
        self._buttons.paint(seen.workflow)
        self._picture(is_last=seen.workflow.status.is_complete)
        self._end_if_over()

    def beat(self) -> None:
        """Give a sign of life, and let the time go on that is shown."""
        if self.life.is_over:
            return
        self.life.beat(swaps=self._views <= 1)
        if self._seen is not None and not self._seen.workflow.status.is_complete:
            now = self.run.engine.database.clock()
            self._paint_time(self._seen, now)
            self._gates.tick(now)
            self._picture(is_last=False)
        self._end_if_over()

    def close(self) -> None:
        """Take the widgets off the page; the pictures stay."""
        if self._end():
            close_all(self.box)

    # -- parts ------------------------------------------------------------------------------------

    def _paint_time(self, seen: Snapshot, now: int) -> None:
        show(self._clock, value=_CLOCK.format(_facts(seen, now)))
        table = StageTable(workflow=seen.workflow, now=now, told=seen.told)
        show(self._table, value=table.first())
        words = table.rest_words()
        self._fold.paint(words, hidden=not words)
        if seen.workflow.status.is_complete or time.monotonic() - self._rested >= REST:
            self._rested = time.monotonic()
            show(self._rest, value=table.rest())

    def _picture(self, *, is_last: bool) -> None:
        now = time.monotonic()
        if self._seen is not None and (is_last or now - self._pictured >= PICTURE):
            self._pictured = now
            self._pictures.update(run_bundle(self.run, seen=self._seen))

    def _end_if_over(self) -> None:
        """Leave the page when the run has ended; one that failed can be tried again, so its buttons stay."""
        if self._seen is None or not self._seen.workflow.status.is_complete or self._seen.workflow.status is S.TERMINAL:
            return
        if time.monotonic() - self._born >= SHORTEST:
            self._picture(is_last=True)
            self._leave()

    def _leave(self) -> None:
        """A page that was opened anew hears nothing of its pictures: there the last one is shown by the widgets."""
        if self._views <= 1:
            self.close()
        elif self._end():
            hiding, *others = self.box.children
            self.box.children = [hiding, html(self._pictures.shown)]
            for other in others:
                close_all(other)

    def _end(self) -> bool:
        """Be painted no more; return False when that is so already."""
        is_new = self.life.end()
        if is_new:
            PAINTER.forget(self)
            self._gates.close()
        return is_new

    def _viewed(self, change: Any) -> None:
        if change["new"] is not None and change["new"] > (change["old"] or 0):
            self._views += 1


def _header(seen: Snapshot) -> Markup:
    workflow = seen.workflow
    at = ", ".join(gate.name for gate in seen.gates)
    words = f"for a decision at {shorten(at)}" if at else ""
    status = status_of(workflow.status, workflow.stages)
    return _HEADER.format(shorten(workflow.name), workflow.id, badge(status), words)


def _facts(seen: Snapshot, now: int) -> str:
    done, of = count_of(seen.workflow)
    due = [f"{shorten(gate.name)}: {words}" for gate in seen.gates for words in deadline_words(gate, now)]
    return " · ".join(filter(None, [f"{done} of {of} stages", _elapsed(seen.workflow, now), *due[:DUE]]))


def _elapsed(workflow: Workflow, now: int) -> str:
    """Say how long a run took, or in whole seconds how long it has gone on."""
    if workflow.start_time is None:
        return ""
    if workflow.end_time is not None:
        return duration(workflow.end_time - workflow.start_time)
    seconds = (now - workflow.start_time) // 1_000
    return duration(seconds * 1_000) if seconds > 0 else ""


def _notes(seen: Snapshot) -> Markup:
    notes = [*seen.standing]
    if seen.workflow.error:
        notes.append(f"{LOOKS[S.TERMINAL].symbol} {shorten(seen.workflow.error, COLUMNS)}")
    return Markup("").join(_NOTE.format(note) for note in notes)
