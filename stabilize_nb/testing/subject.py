"""The workflow of a crash sweep, and a process that drives it: prepared once, then run from a copy in each scenario."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stabilize_nb.core.draft import Limits
from stabilize_nb.decisions import order
from stabilize_nb.engine import BUILT_IN, Definition
from stabilize_nb.flow import Flow
from stabilize_nb.gates import Gate, gates_in
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.queue.messages import StartWorkflow
from stabilize_nb.queue.processor.processor import QueueProcessor
from stabilize_nb.queue.queue import Queue
from stabilize_nb.store.database import Database
from stabilize_nb.store.store import WorkflowStore
from stabilize_nb.tasks.registry import TaskRegistry
from stabilize_nb.testing.bodies import Watcher
from stabilize_nb.testing.forks import scratch
from stabilize_nb.testing.fuse import Fuse, Moment
from stabilize_nb.testing.outside import Seen, World, look, marked, value

#: Milliseconds that are waited before what failed is tried again.
_SOON = Limits(backoff_min=1, backoff_max=10)

#: A choice, or a choice with what is filled into the form.
Decision = str | tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is swept: a definition with its code, what people decide in it, and the world that it finds."""

    work: Definition | Workflow
    inputs: Mapping[str, Any]
    registry: TaskRegistry
    decisions: Mapping[str, Decision]
    files: Sequence[Path]
    setup: Callable[[], Any] | None
    effects: Callable[[], Any] | None
    timeout: float

    def define(self) -> None:
        """Make the code known in this process and those that it forks."""
        for name, task in BUILT_IN.items():
            if name not in self.registry:
                self.registry.register(name, task)
        if not isinstance(self.work, Workflow):
            self.work.register(self.registry)

    def prepare(self, folder: Path) -> None:
        """Store the workflow and its first message, and make the working folder that it finds."""
        place = folder / "work"
        place.mkdir(parents=True)
        for file in self.files:
            target = place / file.name
            shutil.copytree(file, target) if file.is_dir() else shutil.copy(file, target)
        workflow = self._workflow()
        with Database.open(_url(folder)) as database:
            database.registries.append(self.registry)
            WorkflowStore(database).store(workflow, StartWorkflow(execution_id=workflow.id))

    def _workflow(self) -> Workflow:
        if not isinstance(self.work, Workflow):
            return self.work.build(**self.inputs)
        self.work.context.update(self.inputs)
        return self.work

    def live(self, folder: Path, moment: Moment | None, *, with_authors: bool = False) -> Seen:
        """
        Drive the workflow to its end in this process, which is a fork; it may be killed before.

        `with_authors`: look after each body what it has changed.
        """
        place, notes = folder / "work", folder / "notes"
        os.chdir(place)
        if self.setup is not None and not notes.exists():
            self.setup()
        fuse, authors = Fuse(moment), Authors(place if with_authors else None)
        Watcher(notes, lambda: fuse.reached("inside"), authors.look).watch(self.registry)
        with Database.open(_url(folder)) as database:
            fuse.light()
            unfinished = self._drive(database)
            results, failures = _results(WorkflowStore(database))
        said = read_notes(folder)
        world = {**look(place), **marked(said), **results}
        if self.effects is not None:
            world |= value("what effects() returns", self.effects())
        for note in said:
            if "effect" in note:
                authors.changed[f"effect {note['effect']!r}"].add(note["task"])
        begun = Counter(note["begin"] for note in said if "begin" in note)
        return Seen(begun=dict(begun), world=world, wrong=unfinished or failures, counts=dict(fuse.counts),
                    authors={thing: sorted(bodies) for thing, bodies in authors.changed.items()})  # fmt: skip

    def _drive(self, database: Database) -> str:
        """Work and decide until all workflows have ended; return what they wait for when they do not."""
        queue, store = Queue(database), WorkflowStore(database)
        processor = QueueProcessor(queue, None, store, self.registry, _SOON)
        decided: set[tuple[str, int]] = set()
        try:
            while store.unfinished():
                processor.process_all(timeout=self.timeout)
                gates = gates_in(database)
                new = [gate for gate in gates if gate.name in self.decisions and _round(gate) not in decided]
                for gate in new:
                    self._decide(queue, gate)
                    decided.add(_round(gate))
                if store.unfinished() and not new:
                    return _waiting(store, gates, self.timeout)
        finally:
            processor.close()
        return ""

    def _decide(self, queue: Queue, gate: Gate) -> None:
        """Decide as it was said beforehand; an id of its own makes that once for each time the gate asks."""
        said = self.decisions[gate.name]
        choice, data = (said, {}) if isinstance(said, str) else said
        message = order(gate, choice, data, bound=False)
        queue.push(message, message_id=f"crash-sweep-{gate.stage_id}-{gate.generation}")


