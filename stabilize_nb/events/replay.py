"""EventReplayer: a workflow as it was after any of its facts, by the fold of `evolve` that also made the rows (C7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import ConfigError, WorkflowNotFoundError
from stabilize_nb.events.history import Entry, after, beginning, entries_of
from stabilize_nb.store.store import picture

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from stabilize_nb.core.rows import StageRow, TaskRow
    from stabilize_nb.core.view import View
    from stabilize_nb.events.log import EventLog
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.status import WorkflowStatus
    from stabilize_nb.models.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowState:
    """A workflow as it was right after the fact number `sequence`, at `time` (UTC).

    `workflow` is its picture, as a store returns it; changing it changes nothing else.
    """

    sequence: int
    time: datetime
    workflow: Workflow

    @property
    def status(self) -> WorkflowStatus:
        """The status of the workflow."""
        return self.workflow.status

    @property
    def stages(self) -> list[StageExecution]:
        """The stages as written, further activations last."""
        return self.workflow.stages

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """The outputs of every stage that had some, by ref_id."""
        return {stage.ref_id: stage.outputs for stage in self.workflow.stages if stage.outputs}

    def stage(self, ref_id: str) -> StageExecution:
        """Return a stage; raises StageNotFoundError."""
        return self.workflow.stage_by_ref_id(ref_id)


class EventReplayer:
    """
    Rebuilds workflows from a log alone.

    For example:

        >>> from stabilize_nb import Engine, Flow
        >>> from stabilize_nb.events import EventReplayer, SqliteEventStore
        >>> flow = Flow("greeting")
        >>> @flow.stage
        ... def greet(name):
        ...     return {"text": f"Hello {name}"}
        >>> with Engine("greetings.db") as engine:
        ...     run = engine.start(flow, name="Ada")
        ...     status = run.wait()
        ...     log = SqliteEventStore("sqlite:///greetings.db")
        ...     replayer = EventReplayer(log)
        ...     before = replayer.rebuild_workflow_state(run.id, as_of_sequence=2)
        ...     print(before.status, before.outputs, replayer.rebuild_workflow_state(run.id).outputs)
        ...     log.close()
        RUNNING {} {'greet': {'text': 'Hello Ada'}}
    """

    def __init__(self, event_store: EventLog) -> None:
        self._log = event_store

    def rebuild_workflow_state(self, workflow_id: str, as_of_sequence: int | None = None) -> WorkflowState:
        """
        Return the workflow as it was after the fact `as_of_sequence`, or after the last one.

        Raises WorkflowNotFoundError when the log has no such workflow, ConfigError for a number below 1.
        """
        if as_of_sequence is not None and as_of_sequence < 1:
            msg = f"as_of_sequence is {as_of_sequence}; facts are numbered from 1, leave it out for the last one"
            raise ConfigError(msg)
        entries = entries_of(self._log.database, workflow_id, as_of_sequence)
        if not entries:
            msg = f"workflow {workflow_id!r} is not in the log {self._log.database.url}"
            raise WorkflowNotFoundError(msg)
        view = fold(entries)
        return WorkflowState(
            sequence=view.head.sequence,
            time=datetime.fromtimestamp(entries[-1].at / 1_000, UTC),
            workflow=picture_of(view, entries[0].data["definition"]),
        )


def fold(entries: Sequence[Entry]) -> View:
    """Return the rows that the facts of a log, from the first one on, bring about."""
    view = beginning(entries[0])
    for entry in entries:
        after(view, entry)
    return view


def picture_of(view: View, definition: dict[str, Any], only: Collection[str] | None = None) -> Workflow:
    """Return folded rows as a workflow; with `only` the stages with these ids of rows."""
    rows = [(key.kind, row) for key, row in view.changed.items() if row is not None]
    stages: list[StageRow] = [row for kind, row in rows if kind == "stage" and (only is None or row.id in only)]
    tasks: list[TaskRow] = [row for kind, row in rows if kind == "task" and (only is None or row.stage_id in only)]
    stages.sort(key=lambda row: (row.activation > 1, row.ordinal, row.activation))
    tasks.sort(key=lambda row: row.position)
    return picture(view.head, definition, stages, tasks)
