"""The pure core without a database: rows in a dict, a list for a queue, an integer for a clock.

After every commit the shell checks the invariants of the design that hold at all times: legal moves, replay,
progress, the count of open rows. What a scenario asserts comes on top.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from stabilize_nb.core import facts as f
from stabilize_nb.core import view as q
from stabilize_nb.core.draft import Body, Env, Limits, Purpose
from stabilize_nb.core.evolve import evolve, genesis
from stabilize_nb.core.rows import StageRow, TaskRow, spec_to_data
from stabilize_nb.core.step import NotLoaded, Step
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.status import OPEN, WorkflowStatus, can_transition
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.queue import messages as m

S = WorkflowStatus
EPOCH = 1_700_000_000_000


def stage(ref_id: str, *after: str, tasks: int = 1, **fields: Any) -> StageExecution:
    """Make a stage with so many tasks that follows others."""
    made = [TaskExecution.create(f"{ref_id}.{position}", "task") for position in range(tasks)]
    return StageExecution(ref_id=ref_id, id=f"id-{ref_id}", tasks=made, requisite_stage_ref_ids=set(after), **fields)


def workflow(*stages: StageExecution, **context: Any) -> Workflow:
    return Workflow.create("test", "test", stages, context=context)


def definition_of(made: Workflow) -> dict[str, Any]:
    """Return what WorkflowCreated holds, as it looks after a way through JSON."""
    stages = [{"id": each.id, "spec": spec_to_data(each), "context": each.context} for each in made.stages]
    about = {"id": made.id, "application": made.application, "name": made.name, "context": made.context}
    return json.loads(json.dumps(about | {"stages": stages}))


def done(status: WorkflowStatus = S.SUCCEEDED, **outputs: Any) -> m.Outcome:
    return m.Outcome(kind=m.OutcomeKind.DONE, status=status, outputs=outputs)


def failed(error: str = "no") -> m.Outcome:
    return m.Outcome(kind=m.OutcomeKind.DONE, status=S.TERMINAL, error=error)


def running(after: int = 1_000, **context: Any) -> m.Outcome:
    return m.Outcome(kind=m.OutcomeKind.RUNNING, after=after, context=context)


def retry(error: str = "not yet", **fields: Any) -> m.Outcome:
    return m.Outcome(kind=m.OutcomeKind.RETRY, error=error, **fields)


def suspend(**context: Any) -> m.Outcome:
    return m.Outcome(kind=m.OutcomeKind.SUSPENDED, context=context)


def jump(target: str, *, outputs: dict[str, Any] | None = None, **context: Any) -> m.Outcome:
    return m.Outcome(kind=m.OutcomeKind.JUMP, target=target, context=context, outputs=outputs or {})


def until_signalled(**outputs: Any) -> Callable[[Body], m.Outcome]:
    """Return a body that suspends until it sees a signal, and then succeeds with the signal's data."""

    def body(seen: Body) -> m.Outcome:
        if "_signal_name" not in seen.context:
            return suspend()
        return done(signal=seen.context["_signal_name"], data=dict(seen.context["_signal_data"]), **outputs)

    return body


Answer = m.Outcome | Callable[[Body], m.Outcome]


class Script:
    """Bodies by ref_id of their stage: the first call gets the first answer, the last answer is repeated."""

    def __init__(self, **answers: Answer | list[Answer]) -> None:
        self.answers = {ref: answer if isinstance(answer, list) else [answer] for ref, answer in answers.items()}
        self.calls: Counter[str] = Counter()

    def __call__(self, body: Body) -> m.Outcome:
        ref = body.stage.spec.ref_id
        answers = self.answers.get(ref, [done(**{ref: 1})])
        answer = answers[min(self.calls[ref], len(answers) - 1)]
        self.calls[ref] += 1
        return answer if isinstance(answer, m.Outcome) else answer(body)


@dataclass(eq=False, kw_only=True)
class Queued:
    """A message row."""

    message: m.Message
    due: int
    body: Body | None = None  # set while it is leased and its body runs


@dataclass(frozen=True, kw_only=True)
class Order:
    """In what order a shell works, and what goes wrong meanwhile. Probabilities are for each message."""

    random: Random | None = None  # None: first come, first served
    budget: int = 32
    slots: int = 4
    prefetch: bool = True
    redeliver: float = 0.0  # an acknowledged message is decided again
    lose: float = 0.0  # the lease of a running body is lost; body and message both go on

    def chance(self, probability: float) -> bool:
        return self.random is not None and self.random.random() < probability


