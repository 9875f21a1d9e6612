"""Orders to the engine. A message travels as a row; names and fields are those of the reference documents.

`COUNTS` marks the messages that hold a workflow open while they are queued: those that may make a stage run.
A message about a stage that is open need not, since the stage does; timers and orders from outside do not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from enum import Enum
from types import NoneType
from typing import Any, ClassVar

from stabilize_nb.errors import StabilizeFatalError
from stabilize_nb.models.record import named_record
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import plain, plain_mapping


class Token(Enum):
    """What an edge says when the run in front of it has ended (patterns.md 2.1)."""

    LIVE = "LIVE"  # a thread of control
    DEAD = "DEAD"  # not this way
    HALT = "HALT"  # this branch was broken off: what needs it must not run


class OutcomeKind(Enum):
    """How a task body ended, as far as the engine cares."""

    DONE = "DONE"  # returned one of the final statuses in `status`
    RUNNING = "RUNNING"  # asks to be called again
    SUSPENDED = "SUSPENDED"  # waits for a signal
    JUMP = "JUMP"  # goes on at another stage
    CHILD = "CHILD"  # starts a child workflow and waits for its end
    RETRY = "RETRY"  # failed in a way that another try may mend
    TIMED_OUT = "TIMED_OUT"  # did not end in its time


@named_record
class Outcome:
    """A task's result or exception in one shape; `after` and `delay` are ms."""

    kind: OutcomeKind
    status: WorkflowStatus = WorkflowStatus.SUCCEEDED
    context: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    target: str | None = None
    counted: bool = True  # whether a jump is one of those that are limited
    child: dict[str, Any] = field(default_factory=dict)  # definition of the child workflow
    after: int = 0
    max_attempts: int = 0
    anew: bool = False  # whether a retry is a logical call of its own, which finds no step of this one done
    output: list[dict[str, Any]] = field(default_factory=list)  # what it printed; parts as in the fact TaskPrinted
    attributes: dict[str, str] = field(default_factory=dict)  # by which the run is found from now on


@named_record
class Message:
    """An order that concerns one workflow."""

    COUNTS: ClassVar[bool] = False
    TIMER: ClassVar[bool] = False
    execution_id: str = ""
    execution_type: str = "PIPELINE"


@named_record
class StageMessage(Message):
    """An order that concerns one stage row; `generation` None means "as it is now"."""

    stage_id: str = ""
    generation: int | None = None


@named_record
class StartWorkflow(Message):
    """Begin: start every stage without requisites."""

    COUNTS: ClassVar[bool] = True


@named_record
class StartStage(StageMessage):
    """Start a stage, or deliver one token of one upstream to its join."""

    COUNTS: ClassVar[bool] = True
    via: str | None = None  # upstream stage (its first row); None: start at once
    via_generation: int = 0  # the token is void once that upstream was reset
    source: str = ""  # the row whose end sent the token
    number: int = 1  # which token of that edge, which is the round it belongs to
    token: Token = Token.LIVE


@named_record
class RunTask(StageMessage):
    """Run the body of one task.

    `lost`: how often it was begun by this message and nothing came of it; `cause`: why not, when its process lives.
    `permit`: the number of the permit under its limit for which it waited.
    """

    position: int = 0
    task_type: str = ""
    permit: int = 0
    priority: int = 0  # of the stage and the workflow together
    lost: int = 0
    cause: str = ""


@named_record
class KeepOutput(StageMessage):
    """Put into the log what a body at work has printed so far. Not queued: the keeper has it carried out at once."""

    position: int = 0
    attempt: int = 0
    output: list[dict[str, Any]] = field(default_factory=list)


@named_record
class TaskFinished(StageMessage):
    """A body has ended. Never queued: the worker makes it from the body's outcome."""

    position: int = 0
    attempt: int = 0
    outcome: Outcome = field(default_factory=lambda: Outcome(kind=OutcomeKind.DONE))


@named_record
class TimeoutStage(StageMessage):
    """The time that a whole stage may take is over."""

    TIMER: ClassVar[bool] = True


@named_record
class TimeoutGate(StageMessage):
    """The time in which a gate may be decided is over."""

    TIMER: ClassVar[bool] = True


@named_record
class SignalStage(StageMessage):
    """Deliver a signal: resumes a suspended stage; kept for later when `persistent`, else dropped.

    A decision with a fingerprint counts only while the gate shows what the fingerprint stands for, and is never kept.
    """

    signal_name: str = ""
    signal_data: dict[str, Any] = field(default_factory=dict)
    persistent: bool = False
    fingerprint: str = ""
    decision_id: str = ""  # by which the one who decides finds out what became of it


@named_record
class JumpToStage(StageMessage):
    """Carry out a jump from `stage_id` to the stage with `target_stage_ref_id`."""

    target_stage_ref_id: str = ""
    jump_context: dict[str, Any] = field(default_factory=dict)
    jump_outputs: dict[str, Any] = field(default_factory=dict)
    counted: bool = True  # False: a pass of a structured loop, which has a bound of its own


@named_record
class RestartStage(StageMessage):
    """Run a stage and everything behind it again, also in a workflow that has ended."""


@named_record
class ForkWorkflow(StageMessage):
    """Go on from a copy of another run's past, at a stage, or with "" at whatever it had not finished.

    It is never queued: it is decided in the commit that makes the copy. `outputs`: id of a stage that is over -> what
    it counts as having put out; `codes` as in MigrateWorkflow.
    """

    run: str = ""
    until: int = 0
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)


@named_record
class CancelStage(StageMessage):
    """Withdraw one stage; what needs it does not run (WCP-19)."""

    reason: str = "command"
    user: str = ""


