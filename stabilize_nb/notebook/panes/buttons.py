"""The buttons under a run: what can be ordered now. A click pushes an order and returns; its effect is painted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as w
from markupsafe import Markup

from stabilize_nb.errors import StabilizeError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.panes.widgets import button, hide, html, show

if TYPE_CHECKING:
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.run import Run

S = WorkflowStatus
_SAID = Markup("<small>{}</small>")


class Buttons:
    """Cancel, Pause or Resume, Retry failed, Refresh, and Close for a run that has ended."""

    def __init__(self, run: Run, refresh: Callable[[], None], close: Callable[[], None]) -> None:
        self.run = run
        self._cancel = button("Cancel", "Withdraw everything that has not ended", self._order(self._withdraw))
        self._pause = button("Pause", "Begin no further task", self._order(self._pause_or_resume))
        self._retry = button("Retry failed", "Run the failed stages and what follows again", self._order(self._again))
        self._refresh = button("Refresh", "Read the run anew", lambda _: refresh())
        self._close = button("Close", "Leave the picture only", lambda _: close())
        self._said = html()
        orders = [self._cancel, self._pause, self._retry, self._refresh, self._close, self._said]
        self.box = w.HBox(orders, layout=w.Layout(flex_flow="row wrap"))
        self.box.add_class("sn-buttons")
        self._status = S.NOT_STARTED
        self._failed: list[str] = []

    def paint(self, workflow: Workflow) -> None:
        """Offer what can be ordered now."""
        failed = [stage.ref_id for stage in workflow.stages if stage.status is S.TERMINAL]
        if (workflow.status, failed) == (self._status, self._failed):
            return
        self._status, self._failed = workflow.status, failed
        ended = workflow.status.is_complete
        show(self._cancel, disabled=ended)
        show(self._pause, disabled=ended, description="Resume" if workflow.status is S.PAUSED else "Pause")
        show(self._retry, disabled=not failed)
        show(self._said, value="")
        for each, is_offered in ((self._cancel, not ended), (self._pause, not ended), (self._close, ended)):
            hide(each, hidden=not is_offered)
        hide(self._retry, hidden=not failed)

    def _order(self, order: Callable[[], str]) -> Callable[[w.Button], None]:
        def clicked(button: w.Button) -> None:
            show(button, disabled=True)
            try:
                said = order()
            except StabilizeError as error:
                said = str(error)
                show(button, disabled=False)
            show(self._said, value=_SAID.format(said))

        return clicked

    def _withdraw(self) -> str:
        self.run.cancel(user=settings().who)
        return "cancelling …"

    def _pause_or_resume(self) -> str:
        if self._status is S.PAUSED:
            self.run.resume()
            return "going on …"
        self.run.pause()
        return "pausing: tasks at work end as usual …"

    def _again(self) -> str:
        for stage in self._failed:
            self.run.retry(stage)
        return f"again: {', '.join(self._failed)} …"
