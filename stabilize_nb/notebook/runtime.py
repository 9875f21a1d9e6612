"""
What this kernel knows: the workflows its cells have defined and the engines they use.

It outlives the extension: `%reload_ext` replaces the magics, while runs and definitions stay. A definition makes its
code known to every engine that is open, and an engine gets all definitions when it is opened, so runs that wait for
code go on as soon as both are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakSet

from stabilize_nb.deterministic import is_deterministic
from stabilize_nb.engine import Engine, default_engine, opened_engine, store_url, use_engine
from stabilize_nb.errors import WorkflowNotFoundError
from stabilize_nb.flow import Flow, FlowStage
from stabilize_nb.models.ids import new_id
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.words import did_you_mean
from stabilize_nb.run import Run
from stabilize_nb.starting import STARTER, How, Work
from stabilize_nb.tasks.registry import TaskRegistry

#: Characters of an id that are enough to name a run, when they are unique.
SHORTEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A stage of a %%stage cell. `before`: what follows it; `text`: its function."""

    stage: FlowStage
    before: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a cell has defined. `tasks`: code for a Workflow, by name; `prints`: what tells versions apart, by stage.

    `added`: what %%stage cells added to `base`, the flow of the %%workflow cell, to make `work`.
    """

    name: str
    work: Flow | Workflow
    source: str = ""
    tasks: Mapping[str, Any] = field(default_factory=dict)
    prints: Mapping[str, str] = field(default_factory=dict)
    base: Flow | None = None
    added: Mapping[str, Added] = field(default_factory=dict)
    engine: Engine | None = None

    def register(self, registry: TaskRegistry) -> None:
        """Make the code of the definition known."""
        if isinstance(self.work, Flow):
            self.work.register(registry)
        for name, task in self.tasks.items():
            registry.replace(name, task)

    def start(self, inputs: Mapping[str, Any], *, how: How = "again", key: str = "") -> Run:
        """Start a run, or return the one that is meant; of a Workflow a copy, since a Workflow is one execution."""
        given = self.work
        if isinstance(given, Flow):
            work = Work(build=lambda: given.build(**inputs), register=self.register, version=given.version)
            return STARTER.start(work, inputs, how=how, key=key, engine=given.engine)
        work = Work(build=lambda: _copy(given, inputs), register=self.register)
        return STARTER.start(work, {**given.context, **inputs}, how=how, key=key, engine=self.engine)


def _copy(workflow: Workflow, inputs: Mapping[str, Any]) -> Workflow:
    return Workflow.create(
        application=workflow.application, name=workflow.name, stages=map(_copy_stage, workflow.stages),
        trigger=workflow.trigger, pipeline_config_id=workflow.pipeline_config_id,
        context={**workflow.context, **inputs},
    )  # fmt: skip


def _copy_stage(stage: StageExecution) -> StageExecution:
    tasks = [replace(task, id=new_id()) for task in stage.tasks]
    return replace(stage, id=new_id(), tasks=tasks, context=dict(stage.context), outputs={})


class Runtime:
    """The definitions and engines of one kernel."""

    def __init__(self) -> None:
        self.definitions: dict[str, Definition] = {}
        self._opened: dict[str, Engine] = {}
        self._with_code: WeakSet[Engine] = WeakSet()

    # -- engines ----------------------------------------------------------------------------------

    def engine(self) -> Engine:
        """Return the default engine, with the code of every definition."""
        return self._equipped(default_engine())

    def open(self, url: str | None) -> Engine:
        """Return the engine of a store, opened once."""
        known = store_url(url)
        for engine in self.engines():
            if engine.url == known and (engine.rehearsal is not None) == is_deterministic():
                return engine
        engine = self._opened[known] = Engine(url)
        return self._equipped(engine)

    def use(self, url: str | None) -> Engine:
        """Make the engine of a store the default one; runs of the earlier one go on and are still found."""
        earlier = opened_engine()
        if earlier is not None:
            self._opened[earlier.url] = earlier
        return use_engine(self.open(url))

    def engines(self) -> list[Engine]:
        """Return the engines that are open, the default one first."""
        default = opened_engine()
        others = [engine for engine in self._opened.values() if not engine.is_closed and engine is not default]
        return [default, *others] if default is not None else others

    def renew(self) -> None:
        """Change to an engine of the mode that was just chosen."""
        if opened_engine() is not None:
            self.use(None)

    def _equipped(self, engine: Engine) -> Engine:
        if engine not in self._with_code:
            self._with_code.add(engine)
            engine.hold()
            for definition in self.definitions.values():
                definition.register(engine.registry)
        return engine

    # -- definitions ------------------------------------------------------------------------------

    def keep(self, definition: Definition) -> None:
        """Remember a definition, and let runs that wait for its code go on."""
        self.definitions[definition.name] = definition
        for engine in self.engines():
            definition.register(engine.registry)

    def forget_all(self) -> None:
        """Close every engine and forget every definition: for tests."""
        for engine in self.engines():
            engine.close()
        self._opened.clear()
        self.definitions.clear()

    # -- runs -------------------------------------------------------------------------------------

    def run(self, wanted: str, names: Mapping[str, Any]) -> Run:
        """
        Return the run that is meant: its id, a unique beginning or end of it, `last`, or a variable of `names`.

        Raises WorkflowNotFoundError.
        """
        self.engine()
        if isinstance(bound := names.get(wanted), Run):
            return bound
        runs = list(self._runs())
        if wanted == "last" and runs:
            return max(runs, key=lambda each: each[0])[1]
        found = [run for _, run in runs if run.id == wanted] or [
            run for _, run in runs if len(wanted) >= SHORTEST and _matches(run.id, wanted)
        ]
        if len(found) == 1:
            return found[0]
        raise WorkflowNotFoundError(_not_found(wanted, [run.id for run in found], [run.id for _, run in runs]))

    def _runs(self) -> Iterator[tuple[tuple[int, str], Run]]:
        for engine in self.engines():
            for header in engine.store.list():
                yield (header["created_at"], header["id"]), Run(engine, header["id"])


def _matches(run_id: str, part: str) -> bool:
    known, wanted = run_id.upper(), part.upper()
    return known.startswith(wanted) or known.endswith(wanted)


def _not_found(wanted: str, found: list[str], runs: list[str]) -> str:
    if found:
        return f"{wanted!r} names {len(found)} runs: {', '.join(found[:5])}; write more of the id"
    newest = f"; the newest are {', '.join(runs[:3])}" if runs else "; there are no runs yet"
    return f"no run is called {wanted!r}{did_you_mean(wanted, runs)}{newest} (see %workflow list; 'last' is the newest)"


#: Of this kernel; a module keeps it while the extension is reloaded.
RUNTIME = Runtime()
