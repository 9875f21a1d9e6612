"""The tasks of stages that a person has written: functions, and tasks put to use as stages."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from stabilize_nb.errors import ConfigError
from stabilize_nb.flow_names import lacks
from stabilize_nb.flow_parts import HANDLES
from stabilize_nb.models.secret import Secret
from stabilize_nb.secrets.resolving import resolved
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.prints import print_of
from stabilize_nb.tasks.result import TaskResult, returned
from stabilize_nb.verification import Verifier, VerifyResult, verdict

if TYPE_CHECKING:
    from stabilize_nb.flow import FlowStage
    from stabilize_nb.flow_names import Names
    from stabilize_nb.flow_words import Named
    from stabilize_nb.models.stage import StageExecution


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

    @property
    def asks(self) -> frozenset[str]:
        """Names of parameters that no stage gives: inputs of a run, and outputs of other stages."""
        return frozenset(self._stage.parameters.keys() - {*self._names.ends, *HANDLES})

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
        msg = f"stage {self._stage.name!r} of flow {self._names.flow!r} asks for {name!r}, {lacks(stage, name)}"
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
