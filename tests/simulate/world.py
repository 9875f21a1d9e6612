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
from stabilize_nb.queue import messages as m
from tests.simulate.definitions import Answer, definition_of
from tests.simulate.memory import SHARED, Table
from tests.simulate.model.instances import is_open
from tests.simulate.model.over import complaints, unfinished
from tests.simulate.model.state import Caller, Case, Store
from tests.simulate.monitor import Divergence, Heard, Monitor
from tests.simulate.plan import Plan
from tests.simulate.script import Script, message_of

EPOCH = 1_700_000_000_000
#: What may come a second time without an id of its own that tells the queue so.
REPEATABLE = (m.StartWorkflow, m.StartStage, m.EnterStage, m.JumpToStage, m.TimeoutStage, m.CompleteWorkflow)


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
        self.script = Script(plan)
        self.now = EPOCH
        self.queue: list[Entry] = []
        self.zombies: list[tuple[Body, Entry, int]] = []  # bodies whose lease ran out, and that lease
        self.late: list[tuple[m.TaskFinished, Answer]] = []  # results that come a second time
        self.acts = list(plan.acts)
        self.signals = 0
        self.commits = 0
        self.facts: Counter[str] = Counter()
        self.shared: dict[Any, Any] = {}  # rows of claims, and those who wait for them
        self.store = Store()  # what the model has for it
        self.flows: dict[str, str] = {}  # of each workflow
        self.tables: dict[str, Table] = {}
        self.monitors: dict[str, Monitor] = {}
        for flow in plan.flows:
            if not flow.child:
                self.create(definition_of(flow, flow.name))

    def create(self, definition: dict[str, Any]) -> None:
        """Store a workflow and order its start."""
        name, context = definition["id"], definition["context"]
        flow = self.plan.flow(definition["name"])
        caller = None
        if flow.child:
            parent = context["_parent_workflow_id"]
            place = self.tables[parent].names[context["_parent_stage_id"]]
            caller = Caller(parent, place, context["_parent_generation"])
        self.flows[name] = flow.name
        self.tables[name] = self.make_table(definition)
        self.monitors[name] = Monitor(Case(name, flow, self.store, caller), self.tables[name].names)
        self.push(m.StartWorkflow(execution_id=name))

    def make_table(self, definition: dict[str, Any]) -> Table:
        """Return the rows of a new workflow."""
        return Table(definition, self.now, self.shared)

    def run(self, limit: int = 4_000) -> World:
        """Work until everything has ended and every order was given."""
        for _ in range(limit):
            while self.acts and self.acts[0].at <= self.commits:
                self.give_next_order()
            if self.tick() or self.wait():
                continue
            self.look_at_rest()
            if not (self.give_next_order() or self.prompt()):
                self.look_at_the_end()
                return self
        raise Divergence(f"no end after {limit} ticks; the queue holds {[each.message for each in self.queue][:5]}")

    def statuses(self) -> dict[str, dict[str, str]]:
        """Return the status of each workflow (under "") and of each of its rows."""
        return {
            name: {"": table.head.status.value, **{row.ref_id: row.status.value for row in table.stages()}}
            for name, table in self.tables.items()
        }

    # Orders from outside.

    def push(self, message: m.Message, after: int = 0) -> None:
        self.queue.append(Entry(message, self.now + after + self.lateness()))

    def lateness(self) -> int:
        return self.random.choice((0, 0, self.random.randint(0, self.chaos.delay))) if self.chaos.delay else 0

    def give_next_order(self) -> bool:
        if not self.acts:
            return False
        self.signals += 1
        self.push(message_of(self.acts.pop(0), f"signal-{self.signals}"))
        return True

    def prompt(self) -> bool:
        """Give what waits for people what it waits for, all or one of it; return whether there was anything."""
        waiting = [message for name in self.tables for message in self.wanted(name)]
        if waiting and self.random.random() < 0.5:
            waiting = [self.random.choice(waiting)]
        for message in waiting:
            self.push(message)
        return bool(waiting)

    def wanted(self, name: str) -> list[m.Message]:
        """Return orders for which a workflow waits."""
        table, case = self.tables[name], self.store.cases[name]
        wanted: list[m.Message] = [m.ResumeWorkflow(execution_id=name)] if table.head.paused else []
        for row in table.stages():
            there = {"execution_id": name, "stage_id": row.id}
            run = case.runs[row.ref_id]
            if run.status == "SUSPENDED" and not run.child:
                self.signals += 1
                persistent = self.random.random() < 0.3
                wanted.append(m.SignalStage(**there, signal_name=f"signal-{self.signals}", persistent=persistent))
            elif run.is_first and is_open(case, run.ref):
                wanted.append(m.CloseMultiInstance(**there))
        return wanted

    # What must be so.

    def look_at_rest(self) -> None:
        for case in self.store.cases.values():
            told = [*complaints(case)]
            if told:
                raise Divergence(f"{case.name} is at rest, but {'; '.join(told)}")

    def look_at_the_end(self) -> None:
        for name, table in self.tables.items():
            if not table.head.status.is_complete:
                raise Divergence(f"{name} never ends: {[*unfinished(self.store.cases[name])]}")
            view = table.replayed()
            rows = {key: row for key, row in view.changed.items() if row is not None and key.kind not in SHARED}
            if (rows, view.head) != (table.rows, table.head):
                raise Divergence(f"the log of {name} does not give its rows")

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
        if (self.zombies or self.late) and (not ready or self.random.random() < 0.2):
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
        is_nobodys = entry in self.queue and entry.lease == lease
        self.finish(body, entry if is_nobodys else None)

    def finish(self, body: Body, entry: Entry | None) -> None:
        name = next(name for name, table in self.tables.items() if body.stage.id in table.names)
        message, answer = self.script.finish(name, self.flows[name], body)
        if self.step(message, entry, answer) and entry is not None:
            self.script.counted(name, body)
            if self.chance(self.chaos.repeat):
                self.late.append((message, answer))

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
        if entry is not None:
            self.commit(table, step, entry)
        return self.compare(message.execution_id, step, present, answer)

    def decide(self, message: m.Message, entry: Entry | None) -> Traced:
        table = self.tables[message.execution_id]
        env = Env(now=self.now, slots=self.chaos.slots, runnable=frozenset({"task"}))
        step = Traced(View(table.head), message, env, budget=self.chaos.budget)
        others = (each.message for each in self.queue if each is not entry)
        left = any(each.COUNTS and each.execution_id == table.head.id for each in others)
        for _ in range(1_000):
            try:
                step.proceed()
            except NotLoaded as gap:
                step.view.add(table.answer(gap.query, left=left, prefetch=self.chaos.prefetch))
            else:
                return step
        raise Divergence(f"{message} asks for ever")

    def commit(self, table: Table, step: Traced, entry: Entry) -> None:
        self.commits += 1
        table.write(step.view, step.facts, self.now)
        self.facts.update(f.event_type(fact) for fact in step.facts)
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
            is_mine = isinstance(heard.message, m.TaskFinished)
            accepted |= monitor.hear(heard, present, answer if is_mine else None)
            present = {**present, **{row.id: row.generation for row in table.stages()}}
        monitor.compare({row.ref_id: row.status.value for row in table.stages()})
        return accepted
