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
from stabilize_nb.core.view import StageKey, View
from stabilize_nb.models.multi_instance import MultiInstanceConfig
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.queue import messages as m
from stabilize_nb.store.store import define
from tests.simulate.memory import SHARED, Table
from tests.simulate.model.instances import is_open
from tests.simulate.model.over import complaints, unfinished
from tests.simulate.model.state import ATTEMPTS, Caller, Case, Store
from tests.simulate.monitor import Answer, Divergence, Heard, Monitor
from tests.simulate.plan import Act, Flow, Many, Plan, Stage

S = WorkflowStatus
EPOCH = 1_700_000_000_000
#: What may come a second time without an id of its own that tells the queue so.
REPEATABLE = (m.StartWorkflow, m.StartStage, m.EnterStage, m.JumpToStage, m.TimeoutStage, m.CompleteWorkflow)
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
        self.shared: dict[Any, Any] = {}  # rows of claims, and those who wait for them
        self.store = Store()
        self.origin: dict[str, str] = {}  # the flow of each workflow
        self.monitors: dict[str, Monitor] = {}
        self.stages = {(flow.name, stage.ref): stage for flow in plan.flows for stage in flow.stages}
        self.queue: list[Entry] = []
        self.zombies: list[tuple[Body, Entry, int]] = []
        self.late: list[tuple[m.TaskFinished, Answer]] = []
        self.acts = list(plan.acts)
        self.answered: Counter[tuple[str, str]] = Counter()
        self.signals = 0
        self.called = 0
        self.commits = 0
        self.facts: Counter[str] = Counter()
        for flow in plan.flows:
            if not flow.child:
                self.create(define(workflow_of(flow, flow.name)))

    def create(self, definition: dict[str, Any]) -> None:
        """Store a workflow and order its start."""
        name, flow = definition["id"], self.plan.flow(definition["name"])
        context = definition["context"]
        caller = None
        if flow.child:
            place = self.tables[context["_parent_workflow_id"]].names[context["_parent_stage_id"]]
            caller = Caller(context["_parent_workflow_id"], place, context["_parent_generation"])
        self.origin[name] = flow.name
        self.tables[name] = table = Table(definition, self.now, self.shared)
        self.monitors[name] = Monitor(Case(name, flow, self.store, caller), table.names)
        self.push(m.StartWorkflow(execution_id=name))

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
            case "region":
                self.push(m.CancelRegion(**here, region=act.ref))
            case "add":
                self.push(m.AddMultiInstance(**there))
            case "close":
                self.push(m.CloseMultiInstance(**there))
            case "complete":
                self.push(m.CompleteMultiInstance(**there))
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
            runs = self.store.cases[name].runs
            waiting += [
                (name, row.id) for row in table.stages() if row.status is S.SUSPENDED and not runs[row.ref_id].child
            ]
            if table.head.paused:
                waiting.append((name, ""))
            case = self.store.cases[name]
            waiting += [
                (name, row.id) for row in table.stages() if row.ref_id in case.places and is_open(case, row.ref_id)
            ]
        if self.random.random() < 0.5:
            waiting = [self.random.choice(waiting)] if waiting else []
        for name, stage_id in waiting:
            if stage_id and self.tables[name].rows[StageKey(stage_id)].status.is_complete:
                self.push(m.CloseMultiInstance(execution_id=name, stage_id=stage_id))
            elif stage_id:
                self.signal(name, stage_id, persistent=self.random.random() < 0.3)
            else:
                self.push(m.ResumeWorkflow(execution_id=name))
        return bool(waiting)

    # What the monitor looks at.

    def look_at_rest(self) -> None:
        for case in self.store.cases.values():
            told = list(complaints(case))
            if told:
                raise Divergence(f"{case.name} is at rest, but {'; '.join(told)}")

    def look_at_the_end(self) -> None:
        for name, table in self.tables.items():
            if not table.head.status.is_complete:
                raise Divergence(f"{name} never ends: {list(unfinished(self.store.cases[name]))}")
            view = table.replayed()
            rows = {key: row for key, row in view.changed.items() if row is not None and key.kind not in SHARED}
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
        answers = self.answers_of(self.origin[flow], body.stage.spec.ref_id)
        answer = Answer(answers[min(self.answered[key], len(answers) - 1)], self.answered[key] + 1)
        message = m.TaskFinished(
            execution_id=flow, stage_id=body.stage.id, generation=body.stage.generation, position=body.task.position,
            attempt=body.task.attempt, outcome=self.outcome_of(self.origin[flow], body.stage.spec.ref_id, answer),
        )  # fmt: skip
        if self.step(message, entry, answer) and entry is not None:
            self.answered[key] += 1
            if self.chance(self.chaos.repeat):
                self.late.append((message, answer))

    def outcome_of(self, origin: str, ref: str, answer: Answer) -> m.Outcome:
        kind, _, flow = answer.text.partition(":")
        if kind != "call":
            stage = self.stages.get((origin, ref))
            return outcome_of(answer, ref, stage.many if stage else None)
        self.called += 1
        child = define(workflow_of(self.plan.flow(flow), f"{flow}@{self.called}"))
        return m.Outcome(kind=m.OutcomeKind.CHILD, child=child)

    def answers_of(self, flow: str, ref: str) -> tuple[str, ...]:
        stage = self.stages.get((flow, ref)) or self.stages[flow, ref.rpartition("_instance_")[0]]
        return stage.does if stage.ref == ref or stage.many is None else stage.many.does

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
        for definition in step.children:
            self.create(definition)
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


