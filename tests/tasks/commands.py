"""What tests of tasks that run commands arrange with: an engine with these tasks, and what processes are there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psutil

from stabilize_nb import Engine, Run, TaskRegistry
from tests.makers import stage, workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def engine_with(**tasks: Any) -> Engine:
    """Open an engine that knows these tasks."""
    registry = TaskRegistry()
    for name, task in tasks.items():
        registry.register(name, task)
    return Engine(":memory:", registry=registry)


def begun(engine: Engine, task: str, **context: Any) -> Run:
    """Start a run of one stage `it`, with a task and the context of that."""
    return engine.start(workflow(stage("it", task=task, context=context)))


def carried_out(engine: Engine, task: str, **context: Any) -> Any:
    """Run one stage with a task to its end and return the stage."""
    run = begun(engine, task, **context)
    run.wait(20)
    return run.workflow.stages[0]


def wait_for(condition: Callable[[], Any], timeout: float = 15.0) -> Any:
    """Wait until something is true and return it; fail when it does not become true."""
    latest = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < latest, "it did not come to be"
        time.sleep(0.01)
    return found


def alive(mark: str) -> list[psutil.Process]:
    """Return the processes whose command line has a mark; those that ended and that nobody has asked about are none."""
    return [*_alive(mark)]


def _alive(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if mark in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.NoSuchProcess:
            continue
