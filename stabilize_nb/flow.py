"""Flow: functions become stages. A parameter that names a stage is a dependency; the rest are inputs.

A Flow builds reference objects (`build() -> Workflow`): there is one engine and one model behind both ways of writing.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import keyword
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

from stabilize_nb.dag.soundness import Finding, check_soundness, contradictions, softened
from stabilize_nb.engine import default_engine
from stabilize_nb.errors import ConfigError, InvalidWorkflowError
from stabilize_nb.models.stage import JoinType, StageExecution
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.result import TaskResult, returned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import networkx as nx

    from stabilize_nb.engine import Engine
    from stabilize_nb.run import Run
    from stabilize_nb.tasks.registry import TaskRegistry

#: Parameters that the engine fills in.
HANDLES = ("stage", "progress")
#: How alike two names are (0 to 1) for one to be suggested for the other.
CLOSE = 0.75
#: The same where the name may also be an output of a stage before: only what can hardly be anything but a slip.
TYPO = 0.88
_QUORUM = re.compile(r"^\s*(\d+)\s*(?:of\s*(\d+))?\s*$")


class JumpRequested(BaseException):
    """A stage function asked to go on elsewhere."""

    def __init__(self, target: str, context: Mapping[str, Any]) -> None:
        super().__init__(target)
        self.target = target
        self.context = dict(context)


def jump(target: str | FlowStage, **context: Any) -> Any:
    """Leave the stage function at once and go on at another stage, which finds `context` in its parameters (WCP-10)."""
    raise JumpRequested(target.name if isinstance(target, FlowStage) else target, context)


class FlowStage:
    """One stage of a flow. Calling it calls the function, so that it can be tested by itself."""

    def __init__(self, name: str, function: Callable[..., Any] | None, **settings: Any) -> None:
        self.name = name
        self.function = function
        self.after: tuple[str, ...] = tuple(settings.pop("after", ()))
        self.settings = settings
        self.line: int | None = None
        if function is not None:
            functools.update_wrapper(self, function)

    @property
    def is_gate(self) -> bool:
        """Whether a person decides here."""
        return self.function is None

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of the function by name; those that collect further arguments are left out."""
        if self.function is None:
            return {}
        collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        signature = inspect.signature(self.function)
        return {name: each for name, each in signature.parameters.items() if each.kind not in collecting}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:
            msg = f"{self.name!r} is an approval: a person decides there, it cannot be called"
            raise ConfigError(msg)
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{'approval' if self.is_gate else 'stage'} {self.name!r}>"


