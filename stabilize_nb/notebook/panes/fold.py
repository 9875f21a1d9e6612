"""
What can be unfolded, with the keyboard too: the front end's Accordion has no key, a <details> has.

A widget cannot stand inside the <details> of another, and one that is painted anew would close. So the <details> is
not painted again, but once when it is unfolded for the reader, and a style hides the widget beside it while it is
closed. Where a browser does not know the style, everything is seen.
"""

from __future__ import annotations

from typing import Final

import ipywidgets as w
from markupsafe import Markup

from stabilize_nb.models.ids import new_id
from stabilize_nb.notebook.panes.widgets import hide, html, show

_HANDLE: Final = Markup(
    "<style>.{0}:not(:has(details[open])) .sn-folded{{display:none!important}}</style>"
    "<details{2}><summary>{1}</summary></details>"
)
_WORDS: Final = Markup("<span>{}</span>")


class Fold:
    """A widget under a name that unfolds it; `box` holds both."""

    def __init__(self, name: str, content: w.Widget) -> None:
        self._token, self._name = f"sn-fold-{new_id()}", name
        self._words = html()
        self._handle = html(self._markup(""))
        content.add_class("sn-folded")
        head = w.HBox([self._handle, self._words], layout=w.Layout(grid_gap="0 8px"))
        self.box = w.VBox([head, content])
        self.box.add_class(self._token)

    def paint(self, words: str, *, hidden: bool) -> None:
        """Say how much there is, or show nothing of it."""
        show(self._words, value=_WORDS.format(words))
        hide(self.box, hidden=hidden)

    def unfold(self) -> None:
        """Show what is folded; who folds it again is left in peace."""
        show(self._handle, value=self._markup(" open"))

    def _markup(self, state: str) -> Markup:
        return _HANDLE.format(self._token, self._name, state)
