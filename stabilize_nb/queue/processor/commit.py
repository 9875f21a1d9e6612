"""One step, committed with the acknowledgement of its message: all of durability is here (C1, C3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from stabilize_nb.core.step import Step
from stabilize_nb.core.view import MessagesLeft, NotLoaded, RowKey, StageKey, TaskKey, View
from stabilize_nb.errors import StageNotFoundError, WorkflowNotFoundError
from stabilize_nb.models.ids import serial_id
from stabilize_nb.models.priority import due_at, priority_in
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import Message, RunTask, StageMessage, StartWorkflow, from_payload, to_payload
from stabilize_nb.queue.processor.foresight import foresee, reads_of
from stabilize_nb.store.codec import dumps, loads
from stabilize_nb.store.reader import Reader, lock_head
from stabilize_nb.store.store import create
from stabilize_nb.store.writer import write_facts, write_message, write_messages, write_view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from stabilize_nb.core.draft import Body, Env, Send
    from stabilize_nb.core.facts import Fact, WorkflowCreated
    from stabilize_nb.core.rows import Head
    from stabilize_nb.queue.processor.foresight import Order
    from stabilize_nb.store.connection import Connection


S = WorkflowStatus


class LeaseLost(Exception):
    """The message belongs to somebody else by now; nothing of the step is written."""


class Seen(NamedTuple):
    """Rows of one stage as this process committed them: current while the workflow has the same sequence number."""

    sequence: int
    rows: dict[RowKey, Any]


class Apart(Exception):
    """What is to be decided about a workflow cannot be decided together: nothing was written."""


class Leased(NamedTuple):
    """A message in hand. `owner` None: not claimed, taken and done within one transaction."""

    id: str
    workflow_id: str
    message: Message
    owner: str | None
    deliveries: int
    fence: int  # raised by every claim: whoever has an older number has lost the message
    seen: Seen | None = None

    @property
    def hold(self) -> tuple[str, int]:
        """What stands for this claim of it."""
        return self.id, self.fence

    @property
    def lost(self) -> int:
        """How often its body was begun before, and nothing came of it."""
        return self.message.lost if isinstance(self.message, RunTask) else 0


class Claim(NamedTuple):
    """Whose claims a commit writes and until when (ms since the epoch) they last."""

    owner: str
    until: int


class Done(NamedTuple):
    """What a committed step leaves to do outside the transaction."""

    workflow_id: str
    facts: tuple[Fact, ...]
    last: int  # sequence number of the last fact
    at: int
    runs: tuple[tuple[Leased, Body], ...]
    hooks: tuple[Body, ...]
    left: bool  # whether messages were queued for others to take
    born: tuple[WorkflowCreated, ...] = ()  # child workflows that were stored and started
    messages: int = 1  # that were decided


class Decided(NamedTuple):
    """Steps about one workflow of which each has gone on from the one before. `before`: its header before the first."""

    before: Head
    steps: list[tuple[Leased, Step]]


def nothing_done(workflow_id: str, at: int, *, left: bool = False) -> Done:
    """Return what a message leaves to do that could not be processed; `left`: it is taken again."""
    return Done(workflow_id, (), 0, at, (), (), left=left)


def leased_from_row(row: Sequence[Any]) -> Leased:
    """Make a message of a row of the query `due`; raises StabilizeError when the row cannot be one."""
    id_, workflow_id, stage_id, kind, _task_type, payload, deliveries, fence, lost, error = row
    message = from_payload(kind, workflow_id, stage_id, loads(payload))
    if lost and isinstance(message, RunTask):
        message = replace(message, lost=lost, cause=error or "")
    return Leased(id_, workflow_id, message, None, deliveries, fence)


def process(
    connection: Connection, leased: Leased, message: Message, env: Env, claim: Claim, *, budget: int
) -> Done | None:
    """
    Decide `message`, for which `leased` is acknowledged, and write everything; the caller commits.

    Returns None for the end of a body whose workflow was deleted. Nothing may be committed when it raises LeaseLost, or
    WorkflowNotFoundError or StageNotFoundError for a message about something that is not stored and never was.
    """
    foresee(connection, leased, message)
    head = lock_head(connection, leased.workflow_id)
    if head is None:
        if leased.owner is None:
            msg = f"{type(message).__name__} names workflow {leased.workflow_id!r}, which is not in this store"
            raise WorkflowNotFoundError(msg)
        _acknowledge(connection, leased, env.now)
        return None
    seen = _still_current(leased.seen, head)
    if leased.seen is not None and not seen and connection.FORESEES:
        connection.foresee(reads_of(leased, message, is_current=False))
    reader = Reader(connection, leased.workflow_id, leased.id)
    seen.update(reader.foresee(message, seen))
    step = Step(View(head, seen), message, env, budget=budget)
    _decide(step, reader)
    _check_stage(connection, message, step.view)
    return _write(connection, [(leased, step)], claim, head)


def decide_together(connection: Connection, orders: Sequence[Order], env: Env, *, budget: int) -> Decided:
    """
    Decide several messages about one workflow, each on what the one before has left; nothing is written.

    Raises Apart for what asks about the messages of the workflow, or what else is decided one by one.
    """
    workflow_id = orders[0][0].workflow_id
    head = lock_head(connection, workflow_id)
    if head is None:
        raise Apart
    view = View(head)
    for leased, _ in orders:
        view.add(_still_current(leased.seen, head))
    if not connection.FORESEES:
        view.add(Reader(connection, workflow_id, "").read_ahead((message for _, message in orders), view.loaded))
    steps: list[tuple[Leased, Step]] = []
    free = env.slots
    for leased, message in orders:
        reader = Reader(connection, workflow_id, leased.id)
        view.add(reader.foresee(message, view.loaded))
        step = Step(view, message, env.with_slots(free), budget=budget)
        _decide(step, reader, together=True)
        _check_stage(connection, message, step.view)
        if step.dead:
            raise Apart
        view = step.view
        free = max(0, free - len(step.runs))
        steps.append((leased, step))
    if _gone_on(view):
        raise Apart
    return Decided(head, steps)


def write_together(connection: Connection, decided: Decided, claim: Claim) -> Done:
    """Write what `decide_together` has decided; the caller commits. Raises LeaseLost as `process` does."""
    return _write(connection, decided.steps, claim, decided.before)


def carry_out(
    connection: Connection, message: Message, env: Env, known: Mapping[Any, Any], *, budget: int
) -> tuple[tuple[Fact, ...], int]:
    """
    Decide a message that is not queued, about a workflow that is stored, and write everything; the caller commits.

    `known`: what the store would answer, by query. Returns the facts and the number of the last one. Bodies are left to
    whoever takes the messages that order them.
    """
    head = lock_head(connection, message.execution_id)
    if head is None:
        raise WorkflowNotFoundError(message.execution_id)
    step = Step(View(head, dict(known)), message, env, budget=budget)
    _decide(step, Reader(connection, message.execution_id, ""))
    _write_decided(connection, [step], head, "")
    return tuple(step.facts), step.view.head.sequence


def _decide(step: Step, reader: Reader, *, together: bool = False) -> None:
    while True:
        try:
            step.proceed()
        except NotLoaded as gap:
            if together and isinstance(gap.query, MessagesLeft):
                raise Apart from None  # the answer leaves out one message, not several
            step.view.add(reader.answer(gap.query, step.current))
        else:
            return


def _check_stage(connection: Connection, message: Message, view: View) -> None:
    """Raise StageNotFoundError for a message about a stage that there never was; one may also have been taken away."""
    if not isinstance(message, StageMessage) or view.loaded.get(StageKey(message.stage_id), message) is not None:
        return
    here = {"workflow_id": view.head.id, "stage_id": message.stage_id}
    known = connection.one("stage_was_known", here)
    if not known or not known[0]:
        name = type(message).__name__
        msg = f"{name} names stage id {message.stage_id!r}, which workflow {view.head.id} does not have"
        raise StageNotFoundError(msg)


def _still_current(seen: Seen | None, head: Head) -> dict[Any, Any]:
    """Return what need not be read again, since nothing has happened to the workflow in between."""
    return {} if seen is None or seen.sequence != head.sequence else dict(seen.rows)


def _seen(view: View, body: Body) -> Seen:
    """Return what the end of a body will ask for first."""
    stage, task = body.stage, body.task
    keys = (StageKey(stage.id), StageKey(stage.base_id), TaskKey(stage.id, task.position))
    return Seen(view.head.sequence, view.known(keys))


def _write_decided(
    connection: Connection, steps: Sequence[Step], before: Head, message_id: str
) -> tuple[WorkflowCreated, ...]:
    """
    Write the rows, log, messages and child workflows of steps of which each has gone on from the one before.

    Returns the children. `message_id`: of the message in hand.
    """
    view, now = steps[-1].view, steps[-1].env.now
    if facts := [fact for step in steps for fact in step.facts]:
        write_view(connection, view, before)
        write_facts(connection, view.head.id, view.head.sequence, facts, now)
    for stage_id in _gone_on(view):
        here = {"workflow_id": view.head.id, "stage_id": stage_id, "except_id": message_id, "now": now}
        connection.run("withdraw_bodies", here)
    ahead = priority_in(view.head.context)
    write_messages(connection, ((send.message, _place(send, now, ahead)) for step in steps for send in step.sends))
    born = tuple(create(connection, definition, now) for step in steps for definition in step.children)
    for fact in born:
        connection.run("inherit_custody", {"child": fact.definition["id"], "workflow_id": view.head.id})
    first = due_at(now, 0, ahead)
    write_messages(connection, ((StartWorkflow(execution_id=fact.definition["id"]), first) for fact in born))
    return born


def _place(send: Send, now: int, priority: int) -> int:
    message = send.message
    return due_at(now, send.after, message.priority if isinstance(message, RunTask) else priority)


def _write(connection: Connection, decided: Sequence[tuple[Leased, Step]], claim: Claim, before: Head) -> Done:
    """Write steps of which each has gone on from the one before, and what becomes of their messages."""
    (leased, last), steps = decided[-1], [step for _, step in decided]
    view = last.view
    born = _write_decided(connection, steps, before, leased.id)
    runs = [
        (mine._replace(seen=_seen(view, body)), body)
        for leased, step in decided
        for mine, body in _taken_on(connection, leased, step, claim)
    ]
    connection.remember(view.head)
    return Done(
        view.head.id, tuple(fact for step in steps for fact in step.facts), view.head.sequence, last.env.now,
        tuple(runs), tuple(body for step in steps for body in step.bodies),
        left=bool(born or any(step.sends for step in steps)), born=born, messages=len(steps),
    )  # fmt: skip


def _taken_on(connection: Connection, leased: Leased, step: Step, claim: Claim) -> list[tuple[Leased, Body]]:
    """Claim the bodies that follow from a step, and be done with its message unless one of them has taken it over."""
    now = step.env.now
    runs = []
    held = True
    for message, body in step.runs:
        if message is leased.message:
            mine, held = _claim(connection, leased, claim), False
        elif held and leased.owner is not None:
            mine, held = _pass_on(connection, leased, message, claim), False
        else:
            mine = _hand_over(connection, leased.workflow_id, message, now, claim)
        runs.append((mine, body))
    if step.dead:
        connection.run("bury", {"id": leased.id, "now": now, "error": step.dead})
    elif held:
        _acknowledge(connection, leased, now)
    return runs


def _gone_on(view: View) -> list[str]:
    """Return the stages that waited and do not any more: of an earlier body nothing is to be done."""
    waited = ((key, view.loaded.get(key)) for key in view.changed if key.kind == "stage")
    return [
        key.id
        for key, before in waited
        if before is not None and before.status is S.SUSPENDED
        and ((row := view.changed[key]) is None or row.status is not S.SUSPENDED)
    ]  # fmt: skip


def _claim(connection: Connection, leased: Leased, claim: Claim) -> Leased:
    if not connection.must("claim", {"id": leased.id, "owner": claim.owner, "lease_until": claim.until}):
        raise LeaseLost(leased.id)
    return leased._replace(owner=claim.owner, deliveries=leased.deliveries + 1, fence=leased.fence + 1)


def _pass_on(connection: Connection, leased: Leased, message: RunTask, claim: Claim) -> Leased:
    """Acknowledge a task and claim the next one by one change of one row: a chain of tasks needs no other message."""
    changed = connection.must(
        "pass_on",
        {
            "id": leased.id, "owner": leased.owner, "fence": leased.fence, "stage_id": message.stage_id,
            "task_type": message.task_type, "payload": dumps(to_payload(message)), "lease_until": claim.until,
        },
    )  # fmt: skip
    if not changed:
        raise LeaseLost(leased.id)
    return Leased(leased.id, leased.workflow_id, message, leased.owner, 1, leased.fence + 1)


def _hand_over(connection: Connection, workflow_id: str, message: Message, now: int, claim: Claim) -> Leased:
    id_ = serial_id()
    write_message(connection, message, now, id_=id_, owner=claim.owner, lease_until=claim.until)
    return Leased(id_, workflow_id, message, claim.owner, 1, 1)


def _acknowledge(connection: Connection, leased: Leased, now: int) -> None:
    mine = {"id": leased.id, "owner": leased.owner, "fence": leased.fence, "now": now}
    if not connection.must("acknowledge", mine):
        raise LeaseLost(leased.id)