class Flow:
    """A workflow written as functions.

    Flow("analyst") collects stages by `@flow.stage`; `flow.run(question=...)` starts a run of it in the default engine.
    """

    def __init__(self, name: str, *, description: str = "") -> None:
        self.name = name
        self.description = description
        self.stages: dict[str, FlowStage] = {}
        self.version = 1  # a notebook counts it up when the code changes
        self.engine: Engine | None = None  # where `run` starts runs; None: in the default engine

    # -- defining ---------------------------------------------------------------------------------

    @overload
    def stage(self, function: Callable[..., Any], /) -> FlowStage: ...

    @overload
    def stage(self, **settings: Any) -> Callable[[Callable[..., Any]], FlowStage]: ...

    def stage(self, function: Any = None, /, **settings: Any) -> Any:  # type: ignore[misc]
        """
        Make a function a stage of this flow: `@flow.stage` or `@flow.stage(after=..., ...)`.

        `name`: its name (the function's). `after`: stages it follows beside those its parameters name. `join`: when it
        starts, "all" (default), "any", a number, or "2 of 3". `collect`: outputs of its branches to gather as lists.
        `reduce`: output -> reducer. `retry`: how often it is tried again after a transient error. `timeout`: seconds.
        `context`: fixed values for its parameters. `title`: what people read.
        """
        if function is not None:
            return self._add(function, {})
        return lambda given: self._add(given, settings)

    def _add(self, function: Callable[..., Any], settings: dict[str, Any]) -> FlowStage:
        known = {"name", "after", "join", "collect", "reduce", "retry", "timeout", "context", "title"}
        for given in settings.keys() - known:
            msg = f"@stage({given}=...) is not known{_close(given, known)}; known are {', '.join(sorted(known))}"
            raise ConfigError(msg)
        name = settings.pop("name", None) or function.__name__
        stage = FlowStage(name, function, **{**settings, "after": _names(settings.get("after"))})
        stage.line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
        return self._keep(stage)

    def approval(
        self,
        question: str,
        *,
        name: str | None = None,
        after: Any = None,
        show: Any = None,
        form: Mapping[str, Any] | None = None,
        reject_continues: bool = False,
    ) -> FlowStage:
        """
        Add a gate at which a person decides; later stages may ask for it by name and get {"approved", "approval"}.

        `show`: the name of the value that is approved. `form`: field -> type (str, int, float, bool) or choices.
        `reject_continues`: whether the flow goes on after a rejection; otherwise the run fails.
        """
        stage = FlowStage(
            name or _slug(question), None, after=_names(after), question=question, show=show, form=dict(form or {}),
            reject_continues=reject_continues, unnamed=name is None,
        )  # fmt: skip
        return self._keep(stage)

    def _keep(self, stage: FlowStage) -> FlowStage:
        if not stage.name.isidentifier() or keyword.iskeyword(stage.name):
            msg = f"stage name {stage.name!r} cannot be a parameter name; use letters, digits and underscores"
            raise ConfigError(msg)
        if stage.name in HANDLES:
            msg = f"stage name {stage.name!r} is kept for a handle that the engine passes; choose another"
            raise ConfigError(msg)
        self.stages[stage.name] = stage
        return stage

    def rename(self, stage: FlowStage, name: str) -> None:
        """Give a stage another name, keeping its place."""
        self.stages = {name if each is stage else key: each for key, each in self.stages.items()}
        for each in self.stages.values():
            each.after = tuple(name if ref == stage.name else ref for ref in each.after)
        stage.name = name
        stage.settings["unnamed"] = False

    # -- checking and building --------------------------------------------------------------------

    def requisites(self, stage: FlowStage) -> set[str]:
        """Return the names of the stages that a stage follows."""
        named = {name for name in stage.parameters if name in self.stages and name != stage.name}
        return named | set(stage.after)

    @property
    def inputs(self) -> dict[str, bool]:
        """What a run can be given: name -> whether some stage cannot do without it."""
        wanted: dict[str, bool] = {}
        for stage in self.stages.values():
            gathered = {
                **stage.settings.get("reduce", {}),
                **dict.fromkeys(_names(stage.settings.get("collect"))),
            }
            for name, parameter in stage.parameters.items():
                if (
                    name in self.stages
                    or name in HANDLES
                    or name in gathered
                    or name in stage.settings.get("context", {})
                ):
                    continue
                needed = parameter.default is parameter.empty and not self.requisites(stage)
                wanted[name] = wanted.get(name, False) or needed
        return wanted

    def check(self, inputs: Iterable[str] | None = None) -> tuple[Finding, ...]:
        """
        Return what is wrong with the graph: stages that can never run, waits that never end.

        Contradictions are those for which `build` refuses a run. Where a stage function jumps there are only warnings.

        Raises InvalidWorkflowError that names all else that is wrong with the flow (with `inputs`: for a run of these).
        """
        faults = [fault for stage in self.stages.values() for fault in self._faults(stage, inputs)]
        if not self.stages:
            faults.append("it has no stages: decorate a function with @stage")
        if faults:
            raise InvalidWorkflowError(self.name, faults)
        findings = check_soundness([self._reference(stage) for stage in self.stages.values()])
        return softened(findings) if any(map(_jumps, self.stages.values())) else findings

    def _faults(self, stage: FlowStage, inputs: Iterable[str] | None) -> list[str]:
        place = f"stage {stage.name!r}" + (f" (line {stage.line})" if stage.line else "")
        faults = [
            f"{place} follows {ref!r}, which is no stage{_close(ref, self.stages)}"
            for ref in stage.after
            if ref not in self.stages
        ]
        given = None if inputs is None else set(inputs)
        known = {*self.stages, *HANDLES, *(given or ())}
        own = {
            *stage.settings.get("context", {}), *_names(stage.settings.get("collect")),
            *stage.settings.get("reduce", {}),
        }  # fmt: skip
        for name, parameter in stage.parameters.items():
            if name in known or name in own or parameter.default is not parameter.empty:
                continue
            close = _close(name, known - {stage.name}, TYPO if self.requisites(stage) else CLOSE)
            if close:
                faults.append(f"{place} asks for {name!r}, which is neither a stage nor an input{close}")
            elif given is not None and not self.requisites(stage):
                faults.append(f"{place} needs the input {name!r}, which was not given: run({name}=...)")
        return faults

    def build(self, **inputs: Any) -> Workflow:
        """
        Return the Workflow of a run with these inputs.

        Raises InvalidWorkflowError for a flow that cannot be run, with every fault named.
        """
        wanted = self.inputs
        for name in inputs.keys() - wanted.keys():
            if close := _close(name, wanted):
                msg = f"flow {self.name!r} has no input {name!r}{close}"
                raise ConfigError(msg)
        if wrong := contradictions(self.check(inputs)):
            raise InvalidWorkflowError(self.name, wrong)
        stages = [self._reference(stage) for stage in self.stages.values()]
        return Workflow.create(application=self.name, name=self.name, stages=stages, context=inputs)

    def _reference(self, stage: FlowStage) -> StageExecution:
        requisites = self.requisites(stage)
        join, threshold = _join(stage, requisites)
        settings = stage.settings
        context = dict(settings.get("context", {}))
        if stage.is_gate:
            context |= {
                "message": settings["question"], "show_key": _show_key(settings["show"]),
                "form": {name: _form_field(kind) for name, kind in settings["form"].items()},
                "approval_reject_continues": settings["reject_continues"],
            }  # fmt: skip
        if settings.get("timeout") is not None:
            context["_timeout"] = float(settings["timeout"])
        if settings.get("retry") is not None:
            context["_max_attempts"] = int(settings["retry"]) + 1
        reducers = {**dict.fromkeys(_names(settings.get("collect")), "collect"), **settings.get("reduce", {})}
        return StageExecution(
            ref_id=stage.name, type="approval" if stage.is_gate else "function",
            name=settings.get("title") or stage.name.replace("_", " "), context=context,
            requisite_stage_ref_ids=requisites, join_type=join, join_threshold=threshold, output_reducers=reducers,
            tasks=[TaskExecution.create(stage.name, self.task_name(stage), stage_start=True, stage_end=True)],
        )  # fmt: skip

    def task_name(self, stage: FlowStage) -> str:
        """Return the name under which the code of a stage is registered."""
        return "approval" if stage.is_gate else f"{self.name}.{stage.name}"

    def register(self, registry: TaskRegistry) -> None:
        """Make the functions of the flow known; code of the same names is replaced."""
        for stage in self.stages.values():
            if stage.function is not None:
                registry.replace(self.task_name(stage), FunctionTask(self.name, stage, frozenset(self.stages)))

    def graph(self) -> nx.DiGraph[str]:
        """Return the graph: nodes are stage names, edges point downstream."""
        import networkx as nx  # noqa: PLC0415 - heavy, and only needed for this

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.stages)
        for stage in self.stages.values():
            graph.add_edges_from((ref, stage.name) for ref in sorted(self.requisites(stage)))
        return graph

    def picture(self) -> Workflow:
        """Return the flow as an unstarted workflow, for drawing: inputs are not asked for."""
        stages = [self._reference(stage) for stage in self.stages.values()]
        return Workflow(application=self.name, name=self.name, stages=stages)

    # -- running ----------------------------------------------------------------------------------

    def run(self, **inputs: Any) -> Run:
        """Start a run, in the default engine unless `engine` is set, and return its handle at once."""
        if self.engine is not None:
            return self.engine.start(self, **inputs)
        return default_engine().start(self, **inputs)

    def __repr__(self) -> str:
        return f"Flow({self.name!r}, stages: {', '.join(self.stages) or 'none'})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # IPython calls this; nothing below the notebook may import it.
        bundle: dict[str, Any] = import_module("stabilize_nb.notebook.views").flow_bundle(self)
        return bundle


