"""The inbox of a store: every gate of every run that waits for a decision. Live it is a pane, else what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from stabilize_nb.engine import store_path
from stabilize_nb.gates import gates_in
from stabilize_nb.notebook.config import display_mode, live_panes
from stabilize_nb.notebook.doctor import shown_path
from stabilize_nb.notebook.gates import Asked
from stabilize_nb.notebook.looks import shorten
from stabilize_nb.notebook.tables import join
from stabilize_nb.plain import obeyed_by_none

if TYPE_CHECKING:
    from stabilize_nb.engine import Engine

_HEADING: Final = Markup("<p><b>{}</b></p>")
_OF: Final = Markup("<p><small>{} {}</small></p>")


def show(engine: Engine) -> None:
    """Show the inbox in the output of the cell that runs; raises NotImplementedError where there are no widgets."""
    live_panes().show_inbox(engine)


def heading(engine: Engine, count: int) -> str:
    """Say how many gates wait where."""
    path = store_path(engine.url)
    place = "memory" if path is None else shown_path(path)
    gates = {0: "no gate waits", 1: "1 gate waits"}.get(count, f"{count} gates wait")
    return f"Inbox of {place}: {gates} for a decision"


def inbox_bundle(engine: Engine) -> dict[str, Any]:
    """Return the inbox as it is now, with the lines that decide."""
    now = engine.database.clock()
    asked = [Asked(gate, now) for gate in gates_in(engine.database)]
    words = heading(engine, len(asked))
    text = [
        words,
        *(line for each in asked for line in ("", f"{each.gate.run_name} {each.gate.run_id}", *each.lines())),
    ]
    plain = obeyed_by_none("\n".join(text))
    if display_mode() == "text":
        return {"text/plain": plain}
    gates = join(_OF.format(shorten(each.gate.run_name), each.gate.run_id) + each.html() for each in asked)
    return {"text/html": str(_HEADING.format(words) + gates), "text/plain": plain}
