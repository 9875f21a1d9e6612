"""
Showing a run, a replay or an inbox in the output of a cell: a pane where that makes sense, else a picture.

The pane of an earlier cell that shows the same is closed; its picture stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stabilize_nb.models.ids import new_id
from stabilize_nb.models.status import COMPLETE, WorkflowStatus
from stabilize_nb.notebook.panes.afterlife import Pictures
from stabilize_nb.notebook.panes.inbox import InboxPane
from stabilize_nb.notebook.panes.painter import PAINTER
from stabilize_nb.notebook.panes.replay import ReplayPane
from stabilize_nb.notebook.panes.run_pane import RunPane
from stabilize_nb.notebook.views import run_bundle

if TYPE_CHECKING:
    from stabilize_nb.engine import Engine
    from stabilize_nb.notebook.panes.painter import Pane
    from stabilize_nb.notebook.replay import Replay
    from stabilize_nb.run import Run

S = WorkflowStatus
#: The newest pane of each thing that is shown, and the pictures of each run.
_panes: Final[dict[tuple[str, str], Pane]] = {}
_pictures: Final[dict[tuple[Engine, str], Pictures]] = {}


def show(run: Run) -> RunPane | None:
    """Show a run; returns the pane, or None for one that has ended and needs no widgets: its picture is all."""
    _close_earlier("run", run.id)
    pictures = _pictures.setdefault((run.engine, run.id), Pictures())
    name = f"run-{new_id()}"
    pictures.add(run_bundle(run), name)
    if run.status in COMPLETE - {S.TERMINAL}:
        return None
    pane = _panes["run", run.id] = RunPane(run, pictures, name)
    pane.display()
    PAINTER.watch(run, pane)
    return pane


def show_replay(replay: Replay) -> ReplayPane:
    """Show a replay."""
    run = replay.run
    _close_earlier("replay", run.id)
    pane = _panes["replay", run.id] = ReplayPane(replay)
    pane.display()
    PAINTER.follow(run.engine, ("replay", run.id), pane.count, pane)
    return pane


def show_inbox(engine: Engine) -> InboxPane:
    """Show the inbox of a store."""
    _close_earlier("inbox", engine.url)
    pane = _panes["inbox", engine.url] = InboxPane(engine)
    pane.paint(pane.read())
    pane.display()
    PAINTER.follow(engine, "inbox", pane.read, pane)
    return pane


def _close_earlier(kind: str, name: str) -> None:
    earlier = _panes.pop((kind, name), None)
    if earlier is not None:
        earlier.close()