class FunctionTask(Task):
    """A stage function as a task: finds the value of each parameter, makes a result of what comes back."""

    def __init__(self, flow: str, stage: FlowStage, stages: frozenset[str]) -> None:
        self._flow = flow
        self._stage = stage
        self._stages = stages
        self._is_coroutine = inspect.iscoroutinefunction(stage.function)

    def execute(self, stage: StageExecution) -> Any:
        """Call the function with its arguments."""
        arguments = {name: self._argument(stage, name, each) for name, each in self._stage.parameters.items()}
        if self._is_coroutine:
            return self._wait(arguments)
        try:
            return result_of_function(self._stage(**arguments))
        except JumpRequested as wish:
            return TaskResult.jump_to(wish.target, context=wish.context)

    async def _wait(self, arguments: dict[str, Any]) -> TaskResult:
        try:
            return result_of_function(await self._stage(**arguments))
        except JumpRequested as wish:
            return TaskResult.jump_to(wish.target, context=wish.context)

    def _argument(self, stage: StageExecution, name: str, parameter: inspect.Parameter) -> Any:
        if name in stage.upstream:
            return _value(stage, name)
        if name == "stage":
            return stage
        if name == "progress":
            return stage.progress
        if name in stage.context:
            return stage.context[name]
        if parameter.default is not parameter.empty:
            return parameter.default
        if name in self._stages:
            return None
        have = sorted(key for key in stage.context if not key.startswith("_"))
        msg = (
            f"stage {self._stage.name!r} of flow {self._flow!r} asks for {name!r}, which neither the run's inputs nor "
            f"the stages before it gave{_close(name, have)}; there is: {', '.join(have) or 'nothing'}"
        )
        raise ConfigError(msg)


