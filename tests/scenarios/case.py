"""Acceptance scenarios as values: a graph, scripted bodies, what a person does, and what is expected.

A scenario file is a list of cases and `test_pattern = matrix(CASES)`. After every act of a person the engine works
until nothing is left to do now. Notation as in the specification of the patterns: "ran" means that a body was
carried out to its end (also in failure); suspending, polling and jumping are no ends.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stabilize_nb import StabilizeError, StageExecution, Task, TaskExecution, TaskResult, Workflow
from stabilize_nb.models.stage import JoinType, SplitType
from stabilize_nb.queue import messages as m
from tests.makers import asked, workflow
from tests.scenarios.world import Body, Call, Moment, World

# -- bodies -------------------------------------------------------------------------------------------


def ok(**outputs: Any) -> Body:
    """Succeed; without `outputs` the output is the stage's ref_id -> the row's ref_id."""
    return lambda stage: TaskResult.success(outputs=outputs or _own(stage))


def waits(times: int = 1, then: Body | None = None) -> Body:
    """`b!`: suspend until so many signals have come, note their data, then do `then` or succeed with `got`."""

    def body(stage: StageExecution, call: Call) -> Any:
        kept = f"_got_{stage.generation}"
        got = list(stage.context.get(kept, []))
        if "_signal_name" in stage.context:
            got.append(dict(stage.context["_signal_data"]))
        if len(got) < times:
            return TaskResult.suspend(context={kept: got})
        call.notes.extend(got)
        return _do(then, stage, call) if then else TaskResult.success(outputs=_own(stage) | {"got": got})

    return body


def fails(error: str = "no") -> Body:
    """`b✗`: terminal."""
    return lambda stage: TaskResult.terminal(error)


def soft(error: str = "no", **outputs: Any) -> Body:
    """`b~`: failed_continue."""
    return lambda stage: TaskResult.failed_continue(error, outputs=outputs or _own(stage))


def stops() -> Body:
    """`b■`: stopped."""
    return lambda stage: TaskResult.stopped()


def jumps(target: str, times: int = 1, then: Body | None = None, **context: Any) -> Body:
    """`b↩a×2`: jump in the first passes of the stage, then do `then` or succeed."""

    def body(stage: StageExecution, call: Call) -> Any:
        if call.number <= times:
            return TaskResult.jump_to(target, context=context)
        return _do(then or ok(), stage, call)

    return body


def sees(*names: str, then: Body | None = None) -> Body:
    """Note {name: what the stage sees} (None when it does not see it), then do `then` or succeed."""

    def body(stage: StageExecution, call: Call) -> Any:
        call.note({name: stage.context.get(name) for name in names})
        return _do(then or ok(), stage, call)

    return body


def meets(name: str, parties: int, then: Body | None = None) -> Body:
    """Go on only when so many bodies are at work at the same time; needs that many workers."""

    def body(stage: StageExecution, call: Call) -> Any:
        call.world.meet(name, parties)
        return _do(then or ok(), stage, call)

    return body


def polls(until: str | Callable[[World], Any], then: Body | None = None) -> Body:
    """Answer `running` until a stage's body has ended or until something holds, then do `then` or succeed."""

    def body(stage: StageExecution, call: Call) -> Any:
        over = call.world.ran(until) if isinstance(until, str) else until(call.world)
        return _do(then or ok(), stage, call) if over else TaskResult.running()

    return body


def passes(*bodies: Body) -> Body:
    """Do another body in each pass of the stage (what a jump repeats); the last one is repeated."""
    return lambda stage, call: _do(bodies[min(call.number, len(bodies)) - 1], stage, call)


def _own(stage: StageExecution) -> dict[str, Any]:
    return {stage.ref_id.partition("#")[0]: stage.ref_id}


def _do(body: Body, stage: StageExecution, call: Call) -> Any:
    return body(stage, call) if body.__code__.co_argcount > 1 else body(stage)


# -- graphs -------------------------------------------------------------------------------------------

_JOINS = {"AND": JoinType.AND, "OR": JoinType.OR, "MM": JoinType.MULTI_MERGE, "DISC": JoinType.DISCRIMINATOR}


