"""
The sub-commands of %workflow as one table: what they take, what they do, and which Python says the same.

Each returns what the cell shows, so `events = %workflow events last` gives the frame itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from IPython.core.error import UsageError

from stabilize_nb.notebook import acting, dead, deciding, looking
from stabilize_nb.notebook.doctor import examine
from stabilize_nb.notebook.order import Order
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.notebook.tables import Table
from stabilize_nb.notebook.words import did_you_mean, parse


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


def _help(order: Order) -> Table:
    shown = [COMMANDS[name] for name in order.words if name in COMMANDS] or list(COMMANDS.values())
    rows = [(command.usage, command.help, command.twin) for command in shown]
    return Table(("magic", "what it does", "in Python"), rows)


def _doctor(order: Order) -> Table:
    order.only(0)
    return examine()


COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for command in (
        Command(
            name="list", arguments="[NAME] [--all]", takes="workflow", options={"--all": False}, call=looking.list_runs,
            help="unfinished and recent runs", twin="engine.runs()",
        ),
        Command(name="show", arguments="NAME", takes="workflow", call=looking.show, help="a definition", twin="NAME"),
        Command(
            name="run", arguments="NAME [name=value …] [--new|--once|--key KEY]", takes="workflow", call=acting.run,
            options={"--new": False, "--once": False, "--key": True},
            help="start a run, or go on with the one that this cell began",
            twin='NAME.run(name=value), NAME.run("new", ...), NAME.run("once", ...), NAME.run(key=...)',
        ),
        Command(
            name="attach", arguments="[RUN]", takes="run", call=acting.attach,
            help="the handle of a run", twin="engine.run(id)",
        ),
        Command(
            name="status", arguments="[RUN]", takes="run", call=looking.status,
            help="what is waited for", twin="run.explain()",
        ),
        Command(
            name="approve", arguments="[RUN[/GATE]] [field=value …]", takes="gate", call=deciding.approve,
            help="say yes at a gate", twin="run.approve(gate, field=value)",
        ),
        Command(
            name="reject", arguments="[RUN[/GATE]] [reason=…]", takes="gate", call=deciding.reject,
            help="say no at a gate", twin="run.reject(gate, reason=...)",
        ),
        Command(
            name="settle", arguments="RUN/STAGE retry|done|fail [name=value …]", takes="gate", call=deciding.settle,
            help="say what became of a stage whose process died",
            twin="run.settle(stage, choice), run.settle(stage, outputs={...})",
        ),
        Command(
            name="signal", arguments="RUN/STAGE NAME [name=value …]", takes="stage", call=acting.signal,
            help="send a signal to a stage", twin="run.signal(stage, name, data)",
        ),
        Command(
            name="resume", arguments="[RUN|--all] [--accept-changes]", takes="run",
            options={"--all": False, "--accept-changes": False}, call=acting.resume,
            help="go on with unfinished runs, also with code that has changed",
            twin="engine.resume(), run.resume(), run.migrate()",
        ),
        Command(
            name="pause", arguments="RUN", takes="run", call=acting.pause,
            help="begin nothing more of a run", twin="run.pause()",
        ),
        Command(
            name="retry", arguments="RUN[/STAGE]", takes="stage", call=acting.retry,
            help="run what failed again", twin="run.retry(stage)",
        ),
        Command(
            name="cancel", arguments="RUN[/STAGE]", takes="stage", call=acting.cancel,
            help="withdraw a run or a stage", twin="run.cancel(stage)",
        ),
        Command(
            name="dead", arguments="[redrive ID …|redrive all]", takes="redrive", call=dead.dead,
            help="messages that could not be processed, and putting them back",
            twin="engine.dead_letters(), engine.redrive(ids)",
        ),
        Command(
            name="events", arguments="[RUN] [--csv FILE] [--xes FILE] [--ocel FILE]", takes="run",
            options={"--csv": True, "--xes": True, "--ocel": True}, call=looking.events,
            help="the log of a run as a frame", twin="run.events, run.events.workflow.to_xes(path)",
        ),
        Command(
            name="replay", arguments="[RUN] [--at FACT|TIME]", takes="run", options={"--at": True}, call=looking.replay,
            help="a run fact by fact, or as it was once", twin="run.replay(), run.at(moment)",
        ),
        Command(
            name="fork", arguments="RUN/STAGE [name=value …]", takes="stage", call=acting.fork,
            help="a run that takes over what another one has finished and runs the rest, with other inputs",
            twin="run.fork(stage, inputs={...}, outputs={...})",
        ),
        Command(
            name="compare", arguments="RUN RUN", takes="run", call=looking.compare_runs,
            help="two runs side by side", twin="compare(run_a, run_b)",
        ),
        Command(
            name="graph", arguments="NAME|RUN [--format F] [--direction D]", takes="graph",
            options={"--format": True, "--direction": True}, call=looking.graph,
            help=f"a picture, as {', '.join(looking.FORMATS)}", twin="NAME.graph(), run.graph()",
        ),
        Command(
            name="export", arguments="NAME FILE.py", takes="workflow", call=acting.write_module,
            help="write a definition as a module", twin="notebook.export.module_of(definition)",
        ),
        Command(
            name="store", arguments="[URL|sqlite]", call=acting.store,
            help="the database that is used, or use another", twin="use_engine(Engine(url))",
        ),
        Command(name="doctor", arguments="", call=_doctor, help="what works here", twin="notebook.doctor.examine()"),
        Command(name="help", arguments="[COMMAND]", takes="command", call=_help, help="this list", twin=""),
    )
}  # fmt: skip
