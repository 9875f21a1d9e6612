"""The sub-commands that begin, stop and keep something."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from IPython.core.error import UsageError

from stabilize_nb.models.status import COMPLETE, WorkflowStatus
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.export import module_of
from stabilize_nb.notebook.order import Order, defined, definition
from stabilize_nb.notebook.progress import status_of
from stabilize_nb.notebook.runtime import RUNTIME, Definition
from stabilize_nb.notebook.words import Line
from stabilize_nb.run import Run
from stabilize_nb.starting import How

if TYPE_CHECKING:
    import pandas as pd

    from stabilize_nb.engine import Engine

S = WorkflowStatus
#: Statuses of a run that nothing is done about just now.
AT_REST: Final = frozenset({*COMPLETE, S.SUSPENDED, S.PAUSED})
#: Seconds that an order is given to take effect before its run is shown, and that what follows from it is given.
SETTLE: Final = 1.0
FOLLOW: Final = 0.3


def run(order: Order) -> Run:
    """Start a run of NAME."""
    found = defined(order) or definition(order.word())
    if len(order.words) > 1:
        raise UsageError(f"{order.words[1]!r} is no input: write name=value; usage: {order.usage}")
    return start(found, order.line)


def start(found: Definition, line: Line) -> Run:
    """Start a run of a definition in its engine, the default one when it has none."""
    chosen = [way for way in ("new", "once") if f"--{way}" in line.options]
    if len(chosen) > 1 or (chosen == ["new"] and "--key" in line.options):
        raise UsageError("--new begins another run, --once and --key look for one that is there: write one of them")
    how: How = "new" if chosen == ["new"] else "once" if chosen else "again"
    return settled(found.start(line.given, how=how, key=line.options.get("--key", "")))


def attach(order: Order) -> Run:
    """Return the handle of a run, the newest one when none is named."""
    order.only(1)
    return order.run("last")


def resume(order: Order) -> Run | pd.DataFrame:
    """Go on with a run, or with every run that has not ended."""
    order.only(1)
    if order.words and "--all" in order.line.options:
        raise UsageError(f"name a run or write --all, not both; usage: {order.usage}")
    engine = order.run().engine if order.words else RUNTIME.engine()
    runs = engine.resume(order.run().id if order.words else None)
    for run in runs:
        if run.status.name == "PAUSED":
            run.resume()
        if "--accept-changes" in order.line.options:
            run.migrate()
    return settled(runs[0]) if len(runs) == 1 else _frame_of(engine, runs)


def _frame_of(engine: Engine, runs: Collection[Run]) -> pd.DataFrame:
    # Only here are frames wanted: pandas is loaded with the first one.
    found: pd.DataFrame = import_module("stabilize_nb.notebook.run_list").listed(engine, only={run.id for run in runs})
    return found


def cancel(order: Order) -> Run:
    """Withdraw a run, or one stage of it."""
    order.only(1)
    run, stage = order.run_and_part()
    run.cancel(stage, user=settings().who)
    return settled(run, lambda: run.status.is_complete or stage is not None)


def pause(order: Order) -> Run:
    """Begin nothing more of a run."""
    order.only(1)
    run = order.run()
    run.pause()
    return settled(run, lambda: run.status.name == "PAUSED" or run.status.is_complete)


def retry(order: Order) -> Run:
    """Run a stage again, the one that failed when none is named."""
    order.only(1)
    run, stage = order.run_and_part()
    run.retry(stage)
    return settled(run, lambda: not run.status.is_complete)


def fork(order: Order) -> Run:
    """Start a run that goes another way from a stage on."""
    run, stage = order.run_and_part()
    if stage is None or len(order.words) > 1:
        raise UsageError(f"a stage is needed, from which on it goes another way; usage: {order.usage}")
    return settled(run.fork(stage, inputs=order.line.given))


def signal(order: Order) -> Run:
    """Send a signal to a stage."""
    run, stage = order.run_and_part()
    if stage is None or len(order.words) != len(("RUN/STAGE", "NAME")):
        raise UsageError(f"a stage and the name of a signal are needed; usage: {order.usage}")
    run.signal(stage, order.words[1], order.line.given)
    return settled(run)


def settled(run: Run, done: Callable[[], bool] = lambda: True) -> Run:
    """Give an order a moment to take effect, so that the run is shown after it."""
    _wait(run, done, SETTLE)
    _wait(run, lambda: _is_at_rest(run), FOLLOW)
    return run


def _is_at_rest(run: Run) -> bool:
    workflow = run.workflow
    return status_of(workflow.status, workflow.stages) in AT_REST


def _wait(run: Run, done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        run.engine.database.changes.ticket().wait(0.02)


def write_module(order: Order) -> Path:
    """Write a definition as a Python module."""
    order.only(2)
    return export(definition(order.word()), order.word(1))


def export(found: Definition, file: str) -> Path:
    """Write a definition as a Python module and return where."""
    path = Path(file)
    path.write_text(module_of(found), encoding="utf-8")
    return path


def store(order: Order) -> Engine:
    """Return the engine that is used, after changing to another when one is named."""
    order.only(1)
    if not order.words:
        return RUNTIME.engine()
    match order.word():
        case "sqlite":
            return RUNTIME.use(None)
        case "embedded" | "postgres" as kind:
            raise UsageError(f"{kind} is no database this version can use; write a file, sqlite or :memory:")
        case url:
            return RUNTIME.use(url)
