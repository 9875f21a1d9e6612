"""Timers over the end of a process: never early, and once (C5)."""

import time
from pathlib import Path

import pytest

from stabilize_nb import Engine, Workflow
from tests.makers import stage, workflow

WAIT = 0.8


@pytest.fixture
def waiting(tmp_path: Path) -> tuple[Path, str, float]:
    """A database with a run that waits, of an engine that is closed; and when the wait began."""
    with Engine(tmp_path / "runs.db") as engine:
        run = engine.start(chain_with_a_wait())
        while engine.store.retrieve(run.id).stage_by_ref_id("wait").status.name != "RUNNING":
            time.sleep(0.01)
        begun = time.time()
    return tmp_path / "runs.db", run.id, begun


def chain_with_a_wait() -> Workflow:
    return workflow(stage("wait", task="wait", context={"waitTime": WAIT}), stage("after", "wait"))


def times_of(run, kind):
    events = run.events
    return [at.timestamp() for at in events[events["type"] == kind]["time"]]


@pytest.mark.parametrize("away", [0.0, 2 * WAIT], ids=["due after the restart", "due while nothing runs"])
def test_a_wait_outlives_its_process(waiting: tuple[Path, str, float], away: float) -> None:
    """What waits for a time gets it once, not before it is due, and at once when it was due while nothing ran."""
    path, run_id, begun = waiting
    time.sleep(away)

    with Engine(path) as engine:
        opened = time.time()
        (run,) = engine.resume()
        assert run.id == run_id
        run.wait(timeout=10)
        polled, ended = times_of(run, "task.polled"), times_of(run, "task.completed")

    assert len(polled) == 1
    assert len(ended) == 2
    assert ended[0] - polled[0] >= WAIT - 0.001
    assert ended[0] <= max(begun + WAIT, opened) + 1