@dataclass(frozen=True)
class Part:
    """A stage to be made anew for every run."""

    ref_id: str
    after: tuple[str, ...]
    does: Any
    fields: dict[str, Any]

    def make(self) -> StageExecution:
        """Make the stage."""
        count = len(self.does) if isinstance(self.does, list) else 1
        name = f"task:{self.ref_id}" if _is_task(self.does) else "script"
        tasks = [
            TaskExecution.create(f"{self.ref_id}.{at}", name, stage_start=at == 0, stage_end=at == count - 1)
            for at in range(count)
        ]
        fields = {"type": name, "name": self.ref_id, "tasks": tasks} | copy.deepcopy(self.fields)
        return StageExecution(ref_id=self.ref_id, requisite_stage_ref_ids=set(self.after), **fields)


def stage(
    ref_id: str,
    *after: str,
    does: Any = None,
    join: str = "AND",
    split: Mapping[str, str] | None = None,
    xor: Mapping[str, str] | None = None,
    enabled: bool = True,
    **fields: Any,
) -> Part:
    """
    Make a stage behind others. `enabled=False` is `b∅`; other fields are those of StageExecution.

    `does`: a body, a list of bodies (a stage of several tasks), or a Task such as SubWorkflowTask.
    `join`: AND, OR, MM, DISC or "2/3". `split`, `xor`: conditions by ref_id of the branch.
    """
    if "/" in join:
        fields |= {"join_type": JoinType.N_OF_M, "join_threshold": int(join.partition("/")[0])}
    elif join != "AND":
        fields["join_type"] = _JOINS[join]
    conditions = split if xor is None else xor
    if conditions is not None:
        fields |= {
            "split_type": SplitType.OR if xor is None else SplitType["XOR"],
            "split_conditions": dict(conditions),
        }
    if not enabled:
        fields["context"] = fields.get("context", {}) | {"stageEnabled": False}
    return Part(ref_id, after, does, fields)


def _is_task(does: Any) -> bool:
    return isinstance(does, Task) or (isinstance(does, type) and issubclass(does, Task))


#: Makes further stages of those made so far, by ref_id: for MultiInstanceBuilder and LoopBuilder.
Maker = Callable[[dict[str, StageExecution]], Iterable[StageExecution]]

# -- what a person does -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Something done while the engine is quiet; afterwards it works until it is quiet again."""

    act: Callable[[World], Any]
    file_only: bool = False


def do(act: Callable[[World], Any]) -> Step:
    """Do anything; False or an exception fails the case."""
    return Step(act)


def push(kind: type[m.Message], ref: str = "", **fields: Any) -> Step:
    """Push any message about a row ("b", "b#2", "2/b") or about a workflow ("", "2/")."""
    return Step(lambda world: world.push(kind, ref, **fields))


def signal(ref: str, /, *, name: str = "go", persistent: bool = False, **data: Any) -> Step:
    """Signal a row."""
    return push(m.SignalStage, ref, signal_name=name, signal_data=data, persistent=persistent)


def cancel(ref: str) -> Step:
    """Cancel a row."""
    return push(m.CancelStage, ref)


def cancel_region(region: str, flow: str = "") -> Step:
    """Cancel a region."""
    return push(m.CancelRegion, flow, region=region)


def cancel_workflow(flow: str = "", user: str = "", reason: str = "") -> Step:
    """Cancel everything."""
    return push(m.CancelWorkflow, flow, user=user, reason=reason)


def add(parent: str, **context: Any) -> Step:
    """Add an instance to a multi-instance activity."""
    return push(m.AddMultiInstance, parent, instance_context=context)


def complete(parent: str) -> Step:
    """Complete a multi-instance activity."""
    return push(m.CompleteMultiInstance, parent)


def close(parent: str) -> Step:
    """Close a multi-instance activity."""
    return push(m.CloseMultiInstance, parent)


def restart() -> Step:
    """Close everything and open the same file again."""
    return Step(World.restart, file_only=True)


