"""The shell of the simulator: several workflows, one queue, a clock that is a number, one thread, and faults.

Messages are taken in any order, late, and a second time; leases run out while a body goes on; the process dies with
all its bodies; a decision is lost before its commit. After every commit the monitor compares. When nothing moves any
more, whatever waits for a person is prompted, until all has ended.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from stabilize_nb.core import facts as f
from stabilize_nb.core.draft import Body, Decision, Env
from stabilize_nb.core.step import NotLoaded, Step
from stabilize_nb.core.view import View
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.queue import messages as m
from tests.simulate.memory import Table
from tests.simulate.model import ATTEMPTS, Case
from tests.simulate.monitor import Answer, Divergence, Heard, Monitor
from tests.simulate.plan import Act, Flow, Plan, Stage

S = WorkflowStatus
EPOCH = 1_700_000_000_000
#: What may come a second time without an id of its own that tells the queue so.
REPEATABLE = (m.StartWorkflow, m.StartStage, m.JumpToStage, m.TimeoutStage, m.CompleteWorkflow)
FAILURES = {
    "": {},
    "continue": {"continuePipelineOnFailure": True},
    "stop": {"failPipeline": False},
    "late": {"completeOtherBranchesThenFail": True},
}


@dataclass(eq=False)
class Entry:
    """A message row; `body` is set while it is leased and the body runs."""

    message: m.Message
    due: int
    body: Body | None = None
    lease: int = 0
    is_copy: bool = False


class Traced(Step):
    """A step that notes its decisions one by one."""

    __slots__ = ("heard",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.heard: list[Heard] = []

    def _take(self, message: m.Message, decision: Decision) -> None:
        self.heard.append(Heard(message, decision.facts, decision.bodies))
        super()._take(message, decision)


class World:
    """A plan being worked at."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chaos = plan.chaos
        self.random = Random(plan.chaos.seed)
        self.now = EPOCH
        self.tables: dict[str, Table] = {}
        self.cases: dict[str, Case] = {}
        self.monitors: dict[str, Monitor] = {}
        self.stages = {(flow.name, stage.ref): stage for flow in plan.flows for stage in flow.stages}
        self.queue: list[Entry] = []
        self.zombies: list[tuple[Body, Entry, int]] = []
        self.late: list[tuple[m.TaskFinished, Answer]] = []
        self.acts = list(plan.acts)
        self.answered: Counter[tuple[str, str]] = Counter()
        self.signals = 0
        self.commits = 0
        self.facts: Counter[str] = Counter()
        for flow in plan.flows:
            if not flow.child:
                self.create(flow)

    def create(self, flow: Flow) -> None:
        self.tables[flow.name] = table = Table(workflow_of(flow), self.now)
        self.cases[flow.name] = case = Case(flow)
        self.monitors[flow.name] = Monitor(case, table.names)
        self.push(m.StartWorkflow(execution_id=flow.name))

    def run(self, limit: int = 4_000) -> World:
        """Work until everything has ended and every order was given."""
        for _ in range(limit):
            self.give_orders()
            if self.tick() or self.wait():
                continue
            self.look_at_rest()
            if not (self.give_next_order() or self.prompt()):
                self.look_at_the_end()
                return self
        raise Divergence(f"no end after {limit} ticks; the queue holds {[each.message for each in self.queue][:5]}")

    # Orders from outside.

    def push(self, message: m.Message, after: int = 0) -> None:
        self.queue.append(Entry(message, self.now + after + self.lateness()))

    def lateness(self) -> int:
        return self.random.choice((0, 0, self.random.randint(0, self.chaos.delay))) if self.chaos.delay else 0

    def give_orders(self) -> None:
        while self.acts and self.acts[0].at <= self.commits:
            self.give_next_order()

    def give_next_order(self) -> bool:
        if not self.acts:
            return False
        self.order(self.acts.pop(0))
        return True

    def order(self, act: Act) -> None:
        here = {"execution_id": act.flow}
        there = here | {"stage_id": f"{act.flow}.{act.ref}"}
        match act.kind:
            case "signal" | "keep":
                self.signal(act.flow, there["stage_id"], persistent=act.kind == "keep")
            case "cancel":
                self.push(m.CancelStage(**there))
            case "end":
                self.push(m.CancelWorkflow(**here))
            case "pause":
                self.push(m.PauseWorkflow(**here))
            case "resume":
                self.push(m.ResumeWorkflow(**here))
            case _:
                raise AssertionError(act)

    def signal(self, flow: str, stage_id: str, *, persistent: bool) -> None:
        self.signals += 1
        name = f"signal-{self.signals}"
        self.push(m.SignalStage(execution_id=flow, stage_id=stage_id, signal_name=name, persistent=persistent))

    def prompt(self) -> bool:
        """Give whatever waits for a person what it waits for; return whether there was anything."""
        waiting = []
        for name, table in self.tables.items():
            waiting += [(name, row.id) for row in table.stages() if row.status is S.SUSPENDED]
            if table.head.paused:
                waiting.append((name, ""))
        if self.random.random() < 0.5:
            waiting = [self.random.choice(waiting)] if waiting else []
        for name, stage_id in waiting:
            if stage_id:
                self.signal(name, stage_id, persistent=self.random.random() < 0.3)
            else:
                self.push(m.ResumeWorkflow(execution_id=name))
        return bool(waiting)

    # What the monitor looks at.

    def look_at_rest(self) -> None:
        for case in self.cases.values():
            complaints = list(case.complaints())
            if complaints:
                raise Divergence(f"{case.name} is at rest, but {'; '.join(complaints)}")

    def look_at_the_end(self) -> None:
        for name, table in self.tables.items():
            if not table.head.status.is_complete:
                raise Divergence(f"{name} never ends: {self.cases[name].unfinished()}")
            view = table.replayed()
            rows = {key: row for key, row in view.changed.items() if row is not None}
            if (rows, view.head) != (table.rows, table.head):
                raise Divergence(f"the log of {name} does not give its rows")

    def statuses(self) -> dict[str, dict[str, str]]:
        """Return the status of each workflow (under "") and of each of its rows."""
        return {
            name: {"": table.head.status.value, **{row.ref_id: row.status.value for row in table.stages()}}
            for name, table in self.tables.items()
        }

    # The machinery.

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def wait(self) -> bool:
        """Let time pass until something is due."""
        if not self.queue:
            return False
        self.now = max(self.now, min(entry.due for entry in self.queue))
        return True

    def tick(self) -> bool:
        """Do one thing that can be done now."""
        if self.chance(self.chaos.crash):
            self.crash()
        ready = [entry for entry in self.queue if entry.due <= self.now]
        late = len(self.zombies) + len(self.late)
        if late and (not ready or self.random.random() < 0.2):
            self.finish_late()
        elif ready:
            self.work_on(self.random.choice(ready))
        else:
            return False
        return True

    def crash(self) -> None:
        for entry in self.queue:
            entry.body = None
        self.zombies.clear()

    def work_on(self, entry: Entry) -> None:
        if entry.body is None:
            entry.lease += 1
            self.step(entry.message, entry)
        elif self.chance(self.chaos.lose):
            self.zombies.append((entry.body, entry, entry.lease))
            entry.body = None
        else:
            self.finish(entry.body, entry)

    def finish_late(self) -> None:
        """Let a body end whose lease ran out, or a result come a second time."""
        if self.late and (not self.zombies or self.random.random() < 0.5):
            message, answer = self.late.pop(self.random.randrange(len(self.late)))
            self.step(message, None, answer)
            return
        body, entry, lease = self.zombies.pop(self.random.randrange(len(self.zombies)))
        alone = entry in self.queue and entry.lease == lease
        self.finish(body, entry if alone else None)

    def finish(self, body: Body, entry: Entry | None) -> None:
        flow = self.flow_of(body)
        key = (flow, body.stage.spec.ref_id)
        answers = self.stages[key].does
        answer = Answer(answers[min(self.answered[key], len(answers) - 1)], self.answered[key] + 1)
        message = m.TaskFinished(
            execution_id=flow, stage_id=body.stage.id, generation=body.stage.generation, position=body.task.position,
            attempt=body.task.attempt, outcome=outcome_of(answer, body.stage.spec.ref_id),
        )  # fmt: skip
        if self.step(message, entry, answer) and entry is not None:
            self.answered[key] += 1
            if self.chance(self.chaos.repeat):
                self.late.append((message, answer))

    def flow_of(self, body: Body) -> str:
        return next(name for name, table in self.tables.items() if body.stage.id in table.names)

    def step(self, message: m.Message, entry: Entry | None, answer: Answer | None = None) -> bool:
        """Decide a message and commit what follows, unless its lease is lost; return whether an answer counted."""
        table = self.tables[message.execution_id]
        step = self.decide(message, entry)
        if entry is not None and self.chance(self.chaos.abort):
            entry.body = None
            return False
        if entry is None and self.monitors[table.head.id].would_accept(message):
            return False  # the database does: the lease is another worker's
        present = {row.id: row.generation for row in table.stages()}
        if entry is not None or not isinstance(message, m.TaskFinished):
            self.commit(table, step, entry)
        return self.compare(message.execution_id, step, present, answer)

    def decide(self, message: m.Message, entry: Entry | None) -> Traced:
        table = self.tables[message.execution_id]
        env = Env(now=self.now, slots=self.chaos.slots, runnable=frozenset({"task"}))
        step = Traced(View(table.head), message, env, budget=self.chaos.budget)
        left = any(
            each.message.COUNTS
            for each in self.queue
            if each is not entry and each.message.execution_id == table.head.id
        )
        for _ in range(1_000):
            try:
                step.proceed()
            except NotLoaded as gap:
                step.view.add(table.answer(gap.query, left=left, prefetch=self.chaos.prefetch))
            else:
                return step
        raise Divergence(f"{message} asks for ever")

    def commit(self, table: Table, step: Traced, entry: Entry | None) -> None:
        self.commits += 1
        table.write(step.view, step.facts, self.now)
        self.facts.update(f.event_type(fact) for fact in step.facts)
        if entry is not None:
            self.acknowledge(entry)
        for send in step.sends:
            self.push(send.message, send.after)
        for message, body in step.runs:
            self.queue.append(Entry(message, self.now, body, lease=1))

    def acknowledge(self, entry: Entry) -> None:
        self.queue.remove(entry)
        if isinstance(entry.message, REPEATABLE) and not entry.is_copy and self.chance(self.chaos.repeat):
            self.queue.append(Entry(entry.message, self.now + self.lateness(), is_copy=True))

    def compare(self, name: str, step: Traced, present: dict[str, int], answer: Answer | None) -> bool:
        monitor, table = self.monitors[name], self.tables[name]
        accepted = False
        for heard in step.heard:
            mine = isinstance(heard.message, m.TaskFinished)
            accepted |= monitor.hear(heard, present, answer if mine else None)
            present = {**present, **{row.id: row.generation for row in table.stages()}}
        monitor.compare({row.ref_id: row.status.value for row in table.stages()})
        return accepted


