"""
The tasks that carry out a flow: functions, and what stands around them to pass values on.

A parameter that names a stage gets what that stage returned. The engine tells a body that only of the stages directly
before it. Where something else stands between two stages of a flow (the parent of instances, the entry of a loop, a
stage that looks at a condition), it gives the values again as outputs of its own, under the names of the stages.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from stabilize_nb.errors import ConfigError, StabilizeError
from stabilize_nb.models.multi_instance import INSTANCE_INDEX, is_instance
from stabilize_nb.models.near import listed
from stabilize_nb.models.secret import Secret
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.reducers import apply_output_reducers
from stabilize_nb.secrets.resolving import resolved
from stabilize_nb.tasks.child import CONFIG, with_plain_stages
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.loop import LoopEntryTask, LoopExitTask
from stabilize_nb.tasks.prints import print_of
from stabilize_nb.tasks.result import TaskResult, returned
from stabilize_nb.verification import Verifier, VerifyResult, verdict

if TYPE_CHECKING:
    from stabilize_nb.flow import Flow, FlowStage
    from stabilize_nb.flow_words import Named
    from stabilize_nb.models.stage import StageExecution, Upstream

#: In the own context of a parent of instances: what they are made for.
ITEMS = "_items"


class Coded(Protocol):
    """A task of a flow; `code` is the print of what it does."""

    @property
    def code(self) -> str:
        """What changes when it would do something else."""

    def execute(self, stage: StageExecution) -> Any:
        """Carry it out."""


class JumpRequested(BaseException):
    """A stage function asked to go on elsewhere."""

    def __init__(self, target: str, context: Mapping[str, Any]) -> None:
        super().__init__(target, context)
        self.target = target
        self.context = dict(context)


def jump(target: str | Named, **context: Any) -> Any:
    """
    Leave the stage function at once and go on at another stage, which finds `context` in its parameters (WCP-10).

    For example:

        >>> from stabilize_nb import Engine, Flow, jump
        >>> essay = Flow("essay")
        >>> @essay.stage
        ... def write(words=10):
        ...     return {"text": words * "a "}
        >>> @essay.stage(after=write)
        ... def review(text):
        ...     if len(text) < 100:
        ...         jump("write", words=50)
        ...     return len(text)
        >>> with Engine(":memory:") as engine:
        ...     engine.start(essay).result()
        100
    """
    raise JumpRequested(target if isinstance(target, str) else target.name, context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the names of a flow stand for in its runs.

    `begins`, `ends`: the ref_id at which a stage or loop begins, and the one that holds its value. `lists`: ref_ids
    whose value is a list of several results. `beside`: of a loop, the outputs of its exit that are not its value.
    `conditions`: what conditions read; `wanted`: what anything asks for.
    """

    flow: str
    begins: Mapping[str, str]
    ends: Mapping[str, str]
    lists: frozenset[str]
    beside: Mapping[str, frozenset[str]]
    conditions: frozenset[str]
    wanted: frozenset[str]

    def has(self, stage: StageExecution, name: str) -> bool:
        """Whether a stage or loop of the flow has come directly before."""
        return self.ends.get(name) in stage.upstream

    def value(self, stage: StageExecution, name: str) -> Any:
        """Return what it returned; a list when several runs of it have come."""
        values = [self._value(name, run) for run in stage.upstream[self.ends[name]]]
        return values[0] if len(values) == 1 else values

    def _value(self, name: str, run: Upstream) -> Any:
        beside = self.beside.get(name, ())
        return returned({key: value for key, value in run.outputs.items() if key not in beside}, run.context)

    def values(self, stage: StageExecution, names: Iterable[str]) -> dict[str, Any]:
        """Return the values of those that have come."""
        return {name: self.value(stage, name) for name in names if self.has(stage, name)}

    def reduced(self, stage: StageExecution, reducers: Mapping[str, str]) -> dict[str, Any]:
        """Return what reducers make of the outputs of the branches, of which each instance is one."""
        outputs = [each for ref, runs in stage.upstream.items() for run in runs for each in self._outputs(ref, run)]
        nothing: dict[str, Any] = {name: [] for name, reducer in reducers.items() if reducer == "collect"}
        return nothing | apply_output_reducers(reducers, outputs)

    def _outputs(self, ref: str, run: Upstream) -> Iterator[Mapping[str, Any]]:
        if ref not in self.lists:
            yield run.outputs
            return
        for result in run.outputs.get("result", ()):
            yield result if isinstance(result, dict) else {"result": result}

    def told(self, name: str, value: Any) -> dict[str, Any]:
        """Return a value under the name of its stage, if a condition asks for it so."""
        return {name: value} if name in self.conditions else {}

    def meant(self, names: Iterable[str]) -> list[Any]:
        """Return what some names stand for, for the print of code that uses them."""
        known = {name: self.ends[name] for name in names if name in self.ends}
        beside = {name: self.beside[name] for name in known if name in self.beside}
        return [known, beside, self.lists & {*known.values()}, self.conditions & {*known}]


