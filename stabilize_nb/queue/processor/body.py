"""Run one task body: make its stage, call it, and make an Outcome of whatever comes back or is raised."""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import PermanentError, ProcessLostError, StabilizeError, is_transient, transient_cause
from stabilize_nb.events.bus import tell
from stabilize_nb.models.gate import ASKS
from stabilize_nb.models.question import WaitsForPerson
from stabilize_nb.models.secret import Secret
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.values import plain, plain_mapping
from stabilize_nb.queue.messages import KeepOutput, Outcome, OutcomeKind, TaskFinished
from stabilize_nb.queue.processor.capture import Catching
from stabilize_nb.queue.processor.journal_rows import JournalRows
from stabilize_nb.queue.processor.loop import in_thread
from stabilize_nb.queue.processor.remote import Away
from stabilize_nb.queue.processor.verifying import has_to_be_verified, verified
from stabilize_nb.reducers import apply_output_reducers
from stabilize_nb.secrets.hiding import hidden
from stabilize_nb.secrets.patterns import masked
from stabilize_nb.secrets.resolving import resolved
from stabilize_nb.store.codec import dumps
from stabilize_nb.store.store import define
from stabilize_nb.tasks.child import with_plain_stages, workflow_of
from stabilize_nb.tasks.interface import RetryableTask, Task
from stabilize_nb.tasks.journal import Journal, Resumed
from stabilize_nb.tasks.result import TaskResult
from stabilize_nb.tasks.steps import carried_out, carried_out_async

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Future

    from stabilize_nb.core.draft import Body
    from stabilize_nb.egress.policy import Egress
    from stabilize_nb.models.calls import Call
    from stabilize_nb.models.question import Answer, Question
    from stabilize_nb.models.stage import Upstream
    from stabilize_nb.queue.processor.capture import Output
    from stabilize_nb.queue.processor.commit import Leased
    from stabilize_nb.store.database import Database

S = WorkflowStatus
DONE = frozenset({S.SUCCEEDED, S.FAILED_CONTINUE, S.TERMINAL, S.CANCELED, S.STOPPED, S.SKIPPED})
_ERROR_LENGTH = 4_000
#: How often a body is begun at least whose processes die, also when it says that it is not to be tried again.
DEATHS = 3