def outcome_of(answer: Answer, ref: str) -> m.Outcome:
    """Return what the worker makes of a body's answer."""
    kind, _, target = answer.text.partition(":")
    outputs = {f"out_{ref}": answer.number, f"pass_{ref}": answer.number}
    done = m.OutcomeKind.DONE
    match kind:
        case "ok":
            return m.Outcome(kind=done, outputs=outputs)
        case "soft":
            return m.Outcome(kind=done, status=S.FAILED_CONTINUE, outputs=outputs, error="softly")
        case "skip":
            return m.Outcome(kind=done, status=S.SKIPPED)
        case "stop":
            return m.Outcome(kind=done, status=S.STOPPED)
        case "fail":
            return m.Outcome(kind=done, status=S.TERMINAL, error="no")
        case "wait":
            return m.Outcome(kind=m.OutcomeKind.SUSPENDED)
        case "poll":
            return m.Outcome(kind=m.OutcomeKind.RUNNING, after=500)
        case "retry":
            return m.Outcome(kind=m.OutcomeKind.RETRY, error="not yet", max_attempts=ATTEMPTS)
        case "jump":
            return m.Outcome(kind=m.OutcomeKind.JUMP, target=target)
    raise AssertionError(answer)


def workflow_of(flow: Flow) -> Workflow:
    """Make the workflow of a plan; its id is its name."""
    context = {} if flow.max_jumps == 10 else {"_max_jumps": flow.max_jumps}
    stages = [stage_of(flow.name, stage) for stage in flow.stages]
    made = Workflow.create("simulation", flow.name, stages, context=context)
    made.id = flow.name
    return made


def stage_of(flow: str, stage: Stage) -> StageExecution:
    """Make a stage of a plan; its id is made of the name of its workflow and its ref."""
    conditions = {"pass<2": f"pass_{stage.ref} < 2", "pass>=2": f"pass_{stage.ref} >= 2"}
    context: dict[str, Any] = dict(FAILURES[stage.on_failure])
    if not stage.enabled:
        context["stageEnabled"] = False
    if stage.timeout:
        context["stageTimeoutMs"] = stage.timeout
    return StageExecution(
        ref_id=stage.ref, id=f"{flow}.{stage.ref}", context=context, requisite_stage_ref_ids=set(stage.after),
        tasks=[TaskExecution.create(f"{stage.ref}.{number}", "task") for number in range(stage.tasks)],
        join_type=JoinType(stage.join), join_threshold=stage.threshold, split_type=SplitType(stage.split),
        split_conditions={ref: conditions.get(condition, condition) for ref, condition in stage.when},
        split_default=stage.default or None,
    )  # fmt: skip
