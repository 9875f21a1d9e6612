"""Showing a run in the output of a cell: live while that makes sense, else as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.models.status import COMPLETE, WorkflowStatus
from stabilize_nb.notebook.panes.afterlife import Pictures
from stabilize_nb.notebook.panes.painter import PAINTER
from stabilize_nb.notebook.panes.run_pane import RunPane

if TYPE_CHECKING:
    from stabilize_nb.run import Run

S = WorkflowStatus
_pictures: dict[str, Pictures] = {}
_live: dict[str, RunPane] = {}


def show(run: Run) -> RunPane | None:
    """
    Show a run in the output of the cell that runs; the pane of an earlier cell is closed, its picture stays.

    Returns the pane; None for a run that has ended and needs no widgets: its picture is all.
    """
    earlier = _live.pop(run.id, None)
    if earlier is not None:
        earlier.close()
    pictures = _pictures.get(run.id)
    if pictures is None or pictures.run.engine is not run.engine:
        pictures = _pictures[run.id] = Pictures(run)
    pictures.add()
    if run.status in COMPLETE - {S.TERMINAL}:
        return None
    pane = _live[run.id] = RunPane(run, pictures)
    pane.display()
    PAINTER.watch(run, pane)
    return pane
