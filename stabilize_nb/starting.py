"""
Starting a run where the same one may be there already.

A cell that is run again means the run that it began, as long as that has not ended: work that costs money is not done
twice because of "Run All". Which cell begins a run is stored with it, so this holds after a restart too. Where there
is no cell, as in a script, each start is a new run; `once` and a key are asked for explicitly and work everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from stabilize_nb.engine import Engine, default_engine
from stabilize_nb.errors import ConfigError
from stabilize_nb.models.near import close
from stabilize_nb.models.values import plain_mapping
from stabilize_nb.models.workflow import ORIGIN
from stabilize_nb.store.codec import loads
from stabilize_nb.store.names import inputs_in
from stabilize_nb.tasks.child import with_plain_stages
from stabilize_nb.tasks.prints import print_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.run import Run
    from stabilize_nb.tasks.registry import TaskRegistry

#: "again": a run that this cell began with these inputs and that has not ended, else a new one. "new": a new one.
#: "once": also one with these inputs that has succeeded with the same code, whoever began it.
How = Literal["again", "new", "once"]


#: What `Flow.run` takes beside inputs, as `Engine.start` does.
START_WORDS: Final = ("key", "priority", "attributes", "allow_plain_secrets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A cell that is run: its id, which stays, and the message that runs it this time."""

    cell: str
    turn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be run: `build` makes a workflow of it, `register` makes its code known."""

    build: Callable[[], Workflow]
    register: Callable[[TaskRegistry], None]
    version: int = 1


class Starter:
    """How this process starts runs; a notebook says in which engine, for which cell, and what is said about it."""

    def __init__(self) -> None:
        self.engine: Callable[[], Engine] = default_engine
        self.origin: Callable[[], Origin | None] = lambda: None
        self.found: Callable[[Run], None] = lambda _run: None
        self._turn = ""
        self._given: set[str] = set()

    def start(
        self,
        work: Work,
        inputs: Mapping[str, Any],
        *,
        how: How = "again",
        key: str = "",
        priority: int = 0,
        attributes: Mapping[str, Any] | None = None,
        engine: Engine | None = None,
        allow_plain_secrets: bool = False,
    ) -> Run:
        """
        Return the run that is meant, one that is there already or a new one.

        `key`: what the run is for: one that was started for it is the same. Other words are those of `Engine.start`.

        Raises ConfigError for another `how`, and what `Engine.start` raises.
        """
        known = get_args(How)
        if isinstance(how, Mapping):
            given = ", ".join(f"{name}=..." for name in how) or "topic=..."
            raise ConfigError(f"inputs are given by their names: run({given}), or run(**inputs) for a dict of them")
        if how not in known:
            raise ConfigError(f"{how!r} is no way to start a run{close(str(how), known)}; write one of {known}")
        here = engine or self.engine()
        origin = self.origin()
        work.register(here.registry)
        workflow = work.build()
        code = print_of(sorted(task.implementing_class for stage in workflow.stages for task in stage.tasks))
        run = None
        if how == "once" and not key:
            run = _done_before(here, workflow.application, inputs, code)
        elif how == "again" and not key and origin is not None:
            run = self._begun_before(here, workflow.application, inputs, origin)
        if run is not None:
            return self._take_up(run, origin)
        about = {"cell": origin.cell, "turn": origin.turn} if origin is not None else {}
        note = {**about, "version": work.version, "code": code, **({"key": key} if key else {})}
        workflow.trigger = replace(workflow.trigger, payload={**workflow.trigger.payload, ORIGIN: note})
        run = here.start(
            workflow, key=key, priority=priority, attributes=attributes, allow_plain_secrets=allow_plain_secrets
        )
        return run if run.id == workflow.id else self._take_up(run, origin)

    def _begun_before(self, engine: Engine, application: str, inputs: Mapping[str, Any], origin: Origin) -> Run | None:
        if origin.turn != self._turn:
            self._turn, self._given = origin.turn, set()
        wanted = {"application": application, "cell": origin.cell}
        for run_id, note in _like(engine, "unfinished_of_cell", wanted, inputs):
            if note.get("turn") != origin.turn and run_id not in self._given:
                return engine.run(run_id)
        return None

    def _take_up(self, run: Run, origin: Origin | None) -> Run:
        if origin is not None:
            self._given.add(run.id)
        if not run.status.is_complete:
            run.engine.work(run.id)
        self.found(run)
        return run


def _done_before(engine: Engine, application: str, inputs: Mapping[str, Any], code: str) -> Run | None:
    found = _like(engine, "runs_without_key", {"application": application, "code": code}, inputs)
    return next((engine.run(run_id) for run_id, _ in found), None)


def _like(
    engine: Engine, query: str, wanted: dict[str, str], inputs: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the runs that a query finds and that have these inputs, with what is noted about their origin."""
    given = plain_mapping(with_plain_stages(dict(inputs)), "inputs")
    for run_id, context, about in engine.database.call_read(lambda connection: connection.all(query, wanted)):
        if inputs_in(loads(context)) == inputs_in(given):
            yield run_id, loads(about)["trigger"]["payload"].get(ORIGIN, {})


#: Of this process.
STARTER: Final = Starter()
