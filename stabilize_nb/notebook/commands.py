"""
The sub-commands of %workflow as one table: what they take, what they do, and which Python says the same.

Each returns what the cell shows, so `events = %workflow events last` gives the frame itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from IPython.core.error import UsageError

from stabilize_nb.errors import ConfigError
from stabilize_nb.flow import Flow
from stabilize_nb.models.status import COMPLETE, WorkflowStatus
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.doctor import examine
from stabilize_nb.notebook.dot import Direction, to_dot, to_mermaid
from stabilize_nb.notebook.export import module_of
from stabilize_nb.notebook.runtime import RUNTIME, Definition
from stabilize_nb.notebook.tables import Table
from stabilize_nb.notebook.text import to_text
from stabilize_nb.notebook.views import Lines, Picture, status_of
from stabilize_nb.notebook.words import Line, did_you_mean, parse
from stabilize_nb.run import Gate, Run

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd

    from stabilize_nb.engine import Engine

S = WorkflowStatus
#: Statuses of a run that nothing is done about just now.
AT_REST: Final = frozenset({*COMPLETE, S.SUSPENDED, S.PAUSED})
FORMATS: Final = ("svg", "mermaid", "dot", "ascii")
#: Seconds that an order is given to take effect before its run is shown, and that what follows from it is given.
SETTLE: Final = 1.0
FOLLOW: Final = 0.3
RECENT: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call of %workflow; `names` are the variables of the notebook."""

    line: Line
    names: Mapping[str, Any]
    usage: str

    @property
    def words(self) -> list[str]:
        """What was written besides options and values."""
        return self.line.words

    def word(self, at: int = 0) -> str:
        """Return a word that must be there."""
        if len(self.words) <= at:
            raise UsageError(f"something is missing; usage: {self.usage}")
        return self.words[at]

    def only(self, most: int) -> None:
        """Refuse words beyond the first `most`, and values: for commands that take none."""
        extra = [*self.words[most:], *self.line.given]
        if extra:
            raise UsageError(f"{extra[0]!r} is too much; usage: {self.usage}")

    def run(self, default: str | None = None) -> Run:
        """Return the run that the first word names."""
        return RUNTIME.run(self.words[0] if self.words or default is None else default, self.names)

    def run_and_part(self) -> tuple[Run, str | None]:
        """Return what RUN/PART names; the part may be missing."""
        whole, _, part = self.word().rpartition("/") if "/" in self.word() else (self.word(), "", "")
        return RUNTIME.run(whole, self.names), part or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A sub-command. `takes`: what its first word names, for completion; `options`: whether a value follows each."""

    name: str
    arguments: str
    help: str
    twin: str
    call: Callable[[Order], Any]
    takes: str = ""
    options: Mapping[str, bool] = field(default_factory=dict)

    @property
    def usage(self) -> str:
        """The line that a person writes."""
        return f"%workflow {self.name} {self.arguments}".rstrip()


def execute(line: str, names: Mapping[str, Any]) -> Any:
    """Carry out the line behind %workflow and return what is to be shown; raises UsageError for what is not known."""
    name, _, rest = line.strip().partition(" ")
    command = COMMANDS.get(name or "help")
    if command is None:
        raise UsageError(_unknown(name))
    return command.call(Order(line=parse(rest, command.options, command.usage), names=names, usage=command.usage))


def _unknown(name: str) -> str:
    if name in RUNTIME.definitions:
        return f"%workflow {name} is not known; %workflow show {name} shows it, %%workflow {name} defines it"
    hint = did_you_mean(name, COMMANDS) or f"; known are {', '.join(COMMANDS)}"
    return f"%workflow {name} is not known{hint} (a cell that defines a workflow begins with %%workflow)"


# -- looking ------------------------------------------------------------------------------------------


def _list(order: Order) -> pd.DataFrame:
    order.only(1)
    engine = RUNTIME.engine()
    runs = engine.runs(order.words[0] if order.words else None)
    if "--all" in order.line.options:
        return runs
    return runs[runs["finished"].isna() | (runs.index < RECENT)].reset_index(drop=True)


def _definition(name: str) -> Definition:
    found = RUNTIME.definitions.get(name)
    if found is None:
        known = ", ".join(RUNTIME.definitions) or "none yet"
        close = did_you_mean(name, RUNTIME.definitions)
        raise UsageError(f"no workflow is called {name!r}{close}; defined here: {known}")
    return found


def _work(order: Order) -> Definition | None:
    """Return the definition that the first word names, from a cell or from a variable."""
    name = order.word()
    if name in RUNTIME.definitions:
        return RUNTIME.definitions[name]
    bound = order.names.get(name)
    return Definition(name=name, work=bound) if isinstance(bound, Flow | Workflow) else None


def _show(order: Order) -> Flow | Workflow:
    order.only(1)
    return (_work(order) or _definition(order.word())).work


def _status(order: Order) -> Lines:
    order.only(1)
    runs = [order.run()] if order.words else RUNTIME.engine().unfinished()
    lines = [f"{run.name} {run.id}: {sentence}" for run in runs for sentence in run.explain()]
    return Lines("\n".join(lines) or "no run is unfinished")


def _events(order: Order) -> pd.DataFrame:
    order.only(1)
    events = order.run("last").events
    if file := order.line.options.get("--csv"):
        events.to_csv(file, index=False)
    return events


def _graph(order: Order) -> Picture | Lines:
    order.only(1)
    definition = _work(order)
    if definition is None:
        workflow = order.run().workflow
    else:
        workflow = definition.work.picture() if isinstance(definition.work, Flow) else definition.work
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


def _help(order: Order) -> Table:
    shown = [COMMANDS[name] for name in order.words if name in COMMANDS] or list(COMMANDS.values())
    rows = [(command.usage, command.help, command.twin) for command in shown]
    return Table(("magic", "what it does", "in Python"), rows)


def _doctor(order: Order) -> Table:
    order.only(0)
    return examine()


# -- running ------------------------------------------------------------------------------------------


def _run(order: Order) -> Run:
    definition = _work(order) or _definition(order.word())
    if len(order.words) > 1:
        raise UsageError(f"{order.words[1]!r} is no input: write name=value; usage: {order.usage}")
    return start(definition, order.line.given)


def start(definition: Definition, inputs: Mapping[str, Any]) -> Run:
    """Start a run of a definition in its engine, the default one when it has none."""
    own = definition.work.engine if isinstance(definition.work, Flow) else definition.engine
    return _settled(definition.start(own or RUNTIME.engine(), inputs))


def _attach(order: Order) -> Run:
    order.only(1)
    return order.run("last")


def _resume(order: Order) -> Run | pd.DataFrame:
    order.only(1)
    engine = order.run().engine if order.words else RUNTIME.engine()
    runs = engine.resume(order.run().id if order.words else None)
    for run in runs:
        if run.status.name == "PAUSED":
            run.resume()
    return _settled(runs[0]) if len(runs) == 1 else _frame_of(engine, runs)


def _frame_of(engine: Engine, runs: Collection[Run]) -> pd.DataFrame:
    ids = {run.id for run in runs}
    every = engine.runs()
    return every[every["run_id"].isin(ids)].reset_index(drop=True)


def _cancel(order: Order) -> Run:
    order.only(1)
    run, stage = order.run_and_part()
    run.cancel(stage, user=settings().who)
    return _settled(run, lambda: run.status.is_complete or stage is not None)


def _pause(order: Order) -> Run:
    order.only(1)
    run = order.run()
    run.pause()
    return _settled(run, lambda: run.status.name == "PAUSED" or run.status.is_complete)


def _retry(order: Order) -> Run:
    order.only(1)
    run, stage = order.run_and_part()
    run.retry(stage)
    return _settled(run, lambda: not run.status.is_complete)


def _signal(order: Order) -> Run:
    run, stage = order.run_and_part()
    if stage is None or len(order.words) != len(("RUN/STAGE", "NAME")):
        raise UsageError(f"a stage and the name of a signal are needed; usage: {order.usage}")
    run.signal(stage, order.words[1], order.line.given)
    return _settled(run)


def _settled(run: Run, done: Callable[[], bool] = lambda: True) -> Run:
    """Give an order a moment to take effect, so that the run is shown after it."""
    _wait(run, done, SETTLE)
    _wait(run, lambda: status_of(run.workflow) in AT_REST, FOLLOW)
    return run


def _wait(run: Run, done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        run.engine.database.changes.ticket().wait(0.02)


# -- deciding -----------------------------------------------------------------------------------------


def _approve(order: Order) -> Run:
    return _decide(order, Run.approve)


def _reject(order: Order) -> Run:
    return _decide(order, Run.reject)


def _decide(order: Order, decide: Callable[..., None]) -> Run:
    if len(order.words) > 1:
        raise UsageError(f"{order.words[1]!r} is no field: write name=value; usage: {order.usage}")
    run, name = order.run_and_part() if order.words else (order.run("last"), None)
    gates = [gate for gate in run.gates if name in {None, gate.name}]
    payload = _filled(gates[0], order.line.given) if len(gates) == 1 else dict(order.line.given)
    decide(run, name, **{"user": settings().who, **payload})
    return _settled(run, lambda: not gates or gates[0].stage_id not in {gate.stage_id for gate in run.gates})


def _filled(gate: Gate, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given as the form of the gate wants it; raises ConfigError for what does not fit."""
    known = {*gate.form, "user", "reason"}
    for name in values:
        if gate.form and name not in known:
            raise ConfigError(
                f"gate {gate.name!r} has no field {name!r}{did_you_mean(name, known)}; it has {', '.join(gate.form)}"
            )
    return {name: _fitting(gate, name, value) for name, value in values.items()}


