"""A clock that is set by hand, the workflows that wait by it, and what they did when."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from stabilize_nb import RetryableTask, SubWorkflowTask, TaskResult, TransientError, WaitTask
from stabilize_nb.core.draft import Limits
from stabilize_nb.hitl import ApprovalTask
from stabilize_nb.queue.messages import StartWorkflow
from tests.makers import Bench, stage, workflow

if TYPE_CHECKING:
    from stabilize_nb import Workflow
    from stabilize_nb.models.stage import StageExecution

SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
#: What every timer here waits for, in seconds and in ms.
LONG = 30
TIMER = LONG * SECOND
PATIENCE = 20.0


class Poll(RetryableTask):
    """Is done when it is asked a third time."""

    def get_timeout(self) -> timedelta:
        """Return more than any clock here is set by."""
        return timedelta.max

    def get_backoff_period(self, stage: StageExecution, elapsed: timedelta) -> timedelta:
        """Return the time of a timer; time that has passed is never negative, wherever the clock was set."""
        assert elapsed >= timedelta(0)
        return timedelta(seconds=LONG)

    def execute(self, stage: StageExecution) -> TaskResult:
        """Ask."""
        asked = stage.context.get("asked", 0) + 1
        return TaskResult.success() if asked == 3 else TaskResult.running(context={"asked": asked})


def fails_once(stage: StageExecution) -> dict[str, Any]:
    """Fail for the time being; the service may say when to come back."""
    if stage.context.get("tried"):
        return {}
    after = stage.context.get("after")
    raise TransientError("not yet", retry_after=after, context_update={"tried": True})


def waits(ref: str, *after: str) -> StageExecution:
    return stage(ref, *after, task="wait", context={"waitTime": LONG})


def gate(**context: Any) -> Workflow:
    return workflow(stage("a", task="approval", context={"message": "Good?", **context}), stage("z", "a"))


@dataclass(frozen=True)
class Kind:
    """A workflow that waits; by which event a timer was set, by which it went off, and how often that happens."""

    flow: Workflow
    sets: str
    fires: str
    times: int = 1
    delay: float = 0  # s until it is begun
    ends: str = "SUCCEEDED"


def kinds() -> dict[str, Kind]:
    """Return one workflow of each kind."""
    child = {"ref_id": "c", "type": "wait", "name": "c", "context": {"waitTime": LONG},
             "tasks": [{"name": "c", "implementing_class": "wait"}]}  # fmt: skip
    sub = stage("a", task="sub", context={"_sub_workflow_config": {"name": "child", "stages": [child]}})
    after = stage("a", task="fails_once", context={"after": LONG})
    return {
        "wait": Kind(workflow(waits("a"), stage("z", "a")), "task.polled", "task.started"),
        "two waits": Kind(workflow(waits("a"), waits("b", "a")), "task.polled", "task.started", 2),
        "side by side": Kind(workflow(waits("a"), waits("b"), stage("z", "a", "b")), "task.polled", "task.started", 2),
        "poll": Kind(workflow(stage("a", task="poll")), "task.polled", "task.started", 2),
        "back-off": Kind(workflow(stage("a", task="fails_once")), "task.retried", "task.started"),
        "retry_after": Kind(workflow(after), "task.retried", "task.started"),
        "gate": Kind(gate(timeout=f"{LONG}s", on_timeout="approve"), "stage.suspended", "task.completed"),
        "stage limit": Kind(gate(stageTimeoutMs=TIMER), "stage.started", "stage.failed", ends="TERMINAL"),
        "child": Kind(workflow(sub, stage("z", "a")), "stage.suspended", "task.completed"),
        "delayed start": Kind(workflow(stage("a")), "workflow.created", "workflow.started", delay=LONG),
    }


@dataclass
class Record:
    """What a workflow did: the times of its timers, set and gone off, in ms; and how it ended."""

    fired: list[tuple[int, int]]
    status: str
    left: list[str]


@dataclass
class World:
    """An engine at work by a clock that is set by hand."""

    bench: Bench
    now: int
    early: list[str] = field(default_factory=list)

    def clock(self) -> int:
        """Return the time."""
        return self.now

    def to(self, ms: int) -> None:
        """Set the clock, and let what is due happen."""
        desk = self.bench.processor.desk
        self.now = ms
        self.bench.processor.wake()
        with desk.changed:
            assert desk.calm.wait_for(self._is_calm, PATIENCE), "the engine does not come to rest"

    def _is_calm(self) -> bool:
        desk = self.bench.processor.desk
        at_work = desk.leading or desk.finished or desk.ready or desk.running or desk.hooks or desk.in_threads
        return not at_work and not desk.is_due(self.now)

    def live_on(self) -> None:
        """Set the clock to each moment at which something is due, and to the ms before, until nothing is."""
        while (due := self.bench.processor.desk.next_due) is not None:
            before = self.count()
            self.to(due - 1)
            if self.count() != before:
                self.early.append(f"something happened before {due}")
            self.to(due)

    def count(self) -> int:
        """Return how many events there are."""
        return int(self.bench.sql("SELECT count(*) FROM event")[0][0])


@cache
def records(start: int, moves: tuple[int, ...]) -> dict[str, Record]:
    """Run every kind, the clock set by `moves` (ms) one after the other while they wait; name -> what it did."""
    tasks = {"wait": WaitTask, "approval": ApprovalTask, "sub": SubWorkflowTask, "poll": Poll, "fails_once": fails_once}
    limits = Limits(backoff_min=TIMER, backoff_max=TIMER, jitter=0)
    with Bench(tasks=tasks, limits=limits) as bench:
        world = World(bench, start)
        bench.database.clock = world.clock
        every = kinds()
        for kind in every.values():
            bench.store.store(kind.flow)
            bench.queue.push(StartWorkflow(execution_id=kind.flow.id), delay=kind.delay)
        bench.processor.start()
        world.to(start)
        for move in moves:
            world.to(max(0, world.now + move))
        world.live_on()
        left = [*bench.left_over(), *world.early]
        return {name: record(bench, kind, left) for name, kind in every.items()}


def record(bench: Bench, kind: Kind, left: list[str]) -> Record:
    """Read what a workflow did."""
    rows = bench.sql("SELECT type, at, stage_id FROM event WHERE workflow_id = ? ORDER BY sequence", kind.flow.id)
    fired, pending = [], {}
    for type_, at, stage_id in rows:
        if type_ == kind.fires and stage_id in pending:
            fired.append((pending.pop(stage_id), at))
        elif type_ == kind.sets:
            pending[stage_id] = at
    return Record(fired, bench.store.retrieve(kind.flow.id).status.name, left)


def ms(*moment: int) -> int:
    """Return ms since the epoch of a moment in UTC."""
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1_000)  # type: ignore[misc,arg-type]
