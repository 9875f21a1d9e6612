"""The inbox as a pane: every gate of a store as a form, from whatever notebook its run was started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from markupsafe import Markup

from stabilize_nb.gates import gates_in
from stabilize_nb.models.ids import new_id
from stabilize_nb.notebook.inbox import heading, inbox_bundle
from stabilize_nb.notebook.panes.afterlife import Life, Pictures
from stabilize_nb.notebook.panes.gate_list import GateForms
from stabilize_nb.notebook.panes.painter import PAINTER
from stabilize_nb.notebook.panes.widgets import close_all, html, show
from stabilize_nb.run import Run

if TYPE_CHECKING:
    from stabilize_nb.engine import Engine
    from stabilize_nb.gates import Gate

_HEADER: Final = Markup('<div role="status" aria-live="polite"><b>{}</b></div>')


class Waiting(NamedTuple):
    """The gates of a store that wait at a moment (ms since the epoch)."""

    gates: list[Gate]
    now: int


class InboxPane:
    """The widgets of one inbox. The painter calls `paint` and `beat`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.life = Life(f"inbox-{new_id()}")
        self._pictures = Pictures()
        self._header = html()
        self._forms = GateForms(lambda run_id: Run(engine, run_id), is_named=True)
        self.box = self.life.box(html(self.life.hiding), self._header, self.life.pulse, self._forms.box)

    def display(self) -> None:
        """Show the pane, and beneath it what stays when its kernel is gone."""
        self._pictures.add(inbox_bundle(self.engine), self.life.name)
        self.life.begin(self.box, "The inbox is here while its kernel runs.")

    def read(self) -> Waiting:
        """Read the store."""
        return Waiting(gates_in(self.engine.database), self.engine.database.clock())

    def paint(self, seen: Waiting) -> None:
        """Show the gates that wait now."""
        if self.life.is_over:
            return
        show(self._header, value=_HEADER.format(heading(self.engine, len(seen.gates))))
        self._forms.paint(seen.gates, seen.now)
        self._pictures.update(inbox_bundle(self.engine))

    def beat(self) -> None:
        """Give a sign of life, and let the time go on that is left."""
        if self.life.is_over:
            return
        self.life.beat()
        self._forms.tick(self.engine.database.clock())

    def close(self) -> None:
        """Take the widgets off the page; the picture stays."""
        if self.life.end():
            PAINTER.forget(self)
            self._forms.close()
            close_all(self.box)