def _fitting(gate: Gate, name: str, value: Any) -> Any:
    kind = gate.form.get(name)
    if isinstance(kind, list):
        match = next((choice for choice in kind if choice == value or str(choice) == str(value)), None)
        if match is None:
            choices = ", ".join(map(str, kind))
            raise ConfigError(f"field {name!r} of gate {gate.name!r} cannot be {value!r}; choose one of {choices}")
        return match
    make = _MAKERS.get(str(kind))
    if make is None:
        return value
    try:
        return make(value)
    except (TypeError, ValueError):
        raise ConfigError(f"field {name!r} of gate {gate.name!r} is a {kind}, not {value!r}") from None


def _truth(value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return words[str(value).lower()] if str(value).lower() in words else bool(int(value))


_MAKERS: Final[Mapping[str, Callable[[Any], Any]]] = {"str": str, "int": int, "float": float, "bool": _truth}


# -- storing ------------------------------------------------------------------------------------------


def _export(order: Order) -> Path:
    order.only(2)
    return export(_definition(order.word()), order.word(1))


def export(definition: Definition, file: str) -> Path:
    """Write a definition as a Python module and return where."""
    path = Path(file)
    path.write_text(module_of(definition), encoding="utf-8")
    return path


def _store(order: Order) -> Engine:
    order.only(1)
    return RUNTIME.use(order.words[0]) if order.words else RUNTIME.engine()


COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for command in (
        Command(
            name="list", arguments="[NAME] [--all]", takes="workflow", options={"--all": False}, call=_list,
            help="unfinished and recent runs", twin="engine.runs()",
        ),
        Command(name="show", arguments="NAME", takes="workflow", call=_show, help="a definition", twin="NAME"),
        Command(
            name="run", arguments="NAME [name=value …]", takes="workflow", call=_run,
            help="start a run", twin="NAME.run(name=value)",
        ),
        Command(
            name="attach", arguments="[RUN]", takes="run", call=_attach,
            help="the handle of a run", twin="engine.run(id)",
        ),
        Command(
            name="status", arguments="[RUN]", takes="run", call=_status,
            help="what is waited for", twin="run.explain()",
        ),
        Command(
            name="approve", arguments="[RUN[/GATE]] [field=value …]", takes="gate", call=_approve,
            help="say yes at a gate", twin="run.approve(gate, field=value)",
        ),
        Command(
            name="reject", arguments="[RUN[/GATE]] [reason=…]", takes="gate", call=_reject,
            help="say no at a gate", twin="run.reject(gate, reason=...)",
        ),
        Command(
            name="signal", arguments="RUN/STAGE NAME [name=value …]", takes="stage", call=_signal,
            help="send a signal to a stage", twin="run.signal(stage, name, data)",
        ),
        Command(
            name="resume", arguments="[RUN]", takes="run", options={"--all": False}, call=_resume,
            help="go on with unfinished runs", twin="engine.resume(), run.resume()",
        ),
        Command(
            name="pause", arguments="RUN", takes="run", call=_pause,
            help="begin nothing more of a run", twin="run.pause()",
        ),
        Command(
            name="retry", arguments="RUN[/STAGE]", takes="stage", call=_retry,
            help="run what failed again", twin="run.retry(stage)",
        ),
        Command(
            name="cancel", arguments="RUN[/STAGE]", takes="stage", call=_cancel,
            help="withdraw a run or a stage", twin="run.cancel(stage)",
        ),
        Command(
            name="events", arguments="[RUN] [--csv FILE]", takes="run", options={"--csv": True}, call=_events,
            help="the log of a run as a frame", twin="run.events",
        ),
        Command(
            name="graph", arguments="NAME|RUN [--format F] [--direction D]", takes="graph",
            options={"--format": True, "--direction": True}, call=_graph,
            help=f"a picture, as {', '.join(FORMATS)}", twin="NAME.graph(), run.graph()",
        ),
        Command(
            name="export", arguments="NAME FILE.py", takes="workflow", call=_export,
            help="write a definition as a module", twin="notebook.export.module_of(definition)",
        ),
        Command(
            name="store", arguments="[URL]", call=_store,
            help="the database that is used, or use another", twin="use_engine(Engine(url))",
        ),
        Command(name="doctor", arguments="", call=_doctor, help="what works here", twin="notebook.doctor.examine()"),
        Command(name="help", arguments="[COMMAND]", takes="command", call=_help, help="this list", twin=""),
    )
}  # fmt: skip
