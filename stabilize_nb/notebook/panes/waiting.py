"""The gates of a run that wait for a decision, each as a form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w
from markupsafe import Markup

from stabilize_nb.notebook.gates import Asked, is_asking
from stabilize_nb.notebook.panes.widgets import html, show

if TYPE_CHECKING:
    from stabilize_nb.notebook.panes.snapshot import Snapshot
    from stabilize_nb.run import Run


class Gates:
    """What a run asks people."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._text = html()
        self.box = w.VBox([self._text])
        self.box.add_class("sn-buttons")

    def paint(self, seen: Snapshot) -> None:
        """Show the gates that wait now."""
        asked = [Asked(self.run.id, stage) for stage in seen.workflow.stages if is_asking(stage)]
        show(self._text, value=Markup("").join(gate.html() for gate in asked))
