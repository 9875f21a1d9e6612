"""
The body of a %%workflow cell: compiled so that tracebacks name the cell, run in the user's names, made a definition.

`stage`, `approval`, `shell`, `http`, `task`, `call`, `loop`, `budget` and `Flow` are there while the body runs, and
what the user had under these names is back afterwards. `jump` stays, because stage functions call it when they run.
Lines count as in the cell, whose first line is the magic. A definition runs nothing and is checked whole before its
name is bound.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError, StabilizeError
from stabilize_nb.flow import Flow, FlowLoop, FlowStage, jump
from stabilize_nb.models.budget import Budget
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.changes import prints_of
from stabilize_nb.notebook.runtime import Definition
from stabilize_nb.tasks.interface import Task

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell

_ABSENT: Final = object()


class CellSyntaxError(ConfigError):
    """A body is no Python; `fault` says where."""

    def __init__(self, fault: SyntaxError) -> None:
        super().__init__(fault.msg)
        self.fault = fault


class Draft:
    """The flow of a body that is being run; it refuses what two statements of one cell do to each other."""

    def __init__(self, name: str) -> None:
        self.flow = Flow(name)
        self._unnamed: list[FlowStage] = []

    def stage(self, function: Any = None, /, **settings: Any) -> Any:
        """Make a function a stage: `@stage` or `@stage(after=..., join=..., retry=...)`."""
        if function is None:
            return lambda given: self._once(lambda flow: flow.stage(**settings)(given))
        return self._once(lambda flow: flow.stage(function))

    def approval(self, question: str, *, name: str | None = None, **settings: Any) -> FlowStage:
        """Add a gate at which a person decides; its name is that of the variable it is bound to."""
        number = len(self.flow.stages) + 1
        gate = self._once(lambda flow: flow.approval(question, name=name or f"approval_{number}", **settings))
        return self._placed(gate, name)

    def shell(self, command: str | list[str], *, name: str | None = None, **words: Any) -> FlowStage:
        """Add a stage that runs a command; its name is that of the variable it is bound to."""
        number = len(self.flow.stages) + 1
        stage = self._once(lambda flow: flow.shell(command, name=name or f"shell_{number}", **words))
        return self._placed(stage, name)

    def http(self, url: str, *, name: str | None = None, **words: Any) -> FlowStage:
        """Add a stage that sends a request; its name is that of the variable it is bound to."""
        number = len(self.flow.stages) + 1
        stage = self._once(lambda flow: flow.http(url, name=name or f"http_{number}", **words))
        return self._placed(stage, name)

    def task(self, task: Task, name: str | None = None, **words: Any) -> FlowStage:
        """Add a stage that a task carries out; its name is that of the variable it is bound to."""
        number = len(self.flow.stages) + 1
        stage = self._once(lambda flow: flow.task(task, name or f"task_{number}", **words))
        return self._placed(stage, name)

    def _placed(self, stage: FlowStage, name: str | None) -> FlowStage:
        stage.line = sys._getframe(2).f_lineno  # noqa: SLF001 - the line of the cell
        if name is None:
            self._unnamed.append(stage)
        return stage

    def call(self, flow: Flow, /, **words: Any) -> FlowStage:
        """Add a stage that is a run of another flow: `call(other, each="topics")`."""
        stage = self._once(lambda own: own.call(flow, **words))
        stage.line = sys._getframe(1).f_lineno  # noqa: SLF001 - the line of the cell
        return stage

    def loop(self, name: str, **words: Any) -> FlowLoop:
        """Repeat the stages that are defined inside of it; its words are those of `Flow.loop`."""
        return self.flow.loop(name, **words)

    def budget(self, **limits: Any) -> None:
        """Limit what the model calls of a run may take together: `budget(usd=2.0, calls=60)`; words as of Budget."""
        self.flow.budget = Budget(**limits)

    def _once(self, add: Any) -> FlowStage:
        before = dict(self.flow.stages)
        stage: FlowStage = add(self.flow)
        if (earlier := before.get(stage.name)) is not None:
            lines = f"lines {earlier.line} and {stage.line}" if earlier.line and stage.line else "twice"
            raise ConfigError(f"stage {stage.name!r} is defined on {lines}: give one of them another name")
        return stage

    def name_stages(self, names: Mapping[str, Any]) -> None:
        """Name each approval, command and task after the variable that holds it."""
        for stage in self._unnamed:
            variable = next((name for name, value in names.items() if value is stage and name[:1] != "_"), None)
            if variable is None:
                continue
            if variable in self.flow.stages:
                raise ConfigError(f"{stage.kind} {variable!r} (line {stage.line}) has the name of a stage; rename one")
            self.flow.rename(stage, variable)


def define(shell: Shell, line: str, name: str, body: str) -> Definition:
    """
    Run a body and return what it defines; nothing is bound to `name` yet.

    Raises CellSyntaxError, ConfigError or InvalidWorkflowError, and whatever the body raises.
    """
    tree, file = parsed(shell, f"%%workflow {line}", body)
    refuse_foreign_jump(tree, shell.user_ns)
    draft = Draft(name)
    words = {
        "stage": draft.stage, "approval": draft.approval, "call": draft.call, "loop": draft.loop,
        "shell": draft.shell, "http": draft.http, "task": draft.task, "budget": draft.budget, "Flow": Flow,
    }  # fmt: skip
    with _names_in(shell.user_ns, words):
        shell.user_ns["jump"] = jump
        value = _run(shell, tree, file)
        draft.name_stages(shell.user_ns)
    work = _work(name, draft.flow, value)
    if isinstance(work, Flow):
        work.check()
    tasks = _tasks(work, shell.user_ns)
    return Definition(name=name, work=work, source=body, prints=prints_of(work, tree), tasks=tasks)


# -- compiling ----------------------------------------------------------------------------------------


def parsed(shell: Shell, magic: str, body: str) -> tuple[ast.Module, str]:
    """Return the statements under a magic, and the name by which tracebacks find the cell; raises CellSyntaxError."""
    blank = len(body) - len(body.lstrip("\n"))
    try:
        source = "\n" * (1 + blank) + shell.transform_cell(body)
        file = shell.compile.cache(source, _number(shell), raw_code=f"{magic}\n{body}")
        return shell.transform_ast(shell.compile.ast_parse(source, file)), file
    except SyntaxError as fault:
        raise CellSyntaxError(fault) from None


def _number(shell: Shell) -> int:
    """Return the number that IPython gives to the cell that is run: its module is somewhere below on the stack."""
    numbers: Mapping[str, int] = getattr(shell.compile, "_filename_map", {})
    frame = sys._getframe(1)  # noqa: SLF001 - the stack of the cell
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename in numbers:
            return numbers[frame.f_code.co_filename]
    return shell.execution_count


def _run(shell: Shell, tree: ast.Module, file: str) -> Any:
    """Run the statements and return the value of the last one, when it is an expression."""
    last = tree.body[-1] if tree.body else None
    statements = tree.body[:-1] if isinstance(last, ast.Expr) else tree.body
    code = shell.compile(ast.Module(statements, tree.type_ignores), file, "exec")
    try:
        exec(code, shell.user_ns)  # noqa: S102 - a cell is the user's own code
        if isinstance(last, ast.Expr):
            return eval(shell.compile(ast.Expression(last.value), file, "eval"), shell.user_ns)  # noqa: S307 - as above
    except Exception as error:
        _begin_at_cell(shell, error)
        raise
    return None


def _begin_at_cell(shell: Shell, error: Exception) -> None:
    """Have IPython show the traceback of an error from the cell on; errors of this package say it shorter."""
    if isinstance(error, StabilizeError):
        return
    trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
    error._render_traceback_ = lambda: shell.InteractiveTB.structured_traceback(  # type: ignore[attr-defined]  # IPython looks for it
        type(error), error, trace, tb_offset=0
    )


@contextmanager
def _names_in(names: dict[str, Any], added: Mapping[str, Any]) -> Iterator[None]:
    """Have names in a namespace for a while; those that are bound anew meanwhile stay as they are then."""
    before = {name: names.get(name, _ABSENT) for name in added}
    names.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if names.get(name) is not added[name]:
                continue
            if value is _ABSENT:
                del names[name]
            else:
                names[name] = value


def refuse_foreign_jump(tree: ast.Module, names: Mapping[str, Any]) -> None:
    """Raise ConfigError where a body calls jump and the notebook means something else by it."""
    uses = next((node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "jump"), None)
    if uses is not None and names.get("jump", jump) is not jump:
        raise ConfigError(
            f"line {uses.lineno} calls jump, but this notebook has bound that name to something else; "
            "run `del jump` or rename yours"
        )


# -- what was defined ---------------------------------------------------------------------------------


def _work(name: str, flow: Flow, value: Any) -> Flow | Workflow:
    given = _given(name, value)
    if given is None:
        return flow
    if flow.stages:
        stages = ", ".join(flow.stages)
        raise ConfigError(
            f"the body defines stages ({stages}) and ends with {type(value).__name__}: a cell defines one workflow, "
            "either by @stage or by its last expression"
        )
    return given


def _given(name: str, value: Any) -> Flow | Workflow | None:
    """Return what the last expression of a body is, when it is a workflow in some form."""
    if isinstance(value, Flow | Workflow):
        return value
    is_list = isinstance(value, list | tuple) and bool(value)
    if is_list and all(isinstance(each, StageExecution) for each in value):
        return Workflow.create(application=name, name=name, stages=value)
    return None


def _tasks(work: Flow | Workflow, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the code of the tasks of a Workflow that the notebook itself has under their names."""
    if isinstance(work, Flow):
        return {}
    wanted = {task.implementing_class for stage in work.stages for task in stage.tasks}
    return {name: names[name] for name in sorted(wanted & names.keys()) if _is_task(names[name])}


def _is_task(value: Any) -> bool:
    return isinstance(value, Task) or callable(value)
