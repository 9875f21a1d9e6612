"""Workflows take turns at the workers: one with many bodies does not keep one with few waiting. Counted, not timed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from stabilize_nb import Engine, TaskRegistry, WorkflowStatus
from stabilize_nb.queue.messages import StartWorkflow
from tests.makers import stage, workflow

if TYPE_CHECKING:
    from pathlib import Path

    from stabilize_nb import StageExecution

PATIENCE = 60.0
S = WorkflowStatus
MANY = 120


class Order:
    """The order in which bodies are run; they wait until everything has been queued."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gate = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, run: StageExecution) -> None:
        self.gate.wait(PATIENCE)
        with self._lock:
            self.begun.append(run.context["of"])


def waiting(engine: Engine) -> int:
    """Return how many bodies are queued."""
    return sum(row[1] for row in engine.database.call_read(lambda connection: connection.all("waiting_for_code", {})))


@pytest.mark.parametrize("workers", [1, 4])
def test_few_bodies_are_not_kept_waiting_by_many(tmp_path: Path, workers: int) -> None:
    """Of three runs, the first of which has many bodies that are ready, the small ones are through after a few."""
    order = Order()
    registry = TaskRegistry()
    registry.register("body", order)
    with Engine(tmp_path / "runs.db", registry=registry, workers=workers, durability="normal") as engine:
        runs, queued = [], 0
        news = engine.database.changes.ticket()
        for name, bodies in {"large": MANY, "small": 3, "tiny": 1}.items():
            made = workflow(*(stage(f"s{at}", task="body", context={"of": name}) for at in range(bodies)))
            engine.store.store(made, StartWorkflow(execution_id=made.id))
            runs.append(engine.run(made.id))
            engine.work()
            queued += bodies
            while waiting(engine) < queued - workers:
                news.wait(0.05)
        order.gate.set()

        assert [run.wait(PATIENCE) for run in runs] == [S.SUCCEEDED] * 3
    last = max(at for at, name in enumerate(order.begun) if name != "large")
    assert order.begun.count("large") == MANY
    assert order.begun[:last].count("large") <= 3 * workers + 4