def kill() -> Step:
    """Kill the process now, with everything pushed before in the queue: `together(cancel("b"), kill())`."""
    return Step(World.die, file_only=True)


def together(*steps: Step) -> Step:
    """Do several things before the engine works."""
    return Step(lambda world: [step.act(world) for step in steps] and None, any(step.file_only for step in steps))


def twice(step: Step) -> Step:
    """Push the messages of a step again under the same ids: at once, and once more when they are done."""

    def act(world: World) -> None:
        before = len(world.pushed)
        step.act(world)
        sent = world.pushed[before:]
        assert sent, "the step pushes no message"
        for at in range(2):
            for message, id_ in sent:
                world.bench.queue.push(message, message_id=id_)
            if at == 0:
                world.run()

    return Step(act, step.file_only)


def redeliver(*kinds: type[m.Message]) -> Step:
    """Deliver all messages of some kinds that are done once more."""

    def act(world: World) -> None:
        names = [kind.__name__ for kind in kinds]
        marks = ", ".join("?" * len(names))
        statement = f"UPDATE message SET done_at = NULL WHERE done_at IS NOT NULL AND kind IN ({marks})"
        world.bench.database.call_write(lambda connection: asked(connection, statement, *names))

    return Step(act)


# -- what is expected ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Expect:
    """What holds at one moment. See `expect`."""

    wf: str | None
    ran: str | None
    rows_ran: str | None
    started: str | None
    statuses: Mapping[str, str | None]
    rows: Mapping[str, int]
    order: str | tuple[str, ...]
    disjoint: str
    noted: Mapping[str, list[Any]]
    on_cancel: str | None
    outputs: Mapping[str, Mapping[str, Any]]
    context: Mapping[str, Mapping[str, Any]]
    errors: Mapping[str, str]
    check: Callable[[World], Any] | None

    def verify(self, world: World) -> None:
        """Compare with what is."""
        here = world.statuses()
        if self.wf is not None:
            flows = [world.flow(prefix) for prefix in world.flows]
            ended = [flow.status.name for flow in flows]
            assert ended == [self.wf] * len(flows), f"wf={ended}, expected {self.wf}: {here} {flows[0].error}"
        wanted = _spread(self.statuses)
        assert {ref: here.get(ref) for ref in wanted} == wanted, here
        self._verify_runs(world)
        self._verify_order(world)
        self._verify_data(world)
        if self.check is not None:
            assert self.check(world) is not False, f"check failed: {here}"

    def _verify_runs(self, world: World) -> None:
        if self.ran is not None:
            ran = Counter(call.base for call in world.ends())
            assert ran == counts(self.ran), f"ran {dict(ran)}, expected {self.ran!r}: {world.statuses()}"
        if self.rows_ran is not None:
            ran = Counter(call.row for call in world.ends())
            assert ran == counts(self.rows_ran), f"rows ran {dict(ran)}, expected {self.rows_ran!r}"
        if self.started is not None and not world.forgiving:
            wanted, started = counts(self.started), world.started()
            assert {ref: started[ref] for ref in wanted} == wanted, f"started {dict(started)}"
        if self.on_cancel is not None and not world.forgiving:
            assert world.cancels == counts(self.on_cancel), f"on_cancel {dict(world.cancels)}"
        bases = Counter(ref.partition("#")[0] for ref in world.statuses())
        wanted = _spread(self.rows)
        assert {ref: bases[ref] for ref in wanted} == wanted, f"rows {dict(bases)}"

    def _verify_order(self, world: World) -> None:
        allowed = [self.order.split()] if isinstance(self.order, str) else [each.split() for each in self.order]
        listed = set(itertools.chain(*allowed))
        order = [call.base for call in world.ends() if call.base in listed]
        assert not listed or order in allowed, f"order {' '.join(order)}, expected {self.order}"
        spans = world.spans(*self.disjoint.split())
        for (_, ended, one), (began, _, other) in itertools.pairwise(spans):
            assert ended < began, f"{one} and {other} overlap: {spans}"

    def _verify_data(self, world: World) -> None:
        notes, stages = world.notes(), world.stages()
        for ref, wanted in self.noted.items():
            noted = notes.get(ref, [])
            assert sorted(noted, key=repr) == sorted(wanted, key=repr), f"{ref} noted {noted}, expected {wanted}"
        for ref, part in self.outputs.items():
            found = stages[ref].outputs
            assert {name: found.get(name) for name in part} == dict(part), f"outputs of {ref}: {found}"
        for ref, part in self.context.items():
            found = stages[ref].context
            assert {name: found.get(name) for name in part} == dict(part), f"context of {ref}: {found}"
        for ref, text in self.errors.items():
            error = stages[ref].error if ref else world.flow().error
            assert text in (error or ""), f"error of {ref or 'the workflow'}: {error}"


