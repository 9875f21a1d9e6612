"""
Deterministic mode: the same program gives the same bytes, so that its outputs can be compared with saved ones.

Ids count, times come from a clock that begins at a fixed moment and moves on by a second with each commit, and nothing
happens in the background: an order to an engine returns when all that follows from it is done, one message after the
other in the order of the queue. What waits for a time, such as a retry, gets it at once from the clock; what waits for
a person waits. A store is in memory unless it is named, so that every start begins at the same state.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from stabilize_nb.store.codec import dumps

if TYPE_CHECKING:
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.queue.processor.processor import QueueProcessor
    from stabilize_nb.store.store import WorkflowStore

ENVIRONMENT: Final = "STABILIZE_NB_DETERMINISTIC"
#: 2026-01-01 00:00 UTC, in ms since the epoch.
START: Final = 1_767_225_600_000
TICK: Final = 1_000
#: Seconds one message may take with the body that it leads to; nothing else could go on meanwhile.
PATIENCE: Final = 86_400.0

_chosen: bool | None = None


def deterministic(on: bool = True) -> None:
    """
    Turn the mode on (or off) for every engine made from now on; the environment variable is not asked any more.

    For example:

        >>> from stabilize_nb import Engine, Flow
        >>> from stabilize_nb.testing import deterministic
        >>> deterministic()
        >>> flow = Flow("greeting")
        >>> @flow.stage
        ... def greet(name):
        ...     return f"Hello {name}"
        >>> with Engine(":memory:") as engine:
        ...     run = engine.start(flow, name="Ada")  # done when the call returns
        ...     print(run.id, run.status, run.events["time"][0])
        run-0001 SUCCEEDED 2026-01-01 00:00:00+00:00
        >>> deterministic(False)
    """
    global _chosen  # noqa: PLW0603 - one mode a process
    _chosen = on


def is_deterministic() -> bool:
    """Whether engines are made deterministic: as was chosen, else as STABILIZE_NB_DETERMINISTIC says."""
    if _chosen is not None:
        return _chosen
    return os.environ.get(ENVIRONMENT, "").strip().lower() in {"1", "true", "yes", "on"}


class Clock:
    """Time that moves with the commits; calling it gives ms since the epoch (UTC)."""

    def __init__(self, now: int = START) -> None:
        self._now = now

    def __call__(self) -> int:
        return self._now

    def tick(self) -> None:
        """Move on by a second."""
        self._now += TICK

    def reach(self, at: int) -> None:
        """Move on to a moment that lies ahead; one that is past changes nothing."""
        self._now = max(self._now, at)


class Rehearsal:
    """Plays the work of one engine: message after message, in the time of its own clock."""

    def __init__(self, store: WorkflowStore, processor: QueueProcessor) -> None:
        self._store = store
        self._processor = processor
        database = store.database
        if not isinstance(database.clock, Clock):
            database.clock = Clock(max([START, *self._times()]))
            database.changes.subscribe(database.clock.tick)
        self._clock = database.clock

    def _times(self) -> list[int]:
        names = ("created_at", "started_at", "ended_at")
        return [run[name] for run in self._store.list() for name in names if run[name] is not None]

    def name(self, workflow: Workflow) -> None:
        """Give a new workflow, its stages and tasks ids that count: run-0001, run-0001:plan, run-0001:plan:1."""
        workflow.id = self.new_run_id()
        named = {stage.id: f"{workflow.id}:{stage.ref_id}" for stage in workflow.stages}
        for stage in workflow.stages:
            stage.id = named[stage.id]
            stage.parent_stage_id = named.get(stage.parent_stage_id or "", stage.parent_stage_id)
            for position, task in enumerate(stage.tasks, 1):
                task.id = f"{stage.id}:{position}"

    def new_run_id(self) -> str:
        """Return the id of the next run."""
        return f"run-{len(self._store.list(limit=10**9)) + 1:04d}"

    def play(self) -> None:
        """Do what is queued and all that follows from it; returns when nothing is left but what waits for people."""
        self._store.database.call(self._processor.look_for_dead)
        while (due := self._next_work()) is not None:
            self._clock.reach(due)
            if not self._processor.process_one(PATIENCE):
                return

    def _next_work(self) -> int | None:
        known = dumps(sorted(self._processor.registry.names()))
        wanted = {"known": known, "owner": self._processor.custody.filter}
        row = self._store.database.call_read(lambda connection: connection.one("next_due", wanted))
        order, _timer, body = row or (None, None, None)
        return min((time for time in (order, body) if time is not None), default=None)