@named_record
class EnterStage(StageMessage):
    """Go on with a run that waited for a lock, which is free for it now."""

    COUNTS: ClassVar[bool] = True


@named_record
class CancelRegion(Message):
    """Withdraw every stage of a region; what follows goes on without them (WCP-25)."""

    region: str = ""


@named_record
class AddMultiInstance(StageMessage):
    """Add an instance to the open multi-instance activity whose parent is the stage (WCP-15)."""

    COUNTS: ClassVar[bool] = True
    instance_context: dict[str, Any] = field(default_factory=dict)


@named_record
class CompleteMultiInstance(StageMessage):
    """End the open multi-instance activity whose parent is the stage with what there is (WCP-27)."""


@named_record
class CloseMultiInstance(StageMessage):
    """Accept no further instances for the activity whose parent is the stage (WCP-36)."""


@named_record
class CancelWorkflow(Message):
    """Withdraw everything (WCP-20)."""

    user: str = ""
    reason: str = ""


@named_record
class PauseWorkflow(Message):
    """Run no further task until resumed; bodies that run end as usual."""

    user: str = ""


@named_record
class ResumeWorkflow(Message):
    """Go on after a pause."""

    user: str = ""


@named_record
class MigrateWorkflow(Message):
    """Have what has not run use other code; `codes`: name of a task -> name of the one in its place."""

    codes: dict[str, str] = field(default_factory=dict)


@named_record
class CompleteWorkflow(Message):
    """End: nothing is left that could move."""

    COUNTS: ClassVar[bool] = True


MESSAGES: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        StartWorkflow, StartStage, RunTask, TimeoutStage, TimeoutGate, SignalStage, JumpToStage, RestartStage,
        EnterStage, CancelStage, CancelRegion, AddMultiInstance, CompleteMultiInstance, CloseMultiInstance,
        KeepOutput, CancelWorkflow, PauseWorkflow, ResumeWorkflow, MigrateWorkflow, CompleteWorkflow,
    )
}  # fmt: skip

_FIELDS = {kind: tuple(f.name for f in dataclasses.fields(kind)) for kind in MESSAGES.values()}
_DEFAULTS = {kind: kind() for kind in MESSAGES.values()}
#: The fields that are no columns of a message's row, with their defaults.
_PAYLOAD = {
    kind: tuple((name, getattr(_DEFAULTS[kind], name)) for name in names if name not in ("execution_id", "stage_id"))
    for kind, names in _FIELDS.items()
}
#: Annotation of a field -> what its JSON data may be.
_JSON: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "bool": (bool,), "Token": (str,), "str | None": (str, NoneType),
    "int | None": (int, NoneType), "dict[str, Any]": (dict,), "dict[str, str]": (dict,),
    "list[dict[str, Any]]": (list,),
}  # fmt: skip
_KINDS = {kind: {f.name: _JSON[str(f.type)] for f in dataclasses.fields(kind)} for kind in MESSAGES.values()}
_TOKENS = {token.value: token for token in Token}


def to_payload(message: Message) -> dict[str, Any]:
    """Return the fields that differ from the defaults, as JSON data; the row's own columns are left out."""
    payload: dict[str, Any] = {}
    for name, blank in _PAYLOAD[type(message)]:
        value = getattr(message, name)
        if value != blank:
            payload[name] = value.value if isinstance(value, Token) else value
    return payload


def storable(message: Message) -> Message:
    """Return a message with its data as JSON data; raises ValueNotStorableError that names what cannot be stored."""
    kind = type(message)
    fields: dict[str, Any] = {}
    for name in _FIELDS[kind]:
        value = getattr(message, name)
        is_mapping = isinstance(getattr(_DEFAULTS[kind], name), dict)
        path = f"{kind.__name__} {name}"
        if isinstance(message, SignalStage) and is_mapping:
            path = f"data of signal {message.signal_name!r}"
        if value is not getattr(_DEFAULTS[kind], name) and not isinstance(value, Token):
            fields[name] = plain_mapping(value, path) if is_mapping else plain(value, path)
    return dataclasses.replace(message, **fields)


def from_payload(kind: str, execution_id: str, stage_id: str | None, payload: dict[str, Any]) -> Message:
    """Return the message that `to_payload` wrote; raises StabilizeFatalError when the row is not one of ours."""
    known = MESSAGES.get(kind)
    if known is None:
        msg = f"message type {kind!r} is not known to this version; known are {', '.join(MESSAGES)}"
        raise StabilizeFatalError(msg)
    if not isinstance(payload, dict):
        msg = f"message {kind} holds {type(payload).__name__} where its fields are expected"
        raise StabilizeFatalError(msg)
    stray = payload.keys() - _KINDS[known].keys()
    if stray:
        msg = f"message {kind} has unknown fields: {', '.join(sorted(stray))}"
        raise StabilizeFatalError(msg)
    for name, value in payload.items():
        if type(value) not in _KINDS[known][name]:
            expected = " or ".join(each.__name__ for each in _KINDS[known][name])
            msg = f"message {kind} has {name}={value!r}, where {expected} is expected"
            raise StabilizeFatalError(msg)
    fields = dict(payload)
    if "token" in fields:
        if fields["token"] not in _TOKENS:
            msg = f"message {kind} has token={fields['token']!r}; known are {', '.join(_TOKENS)}"
            raise StabilizeFatalError(msg)
        fields["token"] = _TOKENS[fields["token"]]
    if stage_id is not None:
        fields["stage_id"] = stage_id
    return known(execution_id=execution_id, **fields)
