"""What a scenario is carried out in: one engine after the other on one store, and the record of every body called.

A killed process is played by copying the store (of SQLite the file and its write-ahead log) while no commit is under
way: that is what a killed process leaves behind. The engine of the dead process is abandoned (what its bodies do from
then on is not recorded), and another one opens the copy, takes the claims over and goes on.
"""

from __future__ import annotations

import fnmatch
import inspect
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from stabilize_nb import RetryableTask, StageExecution, TaskResult, Workflow
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue import messages as m
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from stabilize_nb.tasks.interface import as_result
from tests.makers import Bench, asked
from tests.stores import copy_store

#: Seconds after which a scenario that is not quiet has failed.
PATIENCE = 20.0
_SILENT = frozenset({WorkflowStatus.RUNNING, WorkflowStatus.SUSPENDED, WorkflowStatus.REDIRECT})
DEAD = TaskResult.terminal("this process was killed")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Where the process is killed: in the n-th call of a body, by a row's status, or after a number of commits."""

    inside: str = ""
    nth: int = 1
    row: str = ""
    status: str = ""
    after_commits: int = 0


@dataclass(eq=False, kw_only=True)
class Call:
    """One call of a body. Times are readings of a clock that counts beginnings and ends.

    `answered`: the body returned or raised. `ended`: it was carried out to its end.
    """

    world: World
    row: str  # ref_id of the row; in a second workflow "2/b"
    stage: StageExecution
    position: int  # of the task in its stage
    attempt: int
    number: int  # which pass of its stage: a pass ends by a reset, not by suspending or by a crash
    began: int
    answered: int | None = None
    ended: int | None = None
    notes: list[Any] = field(default_factory=list)

    @property
    def base(self) -> str:
        """The ref_id of the stage, whatever its activation."""
        return self.row.partition("#")[0]

    @property
    def key(self) -> tuple[str, int, int, int]:
        """Which attempt of which task of which run it is."""
        return self.stage.id, self.stage.generation, self.position, self.attempt

    def note(self, value: Any) -> None:
        """Keep what was seen; it counts once the body has ended."""
        self.notes.append(value)


Body = Callable[..., Any]