def _returned(run: Upstream) -> Any:
    return returned(run.outputs, run.context)


# -- functions ----------------------------------------------------------------------------------------


class FunctionTask(Task):
    """A stage function as a task: finds the value of each parameter, makes a result of what comes back."""

    sees_secrets = False

    def __init__(self, stage: FlowStage, names: Names, reducers: Mapping[str, str]) -> None:
        self._stage = stage
        self._names = names
        self._reducers = reducers
        self._is_coroutine = inspect.iscoroutinefunction(stage.function)
        self.queue = stage.queue
        verify = stage.settings.get("verify")
        self.verifier = verify if verify is None or isinstance(verify, Verifier) else ReturnedVerifier(verify)

    @property
    def code(self) -> str:
        """The print of the function, and of where its values come from."""
        begins = {name: ref for name, ref in self._names.begins.items() if name != ref}  # where jumps lead
        meant = self._names.meant([*self._stage.parameters, self._stage.name])
        parts = (type(self), self._stage.function, self._reducers, self._lists(), begins, meant)
        return print_of(*parts) if self.verifier is None else print_of(*parts, *_code_of(self.verifier))

    def _lists(self) -> frozenset[str]:
        return self._names.lists if self._reducers else frozenset()

    def execute(self, stage: StageExecution) -> Any:
        """Call the function with its arguments."""
        call = self._call(stage)
        return self._wait(call) if self._is_coroutine else self.back(call)

    def away(self, stage: StageExecution) -> partial[Any] | None:
        """Return the call of the function with its arguments; a coroutine stays."""
        return None if self._is_coroutine else self._call(stage)

    def _call(self, stage: StageExecution) -> partial[Any]:
        function: Any = self._stage.function
        named = self._arguments(stage)
        first = [name for name, each in self._stage.parameters.items() if each.kind is each.POSITIONAL_ONLY]
        return partial(function, *[named.pop(name) for name in first], **named)

    def back(self, call: Callable[[], Any]) -> TaskResult:
        """Make a result of what the function returns."""
        try:
            return self._result(call())
        except JumpRequested as wish:
            return self._jump(wish)

    async def _wait(self, call: Callable[[], Any]) -> TaskResult:
        try:
            return self._result(await call())
        except JumpRequested as wish:
            return self._jump(wish)

    def _result(self, value: Any) -> TaskResult:
        result = result_of_function(value)
        told = self._names.told(self._stage.name, value)
        is_value = told and result.context.get("_returns") == "value"
        return dataclasses.replace(result, outputs={**told, **result.outputs}) if is_value else result

    def _jump(self, wish: JumpRequested) -> TaskResult:
        return TaskResult.jump_to(self._names.begins.get(wish.target, wish.target), context=wish.context)

    def _arguments(self, stage: StageExecution) -> dict[str, Any]:
        gathered = self._names.reduced(stage, self._reducers) if self._reducers else {}
        return {
            name: resolved(gathered[name] if name in gathered else self._argument(stage, name, parameter))
            for name, parameter in self._stage.parameters.items()
        }

    def _argument(self, stage: StageExecution, name: str, parameter: inspect.Parameter) -> Any:
        if self._names.has(stage, name):
            return self._names.value(stage, name)
        if name == "stage":
            stage.context = resolved(stage.context)
            return stage
        if name == "progress":
            return stage.progress
        if name in stage.context:
            return stage.context[name]
        if parameter.default is not parameter.empty:
            return parameter.default
        if name in self._names.ends:
            return None
        msg = f"stage {self._stage.name!r} of flow {self._names.flow!r} asks for {name!r}, {_missing(stage, name)}"
        raise ConfigError(msg)