def _value(stage: StageExecution, name: str) -> Any:
    values = [returned(source.outputs, source.context) for source in stage.upstream[name]]
    return values[0] if len(values) == 1 else values


def result_of_function(value: Any) -> TaskResult:
    """Make a TaskResult of what a stage function returned; remembers whether it was a mapping."""
    if isinstance(value, TaskResult):
        return value
    if isinstance(value, dict):
        return TaskResult.success(outputs=value, context={"_returns": "mapping"})
    if value is None:
        return TaskResult.success(context={"_returns": "nothing"})
    return TaskResult.success(outputs={"result": value}, context={"_returns": "value"})


def _join(stage: FlowStage, requisites: set[str]) -> tuple[JoinType, int]:
    wish = stage.settings.get("join", "all")
    if wish in ("all", None):
        return JoinType.AND, 0
    if wish == "any":
        return JoinType.DISCRIMINATOR, 0
    match = _QUORUM.match(str(wish))
    if match is None or isinstance(wish, bool):
        msg = f"stage {stage.name!r}: join={wish!r} is not known; write 'all', 'any', a number, or '2 of 3'"
        raise ConfigError(msg)
    needed, of = int(match[1]), match[2]
    if of is not None and int(of) != len(requisites):
        branches = ", ".join(sorted(requisites)) or "none"
        msg = f"stage {stage.name!r}: join={wish!r}, but it has {len(requisites)} branches ({branches})"
        raise ConfigError(msg)
    return JoinType.N_OF_M, needed


def _jumps(stage: FlowStage) -> bool:
    """Whether the code of a stage function, or of one inside it, names what makes a jump."""
    codes = [getattr(inspect.unwrap(stage.function), "__code__", None)] if stage.function is not None else []
    for code in filter(None, codes):
        if {"jump", "jump_to"} & {*code.co_names, *code.co_freevars}:
            return True
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return False


def _names(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, str | FlowStage):
        given = (given,)
    return tuple(each.name if isinstance(each, FlowStage) else str(each) for each in given)


def _show_key(given: Any) -> str | None:
    return given.name if isinstance(given, FlowStage) else given


def _form_field(kind: Any) -> Any:
    if isinstance(kind, type):
        return kind.__name__
    return list(kind) if isinstance(kind, list | tuple) else str(kind)


def _close(name: str, known: Iterable[str], cutoff: float = CLOSE) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]!r}?" if found else ""


def _slug(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "_".join(words[:4]) or "approval"
