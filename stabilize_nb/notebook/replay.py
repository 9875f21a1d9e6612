"""Replay: a run fact by fact. A live notebook shows a pane with a slider; everything else a table of the steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.events.past import Past
from stabilize_nb.notebook.config import live_panes
from stabilize_nb.notebook.past import Scene, bundle, heading
from stabilize_nb.notebook.tables import Table, moment
from stabilize_nb.notebook.telling import sentence_of, who_of
from stabilize_nb.run_state import Moment, RunState, sequence_of

if TYPE_CHECKING:
    from stabilize_nb.run import Run

#: Facts that are steps for a person; tokens, joins and bookkeeping are none.
STEPS: Final = frozenset({
    "workflow.created", "workflow.started", "workflow.paused", "workflow.resumed", "workflow.completed",
    "workflow.failed", "workflow.canceled", "workflow.restarted", "stage.started", "stage.completed", "stage.failed",
    "stage.skipped", "stage.canceled", "stage.suspended", "stage.reset", "task.retried", "signal.delivered",
    "jump.executed",
})  # fmt: skip
#: Steps that are listed from the beginning, and from the end.
LISTED: Final = 20


class Replay:
    """A run to go through. `position` is the number of the fact that is shown; the last one, unless a moment is given.

    Raises ConfigError for a moment that the run does not have.
    """

    def __init__(self, run: Run, at: Moment | None = None) -> None:
        self.run = run
        self.past = Past(run.engine.database, run.id)
        self.position = self.past.last if at is None else sequence_of(self.past, at)

    @property
    def state(self) -> RunState:
        """The run at the position."""
        return RunState.of(self.past, self.position)

    def steps(self) -> Table:
        """Return what happened as a table, without the middle of a long run."""
        steps = [entry for entry in self.past.entries if entry.type in STEPS]
        end = self.past.entry(self.past.last).at
        rows = [
            [f"{entry.sequence}", moment(entry.at, end), sentence_of(entry, self.past.names), who_of(entry)]
            for entry in (steps if len(steps) <= 2 * LISTED else [*steps[:LISTED], *steps[-LISTED:]])
        ]
        if len(steps) > 2 * LISTED:
            rows.insert(LISTED, ["…", "", f"{len(steps) - 2 * LISTED:,} more steps", ""])
        return Table(("fact", "time", "what happened", "by"), rows)

    def __repr__(self) -> str:
        return f"Replay({self.run.id}, fact {self.position} of {self.past.last})"

    def _ipython_display_(self) -> None:
        live_panes().show_replay(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Mapping[str, str]:
        scene, steps = Scene(self.state), self.steps()
        return bundle(scene, f"replay of {heading(scene)}", steps.html(), tuple(_lines(steps)))


def _lines(steps: Table) -> Iterator[str]:
    yield ""
    yield from steps.text().splitlines()