class Authors:
    """Which bodies have changed which things in a folder; None: nobody wants to know."""

    def __init__(self, place: Path | None) -> None:
        self.changed: dict[str, set[str]] = defaultdict(set)
        self._place = place
        self._known = look(place) if place else {}

    def look(self, body: str) -> None:
        """Look what has changed; `body` has just ended."""
        if self._place is not None:
            now = look(self._place)
            for thing, _ in {*now.items()} ^ {*self._known.items()}:
                self.changed[thing].add(body)
            self._known = now


def rehearse() -> None:
    """Drive a small workflow in this process, so that its forks find read, compiled and cached what every run needs."""
    flow = Flow("rehearsal")
    flow.stage(after=[flow.stage(_first)])(_second)
    with scratch() as place:
        folder = Path(place)
        subject = Subject(
            work=flow, inputs={}, registry=TaskRegistry(), decisions={}, files=(), setup=None, effects=None, timeout=30
        )
        subject.define()
        subject.prepare(folder)
        with Database.open(_url(folder)) as database:
            subject._drive(database)  # noqa: SLF001 - of this file
            _results(WorkflowStore(database))
        look(folder)


def _first() -> int:
    return 1


def _second(_first: int) -> int:
    return _first


def read_notes(folder: Path) -> list[dict[str, Any]]:
    """Return what the bodies of a scenario have noted so far."""
    notes = folder / "notes"
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/runs.db"


def _round(gate: Gate) -> tuple[str, int]:
    return gate.stage_id, gate.generation


def _results(store: WorkflowStore) -> tuple[World, str]:
    """Return what stages came to, as things, and why a workflow has failed."""
    flows = sorted(
        (store.retrieve(header["id"]) for header in store.list()), key=lambda flow: (flow.created_at, flow.id)
    )
    world: World = {}
    failures = []
    for number, flow in enumerate(flows):
        for stage in flow.stages:
            world |= value(f"result of {f'{number}/' if number else ''}{stage.ref_id}", _result(stage))
        if flow.status is not WorkflowStatus.SUCCEEDED:
            failures += [f"{flow.name!r} ended as {flow.status.name}: {flow.error or 'without an error'}"]
    return world, "; ".join(failures)


def _result(stage: StageExecution) -> dict[str, Any]:
    """Return what a stage came to; nothing for one that failed, and nothing for an output that is None."""
    succeeded = stage.status.is_successful or stage.status is WorkflowStatus.SKIPPED
    return {
        key: output
        for key, output in {"status": stage.status.name, **stage.outputs}.items()
        if succeeded and output is not None
    }


def _waiting(store: WorkflowStore, gates: Sequence[Gate], timeout: float) -> str:
    """Say why a workflow has not ended."""
    if gates:
        gate = gates[0]
        choice = gate.choices[0] if gate.choices else "approve"
        return (f"stage {gate.name!r} waits for a decision: give crash_sweep what a person would say, "
                f"such as decisions={{{gate.name!r}: {choice!r}}}")  # fmt: skip
    stages = [stage.ref_id for header in store.unfinished() for stage in store.retrieve(header["id"]).stages
              if not stage.status.is_complete]  # fmt: skip
    return f"it has not ended after {timeout:g} s; open are {', '.join(map(repr, stages[:5]))}"