class ReturnedVerifier(Verifier):
    """A function of what a stage returned as a verifier; what it may say is what CallableVerifier says."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def verify(self, stage: StageExecution) -> VerifyResult:
        """Call the function."""
        return verdict(self.function, returned(stage.outputs, stage.context))


def _code_of(verifier: Verifier) -> tuple[Any, ...]:
    """Return what changes when a verifier would say something else."""
    return type(verifier), type(verifier).verify, vars(verifier)


def print_of_task(task: Task) -> str:
    """Return the print of a task with what it was made with."""
    return print_of(task, getattr(task, "__dict__", {}))


class StageTask(Task):
    """A task as a stage: it sees what the stages returned whose names are among its places, under these names."""

    def __init__(self, task: Task, queue: str, names: Names, reducers: Mapping[str, str]) -> None:
        self._task = task
        self.queue = queue
        self._names = names
        self._reducers = reducers
        self.waits, self.timeout, self.max_attempts = task.waits, task.timeout, task.max_attempts
        self.sees_secrets = task.sees_secrets
        self.on_timeout, self.on_cancel = task.on_timeout, task.on_cancel  # type: ignore[method-assign]  # the same

    @property
    def code(self) -> str:
        """The print of the task with its options, and of where its values come from."""
        lists = self._names.lists if self._reducers else ()
        meant = self._names.meant(self._task.places)
        return print_of(type(self), print_of_task(self._task), self._reducers, lists, meant)

    def execute(self, stage: StageExecution) -> Any:
        """Carry out the task."""
        self._prepare(stage)
        return self._task.execute(stage)

    def away(self, stage: StageExecution) -> partial[Any] | None:
        """Return what the task is to be called by."""
        self._prepare(stage)
        return self._task.away(stage)

    def back(self, call: Callable[[], Any]) -> Any:
        """Return what the task makes of it."""
        return self._task.back(call)

    def _prepare(self, stage: StageExecution) -> None:
        gathered = self._names.reduced(stage, self._reducers) if self._reducers else {}
        stage.context.update(resolved({**self._names.values(stage, self._task.places), **gathered}))


class AroundTask(FunctionTask):
    """A function that runs before or after a stage, or when it has failed; `error` says then why."""

    def __init__(self, stage: FlowStage, names: Names, parent: str) -> None:
        super().__init__(stage, names, {})
        self._parent = parent

    @property
    def code(self) -> str:
        """The print of the function, and whose it is."""
        return print_of(super().code, self._parent)

    def _argument(self, stage: StageExecution, name: str, parameter: inspect.Parameter) -> Any:
        if name == "error":
            return stage.upstream[self._parent][-1].context.get("error")
        return super()._argument(stage, name, parameter)


def _missing(stage: StageExecution, name: str) -> str:
    have = sorted(key for key in stage.context if not key.startswith("_"))
    there = listed(name, have) if have else "nothing"
    return f"which neither the run's inputs nor the stages before it gave; there is: {there}"


def result_of_function(value: Any) -> TaskResult:
    """Make a TaskResult of what a stage function returned; remembers whether it was a mapping."""
    kind: type = type(value)  # and not isinstance, which asks a value for its class
    if issubclass(kind, TaskResult):
        return cast("TaskResult", value)
    if issubclass(kind, dict) and kind is not Secret:
        return TaskResult.success(outputs=value, context={"_returns": "mapping"})
    if value is None:
        return TaskResult.success(context={"_returns": "nothing"})
    return TaskResult.success(outputs={"result": value}, context={"_returns": "value"})


# -- what stands around functions ---------------------------------------------------------------------


class RelayTask(Task):
    """Gives values of the stages before it again: those that what stands behind it asks for."""

    sees_secrets = False

    def __init__(self, names: Names, values: Iterable[str], reducers: Mapping[str, str]) -> None:
        self._names = names
        self._values = tuple(values)
        self._reducers = reducers

    @property
    def code(self) -> str:
        """The print of what is passed on."""
        lists = self._names.lists if self._reducers else ()
        return print_of(type(self), self._values, self._reducers, lists, self._names.meant(self._values))

    def execute(self, stage: StageExecution) -> TaskResult:
        """Look, and pass on."""
        return TaskResult.success(self.passed_on(stage))

    def passed_on(self, stage: StageExecution) -> dict[str, Any]:
        """Return the values by the names under which they are asked for."""
        gathered = self._names.reduced(stage, self._reducers) if self._reducers else {}
        return {**self._names.values(stage, self._values), **gathered}


class EachTask(RelayTask):
    """Begins a stage that runs once for each item: says for which (WCP-13, WCP-14)."""

    def __init__(self, names: Names, values: Iterable[str], reducers: Mapping[str, str], stage: FlowStage) -> None:
        super().__init__(names, values, reducers)
        self._name = stage.name
        self._each = stage.settings["each"]

    @property
    def code(self) -> str:
        """The print of what it is run for."""
        return print_of(super().code, self._each)

    def execute(self, stage: StageExecution) -> TaskResult:
        """Find the list, or the number."""
        given = self.passed_on(stage)
        if not isinstance(self._each, str):
            return TaskResult.success(given)
        try:
            items = self._items({**stage.context, **given}, stage)
        except ConfigError as error:
            return TaskResult.terminal(str(error))
        return TaskResult.success(given, {ITEMS: items})

    def _items(self, seen: Mapping[str, Any], stage: StageExecution) -> list[Any]:
        here = f"stage {self._name!r} of flow {self._names.flow!r}"
        if self._each not in seen:
            raise ConfigError(f"{here} runs for each of {self._each!r}, {_missing(stage, self._each)}")
        found = seen[self._each]
        if isinstance(found, list):
            return found
        if type(found) is int and found >= 0:
            return list(range(found))
        raise ConfigError(
            f"{here} runs for each of {self._each!r}, which is {found!r}; a list is expected, or a number of 0 or more"
        )


class GatherTask(Task):
    """Makes one list of what the instances returned, in the order of the items.

    The value is that list. An output of theirs that anything in the flow asks for by its name becomes a list of these;
    outputs that are lists themselves are joined by the engine.
    """

    sees_secrets = False

    def __init__(self, names: Names, name: str) -> None:
        self._names = names
        self._name = name

    @property
    def code(self) -> str:
        """The print of what is gathered."""
        return print_of(type(self), self._name, self._names.wanted, self._names.meant([self._name]))

    def execute(self, stage: StageExecution) -> TaskResult:
        """Gather."""
        runs = [run for runs in stage.upstream.values() for run in runs if is_instance(run.context)]
        runs.sort(key=lambda run: run.context[INSTANCE_INDEX])
        results = [_returned(run) for run in runs]
        lists = {key: [run.outputs[key] for run in runs if key in run.outputs] for key in sorted(self._names.wanted)}
        outputs = {key: found for key, found in lists.items() if found and not any(isinstance(x, list) for x in found)}
        outputs |= {**self._names.told(self._name, results), "result": results}
        return TaskResult.success(outputs, {"_returns": "value"})


class LoopBegin(LoopEntryTask):
    """The entry of a loop, which also gives again what the stages of the body ask for from before the loop."""

    def __init__(self, relay: RelayTask) -> None:
        self._relay = relay

    @property
    def code(self) -> str:
        """The print of what it gives again."""
        return print_of(type(self), self._relay.code)

    def execute(self, stage: StageExecution) -> TaskResult:
        """Begin a pass."""
        values = self._relay.passed_on(stage)
        stage.context.update(values)  # so that the exit does not take them for something that the pass gave
        result = super().execute(stage)
        begun = result.status is WorkflowStatus.SUCCEEDED
        return dataclasses.replace(result, outputs={**result.outputs, **values}) if begun else result


class LoopEnd(LoopExitTask):
    """The exit of a loop, which also gives what the last stage of the body returned in the last pass.

    With several last stages that is a mapping from their names. `values`: further stages of the body that something
    behind the loop asks for.
    """

    def __init__(self, names: Names, name: str, last: Iterable[str], values: Iterable[str]) -> None:
        self._names = names
        self._name = name
        self._last = tuple(last)
        self._values = tuple(values)

    @property
    def code(self) -> str:
        """The print of what it returns."""
        meant = self._names.meant([*self._last, *self._values, self._name])
        return print_of(type(self), self._name, self._last, self._values, meant)

    def execute(self, stage: StageExecution) -> TaskResult:
        """End a pass."""
        result = super().execute(stage)
        if result.status not in {WorkflowStatus.SUCCEEDED, WorkflowStatus.FAILED_CONTINUE}:
            return result
        outputs, context = self._value(stage)
        outputs = {**self._names.values(stage, self._values), **outputs, **result.outputs}
        return dataclasses.replace(result, outputs=outputs, context={**context, **result.context})

    def _value(self, stage: StageExecution) -> tuple[dict[str, Any], dict[str, Any]]:
        if len(self._last) > 1:
            value = self._names.values(stage, self._last)
            kind = "mapping" if value else "nothing"
            return {**self._names.told(self._name, value), **value}, {"_returns": kind}
        if not self._names.has(stage, self._last[0]):
            return {}, {"_returns": "nothing"}
        run = stage.upstream[self._names.ends[self._last[0]]][-1]
        value = self._names.value(stage, self._last[0])
        context = {"_returns": run.context["_returns"]} if "_returns" in run.context else {}
        return {**run.outputs, **self._names.told(self._name, value)}, context


class CallTask(Task):
    """Says what the child workflow of a stage is: another flow, with its inputs (WCP-22)."""

    sees_secrets = False

    def __init__(self, name: str, child: Flow, names: Names, reducers: Mapping[str, str]) -> None:
        self._name = name
        self._child = child
        self._names = names
        self._reducers = reducers

    @property
    def code(self) -> str:
        """The print of what is called: the code of the other flow has prints of its own in its runs."""
        inputs = self._child.inputs
        return print_of(type(self), self._child.name, inputs, self._reducers, self._names.meant(inputs))

    def execute(self, stage: StageExecution) -> TaskResult:
        """Find the inputs of the child and build it."""
        given = self._names.reduced(stage, self._reducers) if self._reducers else {}
        for name in self._child.inputs:
            if name not in given and self._names.has(stage, name):
                given[name] = self._names.value(stage, name)
            elif name not in given and name in stage.context:
                given[name] = stage.context[name]
        try:
            child = self._child.build(**given)
        except StabilizeError as error:
            return TaskResult.terminal(f"stage {self._name!r} cannot call flow {self._child.name!r}: {error}")
        config = {"name": child.name, "application": child.application, "stages": child.stages, "context": given}
        return TaskResult.success(context=dict(with_plain_stages({CONFIG: config})))