def expect(
    *,
    wf: str | None = None,
    ran: str | None = None,
    rows_ran: str | None = None,
    started: str | None = None,
    statuses: Mapping[str, str | None] | None = None,
    rows: Mapping[str, int] | None = None,
    order: str | tuple[str, ...] = "",
    disjoint: str = "",
    noted: Mapping[str, list[Any]] | None = None,
    on_cancel: str | None = None,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
    context: Mapping[str, Mapping[str, Any]] | None = None,
    errors: Mapping[str, str] | None = None,
    check: Callable[[World], Any] | None = None,
) -> Expect:
    """
    Say what holds now; what is left out is not looked at.

    `wf`: status of every workflow. `ran`: "a b×2", exact: stages not listed ran 0 times; activations count for their
    stage. `rows_ran`: the same by row ("m m#2"). `started`: bodies begun, of the stages listed. `on_cancel`: exact.
    `statuses`: {"a b": "SUCCEEDED", "m#3": None}; None: there is no such row. `rows`: number of activations.
    `order`: the ends of the bodies of the stages listed, all of them; a tuple: one of several orders. `disjoint`:
    runs that are never open at the same time. `noted`: by stage, in any order. `outputs`, `context`: the names listed,
    by row. `errors`: a part of the text, by row; "" is the workflow. `check`: anything else; False fails.
    """
    return Expect(
        wf=wf, ran=ran, rows_ran=rows_ran, started=started, statuses=statuses or {}, rows=rows or {}, order=order,
        disjoint=disjoint, noted=noted or {}, on_cancel=on_cancel, outputs=outputs or {}, context=context or {},
        errors=errors or {}, check=check,
    )  # fmt: skip


def counts(text: str) -> Counter[str]:
    """Read "a b×2 c*3"."""
    words = (re.split("[×*]", word) for word in text.split())
    return +Counter({word[0]: int(word[1]) if len(word) > 1 else 1 for word in words})


def _spread(grouped: Mapping[str, Any]) -> dict[str, Any]:
    return {ref: value for refs, value in grouped.items() for ref in refs.split()}


# -- cases --------------------------------------------------------------------------------------------


def inside(ref: str, nth: int = 1) -> Moment:
    """Kill the process inside the n-th call of a body (a call of any activation counts)."""
    return Moment(inside=ref, nth=nth)


def once(row: str, status: str) -> Moment:
    """Kill the process after the commit that gives a row a status; nothing that follows from it has begun."""
    return Moment(row=row, status=status)