@dataclass(eq=False)
class Shell:
    """One workflow being worked at."""

    made: Workflow
    run: Callable[[Body], m.Outcome] = field(default_factory=Script)
    order: Order = field(default_factory=Order)
    limits: Limits = field(default_factory=Limits)
    now: int = EPOCH
    queue: list[Queued] = field(default_factory=list)
    zombies: list[Body] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    cleanups: list[Body] = field(default_factory=list)
    log: list[tuple[int, f.Fact]] = field(default_factory=list)
    questions: list[int] = field(default_factory=list)  # queries of each step
    commits: int = 0

    def __post_init__(self) -> None:
        definition = definition_of(self.made)
        created = f.WorkflowCreated(definition)
        self.view = evolve(genesis(definition), created, self.now)
        self.log.append((self.now, created))
        self.head, self.rows = self.view.head, present(self.view)

    # What tests call.

    def start(self) -> "Shell":
        """Start the workflow and work until nothing is due, at any time."""
        return self.push(m.StartWorkflow(execution_id=self.made.id)).drain()

    def push(self, message: m.Message, after: int = 0) -> "Shell":
        self.queue.append(Queued(message=message, due=self.now + after))
        return self

    def send(self, kind: type[m.Message], ref_id: str = "", **fields: Any) -> "Shell":
        """Push an order from outside and work until nothing is due now."""
        target = {"stage_id": self.row(ref_id).id} if ref_id else {}
        return self.push(kind(execution_id=self.made.id, **target, **fields)).drain(until=self.now)

    def at_once(self, message: m.Message) -> "Shell":
        """Decide a message before everything that is queued."""
        self._step(message, None)
        return self

    def drain(self, until: int | None = None, *, limit: int = 5_000) -> "Shell":
        """Work until nothing is due, letting time pass up to `until` (None: while there is a message)."""
        for _ in range(limit):
            if self.tick():
                continue
            waiting = [queued.due for queued in self.queue if queued.body is None]
            if not waiting or (until is not None and min(waiting) > until):
                self.now = self.now if until is None else max(self.now, until)
                return self
            self.now = min(waiting)
        raise AssertionError(f"no end after {limit} ticks: {self.log[-10:]}")

    def tick(self) -> bool:
        """Do one thing that can be done now: decide a message or end a body."""
        ready = [queued for queued in self.queue if queued.due <= self.now]
        if not ready and not self.zombies:
            return False
        if self.order.random is None:
            ready.sort(key=lambda queued: queued.body is not None)
            self._work_on(ready[0])
            return True
        if self.zombies and (not ready or self.order.chance(0.3)):
            body = self.zombies.pop(self.order.random.randrange(len(self.zombies)))
            self._step(self._finished(body), None)
            return True
        self._work_on(self.order.random.choice(ready))
        return True

    def begin(self, ref_id: str) -> Body:
        """Return the body that runs for a stage row, working on messages only."""
        while True:
            for queued in self.queue:
                if queued.body is not None and queued.body.stage.ref_id == ref_id:
                    return queued.body
            queued = next(each for each in self.queue if each.body is None and each.due <= self.now)
            self._step(queued.message, queued)

    def finish(self, body: Body, outcome: m.Outcome) -> tuple[f.Fact, ...]:
        """Let a body end now, also one whose lease is lost; returns the facts of the commit."""
        before = len(self.log)
        queued = next((each for each in self.queue if each.body is body), None)
        self._step(self._finished(body, outcome), queued)
        return tuple(fact for _, fact in self.log[before:])

    # What tests ask.

    def row(self, ref_id: str) -> StageRow:
        return next(row for row in self.stages() if row.ref_id == ref_id)

    def stages(self) -> list[StageRow]:
        rows = [row for row in self.rows.values() if isinstance(row, StageRow)]
        return sorted(rows, key=lambda row: (row.ordinal, row.activation))

    def task(self, ref_id: str, position: int = 0) -> TaskRow:
        return self.rows[q.TaskKey(self.row(ref_id).id, position)]

    @property
    def statuses(self) -> dict[str, str]:
        return {row.ref_id: row.status.name for row in self.stages()}

    @property
    def status(self) -> WorkflowStatus:
        return self.head.status

    def facts(self, *kinds: type[f.Fact]) -> list[Any]:
        return [fact for _, fact in self.log if not kinds or isinstance(fact, kinds)]

    def runs(self) -> list[str]:
        """Return the ref_ids of all bodies in the order in which they were begun."""
        return [body.stage.ref_id for body in self.bodies]

    def inputs(self, ref_id: str) -> Body:
        """Return the last body that was begun for a stage row."""
        return next(body for body in reversed(self.bodies) if body.stage.ref_id == ref_id)

    # The machinery.

    def _work_on(self, queued: Queued) -> None:
        if queued.body is None:
            self._step(queued.message, queued)
        elif self.order.chance(self.order.lose):
            self.zombies.append(queued.body)
            queued.body = None
        else:
            self._step(self._finished(queued.body), queued)

    def _finished(self, body: Body, outcome: m.Outcome | None = None) -> m.TaskFinished:
        return m.TaskFinished(
            execution_id=self.made.id,
            stage_id=body.stage.id,
            generation=body.stage.generation,
            position=body.task.position,
            attempt=body.task.attempt,
            outcome=outcome or self.run(body),
        )

    def _step(self, message: m.Message, queued: Queued | None) -> None:
        step = self.decide(message, queued)
        self._commit(step, queued)
        repeatable = message.COUNTS or message.TIMER or isinstance(message, m.TaskFinished | m.JumpToStage)
        if repeatable and self.order.chance(self.order.redeliver):
            again = self.decide(message, None, budget=1)
            assert not again.sends, f"{message} sends {again.sends} when delivered again"
            facts = [fact for fact in again.facts if not isinstance(fact, f.ResultDiscarded)]
            assert not facts, f"{message} leads to {facts} when delivered again"

    def decide(self, message: m.Message, queued: Queued | None, budget: int | None = None) -> Step:
        """Decide a message over the stored rows, without committing anything."""
        env = Env(now=self.now, limits=self.limits, slots=self.order.slots, runnable={"task"})
        step = Step(q.View(self.head), message, env, budget=budget or self.order.budget)
        for number in range(10_000):
            try:
                step.proceed()
            except NotLoaded as gap:
                step.view.add(self._answer(gap.query, queued))
            else:
                self.questions.append(number)
                return step
        raise AssertionError(f"{message} asks for ever")

    def _commit(self, step: Step, queued: Queued | None) -> None:
        self.commits += 1
        self.rows = {key: row for key, row in (self.rows | step.view.changed).items() if row is not None}
        self.head = step.view.head
        for fact in step.facts:
            self._replay(fact)
            self.log.append((self.now, fact))
        self.queue.extend(Queued(message=send.message, due=self.now + send.after) for send in step.sends)
        if queued is not None:
            self.queue.remove(queued)
        for message, body in step.runs:
            self.queue.append(Queued(message=message, due=self.now, body=body))
            self.bodies.append(body)
        assert all(body.purpose is Purpose.ON_CANCEL for body in step.bodies)
        self.cleanups.extend(step.bodies)
        self._check()

    def _replay(self, fact: f.Fact) -> None:
        """Fold a fact after a way through JSON, and look that it makes only legal moves."""
        before = {key: row.status for key, row in self.view.changed.items() if isinstance(row, StageRow)}
        head = self.view.head
        again = f.from_data(json.loads(json.dumps(f.to_data(fact))))
        assert again == fact
        evolve(self.view, again, self.now)
        if isinstance(fact, f.JoinFired):
            led = [self.view.get(q.StageKey(source)) for source in fact.triggers]
            assert all(row.status.is_complete for row in led), f"{fact} although a branch has not ended"
        if not isinstance(fact, f.WorkflowRestarted):
            assert can_transition(head.status, self.view.head.status), fact
        for key, old in before.items():
            row = self.view.changed[key]
            if row is not None and not isinstance(fact, f.StageReset):
                assert can_transition(old, row.status), fact

    def _check(self) -> None:
        assert self.rows == present(self.view), "replay does not give the stored rows"
        assert self.head == self.view.head, "replay does not give the stored header"
        assert self.head.sequence == len(self.log)
        rows = [row for row in self.rows.values() if isinstance(row, StageRow)]
        opened = [row for row in rows if row.status in OPEN]
        assert self.head.active == len(opened), "the count of open rows is wrong"
        for row in opened:
            assert self._moves(row), f"nothing moves {row.ref_id!r}, which is {row.status}"
        if self.head.status is S.RUNNING:
            counts = any(queued.message.COUNTS for queued in self.queue)
            assert opened or counts, "wedged: nothing is open and nothing is queued, but the workflow runs"
        if self.head.status.is_complete:
            assert not opened, "ended with open rows"

    def _moves(self, row: StageRow) -> bool:
        """Whether something that can be named will move an open row on."""
        if row.status is S.SUSPENDED:
            return self.head.ending is None
        if row.status is S.PAUSED:
            return self.head.paused
        kind = m.JumpToStage if row.status is S.REDIRECT else m.RunTask
        return any(
            isinstance(queued.message, kind)
            and queued.message.stage_id == row.id
            and queued.message.generation == row.generation
            for queued in self.queue
        )

    def _answer(self, query: Any, queued: Queued | None) -> dict[Any, Any]:
        match query:
            case (
                q.StageKey()
                | q.TaskKey()
                | q.RoundKey()
                | q.ArrivalKey()
                | q.SignalKey()
                | q.ClaimKey()
                | q.WaiterKey()
            ):
                return {query: self.rows.get(query)}
            case q.Rows(ids=ids):
                return {q.StageKey(id_): self.rows.get(q.StageKey(id_)) for id_ in ids}
            case q.MessagesLeft():
                left = (each for each in self.queue if each is not queued)
                return {query: any(each.message.COUNTS for each in left)}
            case q.ByRef(ref_id=ref):
                return {query: next((row.id for row in self._bases() if row.ref_id == ref), None)}
            case q.Roots():
                first = (row for row in self._bases() if not row.spec.parent_stage_id)
                return {query: tuple(row.id for row in first if not row.spec.requisites)}
            case q.Region(stage_id=id_):
                return {query: self._region(id_)}
        keys = tuple(self._members(query))
        shown = {key: self.rows[key] for key in keys} if self.order.prefetch else {}
        return {query: keys, **shown}

    def _bases(self) -> list[StageRow]:
        return [row for row in self.stages() if row.id == row.base_id]

    def _region(self, start: str) -> tuple[str, ...]:
        found, todo = {start}, [start]
        while todo:
            spec = self.rows[q.StageKey(todo.pop())].spec
            new = {each.stage_id for each in (*spec.edges, *spec.children)} - found
            found |= new
            todo.extend(new)
        return (start, *(row.id for row in self._bases() if row.id in found and row.id != start))

    def _members(self, query: Any) -> Iterator[Any]:
        if isinstance(query, q.Unfinished | q.Broken | q.Arrived | q.Waiting | q.Members | q.Jumpers | q.Everything):
            for row in self.stages():
                if self._belongs(query, row):
                    yield q.StageKey(row.id)
            return
        for key, row in sorted(self.rows.items(), key=lambda item: _place(item[1])):
            if self._belongs(query, row) and not isinstance(row, StageRow | TaskRow):
                yield key

    def _belongs(self, query: Any, row: Any) -> bool:
        kind = type(row).__name__
        match query:
            case q.Unfinished(all=everything):
                return row.status in OPEN or (everything and row.status is S.NOT_STARTED)
            case q.Broken():
                return row.status in (S.TERMINAL, S.CANCELED) or (row.status is S.NOT_STARTED and row.fired > 0)
            case q.Arrived():
                well = row.status in (S.SUCCEEDED, S.FAILED_CONTINUE, S.SKIPPED)
                return well and not row.spec.edges
            case q.Arrivals(stage_id=id_, generation=generation, number=number):
                return kind == "ArrivalRow" and row[:2] == (id_, generation) and number in (0, row.number)
            case q.Waiting():
                return bool(row.waits)
            case q.Members(field=field, value=value):
                return getattr(row.spec, field) == value
            case q.Jumpers():
                return bool(row.spec.jump_targets) and row.id == row.base_id
            case q.Everything():
                return True
            case q.Line(claim=claim, after=after):
                return kind == "WaiterRow" and row.claim == claim and row.ticket > after
            case q.Claims():
                return kind == "ClaimRow" and row.workflow_id == self.made.id
            case q.Held():
                return kind == "ArrivalRow" and row.held and self._is_present(row)
            case q.Buffered(stage_id=id_):
                return kind == "SignalRow" and id_ in ("", row.stage_id)
            case q.Unsettled():
                waits = kind == "RoundRow" and row.live and not row.settled
                return bool(waits and self._is_present(row) and self._is_untouched(row))
        raise AssertionError(query)

    def _base(self, row: Any) -> StageRow:
        return self.rows[q.StageKey(row.stage_id)]

    def _is_untouched(self, row: Any) -> bool:
        return not self._base(row).fired and not self._base(row).sent

    def _is_present(self, row: Any) -> bool:
        return self._base(row).generation == row.generation


def _place(row: Any) -> int:
    return getattr(row, "position", getattr(row, "ticket", 0))


def present(view: q.View) -> dict[Any, Any]:
    """Return the rows of a complete view."""
    return {key: row for key, row in view.changed.items() if row is not None}


def fold(log: Iterable[tuple[int, f.Fact]]) -> q.View:
    """Fold a log from nothing."""
    (at, created), *rest = log
    view = evolve(genesis(created.definition), created, at)
    for at, fact in rest:
        evolve(view, fact, at)
    return view
