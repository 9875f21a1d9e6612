"""
The pane of a replay: a slider over the facts of a run, and the run as it was after the one that is chosen.

Whatever moves the slider paints: the hand, the arrow keys, a button, or the thread that plays. A position is folded
from a copy of the rows near it (`events.past`), and a picture that was drawn before is not drawn again.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import ipywidgets as w
from markupsafe import Markup

from stabilize_nb.models.ids import new_id
from stabilize_nb.notebook.looks import shorten
from stabilize_nb.notebook.panes.afterlife import Life, Pictures
from stabilize_nb.notebook.panes.drawings import Drawings
from stabilize_nb.notebook.panes.painter import PAINTER
from stabilize_nb.notebook.panes.player import Player
from stabilize_nb.notebook.panes.widgets import button, close_all, html, show
from stabilize_nb.notebook.past import COLUMNS, Scene, values_table
from stabilize_nb.notebook.progress import badge
from stabilize_nb.notebook.telling import failures_in
from stabilize_nb.run_state import RunState

if TYPE_CHECKING:
    from stabilize_nb.notebook.replay import Replay
    from stabilize_nb.run_state import StageState

#: Most positions in which a whole run is played.
TICKS: Final = 240
#: The choice of whatever stage moved last.
LATEST: Final = ""

#: Tables as narrow as anywhere else on the page.
_LOOK: Final = Markup(
    "<style>.sn-live-{id} table{{border-spacing:0;line-height:1.5}}.sn-live-{id} td,.sn-live-{id} th{{"
    "padding:1px 14px 1px 0;vertical-align:top}}</style>"
)
_HEADER: Final = Markup(
    '<div><b>{}</b> <small><code>{}</code></small> {} <span style="white-space:nowrap">{}</span></div>'
)
_STATUS: Final = Markup('<div role="status" aria-live="{}"><b>{}</b> · {} · {}</div>')
_NOTE: Final = Markup('<div role="note">{}</div>')
_STAGE: Final = Markup(
    '<section aria-label="stage {}"><div><b>{}</b> {} {}</div>'
    '<div style="display:flex;flex-wrap:wrap;gap:0 40px">{}{}</div></section>'
)
_NOTHING: Final = Markup("<div><small>{}</small></div>")


class ReplayPane:
    """The widgets of one replay; `box` holds them all. The painter calls `paint` and `beat`."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.past = replay.past
        name = f"replay-{new_id()}"
        self.life = Life(name)
        self._pictures = Pictures()
        self._drawings = Drawings(Scene(RunState.of(self.past, self.past.last)).workflow)
        self._failures = failures_in(self.past.entries)
        self._painting = threading.RLock()
        self._playing = Player(self._advance, self._stopped)
        self._header, self._status, self._notes = html(), html(), html()
        self._graph, self._stage, self._table = html(), html(), html()
        self._play = button("▶ Play", "Go through the facts one after the other", self._toggle)
        self._failure = button("✕ Next failure", "Go to the next fact at which something failed", self._fail)
        self._refresh = button("Refresh", "Read the facts that came meanwhile", self._read_on)
        buttons = [
            self._play,
            button("◀ Step back", "One fact back", lambda _: self._go(self.position - 1)),
            button("Step forward ▶", "One fact on", lambda _: self._go(self.position + 1)),
            self._failure, self._refresh,
            button("Close", "Leave the picture only", lambda _: self.close()),
        ]  # fmt: skip
        self._failure.disabled = not self._failures
        self.slider = w.IntSlider(
            value=replay.position, min=1, max=self.past.last, description="Fact",
            layout=w.Layout(width="100%"), style={"description_width": "initial"},
        )  # fmt: skip
        self.stage = w.Dropdown(
            options=self._stages(), value=LATEST, description="Stage", style={"description_width": "initial"}
        )
        controls = w.VBox([w.HBox(buttons, layout=w.Layout(flex_flow="row wrap")), self.slider])
        controls.add_class("sn-buttons")
        chosen = w.VBox([self.stage, self._stage], layout=w.Layout(flex="1 1 420px"))
        self._graph.layout.max_width = "100%"
        seen = w.HBox([self._graph, chosen], layout=w.Layout(flex_flow="row wrap", grid_gap="0 32px"))
        self.box = self.life.box(
            html(self.life.hiding + _LOOK.format(id=name)), self.life.pulse,
            self._header, controls, self._status, self._notes, seen, self._table,
        )  # fmt: skip
        self.slider.observe(lambda _: self._show(), "value")
        self.stage.observe(lambda _: self._show(), "value")
        self._show()

    @property
    def position(self) -> int:
        """The number of the fact that is shown."""
        return int(self.slider.value)

    def display(self) -> None:
        """Show the picture that stays, and the widgets, in the output of the cell that runs."""
        self._pictures.add(self.replay._repr_mimebundle_(), self.life.name)
        self.life.begin(self.box, f"The slider through run {self.past.run_id} is here while its kernel runs.")

    def close(self) -> None:
        """Take the widgets off the page; the picture stays."""
        if self.life.end():
            self._playing.stop()
            PAINTER.forget(self)
            close_all(self.box)

    # -- called by the painter --------------------------------------------------------------------

    def count(self) -> int:
        """Return how many facts the run has now."""
        return self.past.count()

    def paint(self, seen: int) -> None:
        """Say how many facts there are that the slider does not have yet."""
        if not self.life.is_over:
            more = seen - self.past.last
            show(self._refresh, description=f"Refresh ({more:,} new)" if more > 0 else "Refresh")

    def beat(self) -> None:
        """Give a sign of life."""
        if not self.life.is_over:
            self.life.beat()

    # -- moving -----------------------------------------------------------------------------------

    def _go(self, position: int) -> None:
        self._playing.stop()
        self.slider.value = min(max(position, 1), self.past.last)

    def _fail(self, _: w.Button) -> None:
        """Go to the next failure; behind the last one to the first."""
        at = bisect_right(self._failures, self.position)
        self._go(self._failures[at % len(self._failures)])

    def _toggle(self, _: w.Button) -> None:
        if self._playing.is_on:
            self._playing.stop()
            return
        if self.position == self.past.last:
            self.slider.value = 1
        show(self._play, description="‖ Pause")
        self._playing.start()

    def _advance(self) -> bool:
        """Go on a little, but past no failure; return whether there is more."""
        step = max(1, self.past.last // TICKS)
        ahead = self._failures[bisect_right(self._failures, self.position) :][:1]
        self.slider.value = min([self.position + step, self.past.last, *ahead])
        return not self.life.is_over and self.position < self.past.last

    def _stopped(self) -> None:
        if not self.life.is_over:
            self._show()
            show(self._play, description="▶ Play")

    def _read_on(self, _: w.Button) -> None:
        was_last = self.position == self.past.last
        with self._painting:
            self.past.refresh()
            self._failures = failures_in(self.past.entries)
            show(self._failure, disabled=not self._failures)
            self.slider.max = self.past.last
            chosen = self.stage.value
            self.stage.options = self._stages()
            self.stage.value = chosen
            show(self._refresh, description="Refresh")
        if was_last:
            self.slider.value = self.past.last
        self._show()

    # -- painting ---------------------------------------------------------------------------------

    def _stages(self) -> list[tuple[str, str]]:
        refs = self.past.names.refs
        return [("the one that moved last", LATEST), *((shorten(ref), id_) for id_, ref in refs.items())]

    def _show(self) -> None:
        with self._painting:
            self.replay.position = self.position
            scene = Scene(RunState.of(self.past, self.position))
            show(self._header, value=_header(scene))
            live = "off" if self._playing.is_on else "polite"
            show(self._status, value=_STATUS.format(live, scene.happened, scene.number, scene.time))
            show(self._notes, value=Markup().join(map(_NOTE.format, scene.remarks())))
            show(self._graph, value=self._drawings.of(scene.workflow))
            show(self._stage, value=_stage(scene.state, self.stage.value or scene.stage_id))
            show(self._table, value=scene.table.html())


def _header(scene: Scene) -> Markup:
    state = scene.state
    return _HEADER.format(shorten(state.name), state.run_id, badge(scene.status), scene.facts)


def _stage(state: RunState, stage_id: str | None) -> Markup:
    """Show a stage: what it saw and what it had put out."""
    found = next((stage for stage in state.stages if stage.id == stage_id), None)
    if found is None:
        return _NOTHING.format("this stage was not there yet" if stage_id else "no stage has moved yet")
    name = shorten(found.ref_id)
    return _STAGE.format(
        name, name, badge(found.status), " · ".join(_facts(found)), values_table("input", found.inputs).html(),
        values_table("output", found.outputs).html() or _NOTHING.format("no outputs yet"),
    )  # fmt: skip


def _facts(stage: StageState) -> list[str]:
    facts = [f"round {stage.round}"] if stage.round > 1 else []
    facts += [f"{stage.attempts} attempts"] if stage.attempts > 1 else []
    return facts + ([shorten(stage.error.strip().rpartition("\n")[2], COLUMNS)] if stage.error else [])