def outcome_of(answer: Answer, ref: str, many: Many | None) -> m.Outcome:
    """Return what the worker makes of a body's answer."""
    kind, _, target = answer.text.partition(":")
    outputs = {f"out_{ref}": answer.number, f"pass_{ref}": answer.number}
    if many is not None and many.later:
        outputs[f"count_{ref}"] = many.later[min(answer.number, len(many.later)) - 1]
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


def workflow_of(flow: Flow, name: str) -> Workflow:
    """Make the workflow of a plan; the ids of its stages begin with its name."""
    context = {} if flow.max_jumps == 10 else {"_max_jumps": flow.max_jumps}
    stages = [stage_of(name, flow, stage) for stage in flow.stages]
    for stage in stages:
        _place_in_activity(stage, {each.ref for each in flow.stages if each.many})
    made = Workflow.create("simulation", flow.name, stages, context=context)
    made.id = name
    return made


def _place_in_activity(stage: StageExecution, parents: set[str]) -> None:
    parent, _, index = stage.ref_id.rpartition("_instance_")
    if parent in parents:
        stage.context |= {"_mi_parent_ref_id": parent, "_mi_instance_index": int(index)}
    elif stage.ref_id.removesuffix("_mi_join") in parents - {stage.ref_id}:
        stage.context["_mi_parent_ref_id"] = stage.ref_id.removesuffix("_mi_join")


CONDITIONS = {"": None, "completed>=2": "completed >= 2", "all": "completed >= total"}


def config_of(flow: Flow, stage: Stage) -> MultiInstanceConfig | None:
    """Return the multi-instance settings of a stage, as the builder would write them."""
    many = stage.many
    if many is None:
        return None
    refs = {other.ref for other in flow.stages}
    return MultiInstanceConfig(
        count=sum(ref.startswith(f"{stage.ref}_instance_") for ref in refs), allow_dynamic=many.dynamic,
        count_from_context=f"count_{stage.ref}" if many.later else None, join_threshold=many.threshold,
        completion_condition=CONDITIONS[many.condition], sync_on_complete=f"{stage.ref}_mi_join" in refs,
        instance={"type": "instance", "name": stage.ref, "tasks": [["instance", "task"]], "context": {}},
    )  # fmt: skip


def stage_of(name: str, flow: Flow, stage: Stage) -> StageExecution:
    """Make a stage of a plan; its id is made of the name of its workflow and its ref."""
    conditions = {"pass<2": f"pass_{stage.ref} < 2", "pass>=2": f"pass_{stage.ref} >= 2"}
    context: dict[str, Any] = dict(FAILURES[stage.on_failure])
    if not stage.enabled:
        context["stageEnabled"] = False
    if stage.timeout:
        context["stageTimeoutMs"] = stage.timeout
    return StageExecution(
        ref_id=stage.ref, id=f"{name}.{stage.ref}", context=context, requisite_stage_ref_ids=set(stage.after),
        tasks=[TaskExecution.create(f"{stage.ref}.{number}", "task") for number in range(stage.tasks)],
        join_type=JoinType(stage.join), join_threshold=stage.threshold, split_type=SplitType(stage.split),
        split_conditions={ref: conditions.get(condition, condition) for ref, condition in stage.when},
        split_default=stage.default or None, join_blocking=stage.blocking, join_cancel_remaining=stage.cancel_rest,
        thread_split=stage.thread_split, thread_merge=stage.thread_merge, deferred_choice_group=stage.choice or None,
        mutex_key=stage.mutex or None, critical_section=stage.section or None,
        milestone_ref_id=stage.milestone[0] or None, milestone_status=stage.milestone[1] or None,
        milestone_until_ref_id=stage.until or None, cancel_region=stage.region or None,
        cancels_stages=set(stage.cancels), cancels_regions=set(stage.cancels_regions),
        mi_config=config_of(flow, stage), ends_workflow=stage.ends or None, jump_targets=set(stage.jump_targets),
    )  # fmt: skip
