"""What happened. Facts are past, frozen and complete: folding them from nothing gives the stored rows.

The log of a workflow is the list of its facts; `event_type` gives the name under which each is published.
Stage and task ids name rows; `position` counts the tasks of a stage from 0; times are ms since the epoch (UTC).
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any, ClassVar

from stabilize_nb.errors import StabilizeFatalError
from stabilize_nb.models.record import record
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import Token

Json = Any


@record
class Fact:
    """Something that happened to a workflow."""

    TYPE: ClassVar[str] = ""


@record
class WorkflowCreated(Fact):
    """A workflow was stored; `definition` holds everything its author wrote."""

    TYPE: ClassVar[str] = "workflow.created"
    definition: dict[str, Json]


@record
class WorkflowStarted(Fact):
    """The first stages may start."""

    TYPE: ClassVar[str] = "workflow.started"


@record
class WorkflowPaused(Fact):
    """No further task is begun until resumed."""

    TYPE: ClassVar[str] = "workflow.paused"
    user: str = ""


@record
class WorkflowResumed(Fact):
    """Tasks are begun again."""

    TYPE: ClassVar[str] = "workflow.resumed"
    user: str = ""


@record
class WorkflowEnding(Fact):
    """From now on no stage becomes enabled; the workflow will end as `status`."""

    TYPE: ClassVar[str] = "workflow.ending"
    status: WorkflowStatus
    reason: str = ""
    user: str = ""


@record
class WorkflowEnded(Fact):
    """Nothing is left that could move."""

    status: WorkflowStatus
    error: str | None = None


@record
class WorkflowRestarted(Fact):
    """An ended workflow goes on because one of its stages is run again."""

    TYPE: ClassVar[str] = "workflow.restarted"


@record
class WorkflowForked(Fact):
    """All before this is the past of the run `run` up to its fact `until`; from here on this one goes its own way.

    `stage` is where it does, and `inputs` replace those of the same name.
    """

    TYPE: ClassVar[str] = "workflow.forked"
    run: str
    until: int
    stage: str
    inputs: dict[str, Json] = field(default_factory=dict)


@record
class OutputsReplaced(Fact):
    """A stage that is over counts as having put out this; `heirs` are the rows that saw what it had put out."""

    TYPE: ClassVar[str] = "outputs.replaced"
    stage: str
    outputs: dict[str, Json]
    heirs: list[str] = field(default_factory=list)


@record
class TokenArrived(Fact):
    """An edge gave its `number`-th outcome; one that is `held` has no effect before the workflow is restarted."""

    TYPE: ClassVar[str] = "token.arrived"
    stage: str
    number: int
    via: str
    source: str
    token: Token
    held: bool = False


@record
class JoinFired(Fact):
    """A round made `row`, a run of its stage; `number` 0 where each outcome does so for itself (MULTI_MERGE).

    With `via` this is also the arrival of the outcome: the stage has one edge, and a live outcome there fires it.
    """

    TYPE: ClassVar[str] = "join.fired"
    stage: str
    number: int
    row: str
    activation: int
    depth: int = 0
    triggers: list[str] = field(default_factory=list)
    inherited: dict[str, Json] = field(default_factory=dict)
    via: str = ""


@record
class JoinPassed(Fact):
    """A round ended without a run of its stage and passes `token` on."""

    TYPE: ClassVar[str] = "join.passed"
    stage: str
    number: int
    token: Token


@record
class StageStarted(Fact):
    """A run of a stage began."""

    TYPE: ClassVar[str] = "stage.started"
    stage: str


@record
class StageEnded(Fact):
    """A run of a stage ended; `token` is what its edges say, except those in `not_taken`, which say DEAD.

    `settles` is the round that ended with it when it had not fired (0: none).
    """

    stage: str
    status: WorkflowStatus
    token: Token | None = None
    not_taken: list[str] = field(default_factory=list)
    settles: int = 0
    reason: str = ""
    error: str | None = None


@record
class StageSuspended(Fact):
    """A task waits for a signal."""

    TYPE: ClassVar[str] = "stage.suspended"
    stage: str
    position: int
    context: dict[str, Json] = field(default_factory=dict)


@record
class StagePaused(Fact):
    """A task that was due is parked because the workflow is paused."""

    TYPE: ClassVar[str] = "stage.paused"
    stage: str
    position: int


@record
class StageResumed(Fact):
    """A parked or waiting stage goes on."""

    TYPE: ClassVar[str] = "stage.resumed"
    stage: str


@record
class StageReset(Fact):
    """A stage is as if it had never run; what was begun before carries an older generation and is void."""

    TYPE: ClassVar[str] = "stage.reset"
    stage: str
    generation: int


@record
class StageRetired(Fact):
    """A further activation disappears because its stage was reset."""

    TYPE: ClassVar[str] = "stage.retired"
    stage: str


@record
class ContextUpdated(Fact):
    """Keys were merged into a stage's context."""

    TYPE: ClassVar[str] = "context.updated"
    stage: str
    context: dict[str, Json]


@record
class TaskStarted(Fact):
    """The body of a task was handed to a worker."""

    TYPE: ClassVar[str] = "task.started"
    stage: str
    position: int
    attempt: int