def after_commits(count: int) -> Moment:
    """Kill the process after so many commits since the workflow was started."""
    return Moment(after_commits=count)


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    One scenario. The pattern's number is read from an id such as "S8.1"; others are named in `pattern`.

    `crash` kills the process once; `everywhere` adds runs that kill it after the first, second, ... commit.
    `bodies`: for stages that builders make, by ref_id or pattern. `flows`: so many workflows of the graph at once.
    `repeat`: runs in all, spread over the matrix. `rejected`: making the workflow raises an error with this text.
    """

    id: str
    title: str
    graph: tuple[Part | Maker, ...]
    steps: tuple[Step | Expect, ...] = ()
    pattern: tuple[int, ...] = ()
    bodies: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    crash: Moment | None = None
    everywhere: bool = False
    workers: int = 1
    flows: int = 1
    repeat: int = 1
    rejected: str = ""

    @property
    def patterns(self) -> tuple[int, ...]:
        """The numbers of the patterns it belongs to; what is no pattern has none."""
        number = re.match(r"S(\d+)\.", self.id)
        return self.pattern or ((int(number[1]),) if number else ())

    @property
    def file_only(self) -> bool:
        """Whether it needs a database that outlives its engine."""
        return self.crash is not None or any(isinstance(step, Step) and step.file_only for step in self.steps)

    def make(self) -> Workflow:
        """Make the workflow."""
        made: dict[str, StageExecution] = {}
        for part in self.graph:
            for each in [part.make()] if isinstance(part, Part) else part(made):
                made[each.ref_id] = each
        return workflow(*made.values(), name=self.id, context=copy.deepcopy(dict(self.context)))

    def world(self, folder: Path | None, budget: int) -> World:
        """Open an engine for it."""
        bodies: dict[str, Any] = {"": ok()} | dict(self.bodies)
        for part in self.graph:
            if isinstance(part, Part) and part.does is not None:
                bodies[f"task:{part.ref_id}" if _is_task(part.does) else part.ref_id] = part.does
        return World(folder, bodies, budget=budget, workers=self.workers)


def carry_out(case: Case, folder: Path | None, budget: int, crash: Moment | None = None) -> bool:
    """Carry a case out once, killing the process at `crash`; return whether that place was reached."""
    with closing(case.world(folder, budget)) as world:
        world.forgiving = crash is not case.crash
        world.begin_flows([case.make() for _ in range(case.flows)])
        world.crash = crash
        world.run()
        for step in case.steps:
            if isinstance(step, Expect):
                step.verify(world)
            else:
                assert step.act(world) is not False, "a step failed"
                world.run()
        last = case.steps[-1]
        assert isinstance(last, Expect), "the last step says what is expected"
        assert last.wf is not None, "the last step says how the workflow ends"
        assert world.left_over() == []
        return world.crash is None


# -- the matrix ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One cell of the matrix."""

    database: str
    budget: int
    everywhere: bool = False

    def __str__(self) -> str:
        return f"{self.database}-{self.budget}" + ("-everywhere" if self.everywhere else "")


def _settings(case: Case) -> list[Setting]:
    databases = ["file"] if case.file_only else ["memory", "file"]
    cells = [Setting(database, budget) for database in databases for budget in (1, 32)]
    return cells + [Setting("file", budget, everywhere=True) for budget in (1, 32) if case.everywhere]


def matrix(cases: Iterable[Case]) -> Callable[..., None]:
    """Make the test of a file: every case with both fold budgets on every database that it can use."""
    cases = list(cases)
    doubled = [id_ for id_, count in Counter(case.id for case in cases).items() if count > 1]
    assert not doubled, f"ids used more than once: {doubled}"
    cells = [pytest.param(c, s, id=f"{c.id}-{s}") for c in cases for s in _settings(c)]

    @pytest.mark.parametrize(("case", "setting"), cells)
    def test_pattern(case: Case, setting: Setting, tmp_path: Path) -> None:
        if case.rejected:
            with pytest.raises(StabilizeError, match=re.escape(case.rejected)):
                case.make()
        elif setting.everywhere:
            _kill_everywhere(case, setting.budget, tmp_path)
        else:
            runs = -(-case.repeat // len([each for each in _settings(case) if not each.everywhere]))
            for run in range(runs):
                folder = tmp_path / f"run{run}" if setting.database == "file" else None
                assert carry_out(case, folder, setting.budget, case.crash), (
                    "the process was not killed at the marked place"
                )

    return test_pattern


def _kill_everywhere(case: Case, budget: int, folder: Path) -> None:
    """Kill the process after the first commit, after the second, ... until there are no more commits."""
    for count in itertools.count(1):
        try:
            if not carry_out(case, folder / f"after{count}", budget, after_commits(count)):
                assert count > 1, "nothing was committed"
                return
        except BaseException as error:
            error.add_note(f"the process was killed after commit {count}")
            raise
