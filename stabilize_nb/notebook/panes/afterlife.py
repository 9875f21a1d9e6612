"""
What stays of a pane: pictures that need no kernel, and the signs by which a page sees that the kernel is gone.

Two outputs belong to a pane: a picture of what it shows under a display id, in a <div> of a class of its own, and the
box of widgets. Among the widgets is a style that hides the picture. So a page shows the widgets while they live, and
the picture when they do not: kernel gone, file on GitHub, nbconvert. When a run has ended well, the second output is
emptied and the widgets are closed.

The watchdog: each sign of life renames CSS animations that, 15 seconds later, show a line, hide what can be clicked,
and put the picture in the place of the widgets. A renamed animation begins anew; without signs of life it ends. No
script is needed for either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import ipywidgets as w
from IPython.display import display
from markupsafe import Markup

from stabilize_nb.models.ids import new_id
from stabilize_nb.notebook.panes.widgets import html, show

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds without a sign of life after which the page says so, and beats between two of them.
SILENCE: Final = 15
LIFE: Final = 5
NO_NEWS: Final = "No news from the kernel: run this cell again to reconnect"
#: Earlier pictures of a thing that are kept up to date.
KEPT: Final = 6

_STATIC: Final = Markup('<div class="sn-static sn-{}">{}</div>')
_HIDING: Final = Markup("<style>.sn-static.sn-{}{{visibility:hidden;max-height:0;overflow:hidden}}</style>")
_HINT: Final = Markup("<p><small>{}</small></p>")
_LATE: Final = Markup(
    "<style>@keyframes sn-gone-{n}{{to{{visibility:hidden}}}}@keyframes sn-late-{n}{{to{{visibility:visible;"
    "max-height:3em}}}}.sn-live-{id} .sn-buttons{{animation:sn-gone-{n} 1s {s}s forwards}}"
    ".sn-live-{id} .sn-late{{visibility:hidden;max-height:0;overflow:hidden;animation:sn-late-{n} 1s {s}s forwards}}"
    '</style><div class="sn-late" style="border-left:4px solid #b26a00;padding:2px 8px">{words}</div>'
)
_SWAP: Final = Markup(
    "<style>@keyframes sn-away-{n}{{to{{visibility:hidden;max-height:0;min-height:0;margin:0;padding:0;"
    "overflow:hidden}}}}@keyframes sn-back-{n}{{to{{visibility:visible;max-height:100000px}}}}"
    ".sn-live-{id}>.sn-alive{{animation:sn-away-{n} 1s {s}s forwards}}"
    ".sn-static.sn-{id}{{animation:sn-back-{n} 1s {s}s forwards}}</style>"
)


def token(name: str) -> str:
    """Return what stands for a name in a class of CSS: an id may be any text."""
    return re.sub(r"[^0-9A-Za-z_-]", "-", name)


def hiding(name: str) -> Markup:
    """Return the style that hides the picture of that name while it is on the page."""
    return _HIDING.format(token(name))


def heartbeat(name: str, number: int, *, swaps: bool = False) -> Markup:
    """
    Return one sign of life; each has another number.

    `swaps`: without another sign of life the picture takes the place of the widgets of class `sn-alive`, which the
    front end marks as broken; else only the buttons go.
    """
    fields = {"n": number % 1_000, "id": token(name), "s": SILENCE}
    return _LATE.format(**fields, words=NO_NEWS) + (_SWAP.format(**fields) if swaps else "")


class Pictures:
    """The pictures of one thing on the pages of this kernel's notebook, all of them brought up to date together."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._bundle: dict[str, Any] = {}

    @property
    def shown(self) -> str:
        """What the newest picture shows, as markup."""
        return str(self._bundle["text/html"])

    def add(self, bundle: Mapping[str, Any], name: str) -> None:
        """Show a picture in the output of the cell that runs; the widgets of the `Life` of that name hide it alone."""
        self._bundle = dict(bundle)
        self._names = [*self._names[1 - KEPT :], name]
        self._display(name, update=False)

    def update(self, bundle: Mapping[str, Any]) -> None:
        """Bring all of them up to date."""
        if bundle == self._bundle:
            return
        self._bundle = dict(bundle)
        for name in self._names:
            self._display(name, update=True)

    def _display(self, name: str, *, update: bool) -> None:
        html = str(_STATIC.format(token(name), Markup(self.shown)))  # noqa: S704 - markup
        bundle = {**self._bundle, "text/html": html}
        display(bundle, raw=True, display_id=f"sn-{name}", update=update)  # type: ignore[no-untyped-call]


class Life:
    """
    The time of a pane on a page: from `begin`, which shows its widgets, to `end`, which leaves its pictures only.

    `name` stands in the class of its picture and in that of its box. `hiding` and `pulse` belong into the box.
    """

    def __init__(self, name: str, *, swaps: bool = False) -> None:
        self.is_over = False
        self.name = name
        self.hiding = hiding(name)
        self.pulse = html(heartbeat(name, 0, swaps=swaps))
        self._beats = 0
        self._place = ""

    def box(self, *parts: w.Widget) -> w.VBox:
        """Return the box of a pane."""
        box = w.VBox(parts)
        box.add_class(f"sn-live-{token(self.name)}")
        return box

    def begin(self, box: w.VBox, hint: str) -> None:
        """Show a box in the output of the cell that runs, and a sentence where there are no widgets."""
        self._place = f"sn-{new_id()}"
        bundle = {**box._repr_mimebundle_(), "text/plain": "", "text/html": str(_HINT.format(hint))}
        display(bundle, raw=True, display_id=self._place)  # type: ignore[no-untyped-call]

    def beat(self, *, swaps: bool = False) -> None:
        """Let a second go by: every few of them there is a sign of life."""
        self._beats += 1
        if self._beats % LIFE == 0:
            show(self.pulse, value=heartbeat(self.name, self._beats, swaps=swaps))

    def end(self) -> bool:
        """Leave nothing of the widgets in the output; return False when they have left it before."""
        if self.is_over:
            return False
        self.is_over = True
        nothing = {"text/plain": "", "text/html": ""}
        display(nothing, raw=True, display_id=self._place, update=True)  # type: ignore[no-untyped-call]
        return True