@record
class TaskEnded(Fact):
    """A body's result was committed."""

    stage: str
    position: int
    status: WorkflowStatus
    attempt: int = 0
    context: dict[str, Json] = field(default_factory=dict)
    outputs: dict[str, Json] = field(default_factory=dict)
    error: str | None = None
    details: dict[str, Json] = field(default_factory=dict)


@record
class TaskRetried(Fact):
    """A body failed and will be run again at `due`; `anew`: what it made was refused, and is to be made once more."""

    TYPE: ClassVar[str] = "task.retried"
    stage: str
    position: int
    attempt: int
    due: int
    error: str | None = None
    context: dict[str, Json] = field(default_factory=dict)
    anew: bool = False


@record
class TaskLost(Fact):
    """The process of a body died while it ran, and a person is to say what became of it; `error` says why."""

    TYPE: ClassVar[str] = "task.lost"
    stage: str
    position: int
    attempt: int
    error: str


@record
class TaskSettled(Fact):
    """A person said what became of a lost body: "retry", "done" or "fail" is `decision` in `data`."""

    TYPE: ClassVar[str] = "task.settled"
    stage: str
    position: int
    data: dict[str, Json]
    fingerprint: str = ""  # of the doubt that was settled
    decision_id: str = ""


@record
class TaskPrinted(Fact):
    """A body printed or displayed this; each part is {"stdout": text}, {"stderr": text}, or data by mime type."""

    TYPE: ClassVar[str] = "task.output"
    stage: str
    position: int
    attempt: int
    output: list[dict[str, Json]] = field(default_factory=list)


@record
class TaskPolled(Fact):
    """A body asked to be called again at `due`."""

    TYPE: ClassVar[str] = "task.polled"
    stage: str
    position: int
    due: int
    context: dict[str, Json] = field(default_factory=dict)


@record
class SignalBuffered(Fact):
    """A persistent signal is kept until its stage suspends."""

    TYPE: ClassVar[str] = "signal.buffered"
    stage: str
    signal: str
    name: str
    data: dict[str, Json]


@record
class SignalDelivered(Fact):
    """A signal resumed its stage; `signal` names the buffered one that was used up."""

    TYPE: ClassVar[str] = "signal.delivered"
    stage: str
    position: int
    name: str
    data: dict[str, Json]
    signal: str | None = None
    fingerprint: str = ""  # of what a gate showed when it was decided
    decision_id: str = ""


@record
class SignalRefused(Fact):
    """A decision had no effect on its gate, and `reason`, a member of models.gate.Refusal, says why."""

    TYPE: ClassVar[str] = "signal.refused"
    stage: str
    name: str
    data: dict[str, Json]
    reason: str
    fingerprint: str = ""  # of what its maker saw
    decision_id: str = ""
    signal: str | None = None


@record
class SignalDropped(Fact):
    """A signal found nobody: a transient one, one for a finished stage, or one left when the workflow ended."""

    TYPE: ClassVar[str] = "signal.dropped"
    stage: str
    name: str
    signal: str | None = None


@record
class JumpExecuted(Fact):
    """A task moved the workflow on to `target`; `number` counts the jumps of the workflow."""

    TYPE: ClassVar[str] = "jump.executed"
    stage: str
    target: str
    number: int  # as it was before when the jump is a pass of a structured loop, which is not counted


@record
class WorkflowBuffered(Fact):
    """As many workflows of its lane run as may: it waits for a slot; one that has ended, to go on with `restarts`."""

    TYPE: ClassVar[str] = "workflow.buffered"
    restarts: str = ""


@record
class StageWaits(Fact):
    """A run that is ready waits: for a claim (a lock, a choice), a milestone, or instances; "" ends the wait."""

    TYPE: ClassVar[str] = "stage.waiting"
    stage: str
    waits: str
    holder: str = ""


@record
class Claimed(Fact):
    """A run took a claim, alone or with the others of its section."""

    TYPE: ClassVar[str] = "claim.taken"
    stage: str
    claim: str
    holder: str


@record
class Released(Fact):
    """A claim was given back; with `to_holder` the one who had waited longest has it from now on."""

    TYPE: ClassVar[str] = "claim.released"
    stage: str
    claim: str
    to_holder: str = ""
    to_stage: str = ""
    to_workflow: str = ""


@record
class ChoiceMade(Fact):
    """A deferred choice fell on the stage, for good."""

    TYPE: ClassVar[str] = "choice.made"
    stage: str
    claim: str


@record
class SlotTaken(Fact):
    """The workflow holds a slot of its lane, which was free or was passed on to it."""

    TYPE: ClassVar[str] = "slot.taken"
    lane: str
    passed_on: bool = False


@record
class SlotReleased(Fact):
    """The workflow gave its slot back; with `to_workflow` the one who had waited longest has it from now on."""

    TYPE: ClassVar[str] = "slot.released"
    lane: str
    to_workflow: str = ""


@record
class SlotDeclined(Fact):
    """The workflow waits for no slot any more."""

    TYPE: ClassVar[str] = "slot.declined"
    lane: str