class Script(RetryableTask):
    """The one task of all stages: it looks the body up and records the call. One Script lives as long as its engine."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = True

    def get_backoff_period(self, stage: StageExecution, elapsed: timedelta) -> timedelta:
        return timedelta(milliseconds=5)

    def execute(self, stage: StageExecution) -> TaskResult:
        world = self.world
        call = world.begin(self, stage)
        if call is None:
            return DEAD
        if world.is_moment(call):
            world.die()
            return DEAD
        body = world.body(call, stage)
        try:
            result = as_result(body(stage, call) if len(inspect.signature(body).parameters) > 1 else body(stage))
        except Exception:
            if world.end(self, call):
                raise
            return DEAD
        world.end(self, call, result)
        return result

    def on_cancel(self, stage: StageExecution) -> None:
        with self.world.lock:
            if self.alive:
                self.world.cancels[self.world.names.get(stage.id, stage.ref_id)] += 1


#: Statements that are run now and then, whether there is something to change or not.
MAY_CHANGE_NOTHING = ("renew", "forget_done")


class World:
    """One scenario under way."""

    def __init__(self, folder: Path | None, bodies: dict[str, Any], *, budget: int, workers: int) -> None:
        self.folder = folder
        self.bodies = bodies
        self.budget = budget
        self.workers = workers
        self.lock = threading.RLock()
        self.flows: dict[str, str] = {}  # prefix of the refs -> id of a workflow
        self.names: dict[str, str] = {}  # id of a row -> its ref
        self.calls: list[Call] = []
        self.dropped: list[Call] = []  # in flight when the process was killed: they were begun, no more
        self.cancels: Counter[str] = Counter()
        self.barriers: dict[str, threading.Barrier] = {}
        self.pushed: list[tuple[m.Message, str]] = []
        self.clock = 0
        self.crash: Moment | None = None
        self.crashes = 0
        self.forgiving = False  # crashes at a place of no meaning: what was begun or cleaned up twice is not judged
        self._commits = 0
        self._copy: Path | None = None
        self._open(folder)

    # -- engines ----------------------------------------------------------------------------------

    def _open(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(exist_ok=True)
        self.path = folder / "runs.db" if folder else None
        url = f"sqlite:///{self.path}" if folder else "sqlite:///:memory:"
        config = QueueProcessorConfig(fold_budget=self.budget, task_timeout=60)
        tasks = {name: task for name, task in self.bodies.items() if name.startswith("task:")}
        self.script = Script(self)
        durability = "normal" if folder else None  # a killed process loses nothing that the system has
        self.bench = Bench(url, durability=durability, tasks=tasks | {"script": self.script}, config=config)
        self._watch_commits()

    def _watch_commits(self) -> None:
        """Count commits that change more than the announcement of a processor."""
        database, changed = self.bench.database, False
        writer, write = database.writer, database.write
        ran, many = {name: getattr(writer, name) for name in ("run", "changed", "must")}, writer.many

        def running(how: str, name: str, params: Any) -> Any:
            nonlocal changed
            rows = ran[how](name, params)
            changed = changed or not (name.endswith("_processor") or (name in MAY_CHANGE_NOTHING and not rows))
            return rows

        def ran_many(name: str, rows: Any) -> None:
            nonlocal changed
            given = list(rows)
            changed = changed or bool(given)
            many(name, given)

        for how in ran:
            setattr(writer, how, partial(running, how))
        writer.many = ran_many  # type: ignore[method-assign]

        def watched(work: Any, then: Any = None, *, beside: bool = False) -> Any:
            def after(result: Any) -> None:
                nonlocal changed
                was, changed = changed, False
                if was:
                    self._committed()
                if then is not None:
                    then(result)

            return write(work, after, beside=beside)

        database.write = watched  # type: ignore[method-assign]

    def _committed(self) -> None:
        """Kill the process if the marked commit is done. The lock of the writer is held."""
        self._commits += 1
        moment = self.crash
        if moment is None:
            return
        if moment.row:
            question = "SELECT id FROM stage WHERE ref_id = ? AND status = ?"
            reached = bool(asked(self.bench.database.writer, question, moment.row, moment.status))
        else:
            reached = self._commits == moment.after_commits
        if reached:
            self._die()

    def die(self) -> None:
        """Kill the process here: called by a body."""
        with self.bench.database._write_lock:
            self._die()

    def _die(self) -> None:
        database = self.bench.database
        with database._sweep_lock, self.lock:
            if not self.script.alive:
                return
            assert self.path is not None, "only a database in a file survives"
            self.crashes += 1
            self.crash = None
            self._copy = self.path.parent.parent / f"{self.crashes}-{self.path.parent.name}"
            self._copy.mkdir()
            copy_store(database, self._copy / self.path.name)
            self.script.alive = False
            for barrier in self.barriers.values():
                barrier.abort()
        if (drain := self.bench.processor._drain_at_work) is not None:
            drain.cancelled = True

    def restart(self) -> None:
        """Close everything and open the same file again."""
        self.bench.close()
        self._open(self.folder)

    def _recover(self) -> None:
        """Open what the killed process left behind."""
        self.bench.close()
        self.barriers.clear()
        self.folder, self._copy = self._copy, None
        self._open(self.folder)
        in_flight = {tuple(row) for row in self.sql(
            "SELECT s.id, s.generation, t.position, t.attempt"
            " FROM message AS q JOIN stage AS s ON s.id = q.stage_id JOIN task AS t ON t.stage_id = s.id"
            " AND t.position = coalesce(CAST(json_extract(q.payload, '$.position') AS INTEGER), 0)"
            " WHERE q.kind = 'RunTask' AND q.owner IS NOT NULL"
        )}  # fmt: skip
        last = {call.key: call for call in self.calls}
        lost = [last[key] for key in in_flight & last.keys()] + [call for call in self.calls if not call.answered]
        self.dropped += [call for call in self.calls if call in lost]
        self.calls = [call for call in self.calls if call not in lost]

    def close(self) -> None:
        """Close the engine."""
        self.bench.close()

    # -- work -------------------------------------------------------------------------------------

    def begin_flows(self, flows: list[Workflow]) -> None:
        """Store and start workflows; refs of the second are written "2/b"."""
        for number, flow in enumerate(flows, 1):
            self.flows["" if number == 1 else f"{number}/"] = flow.id
        self.bench.begin(*flows)
        self._commits = 0

    def run(self) -> None:
        """Work until nothing is left to do now, through a crash if there is one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._copy is None:
                self.bench.processor.process_all(timeout=PATIENCE, workers=self.workers)
            if self._copy is None:
                break
            self._recover()
        assert time.monotonic() < deadline, f"no quiet after {PATIENCE} s: {self.statuses()}"

    def push(self, kind: type[m.Message], ref: str = "", **fields: Any) -> None:
        """Push an order about a row ("b", "b#2", "2/b"), or about a workflow ("", "2/")."""
        prefix = f"{ref.partition('/')[0]}/" if "/" in ref else ""
        target = {"stage_id": self.row(ref).id} if ref != prefix else {}
        message = kind(execution_id=self.all_flows()[prefix], **target, **fields)
        self.pushed.append((message, self.bench.queue.push(message)))

    def until(self, predicate: Callable[[], Any]) -> None:
        """Wait in a body until something holds; another worker makes it true."""
        deadline = time.monotonic() + PATIENCE / 2
        while not predicate() and self.script.alive:
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.001)

    def meet(self, name: str, parties: int) -> None:
        """Wait in a body until so many bodies are here: they are at work at the same time."""
        with self.lock:
            if not self.script.alive:
                raise threading.BrokenBarrierError
            barrier = self.barriers.setdefault(name, threading.Barrier(parties))
        barrier.wait(PATIENCE / 2)

    # -- bodies -----------------------------------------------------------------------------------

    def begin(self, script: Script, stage: StageExecution) -> Call | None:
        """Record that a body begins; None in a process that is dead."""
        flow_id = stage.runtime.leased.workflow_id
        prefix = next((prefix for prefix, id_ in self.flows.items() if id_ == flow_id), "")
        row = prefix + stage.ref_id
        position = _position(stage)
        with self.lock:
            if not script.alive:
                return None
            self.names[stage.id] = row
            base = row.partition("#")[0]
            passes = dict.fromkeys((c.stage.id, c.stage.generation) for c in self._begun() if c.base == base)
            passes.setdefault((stage.id, stage.generation))
            number = list(passes).index((stage.id, stage.generation)) + 1
            call = Call(
                world=self, row=row, stage=stage, position=position, attempt=stage.tasks[position].attempt,
                number=number, began=self._tick(),
            )  # fmt: skip
            self.calls.append(call)
            return call

    def end(self, script: Script, call: Call, result: TaskResult | None = None) -> bool:
        """Record what a body returned (None: it raised); suspending, polling and jumping are no ends.

        Returns whether the process is alive.
        """
        with self.lock:
            if script.alive:
                call.answered = self._tick()
                if result is not None and result.status not in _SILENT:
                    call.ended = call.answered
            return script.alive

    def is_moment(self, call: Call) -> bool:
        """Whether the process is to be killed inside this call."""
        moment = self.crash
        if moment is None or call.base != moment.inside:
            return False
        return sum(other.base == call.base for other in self.calls) == moment.nth

    def body(self, call: Call, stage: StageExecution) -> Body:
        """Return the body of a stage by its row, its ref or a pattern such as "p_instance_*"."""
        for name in (call.row, stage.ref_id, call.base, stage.ref_id.partition("#")[0]):
            if name in self.bodies:
                break
        else:
            found = [each for each in self.bodies if fnmatch.fnmatch(stage.ref_id, each)]
            name = found[0] if found else ""
        body = self.bodies[name]
        return body[call.position] if isinstance(body, list) else body

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    # -- looking ----------------------------------------------------------------------------------

    def flow(self, prefix: str = "") -> Workflow:
        """Return a picture of a workflow."""
        return self.bench.store.retrieve(self.all_flows()[prefix])

    def stages(self) -> dict[str, StageExecution]:
        """Return the rows of all workflows by ref: "b", in a second workflow "2/b", in a child "child1/b"."""
        return {prefix + row.ref_id: row for prefix in self.all_flows() for row in self.flow(prefix).stages}

    def all_flows(self) -> dict[str, str]:
        """Return the ids of the workflows of the case, and of children in the order in which they were made."""
        rows = self.sql("SELECT id FROM workflow ORDER BY created_at, id")
        children = [id_ for (id_,) in rows if id_ not in self.flows.values()]
        return self.flows | {f"child{number}/": id_ for number, id_ in enumerate(children, 1)}

    def row(self, ref: str) -> StageExecution:
        """Return one row."""
        rows = self.stages()
        assert ref in rows, f"no row {ref!r} among {', '.join(rows)}"
        return rows[ref]

    def statuses(self) -> dict[str, str]:
        """Return the status of every row."""
        return {ref: row.status.name for ref, row in self.stages().items()}

    def ends(self) -> list[Call]:
        """Return the calls that were carried out to their end, in the order of their ends."""
        return sorted(self._ended(), key=lambda call: call.ended)

    def ran(self, *refs: str) -> int:
        """Return how many bodies of stages were carried out to their end."""
        return sum(call.base in refs or call.row in refs for call in self.ends())

    def started(self) -> Counter[str]:
        """Return how often each body was begun, also in a process that was killed then."""
        return Counter(call.base for call in self._begun())

    def notes(self) -> dict[str, list[Any]]:
        """Return what the bodies of each stage noted."""
        found: dict[str, list[Any]] = {}
        for call in self.ends():
            found.setdefault(call.base, []).extend(call.notes)
        return found

    def spans(self, *refs: str) -> list[tuple[int, int, str]]:
        """Return from when until when each run of stages was held, from its first beginning to its end."""
        rows = self.stages().values()
        held = {(row.id, row.generation) for row in rows if row.status.name in ("RUNNING", "SUSPENDED", "PAUSED")}
        spans: dict[tuple[str, int], tuple[int, int, str]] = {}
        for call in self._begun():
            if call.base in refs or call.row in refs:
                run = call.stage.id, call.stage.generation
                began = spans[run][0] if run in spans else call.began
                ended = self.clock + 1 if run in held else call.answered or call.began
                spans[run] = (began, ended, call.row)
        return sorted(spans.values())

    def events(self, type_: str) -> list[tuple[Any, ...]]:
        """Return the log's records of one type, as (workflow_id, stage_id, data)."""
        return list(self.sql("SELECT workflow_id, stage_id, data FROM event WHERE type = ? ORDER BY position", type_))

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database."""
        return self.bench.sql(statement, *values)

    def left_over(self) -> list[str]:
        """Return what ended workflows should not have left behind; nothing while a workflow has not ended."""
        under_way = self.sql("SELECT id FROM workflow WHERE ended_at IS NULL")
        return [] if under_way else self.bench.left_over()

    def _begun(self) -> Iterator[Call]:
        yield from sorted([*self.calls, *self.dropped], key=lambda call: call.began)

    def _ended(self) -> list[Call]:
        return [call for call in self.calls if call.ended is not None]


def _position(stage: StageExecution) -> int:
    """Return which task of a stage is at work: the one that has an id."""
    return next(at for at, task in enumerate(stage.tasks) if task.id)
