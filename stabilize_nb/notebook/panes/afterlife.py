"""
What stays of a pane: pictures that need no kernel, and the signs by which a page sees that the kernel is gone.

Two outputs belong to a pane: a picture of the run under a display id, in a <div> of a class of its own, and the box of
widgets. Among the widgets is a style that hides the picture. So a page shows the widgets while they live, and the
picture when they do not: kernel gone, file on GitHub, nbconvert. When the run has ended well, the second output is
emptied and the widgets are closed.

The watchdog: each sign of life renames CSS animations that, 15 seconds later, show a line, hide what can be clicked,
and put the picture in the place of the widgets. A renamed animation begins anew; without signs of life it ends. No
script is needed for either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from IPython.display import display
from markupsafe import Markup

from stabilize_nb.models.ids import new_id
from stabilize_nb.notebook.views import run_bundle

if TYPE_CHECKING:
    from stabilize_nb.notebook.panes.snapshot import Snapshot
    from stabilize_nb.run import Run

#: Seconds without a sign of life after which the page says so, and seconds between two of them.
SILENCE: Final = 15
NO_NEWS: Final = "No news from the kernel: run this cell again to reconnect"
#: Earlier pictures of a run that are kept up to date.
KEPT: Final = 6

_STATIC: Final = Markup('<div class="sn-static sn-{}">{}</div>')
_HIDING: Final = Markup("<style>.sn-static.sn-{}{{visibility:hidden;max-height:0;overflow:hidden}}</style>")
_HINT: Final = Markup("<p><small>Buttons and live progress of run {} are here while its kernel runs.</small></p>")
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


def token(run_id: str) -> str:
    """Return what names a run in a class of CSS: an id may be any text."""
    return re.sub(r"[^0-9A-Za-z_-]", "-", run_id)


def hiding(run_id: str) -> Markup:
    """Return the style that hides the pictures of a run while it is on the page."""
    return _HIDING.format(token(run_id))


def heartbeat(run_id: str, number: int, *, swaps: bool = False) -> Markup:
    """
    Return one sign of life; each has another number.

    `swaps`: without another sign of life the picture takes the place of the widgets of class `sn-alive`, which the
    front end marks as broken; else only the buttons go.
    """
    fields = {"n": number % 1_000, "id": token(run_id), "s": SILENCE}
    return _LATE.format(**fields, words=NO_NEWS) + (_SWAP.format(**fields) if swaps else "")


class Pictures:
    """The pictures of one run on the pages of this kernel's notebook, all of them brought up to date together."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._places: list[str] = []
        self.shown = ""

    def add(self) -> None:
        """Show a picture in the output of the cell that runs."""
        place = f"sn-{new_id()}"
        bundle = run_bundle(self.run)
        self.shown = bundle["text/html"]
        display(self._static(bundle), raw=True, display_id=place)  # type: ignore[no-untyped-call]
        self._places = [*self._places[1 - KEPT :], place]

    def update(self, seen: Snapshot) -> None:
        """Bring all of them up to date."""
        bundle = run_bundle(self.run, seen=seen)
        if bundle["text/html"] == self.shown:
            return
        self.shown = bundle["text/html"]
        for place in self._places:
            display(self._static(bundle), raw=True, display_id=place, update=True)  # type: ignore[no-untyped-call]

    def _static(self, bundle: dict[str, Any]) -> dict[str, Any]:
        return {**bundle, "text/html": str(_STATIC.format(token(self.run.id), Markup(bundle["text/html"])))}  # noqa: S704 - markup


def show_widgets(box: Any, run_id: str) -> str:
    """Show a box in the output of the cell that runs, with a line for where there are no widgets; return its place."""
    place = f"sn-{new_id()}"
    bundle = {**box._repr_mimebundle_(), "text/plain": "", "text/html": str(_HINT.format(run_id))}
    display(bundle, raw=True, display_id=place)  # type: ignore[no-untyped-call]
    return place


def empty(place: str) -> None:
    """Leave nothing of the widgets in an output."""
    display({"text/plain": "", "text/html": ""}, raw=True, display_id=place, update=True)  # type: ignore[no-untyped-call]