@record
class PhaseEntered(Fact):
    """Synthetic stages of a stage run from now on, or with "" its own tasks; it sees what the earlier ones left."""

    TYPE: ClassVar[str] = "stage.phase"
    stage: str
    phase: str
    error: str | None = None
    depth: int = 0
    inherited: dict[str, Json] = field(default_factory=dict)


@record
class ConditionFailed(Fact):
    """A condition could not be evaluated as written, and what in it had no value counts as false (patterns.md 2.4).

    `edge` is the ref_id to which a split would have gone; "" for the other conditions of a stage.
    """

    TYPE: ClassVar[str] = "condition.failed"
    stage: str
    condition: str
    error: str
    edge: str = ""


@record
class InstanceAdded(Fact):
    """An instance of a multi-instance activity came into being as `row`; `stage` is the parent."""

    TYPE: ClassVar[str] = "instance.added"
    stage: str
    row: str
    index: int
    context: dict[str, Json] = field(default_factory=dict)


@record
class InstanceRefused(Fact):
    """An instance was not added, and why."""

    TYPE: ClassVar[str] = "instance.refused"
    stage: str
    reason: str


@record
class ActivityClosed(Fact):
    """A multi-instance activity accepts no further instances."""

    TYPE: ClassVar[str] = "activity.closed"
    stage: str


@record
class ChildStarted(Fact):
    """A task began a child workflow and waits for its end."""

    TYPE: ClassVar[str] = "child.started"
    stage: str
    position: int
    child: str


@record
class CodeReplaced(Fact):
    """A stage runs other code from now on; `codes`: name of a task -> name of the one in its place."""

    TYPE: ClassVar[str] = "code.replaced"
    stage: str
    codes: dict[str, str]


@record
class PermitTaken(Fact):
    """A body may begin at `due` under its limit, of which this is permit `number`; `forgets` is in nobody's way now."""

    TYPE: ClassVar[str] = "permit.taken"
    stage: str
    position: int
    limit: str
    number: int
    due: int
    forgets: int = 0


@record
class AttributesSet(Fact):
    """The workflow is found by these attributes from now on."""

    TYPE: ClassVar[str] = "attributes.set"
    stage: str
    attributes: dict[str, str]


@record
class ResultDiscarded(Fact):
    """A result came too late: for a stage that was reset, cancelled or taken over."""

    TYPE: ClassVar[str] = "result.discarded"
    stage: str
    position: int
    attempt: int
    reason: str


FACTS: dict[str, type[Fact]] = {kind.__name__: kind for kind in Fact.__subclasses__()}
_FIELDS = {kind: tuple(f.name for f in dataclasses.fields(kind)) for kind in FACTS.values()}
_BLANK = {
    kind: {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(kind)
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    for kind in FACTS.values()
}

#: Fields that are always written, those that are left out with their default, and those that hold a member of an enum.
_LAYOUT = {
    kind: (
        tuple(name for name in names if name not in _BLANK[kind]),
        tuple(_BLANK[kind].items()),
        tuple(name for name in ("status", "token") if name in names),
    )
    for kind, names in _FIELDS.items()
}

S = WorkflowStatus
_WORKFLOW_ENDS = {
    S.SUCCEEDED: "workflow.completed",
    S.TERMINAL: "workflow.failed",
    S.CANCELED: "workflow.canceled",
}
_STAGE_ENDS = {S.TERMINAL: "stage.failed", S.SKIPPED: "stage.skipped", S.CANCELED: "stage.canceled"}


def event_type(fact: Fact) -> str:
    """Return the name under which a fact is published, such as `stage.completed`."""
    if fact.TYPE:
        return fact.TYPE
    match fact:
        case WorkflowEnded(status=status):
            return _WORKFLOW_ENDS[status]
        case StageEnded(status=status):
            return _STAGE_ENDS.get(status, "stage.completed")
        case TaskEnded(status=status):
            return "task.failed" if status is S.TERMINAL else "task.completed"
        case _:
            msg = f"{type(fact).__name__} has no name"
            raise StabilizeFatalError(msg)


def to_data(fact: Fact) -> dict[str, Json]:
    """Return a fact as JSON data, its class under "fact"; fields with their default are left out."""
    kind = fact.__class__
    needed, optional, members = _LAYOUT[kind]
    data: dict[str, Json] = {"fact": kind.__name__}
    for name in needed:
        data[name] = getattr(fact, name)
    for name, blank in optional:
        value = getattr(fact, name)
        if value != blank:
            data[name] = value
    for name in members:
        if data.get(name) is not None:
            data[name] = data[name].value
    return data


def from_data(data: dict[str, Json]) -> Fact:
    """Return the fact that `to_data` wrote; raises StabilizeFatalError for one of another version."""
    fields = dict(data)
    name = fields.pop("fact")
    kind = FACTS.get(name)
    if kind is None:
        msg = f"fact {name!r} is not known to this version, so the log cannot be folded"
        raise StabilizeFatalError(msg)
    if "status" in fields:
        fields["status"] = WorkflowStatus(fields["status"])
    if fields.get("token") is not None:
        fields["token"] = Token(fields["token"])
    return kind(**fields)
