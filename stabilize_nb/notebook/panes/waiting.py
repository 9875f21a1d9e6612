"""The gates of a run that wait for a decision, each as a form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.notebook.panes.gate_list import GateForms

if TYPE_CHECKING:
    from stabilize_nb.notebook.panes.snapshot import Snapshot
    from stabilize_nb.run import Run


class Gates:
    """What a run asks people."""

    def __init__(self, run: Run) -> None:
        self._forms = GateForms(lambda _: run)
        self.box = self._forms.box

    def paint(self, seen: Snapshot) -> None:
        """Show the gates that wait now."""
        self._forms.paint(seen.gates, seen.now)

    def close(self) -> None:
        """Take the forms away."""
        self._forms.close()

    def tick(self, now: int) -> None:
        """Let the time go on that is left to decide."""
        self._forms.tick(now)
