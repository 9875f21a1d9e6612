"""Several gates, each as a form: those of a run in its pane, or those of a whole store in its inbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import ipywidgets as w
from markupsafe import Markup

from stabilize_nb.notebook.looks import shorten
from stabilize_nb.notebook.panes.gate_form import GateForm
from stabilize_nb.notebook.panes.widgets import html, show

if TYPE_CHECKING:
    from stabilize_nb.gates import Gate
    from stabilize_nb.run import Run

#: Forms that are shown at once, and gates that are told of after they were decided.
FORMS: Final = 4
TOLD: Final = 3
_MORE: Final = Markup("<p>‖ {} more wait for a decision: {}</p>")
_NAMED: Final = 12

Key = tuple[str, str]


class GateForms:
    """Forms for the gates that wait longest, a line for those that were decided here, and the names of the rest."""

    def __init__(self, run_of: Callable[[str], Run], *, is_named: bool = False) -> None:
        self._is_named = is_named
        self._run_of = run_of
        self.forms: dict[Key, GateForm] = {}
        self._more = html()
        self.box = w.VBox([self._more])
        self.box.add_class("sn-buttons")

    def paint(self, gates: Iterable[Gate], now: int) -> None:
        """Show the gates that wait now."""
        waiting = {(gate.run_id, gate.stage_id): gate for gate in gates}
        for key, form in self.forms.items():
            form.paint(waiting.get(key), now)
        asking = [key for key in self.forms if key in waiting]
        told = [key for key in self.forms if key not in waiting]
        new = [key for key in waiting if key not in self.forms][: max(0, FORMS - len(asking))]
        for key in told[: max(0, len(told) - TOLD)]:
            self.forms.pop(key).close()
        for key in new:
            self.forms[key] = GateForm(self._run_of(key[0]), waiting[key], is_named=self._is_named)
        self._tell([gate for key, gate in waiting.items() if key not in self.forms])
        children = (*(form.box for form in self.forms.values()), self._more)
        if self.box.children != children:
            self.box.children = children

    def tick(self, now: int) -> None:
        """Let the time go on that is left."""
        for form in self.forms.values():
            form.tick(now)

    def close(self) -> None:
        """Take the forms away, with what of them is on no page."""
        for form in self.forms.values():
            form.close()

    def _tell(self, rest: list[Gate]) -> None:
        names = ", ".join(shorten(gate.name) for gate in rest[:_NAMED]) + (", …" if len(rest) > _NAMED else "")
        show(self._more, value=_MORE.format(len(rest), names) if rest else "")