class Running:
    """One body at work: what the engine gives it, and whether its result is still wanted.

    `deadline` is in seconds of the monotonic clock: who sets the clock of the machine shortens nobody's time.
    """

    def __init__(self, database: Database, leased: Leased, body: Body, deadline: float) -> None:
        self.database = database
        self.leased = leased
        self.body = body
        self.deadline = deadline
        self.limit = 0.0  # seconds that led to the deadline
        self.output: Output | None = None
        self.abandoned = False
        self.tool_calls = 0
        self.egress: Egress | None = None
        self.future: Future[Any] | None = None  # of a body that waits on the event loop
        self.elsewhere = False  # in an executor: it keeps its place among the bodies at work
        self._waiting: asyncio.Task[Any] | None = None  # of one that is broken off when its result is not wanted
        self.upstream: Mapping[str, tuple[Upstream, ...]] = body.upstream
        self.idempotency_key = f"{body.task.id}:{body.stage.generation}:{body.task.polls}"
        self._cancelled = False
        self._attributes: dict[str, str] = {}

    @property
    def cancelled(self) -> bool:
        """Whether the result is no longer wanted."""
        return self._cancelled

    @property
    def place(self) -> str:
        """What a sentence calls it."""
        return f"task {self.body.task.name!r} of stage {self.body.stage.ref_id!r}"

    @property
    def whereabouts(self) -> str:
        """What a sentence calls it that is not about its run."""
        return f"stage {self.body.stage.ref_id!r} of run {self.leased.workflow_id}"

    @property
    def away(self) -> Away:
        """What stands for it in another process."""
        upstream = {
            ref: tuple(replace(run, outputs=copied(run.outputs), context=copied(run.context)) for run in runs)
            for ref, runs in self.upstream.items()
        }
        return Away(place=self.place, idempotency_key=self.idempotency_key, upstream=upstream, egress=self.egress)

    @cached_property
    def own_context(self) -> Mapping[str, Any]:
        """What the stage says itself, without what it sees of others."""
        said: Mapping[str, Any] = resolved(copied(self.body.stage.context))
        return said

    def cancel(self) -> None:
        """Say that the result is no longer wanted; what only waits for it is broken off."""
        self._cancelled = True
        if self._waiting is not None:
            self._waiting.get_loop().call_soon_threadsafe(self._waiting.cancel)

    async def while_wanted(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for the work of a body, on the event loop, as long as its result is wanted."""
        self._waiting = asyncio.ensure_future(work)
        if self._cancelled:
            self._waiting.cancel()
        return await self._waiting

    @cached_property
    def _journal(self) -> Journal:
        body = self.body
        place = f"stage {body.stage.ref_id!r} task {body.task.name!r}"
        rows = JournalRows(self.database, self.leased, body, self.idempotency_key, self._is_wanted)
        asked, signal = body.context.get(ASKS), body.context.get("_signal_name")
        resumed = Resumed(asked, signal, body.context.get("_signal_data") or {}) if asked and signal else None
        return Journal(rows, place, resumed)

    def _is_wanted(self) -> bool:
        return not (self._cancelled or self.abandoned)

    def step(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a durable step."""
        return resolved(carried_out(self._journal.step(name, lambda: function(*args, **kwargs))))

    async def step_async(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a durable step of a coroutine."""
        steps = self._journal.step(name, lambda: function(*args, **kwargs))
        return resolved(await carried_out_async(steps, in_thread))

    def call(self, call: Call) -> Any:
        """Call a model or tool as a durable step."""
        return resolved(carried_out(self._journal.call(call)))

    async def call_async(self, call: Call) -> Any:
        """Do the same in a coroutine."""
        return resolved(await carried_out_async(self._journal.call(call), in_thread))

    def ask(self, name: str, question: Question) -> Answer:
        """Ask a person."""
        answer: Answer = carried_out(self._journal.ask(name, question))
        return answer

    async def ask_async(self, name: str, question: Question) -> Answer:
        """Ask a person from a coroutine."""
        answer: Answer = await carried_out_async(self._journal.ask(name, question), in_thread)
        return answer

    def progress(self, fraction: float | None, message: str, data: Mapping[str, Any]) -> None:
        """Publish progress; it is not stored."""
        stage = self.body.stage
        told = {**data, "message": message, "fraction": fraction, "stage_ref_id": stage.ref_id}
        told = hidden(plain_mapping(told, f"progress of stage {stage.ref_id!r}"))
        tell(self.database.bus, self.leased.workflow_id, stage.id, told, self.database.clock())

    def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Have the run be found by attributes once the body has ended."""
        self._attributes |= attributes

    def has_printed(self, patience: float) -> bool:
        """Whether something was printed by a body that is at work for `patience` seconds, so that it may be long."""
        return (
            self.output is not None and time.monotonic() - self.output.since >= patience and bool(self.output.parts())
        )

    def printed(self) -> KeepOutput | None:
        """Make the message that puts into the log what was printed since the last one; None: nothing was."""
        stage, task = self.body.stage, self.body.task
        if not (output := self._take_output(at_end=False)):
            return None
        return KeepOutput(
            execution_id=self.leased.workflow_id, stage_id=stage.id, generation=stage.generation,
            position=task.position, attempt=task.attempt, output=output,
        )  # fmt: skip

    def print_again(self, message: KeepOutput) -> None:
        """Keep what could not be put into the log for the next time."""
        if self.output is not None:
            self.output.give_back(message.output)

    def _take_output(self, *, at_end: bool = True) -> list[dict[str, Any]]:
        parts = self.output.take(at_end=at_end) if self.output is not None else []
        return [{kind: _storable(text) for kind, text in part.items()} for part in parts]

    def finished(self, outcome: Outcome) -> TaskFinished:
        """Make the message that carries an outcome, and what was printed, back to the core."""
        stage, task = self.body.stage, self.body.task
        if output := self._take_output():
            outcome = replace(outcome, output=output)
        if self._attributes:
            outcome = replace(outcome, attributes=self._attributes)
        if self.body.stage.context.get(ASKS) and outcome.kind is not OutcomeKind.RETRY:
            outcome = replace(outcome, context={ASKS: None, **outcome.context})
        return TaskFinished(
            execution_id=self.leased.workflow_id, stage_id=stage.id, generation=stage.generation,
            position=task.position, attempt=task.attempt, outcome=outcome,
        )  # fmt: skip


def stage_for(body: Body, runtime: Running | None) -> StageExecution:
    """Make the stage that a body sees; nothing in it is shared with the engine."""
    row = body.stage
    spec = row.spec
    context = copied(body.context)
    if spec.output_reducers:
        sources = [source.outputs for runs in body.upstream.values() for source in runs]
        context |= copied(apply_output_reducers(spec.output_reducers, sources))
    tasks = [_task_for(body, position) for position in range(len(spec.tasks))]
    return StageExecution(
        ref_id=row.ref_id, type=spec.type, name=spec.name, context=context, outputs=copied(row.outputs), tasks=tasks,
        requisite_stage_ref_ids=set(spec.requisites), join_type=spec.join_type, join_threshold=spec.join_threshold,
        split_type=spec.split_type, split_conditions=dict(spec.split_conditions),
        output_reducers=dict(spec.output_reducers), id=row.id, status=row.status, generation=row.generation,
        activation=row.activation, start_time=row.started_at, runtime=runtime,
    )  # fmt: skip


def _task_for(body: Body, position: int) -> TaskExecution:
    name, implementing = body.stage.spec.tasks[position]
    task = body.task
    if position != task.position:
        return TaskExecution(name=name, implementing_class=implementing, id="")
    return TaskExecution(
        name=name, implementing_class=implementing, id=task.id, status=S.RUNNING, attempt=task.attempt,
        start_time=task.started_at,
    )  # fmt: skip


def copied(value: Any) -> Any:
    """Return JSON data that shares nothing with the argument."""
    if isinstance(value, Secret):
        return value
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return {key: copied(value[key]) for key in value} if hasattr(value, "keys") else value


def time_limit(task: Task, stage: StageExecution, default: float) -> float:
    """Return the seconds that a body (with its polls, for a polling task) may take."""
    if isinstance(task, RetryableTask):
        return task.get_dynamic_timeout(stage).total_seconds()
    own = stage.context.get("_timeout", getattr(task, "timeout", None))
    return float(own) if own is not None else default


def outcome_once_verified(result: Any, task: Task, stage: StageExecution, running: Running, now: int) -> Outcome:
    """Make an Outcome of what a body returned, and ask the verifier of the task; raises what breaks in that."""
    outcome = outcome_of(result, task, stage, running, now)
    if not has_to_be_verified(task, outcome):
        return outcome
    with Catching(running.output):
        return verified(task, stage, result, outcome, _attempts(task, running))


def outcome_of(result: Any, task: Task, stage: StageExecution, running: Running, now: int) -> Outcome:
    """Make an Outcome of what a body returned; something odd is a failure that says what was expected."""
    place = f"task {running.body.task.name!r} of stage {stage.ref_id!r}"
    if not issubclass(type(result), TaskResult):
        return failed(
            f"{place} returned {type(result).__name__}; a TaskResult is expected, such as TaskResult.success()"
        )
    try:
        context = hidden(plain_mapping(with_plain_stages(result.context), f"context of stage {stage.ref_id!r}"))
        outputs = hidden(plain_mapping(with_plain_stages(result.outputs), f"outputs of stage {stage.ref_id!r}"))
        target = plain(result.target_stage_ref_id, f"jump target of stage {stage.ref_id!r}")
        child = _child(result.child) if result.child else {}
    except StabilizeError as error:
        return failed(str(error), {"error": str(error), "type": type(error).__name__, "transient": False})
    error_text = _sentence(context.get("error")) if result.status in (S.TERMINAL, S.FAILED_CONTINUE) else None
    common: dict[str, Any] = {"context": context, "outputs": outputs}
    if child:
        return Outcome(kind=OutcomeKind.CHILD, child=child, **common)
    if target is not None:
        return Outcome(kind=OutcomeKind.JUMP, target=target, counted=result.counted, **common)
    if result.status in DONE or result.status is S.REDIRECT:
        return Outcome(kind=OutcomeKind.DONE, status=result.status, error=error_text, **common)
    if result.status is S.RUNNING:
        return Outcome(kind=OutcomeKind.RUNNING, after=_poll_after(task, stage, running, now), **common)
    if result.status is S.SUSPENDED:
        return Outcome(kind=OutcomeKind.SUSPENDED, **common)
    return failed(f"{place} returned the status {result.status}, which no task may return")


def _sentence(error: Any) -> str | None:
    """Return what a task gave as its error as text; the context has it as it was given."""
    return None if error is None else masked(error if isinstance(error, str) else dumps(error))


def _child(config: dict[str, Any]) -> dict[str, Any]:
    """Return the definition of a child workflow; raises what is wrong with it."""
    return define(workflow_of({name: value for name, value in config.items() if name != "depth"}))


def _poll_after(task: Task, stage: StageExecution, running: Running, now: int) -> int:
    if not isinstance(task, RetryableTask):
        return 1_000
    first = running.body.task.first_started_at or now
    period = task.get_backoff_period(stage, timedelta(milliseconds=max(0, now - first)))
    return max(0, round(period.total_seconds() * 1_000))


def outcome_of_error(error: BaseException, task: Task, running: Running) -> Outcome:
    """Make an Outcome of an exception: a question to a person, another try, or failure with its traceback."""
    if isinstance(error, WaitsForPerson):
        return Outcome(kind=OutcomeKind.SUSPENDED, context={ASKS: error.asked})
    said = _said(error)
    text = masked(f"{type(error).__name__}: {said}" if said else type(error).__name__)
    transient = isinstance(error, Exception) and is_transient(error)
    details = {
        "error": text[:_ERROR_LENGTH],
        "type": type(error).__name__,
        "transient": transient,
        "traceback": masked("".join(traceback.format_exception(error, limit=-20)))[-_ERROR_LENGTH:],
    }
    details = {key: value if not isinstance(value, str) else _storable(value) for key, value in details.items()}
    if not transient:
        return failed(_storable(text[:_ERROR_LENGTH]), details)
    cause = transient_cause(error)
    update: dict[str, Any] = {}
    if cause is not None:
        try:
            place = f"context_update of stage {running.body.stage.ref_id!r}"
            update = hidden(plain_mapping(cause.context_update, place))
        except StabilizeError as refused:
            return failed(str(refused), details)
    after = round(cause.retry_after * 1_000) if cause is not None and cause.retry_after is not None else 0
    return Outcome(
        kind=OutcomeKind.RETRY, error=_storable(text[:_ERROR_LENGTH]), details=details, context=update, after=after,
        max_attempts=_attempts(task, running, lost=isinstance(error, ProcessLostError)),
    )  # fmt: skip


def _attempts(task: Task, running: Running, *, lost: bool = False) -> int:
    """Return how often the body may be begun; 0: as often as the engine's setting says. A lost one did not fail."""
    own = int(running.body.context.get("_max_attempts", getattr(task, "max_attempts", None)) or 0)
    return max(own, DEATHS) if own and lost else own


def _said(error: BaseException) -> str:
    """Return the text of an exception, which is made by user code."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - user code
        return f"(its text cannot be read: {type(broken).__name__})"


def text_of(error: BaseException) -> str:
    """Return what to say of an error of user code; of one that was to end the interpreter its text says nothing."""
    return _said(error) if isinstance(error, Exception) else repr(error)


def _storable(text: str) -> str:
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def failed(error: str, details: dict[str, Any] | None = None) -> Outcome:
    """Make the Outcome of a body that failed for good."""
    return Outcome(kind=OutcomeKind.DONE, status=S.TERMINAL, error=masked(error), details=details or {})


def timed_out(task: Task, stage: StageExecution, running: Running, limit: float, now: int) -> Outcome:
    """Make the Outcome of a body that took too long: what its on_timeout hook says, else failure."""
    error = f"task {running.body.task.name!r} of stage {stage.ref_id!r} timed out after {limit:g} s"
    try:
        result = task.on_timeout(stage)
    except BaseException as raised:  # noqa: BLE001 - user code
        return outcome_of_error(
            PermanentError(f"{error}; its on_timeout hook failed: {text_of(raised)}"), task, running
        )
    if result is not None:
        return outcome_of(result, task, stage, running, now)
    return Outcome(
        kind=OutcomeKind.TIMED_OUT,
        error=error,
        details={"error": error, "type": "TaskTimeoutError", "transient": False},
    )
