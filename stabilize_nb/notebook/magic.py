"""%%workflow and %%stage define, %workflow works with runs; what they do stands in `cell`, `stage_cell`, `commands`."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.display import display

from stabilize_nb.flow import Flow
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.acting import export, start
from stabilize_nb.notebook.cell import define
from stabilize_nb.notebook.changes import changes, said
from stabilize_nb.notebook.commands import execute
from stabilize_nb.notebook.dot import Direction
from stabilize_nb.notebook.runtime import RUNTIME, Definition
from stabilize_nb.notebook.stage_cell import OPTIONS as STAGE_OPTIONS
from stabilize_nb.notebook.stage_cell import USAGE as STAGE_USAGE
from stabilize_nb.notebook.stage_cell import added_again, define_stage
from stabilize_nb.notebook.views import flow_bundle, workflow_bundle
from stabilize_nb.notebook.words import Line, parse
from stabilize_nb.plain import obeyed_by_none

if TYPE_CHECKING:
    from stabilize_nb.run import Run

#: Options of %%workflow, and whether a value follows.
OPTIONS: Final = {
    "--store": True,
    "--run": False,
    "--input": False,
    "-q": False,
    "--lr": False,
    "--tb": False,
    "--replace": False,
    "--export": True,
    "--new": False,
    "--once": False,
    "--key": True,
}
USAGE: Final = "%%workflow NAME [--store URL] [--run] [--input k=v …] [-q] [--lr|--tb] [--replace] [--export FILE]"


@magics_class
class WorkflowMagics(Magics):
    """The magics of stabilize_nb."""

    shell: Any

    @line_magic("workflow")  # type: ignore[arg-type, untyped-decorator, unused-ignore]  # typed differently by version
    def line(self, line: str) -> Any:
        """Work with workflows and runs: `%workflow help` lists the sub-commands and their Python twins.

        %workflow list · show NAME · run NAME name=value · attach RUN · status RUN · approve RUN/GATE field=value
        · reject RUN/GATE reason=… · settle RUN/STAGE retry · signal RUN/STAGE NAME · resume · pause RUN
        · retry RUN/STAGE · cancel RUN · dead redrive ID · events RUN · replay RUN
        · fork RUN/STAGE name=value · compare RUN RUN
        · graph NAME|RUN · export NAME FILE.py · store URL · doctor · help

        RUN is an id, a unique beginning or end of one, `last`, or a variable.
        """
        try:
            return execute(line, self.shell.user_ns)
        except UsageError as error:  # it repeats words of the line, which may be pasted from a run
            raise UsageError(obeyed_by_none(str(error))) from None

    @cell_magic("workflow")  # type: ignore[arg-type, untyped-decorator, unused-ignore]  # as above
    def cell(self, line: str, cell: str) -> Any:
        """Define a workflow: the stages of the cell become one flow that is bound to NAME and drawn.

        %%workflow NAME [--store URL] [--run] [--input k=v …] [-q] [--lr|--tb] [--replace] [--export FILE]

        `@stage` makes a function a stage; a parameter that has the name of a stage is its result. `approval(...)`
        is a gate at which a person decides, `shell("make {target}")` runs a command, `jump(...)` goes back. The last
        expression may be a Workflow or a list of StageExecution instead. Nothing runs, unless --run is given, and
        running the cell again is harmless.
        """
        asked = parse(line, OPTIONS, USAGE)
        name = _name(asked)
        self._refuse_to_replace(name, asked)
        old = RUNTIME.definitions.get(name)
        definition = added_again(define(self.shell, line, name, cell), old)
        definition, news = _kept(definition, old)
        if (url := asked.options.get("--store")) is not None:
            definition = _in_store(definition, url)
        RUNTIME.keep(definition)
        self.shell.user_ns[name] = definition.work
        if "--export" in asked.options:
            export(definition, asked.options["--export"])
        if "--run" in asked.options:
            return _started(definition, asked)
        if "-q" not in asked.options:
            show: Callable[..., None] = display
            show(_bundle(definition.work, _direction(asked), news), raw=True)
        return None

    @cell_magic("stage")  # type: ignore[arg-type, untyped-decorator, unused-ignore]  # as above
    def stage(self, line: str, cell: str) -> None:
        """Add a stage to a flow, or replace the one of its name: plain statements that leave `outputs = {...}`.

        %%stage FLOW.STAGE [--after STAGE,…] [--before STAGE,…] [--when CONDITION] [--join N] [--each LIST]
                [--retry N] [--timeout S] [--on-crash fail|ask] [--otherwise] [--title TEXT] [-q] [--lr|--tb] [--remove]

        Names that the statements read and that are stages or inputs are their values; `jump(...)` goes back. The flow
        gets a new version, drawn with the stage marked. Unfinished runs go on with theirs.
        """
        asked = parse(line, STAGE_OPTIONS, STAGE_USAGE)
        definition, old = define_stage(self.shell, line, asked, cell)
        definition, news = _kept(definition, old)
        RUNTIME.keep(definition)
        self.shell.user_ns[definition.name] = definition.work
        if "-q" not in asked.options:
            show: Callable[..., None] = display
            show(_bundle(definition.work, _direction(asked), news), raw=True)

    def _refuse_to_replace(self, name: str, asked: Line) -> None:
        bound = self.shell.user_ns.get(name)
        if bound is not None and not isinstance(bound, Flow | Workflow) and "--replace" not in asked.options:
            kind = type(bound).__name__
            raise UsageError(f"{name} is bound to a {kind} in this notebook; choose another name or add --replace")


def _name(asked: Line) -> str:
    if len(asked.words) != 1 or not asked.words[0].isidentifier() or keyword.iskeyword(asked.words[0]):
        given = " ".join(asked.words) or "nothing"
        raise UsageError(f"one name for the workflow is needed, such as research, not {given}; usage: {USAGE}")
    if asked.given and "--input" not in asked.options:
        raise UsageError(f"{next(iter(asked.given))}=… is given without --input; usage: {USAGE}")
    return asked.words[0]


def _kept(new: Definition, old: Definition | None) -> tuple[Definition, dict[str, str]]:
    """Return the definition that stays, and what is new: the object is the same while the code is the same."""
    if old is None or not isinstance(old.work, Flow) or not isinstance(new.work, Flow):
        return new, {}
    news = changes(old.prints, new.prints)
    if not news:
        old.work.stages = new.work.stages
        return replace(new, work=old.work), {}
    new.work.version = old.work.version + 1
    new.work.engine = old.work.engine
    return new, news


def _in_store(definition: Definition, url: str) -> Definition:
    engine = RUNTIME.open(url)
    if isinstance(definition.work, Flow):
        definition.work.engine = engine
    return replace(definition, engine=engine)


def _started(definition: Definition, asked: Line) -> Run:
    return start(definition, asked)


def _direction(asked: Line) -> Direction:
    if "--lr" in asked.options:
        return "LR"
    return "TB" if "--tb" in asked.options else "auto"


def _bundle(work: Flow | Workflow, direction: Direction, news: dict[str, str]) -> dict[str, Any]:
    if isinstance(work, Flow):
        marks = {name: what for name, what in news.items() if name in work.nodes}
        return flow_bundle(work, direction=direction, news=said(news), marks=marks)
    return workflow_bundle(work, direction=direction)
