"""The work of an example: start a run or go on with it, tell of it, and ask you."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stabilize_nb import Engine, Run, WorkflowStatus, WorkflowStream
from stabilize_nb.events import EventType
from stabilize_nb.llm import ToolRegistry

if TYPE_CHECKING:
    from examples.example import Example
    from stabilize_nb.gates import Gate
    from stabilize_nb.streaming import StreamItem


def work(name: str, folder: Path, *, yes: bool, once: bool = False) -> int:
    """
    Do the work of the example `name` in a folder, and return the exit code.

    `yes`: approve without asking. `once`: start no other run when the last one has ended.
    """
    example: Example = import_module(f"examples.{name}.__main__").EXAMPLE
    module, _, attribute = example.flow.partition(":")
    flow = getattr(import_module(module), attribute)
    with Engine(folder / "runs.db") as engine:
        engine.define(flow)
        run = begin(engine, flow, example, folder, once=once)
        with WorkflowStream(run.id) as stream:
            stream.on_event(Teller(run))
            decide(run, yes=yes)
        conclude(run)
        return int(run.status is not WorkflowStatus.SUCCEEDED)


def begin(engine: Engine, flow: Any, example: Example, folder: Path, *, once: bool) -> Run:
    """Go on with the last run, or start one."""
    earlier = engine.runs(flow.name)
    if len(earlier) == 0 or (not once and all(run.name != flow.name for run in engine.unfinished())):
        place = folder / f"run-{len(earlier) + 1}"
        place.mkdir(exist_ok=True)
        run = engine.start(flow, **example.inputs(place.resolve()))
        print(f"started run {run.id} in {place}", flush=True)
        return run
    run = engine.run(earlier["run_id"].iloc[0])
    done = [stage.ref_id for stage in run.workflow.stages if stage.status.is_complete]
    print(f"resumed run {run.id}; not done again: {', '.join(done) or 'nothing yet'}", flush=True)
    engine.resume()
    return run


class Teller:
    """Prints what happens, line by line: words of the models as they come, and what stages come to."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._names: dict[str, str] = {}
        self._open: defaultdict[str, str] = defaultdict(str)

    def __call__(self, item: StreamItem) -> None:
        if item.entity_type != "stage":
            return
        if item.entity_id not in self._names:  # stages that run for each item are made on the way
            self._names = {stage.id: stage.ref_id for stage in self._run.workflow.stages}
        stage = self._names[item.entity_id]
        if item.data.get("kind") == "tokens":
            *lines, self._open[stage] = (self._open[stage] + item.data["message"]).split("\n")
            for line in lines:
                self._say(stage, line)
        elif item.event_type in {EventType.STAGE_COMPLETED, EventType.STAGE_FAILED, EventType.STAGE_CANCELED}:
            self._say(stage, self._open.pop(stage, ""))
            self._say(stage, f"({item.event_type.value.rpartition('.')[2]})")

    def _say(self, stage: str, line: str) -> None:
        if line.strip():
            print(f"{stage:>15} │ {line}", flush=True)


def decide(run: Run, *, yes: bool) -> None:
    """Have a person decide what the run asks, until it has ended."""
    decided: set[str] = set()
    while gates := run.until_gate():
        new = [gate for gate in gates if gate.fingerprint not in decided]
        for gate in new:
            decided.add(gate.fingerprint)
            if yes:
                # A body whose process was killed three times waits for somebody to say that it is not to blame.
                run.decide(gate, "retry" if gate.doubt else "approve", user="--yes")
            else:
                ask(run, gate)
        if not new:
            run.engine.database.changes.ticket().wait(0.1)


def ask(run: Run, gate: Gate) -> None:
    """Show what is asked, and deliver the answer."""
    shown = gate.show if isinstance(gate.show, str) else json.dumps(gate.show, indent=1)
    print(f"\n{shown}\n" if gate.show else "")
    choice = click.prompt(gate.question, type=click.Choice(gate.choices), default=gate.choices[0])
    run.decide(gate, choice)


def conclude(run: Run) -> None:
    """Say what came of the run, and what it took."""
    for line in run.explain():
        print(line)
    print(f"spent: {run.budget}")


def note_tools(path: Path) -> None:
    """Have each call of a tool leave a line in a file when it begins, and one when it has ended."""
    call = ToolRegistry.acall

    async def noted(self: ToolRegistry, name: str, arguments: Any, context: Any = None) -> str:
        note = {"what": name, "key": context.idempotency_key}
        write(path, {**note, "began": time.time()})
        result = await call(self, name, arguments, context)
        write(path, {**note, "ended": time.time()})
        return result

    ToolRegistry.acall = noted  # type: ignore[method-assign]


def write(path: Path, line: dict[str, Any]) -> None:
    """Add a line to a file, in one piece."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(handle)
