"""What a task is to the engine: an object with `execute`, plain or async, and hooks that have defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from stabilize_nb.models.gate import seconds_of
from stabilize_nb.models.secret import Secret
from stabilize_nb.tasks.result import TaskResult

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.verification import Verifier

#: The label of tasks that have none.
DEFAULT_QUEUE: Final = "default"


class Task:
    """Code that a stage runs. Subclasses override `execute`, which may be a coroutine function.

    A body runs at least once and never again after its result is committed. It gets its inputs in
    `stage.context`; changes of that mapping are not kept, results travel by the TaskResult. When its result is no
    longer wanted, a coroutine is cancelled, as asyncio cancels; a body in a thread may look at `stage.cancelled`.
    """

    #: Further names under which the class is registered.
    aliases: tuple[str, ...] = ()
    #: Seconds a body may take; None: the engine's default (4 h, STABILIZE_DEFAULT_TASK_TIMEOUT_S).
    timeout: float | None = None
    #: Bodies begun for one logical call when they fail in a way that another try may mend; None: 10.
    max_attempts: int | None = None
    #: Whether a plain `execute` returns a coroutine when an engine calls it, which needs no thread while it waits.
    #: Where `execute` blocks first it is False.
    waits: bool = False
    #: What looks at the outputs of a body that has succeeded, before anything that follows may start.
    verifier: Verifier | None = None
    #: Whether its context holds the values of secrets; a task that only passes data on has the references.
    sees_secrets: bool = True
    #: The label of the workers that take it (`stabilize-nb worker --only gpu`); what has none is in "default".
    queue: str = DEFAULT_QUEUE

    @property
    def places(self) -> Sequence[str]:
        """Names of values that it takes from what its stage sees. In a flow, stages of these names come before it."""
        return ()

    def __str__(self) -> str:
        """What a person reads who asks what it does."""
        return type(self).__name__

    def execute(self, stage: StageExecution) -> Any:
        """Do the work and return a TaskResult (or an awaitable of one)."""
        raise NotImplementedError

    def away(self, stage: StageExecution) -> partial[Any] | None:
        """
        Return what an executor's process is to call, which makes what `execute` would.

        None: the task stays in the engine's process, as one does that waits, or that only passes data on.
        """
        stays = self.waits or not self.sees_secrets or inspect.iscoroutinefunction(self.execute)
        return None if stays else partial(self.execute, stage)

    def back(self, call: Callable[[], Any]) -> Any:
        """Return the result of the task; `call` gives what the call that `away` made has returned, or raises."""
        return call()

    def on_timeout(self, stage: StageExecution) -> TaskResult | None:
        """Return the result of a body that did not end in time; None: the stage fails."""
        return None

    def on_cancel(self, stage: StageExecution) -> None:
        """Clean up after the stage was withdrawn: once, at once, unless the process dies before this is called."""


class RetryableTask(Task):
    """A task that polls: it returns `TaskResult.running()` until it is done."""

    def get_timeout(self) -> timedelta:
        """Return the time that all polls together may take."""
        return timedelta(hours=1)

    def get_dynamic_timeout(self, stage: StageExecution) -> timedelta:
        """Return that time for one stage: its `stageTimeoutMs` when set."""
        limit = stage.context.get("stageTimeoutMs")
        return self.get_timeout() if limit is None else timedelta(milliseconds=limit)

    def get_backoff_period(self, stage: StageExecution, elapsed: timedelta) -> timedelta:
        """Return how long to wait before the next poll, `elapsed` after the first."""
        return timedelta(seconds=1)


class OverridableTimeoutRetryableTask(RetryableTask):
    """A polling task whose time limit the stage may set by `stageTimeoutMs`."""


class SkippableTask(Task):
    """A task that may say before it runs that there is nothing to do."""

    def is_enabled(self, stage: StageExecution) -> bool:
        """Whether the task has to run."""
        return True

    def do_execute(self, stage: StageExecution) -> Any:
        """Do the work and return a TaskResult."""
        raise NotImplementedError

    def execute(self, stage: StageExecution) -> Any:
        """Run `do_execute`, or skip the stage when the task is not enabled."""
        return self.do_execute(stage) if self.is_enabled(stage) else TaskResult.skipped()


class CallableTask(Task):
    """A function as a task: it gets the stage (or nothing) and returns a TaskResult, outputs, or one value."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._takes_stage = self.sees_secrets = bool(inspect.signature(function).parameters)

    def execute(self, stage: StageExecution) -> Any:
        """Call the function and make a result of what it returns."""
        return self.back(self._call(stage))

    def away(self, stage: StageExecution) -> partial[Any] | None:
        """Return the call of the function; a coroutine stays."""
        return None if inspect.iscoroutinefunction(self.function) else self._call(stage)

    def _call(self, stage: StageExecution) -> partial[Any]:
        return partial(self.function, *([stage] if self._takes_stage else []))

    def back(self, call: Callable[[], Any]) -> Any:
        """Make a result of what the function returns."""
        value = call()
        return self._later(value) if is_awaitable(value) else as_result(value)

    async def _later(self, value: Any) -> TaskResult:
        return as_result(await value)


def is_awaitable(value: Any) -> bool:
    """Whether a value is waited for; its class is looked at, since the value may be anything."""
    return hasattr(type(value), "__await__")


def as_result(value: Any) -> TaskResult:
    """Make a TaskResult of what a function gave back: a mapping is the outputs, another value the output `result`."""
    kind: type = type(value)  # and not isinstance, which asks a value for its class
    if issubclass(kind, TaskResult):
        return cast("TaskResult", value)
    if value is None:
        return TaskResult.success()
    is_outputs = issubclass(kind, Mapping) and kind is not Secret
    return TaskResult.success(outputs=value if is_outputs else {"result": value})


class NoOpTask(Task):
    """Does nothing."""

    sees_secrets = False

    def execute(self, stage: StageExecution) -> TaskResult:
        """Succeed at once."""
        return TaskResult.success()


class WaitTask(RetryableTask):
    """Waits `waitTime`, which is seconds or text such as "2h"; the wait survives restarts and holds no worker."""

    sees_secrets = False

    def get_timeout(self) -> timedelta:
        """Return the longest time there is: a wait has no limit, also where the clock is set by decades."""
        return timedelta.max

    def execute(self, stage: StageExecution) -> TaskResult:
        """Wait once, for the whole time, and succeed when called again."""
        given = stage.context.get("waitTime")
        if stage.context.get("_waited") or not given:
            return TaskResult.success()
        try:
            _seconds(given)
        except ValueError as wrong:
            return TaskResult.terminal(f"waitTime={given!r} {wrong}")
        return TaskResult.running(context={"_waited": True})

    def get_backoff_period(self, stage: StageExecution, elapsed: timedelta) -> timedelta:
        """Return the time to wait."""
        return timedelta(seconds=_seconds(stage.context["waitTime"]))


def _seconds(given: Any) -> float:
    """Return a time to wait; a number of any size is one. Raises ValueError with the end of a sentence."""
    return float(given) if isinstance(given, int | float) else seconds_of(given)
