"""The inbox as a pane: every gate of a store as a form, from whatever notebook its run was started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ipywidgets as w
from IPython.display import display
from markupsafe import Markup

from stabilize_nb.gates import gates_in
from stabilize_nb.models.ids import new_id
from stabilize_nb.notebook.inbox import heading, inbox_bundle
from stabilize_nb.notebook.panes import afterlife
from stabilize_nb.notebook.panes.gate_list import GateForms
from stabilize_nb.notebook.panes.painter import PAINTER
from stabilize_nb.notebook.panes.widgets import close_all, html
from stabilize_nb.notebook.panes.widgets import show as set_traits
from stabilize_nb.run import Run

if TYPE_CHECKING:
    from stabilize_nb.engine import Engine
    from stabilize_nb.gates import Gate

#: Beats between two signs of life.
LIFE: Final = 5
_HEADER: Final = Markup('<div role="status" aria-live="polite"><b>{}</b></div>')
_STILL: Final = Markup('<div class="sn-static sn-{}">{}</div>')
_HINT: Final = "<p><small>The inbox is here while its kernel runs.</small></p>"


class Waiting(NamedTuple):
    """The gates of a store that wait at a moment (ms since the epoch)."""

    gates: list[Gate]
    now: int


class InboxPane:
    """The widgets of one inbox. The painter calls `paint` and `beat`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_closed = False
        self._id = f"inbox-{new_id()}"
        self._beats = 0
        self._still = ""
        self._header = html()
        self._forms = GateForms(lambda run_id: Run(engine, run_id), is_named=True)
        self._pulse = html(afterlife.heartbeat(self._id, 0))
        self.box = w.VBox([html(afterlife.hiding(self._id)), self._header, self._pulse, self._forms.box])
        self.box.add_class(f"sn-live-{self._id}")

    def display(self) -> None:
        """Show the pane, and beneath it what stays when its kernel is gone."""
        display(self._picture(), raw=True, display_id=self._id)  # type: ignore[no-untyped-call]
        bundle = {**self.box._repr_mimebundle_(), "text/plain": "", "text/html": _HINT}
        display(bundle, raw=True, display_id=f"{self._id}-live")  # type: ignore[no-untyped-call]

    def read(self) -> Waiting:
        """Read the store."""
        return Waiting(gates_in(self.engine.database), self.engine.database.clock())

    def paint(self, seen: Waiting) -> None:
        """Show the gates that wait now."""
        if self.is_closed:
            return
        set_traits(self._header, value=_HEADER.format(heading(self.engine, len(seen.gates))))
        self._forms.paint(seen.gates, seen.now)
        before = self._still
        bundle = self._picture()
        if self._still != before:
            display(bundle, raw=True, display_id=self._id, update=True)  # type: ignore[no-untyped-call]

    def beat(self) -> None:
        """Give a sign of life, and let the time go on that is left."""
        if self.is_closed:
            return
        self._beats += 1
        if self._beats % LIFE == 0:
            set_traits(self._pulse, value=afterlife.heartbeat(self._id, self._beats))
        self._forms.tick(self.engine.database.clock())

    def close(self) -> None:
        """Take the widgets off the page; the picture stays."""
        if not self.is_closed:
            self.is_closed = True
            PAINTER.forget(self)
            afterlife.empty(f"{self._id}-live")
            self._forms.close()
            close_all(self.box)

    def _picture(self) -> dict[str, Any]:
        bundle = inbox_bundle(self.engine)
        self._still = bundle["text/plain"]
        return {**bundle, "text/html": str(_STILL.format(self._id, Markup(bundle["text/html"])))}  # noqa: S704 - markup


_live: dict[str, InboxPane] = {}


def show(engine: Engine) -> InboxPane:
    """Show the inbox of a store in the output of the cell that runs; the pane of an earlier cell is closed."""
    earlier = _live.pop(engine.url, None)
    if earlier is not None:
        earlier.close()
    pane = _live[engine.url] = InboxPane(engine)
    pane.paint(pane.read())
    pane.display()
    PAINTER.follow(engine, "inbox", pane.read, pane)
    return pane
