"""
Which cell is run, and what is said when a run is found instead of begun.

A front end gives each cell an id that stays when the cell is run again, moved, or opened in another kernel. Without
one (nbclient, a terminal) there is no cell that could be run again, and each start is a new run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stabilize_nb.engine import default_engine
from stabilize_nb.notebook.frontend import request
from stabilize_nb.notebook.gates import handle
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.starting import STARTER, Origin

if TYPE_CHECKING:
    from stabilize_nb.run import Run


def register() -> None:
    """Have runs begun for the cell that is run, in the engine of the notebook."""
    STARTER.engine = RUNTIME.engine
    STARTER.origin = origin
    STARTER.found = say_found


def unregister() -> None:
    """Undo `register`."""
    STARTER.engine = default_engine
    STARTER.origin = lambda: None
    STARTER.found = lambda _run: None


def origin() -> Origin | None:
    """Return the cell that is run; None where the front end does not say."""
    parent = request()
    cell = parent.get("metadata", {}).get("cellId")
    return Origin(cell=str(cell), turn=str(parent["header"]["msg_id"])) if cell else None


def say_found(run: Run) -> None:
    """Say in a line which run it is that a cell goes on with, and how to begin another."""
    state = "ended" if run.status.is_complete else "unfinished"
    other = f'%workflow run {run.name} … --new, or {run.name}.run("new", …), begins another'
    sys.stdout.write(obeyed_by_none(f"attached to run {handle(run.id)} ({state}); {other}\n"))
