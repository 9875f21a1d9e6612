"""The sub-commands that show something and change nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, get_args

from IPython.core.error import UsageError

from stabilize_nb.comparing import Comparison, compare
from stabilize_nb.flow import Flow
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.dot import Direction, to_dot, to_mermaid
from stabilize_nb.notebook.order import Order, defined, definition
from stabilize_nb.notebook.replay import Replay
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.notebook.standing import owner_line, version_line
from stabilize_nb.notebook.text import to_text
from stabilize_nb.notebook.views import Picture
from stabilize_nb.notebook.words import did_you_mean
from stabilize_nb.printed import Lines

if TYPE_CHECKING:
    import pandas as pd

FORMATS: Final = ("svg", "mermaid", "dot", "ascii")


def list_runs(order: Order) -> pd.DataFrame:
    """Return the runs that have not ended and the newest of those that have, or all."""
    order.only(1)
    name = order.words[0] if order.words else None
    # Only here are frames wanted: pandas is loaded with the first one.
    runs: pd.DataFrame = import_module("stabilize_nb.notebook.run_list").listed(
        RUNTIME.engine(), name, everything="--all" in order.line.options
    )
    return runs


def show(order: Order) -> Flow | Workflow:
    """Return a definition."""
    order.only(1)
    return (defined(order) or definition(order.word())).work


def status(order: Order) -> Lines:
    """Return a sentence for each thing that runs wait for or work at."""
    order.only(1)
    runs = [order.run()] if order.words else RUNTIME.engine().unfinished()
    said = ((run, [owner_line(run), version_line(run, run.workflow), *run.explain()]) for run in runs)
    lines = [f"{run.name} {run.id}: {sentence}" for run, sentences in said for sentence in sentences if sentence]
    return Lines("\n".join(lines) or "no run is unfinished")


def events(order: Order) -> pd.DataFrame:
    """Return the log of a run, and write it in the formats that are wanted."""
    order.only(1)
    events = order.run("last").events
    given = order.line.options
    if "--csv" in given:
        events.to_csv(given["--csv"], index=False)
    if "--xes" in given:
        events.workflow.to_xes(given["--xes"])
    if "--ocel" in given:
        events.workflow.to_ocel(given["--ocel"])
    shown: pd.DataFrame = import_module("stabilize_nb.notebook.run_list").ShownFrame(events)
    return shown


def compare_runs(order: Order) -> Comparison:
    """Return two runs side by side."""
    order.only(2)
    first, second = (RUNTIME.run(order.word(at), order.names) for at in range(2))
    return compare(first, second)


def replay(order: Order) -> Replay:
    """Return what goes through a run, at the last fact or at the moment that is given."""
    order.only(1)
    at: str | None = order.line.options.get("--at")
    moment = int(at) if at is not None and at.isdecimal() else at
    return Replay(order.run("last"), moment)


def graph(order: Order) -> Picture | Lines:
    """Return the picture of a definition or of a run, as drawing or in a notation."""
    order.only(1)
    found = defined(order)
    if found is None:
        workflow = order.run().workflow
    else:
        workflow = found.work.picture() if isinstance(found.work, Flow) else found.work
    direction: Direction = order.line.options.get("--direction", "auto")
    if direction not in get_args(Direction):
        raise UsageError(f"--direction {direction} is not known; write one of {', '.join(get_args(Direction))}")
    match order.line.options.get("--format", "svg"):
        case "svg":
            return Picture(workflow=workflow, direction=direction)
        case "mermaid":
            return Lines(to_mermaid(workflow, direction=direction))
        case "dot":
            return Lines(to_dot(workflow, direction=direction))
        case "ascii":
            return Lines(to_text(workflow))
        case unknown:
            close = did_you_mean(unknown, FORMATS)
            raise UsageError(f"--format {unknown} is not known{close}; write one of {', '.join(FORMATS)}")
