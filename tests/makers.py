"""What tests arrange with: workflows in one line, and an engine's parts opened together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from stabilize_nb import (
    NoOpTask,
    Orchestrator,
    QueueProcessor,
    StageExecution,
    TaskExecution,
    TaskRegistry,
    Workflow,
)
from stabilize_nb.decisions import decisions_in
from stabilize_nb.queue.queue import Queue
from stabilize_nb.store import dialect
from stabilize_nb.store.database import Database
from stabilize_nb.store.sqlite import SqliteConnection
from stabilize_nb.store.store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stabilize_nb import Run
    from stabilize_nb.core.draft import Limits
    from stabilize_nb.decisions import Decision
    from stabilize_nb.queue.processor.config import QueueProcessorConfig
    from stabilize_nb.store.connection import Connection

#: Rows that an ended workflow should not leave behind.
LEFT_OVER = {
    "message": "SELECT kind, stage_id, owner, error FROM message WHERE done_at IS NULL",
    "signal": "SELECT stage_id, name FROM signal",
    "waiter": "SELECT * FROM waiter",
    "claim": "SELECT * FROM claim WHERE (holder <> '' AND settled = 0) OR taken <> 0",
}


def stage(ref_id: str, *after: str, task: str = "noop", **fields: Any) -> StageExecution:
    """Make a stage with one task that follows the stages `after`."""
    tasks = fields.pop("tasks", None)
    if tasks is None:
        tasks = [TaskExecution.create(ref_id, task, stage_start=True, stage_end=True)]
    return StageExecution(
        ref_id=ref_id, type=task, name=ref_id, requisite_stage_ref_ids=set(after), tasks=tasks, **fields
    )


def workflow(*stages: StageExecution, name: str = "test", **fields: Any) -> Workflow:
    """Make a workflow of stages."""
    return Workflow.create("tests", name, stages, **fields)


def chain(length: int, task: str = "noop") -> Workflow:
    """Make a chain of stages s0 → s1 → ..."""
    stages = (stage(f"s{at}", *([f"s{at - 1}"] if at else []), task=task) for at in range(length))
    return workflow(*stages, name="chain")


def decided(run: Run) -> list[Decision]:
    """Return the decisions of a run as they came."""
    return decisions_in(run.engine.database, run.id)


def asked(connection: Connection, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a question in SQLite's words, whichever database is asked."""
    if isinstance(connection, SqliteConnection):
        return list(connection.raw.execute(statement, values))
    cursor = connection.raw.execute(dialect.question(statement).replace("?", "%s"), values or None)
    return cursor.fetchall() if cursor.description else []


class Bench:
    """Store, queue, registry, processor and orchestrator on one database; closes them all."""

    def __init__(
        self,
        url: str = "sqlite:///:memory:",
        *,
        durability: str | None = None,
        tasks: dict[str, Any] | None = None,
        config: QueueProcessorConfig | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.database = Database.open(url, durability=durability)
        self.store = WorkflowStore(self.database)
        self.queue = Queue(self.database)
        self.registry = TaskRegistry()
        self.registry.register("noop", NoOpTask)
        for name, task in (tasks or {}).items():
            self.registry.register(name, task)
        self.processor = QueueProcessor(self.queue, config, self.store, self.registry, limits)
        self.orchestrator = Orchestrator(self.queue, self.store)

    def run(self, flow: Workflow, timeout: float = 20.0, workers: int = 1) -> Workflow:
        """Run a workflow as far as it goes and return its picture."""
        self.begin(flow)
        self.processor.process_all(timeout=timeout, workers=workers)
        return self.store.retrieve(flow.id)

    def begin(self, *flows: Workflow) -> None:
        """Store and start workflows without working on them."""
        for flow in flows:
            self.store.store(flow)
            self.orchestrator.start(flow)

    def statuses(self, flow: Workflow) -> dict[str, str]:
        """Return ref_id -> name of the status."""
        return {each.ref_id: each.status.name for each in self.store.retrieve(flow.id).stages}

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database."""
        return self.database.call_read(lambda connection: asked(connection, statement, *values))

    def left_over(self) -> list[str]:
        """Return what workflows should not leave behind when all of them have ended."""
        return [f"{table} {row}" for table, question in LEFT_OVER.items() for row in self.sql(question)]

    def close(self) -> None:
        """Close everything."""
        self.processor.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refs(flow: Workflow, wanted: Iterable[str] = ()) -> dict[str, Any]:
    """Return ref_id -> stage, of all stages or those wanted."""
    names = set(wanted)
    return {each.ref_id: each for each in flow.stages if not names or each.ref_id in names}
