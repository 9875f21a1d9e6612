"""The log in a pane: folded until a model speaks; one stage or all of them, as chosen; always at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ipywidgets as w
from markupsafe import Markup

from stabilize_nb.notebook.logs import count_words, log_html, names_of
from stabilize_nb.notebook.panes.fold import Fold
from stabilize_nb.notebook.panes.widgets import html, show

if TYPE_CHECKING:
    from stabilize_nb.notebook.panes.snapshot import Snapshot

#: Lines of each stage where all are shown, and the stages of which they are.
LINES: Final = 40
STAGES: Final = 20
ALL: Final = ""
#: Turned round twice, so that a browser keeps the end in sight when the content is replaced.
_END: Final = Markup(
    '<div tabindex="0" role="log" aria-live="off" aria-label="log" '
    'style="display:flex;flex-direction:column-reverse;max-height:300px;overflow:auto"><div>{}</div></div>'
)


class LogTail:
    """What the tasks of a run print."""

    def __init__(self) -> None:
        self._seen: Snapshot | None = None
        self._choice = w.Dropdown(
            options=[("all stages", ALL)], description="Stage", layout=w.Layout(width="auto", max_width="360px")
        )
        self._choice.observe(self._chosen, "value")
        self._text = html()
        self._fold = Fold("log", w.VBox([self._choice, self._text]))
        self.box = self._fold.box

    def paint(self, seen: Snapshot) -> None:
        """Show what was printed so far."""
        self._seen = seen
        self._fold.paint(count_words(seen.logs), hidden=not seen.logs)
        if not seen.logs:
            return
        if seen.speaks:
            self._fold.unfold()
        options = (("all stages", ALL), *((name, ref) for ref, name in names_of(seen.workflow, seen.logs).items()))
        if tuple(self._choice.options) != options:
            chosen = self._choice.value
            self._choice.options = options
            self._choice.value = chosen if chosen in dict(options).values() else ALL
        self._paint_text()

    def _paint_text(self) -> None:
        if self._seen is None:
            return
        logs, chosen = self._seen.logs, self._choice.value
        log = logs.get(str(chosen)) if chosen else None
        text = log.html() if log is not None else log_html(self._seen.workflow, logs, LINES, STAGES)
        show(self._text, value=_END.format(text))

    def _chosen(self, _change: Any) -> None:
        self._paint_text()
