"""Recursion, transient and persistent triggers (WCP-22 to WCP-24)."""

from __future__ import annotations

from stabilize_nb import StageExecution, TaskExecution, TaskResult
from stabilize_nb.queue import messages as m
from stabilize_nb.tasks.sub_workflow import SubWorkflowTask
from tests.scenarios.case import (
    Case,
    cancel,
    cancel_workflow,
    expect,
    fails,
    inside,
    jumps,
    kill,
    matrix,
    ok,
    restart,
    sees,
    signal,
    stage,
    together,
    twice,
    waits,
)


def child_of(*stages, **context):
    """Return the context of a stage that starts a child workflow."""
    return {"_sub_workflow_config": {"name": "child", "stages": list(stages), "context": context}}


def all_ended(status):
    """Check how a workflow and its children ended."""
    return lambda world: {world.flow(prefix).status.name for prefix in world.all_flows()} == {status}


def one_child(world):
    """Whether there is exactly one child workflow."""
    return list(world.all_flows()) == ["", "child1/"]


def child_id(world):
    """Whether a stage names the child that it started."""
    return one_child(world) and world.row("s").outputs["sub_workflow_id"] == world.all_flows()["child1/"]


def written_out(ref_id, *after):
    """Write a stage as plain data."""
    task = {"name": ref_id, "implementing_class": "script", "stage_start": True, "stage_end": True}
    return {
        "ref_id": ref_id, "type": "script", "name": ref_id, "context": {}, "requisite_stage_ref_ids": list(after),
        "tasks": [task],
    }  # fmt: skip


OBJECTS = child_of(stage("c1").make(), stage("c2", "c1").make(), why="test")
PLAIN = child_of(written_out("c1"), written_out("c2", "c1"), why="test")
CALLED = expect(
    ran="c1 c2 n",
    order="c1 c2 n",
    noted={"c1": [{"why": "test", "_recursion_depth": 1}], "n": [{"c2": "c2", "why": None}]},
    outputs={"s": {"c1": "c1", "c2": "c2", "sub_workflow_status": "SUCCEEDED"}},
    check=child_id,
    wf="SUCCEEDED",
)
SEES = {"c1": sees("why", "_recursion_depth"), "n": sees("c2", "why")}


def countdown(running):
    """Set the config of the next level down in the first task; level 0 has no child."""
    level = running.context["level"]
    if not level:
        return TaskResult.success(outputs={"bottom": True})
    child = StageExecution(ref_id=f"prep{level - 1}", type="script", tasks=two_tasks(level - 1))
    return TaskResult.success(context=child_of(child, level=level - 1))


def two_tasks(level):
    """Make the tasks of a level: a script, and what starts the next level."""
    names = ["script", "sub_workflow"] if level else ["script"]
    return [
        TaskExecution.create(name, name, stage_start=name == "script", stage_end=name == names[-1]) for name in names
    ]


def level_stage(level):
    """Make the top of a countdown."""
    return stage(f"prep{level}", tasks=two_tasks(level))


RECURSION = [
    Case(
        id="S22.1",
        title="a stage is a whole workflow, whose outputs it has",
        graph=(stage("s", does=SubWorkflowTask, context=OBJECTS), stage("n", "s")),
        bodies=SEES,
        everywhere=True,
        steps=(CALLED,),
    ),
    Case(
        id="S22.1 plain data",
        title="the stages of the child may be plain data",
        graph=(stage("s", does=SubWorkflowTask, context=PLAIN), stage("n", "s")),
        bodies=SEES,
        steps=(CALLED,),
    ),
    Case(
        id="S22.2",
        title="a child that fails fails the stage that started it, and is named",
        graph=(stage("s", does=SubWorkflowTask, context=OBJECTS), stage("n", "s")),
        bodies={"c1": fails("no luck")},
        steps=(
            expect(
                ran="c1",
                statuses={"child1/c1": "TERMINAL", "child1/c2": "NOT_STARTED", "s": "TERMINAL", "n": "NOT_STARTED"},
                errors={"s": "'child'"},
                check=one_child,
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S22.1 activations",
        title="each activation of a stage starts a child of its own",
        graph=(
            stage("a"),
            stage("f", "a"),
            stage("g", "a"),
            stage("s", "f", "g", join="MM", does=SubWorkflowTask, context=OBJECTS),
            stage("n", "s"),
        ),
        steps=(
            expect(
                ran="a f g c1×2 c2×2 n×2",
                rows={"s": 2, "n": 2},
                check=lambda world: len({world.row(ref).outputs["sub_workflow_id"] for ref in ("s", "s#2")}) == 2,
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S22.1 signal",
        title="a signal of somebody else does not wake a stage that waits for its child",
        graph=(stage("s", does=SubWorkflowTask, context=OBJECTS), stage("n", "s")),
        bodies={"c1": waits()},
        steps=(
            signal("s"),
            signal("s", persistent=True),
            expect(ran="", statuses={"s": "SUSPENDED", "child1/c1": "SUSPENDED"}, check=one_child, wf="RUNNING"),
            signal("child1/c1"),
            expect(ran="c1 c2 n", check=child_id, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S22.2 cancelled",
        title="a child that was cancelled fails the stage that started it",
        graph=(stage("s", does=SubWorkflowTask, context=OBJECTS), stage("n", "s")),
        bodies={"c1": waits()},
        steps=(
            cancel_workflow("child1/"),
            expect(
                ran="",
                statuses={"child1/c1": "CANCELED", "s": "TERMINAL", "n": "NOT_STARTED"},
                errors={"s": "CANCELED"},
                on_cancel="c1",
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S22.3",
        title="a workflow calls itself down to an end; each level writes the next one",
        graph=(level_stage(2), stage("n", "prep2", does=sees("bottom"))),
        bodies={"prep*": countdown},
        context={"level": 2},
        steps=(
            expect(
                ran="prep2 prep1 prep0 n",
                order="prep2 prep1 prep0 n",
                noted={"n": [{"bottom": True}]},
                check=all_ended("SUCCEEDED"),
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S22.3 too deep",
        title="a recursion is stopped below depth 10, and every level above fails",
        graph=(level_stage(15), stage("n", "prep15")),
        bodies={"prep*": countdown},
        context={"level": 15},
        steps=(
            expect(
                ran=" ".join(f"prep{level}" for level in range(15, 4, -1)),
                statuses={"prep15 child10/prep5": "TERMINAL", "n": "NOT_STARTED"},
                errors={"child10/prep5": "_max_recursion_depth"},
                check=all_ended("TERMINAL"),
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S22.4",
        title="a child is cancelled with the stage that waits for it",
        graph=(stage("s", does=SubWorkflowTask, context=OBJECTS), stage("n", "s")),
        bodies={"c1": waits()},
        steps=(
            cancel("s"),
            expect(
                ran="",
                statuses={"s": "CANCELED", "n": "NOT_STARTED", "child1/c1 child1/c2": "CANCELED"},
                on_cancel="c1",
                check=all_ended("CANCELED"),
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S22.4 crash",
        title="the process is killed when the cancel was requested: the child is cancelled",
        graph=(stage("s", does=SubWorkflowTask, context=OBJECTS), stage("n", "s")),
        bodies={"c1": waits()},
        steps=(
            together(cancel("s"), kill()),
            expect(
                ran="",
                statuses={"s": "CANCELED", "n": "NOT_STARTED", "child1/c1 child1/c2": "CANCELED"},
                on_cancel="c1",
                check=all_ended("CANCELED"),
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S22.4 jump",
        title="a jump that repeats the stage cancels its child and starts another one",
        graph=(
            stage("a"),
            stage("s", "a", does=SubWorkflowTask, context=OBJECTS),
            stage("k", "a", does=waits(then=jumps("a"))),
            stage("n", "s"),
        ),
        bodies={"c1": waits()},
        steps=(
            expect(statuses={"s": "SUSPENDED", "child1/c1": "SUSPENDED", "child2/c1": None}, wf="RUNNING"),
            signal("k"),
            expect(
                ran="a×2",
                statuses={"child1/c1": "CANCELED", "s": "SUSPENDED", "child2/c1": "SUSPENDED"},
                on_cancel="c1",
                wf="RUNNING",
            ),
            signal("child1/c1"),
            signal("child2/c1"),
            signal("k"),
            expect(
                ran="a×2 c1 c2 k n",
                statuses={"child1/c1": "CANCELED", "child2/c1 child2/c2 s n": "SUCCEEDED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S22.5",
        title="the process is killed in the child: there is one child, and what was done is not repeated",
        graph=(stage("s", does=SubWorkflowTask, context=OBJECTS), stage("n", "s")),
        bodies={"c1": ok(x=1)},
        crash=inside("c1"),
        steps=(expect(ran="c1 c2 n", started="c1×2 c2 n", order="c1 c2 n", check=child_id, wf="SUCCEEDED"),),
    ),
]

# -- triggers -----------------------------------------------------------------------------------------


def signalled_at_work(running, call):
    """Be signalled while the body is at work, then wait; note what comes."""
    if "_signal_name" in running.context:
        call.note(running.context["_signal_data"])
        return TaskResult.success()
    question = "SELECT id FROM message WHERE kind = 'SignalStage' AND done_at IS NULL"
    call.world.push(m.SignalStage, call.row, signal_name="go", signal_data={"n": 1})
    call.world.until(lambda: not call.world.sql(question))
    return TaskResult.suspend()


def named(running, call):
    """Wait for a signal, and note its name beside its data."""
    if "_signal_name" not in running.context:
        return TaskResult.suspend()
    call.note([running.context["_signal_name"], running.context["_signal_data"]])
    return TaskResult.success()


CHAIN = (stage("a", does=waits()), stage("b", "a", does=waits()), stage("c", "b"))

TRANSIENT = [
    Case(
        id="S23.1",
        title="a signal resumes a waiting stage, which sees what came with it",
        graph=(stage("b", does=named), stage("c", "b")),
        steps=(
            expect(ran="", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            signal("b", name="paid", n=5),
            expect(ran="b c", noted={"b": [["paid", {"n": 5}]]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S23.1 twice",
        title="a delivered signal belongs to one execution: the task that suspends again waits anew",
        graph=(stage("b", does=waits(2)),),
        everywhere=True,
        steps=(
            signal("b", n=1),
            expect(ran="", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            signal("b", n=2),
            expect(ran="b", outputs={"b": {"got": [{"n": 1}, {"n": 2}]}}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S23.1 delivered twice",
        title="a signal that is delivered again under its id is one signal",
        graph=(stage("b", does=waits(2)),),
        steps=(
            twice(signal("b", n=1)),
            expect(ran="", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            twice(signal("b", n=2)),
            expect(ran="b", outputs={"b": {"got": [{"n": 1}, {"n": 2}]}}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S23.2",
        title="a signal that comes too early is lost",
        graph=CHAIN,
        steps=(
            signal("b", n=1),
            expect(ran="", statuses={"a": "SUSPENDED", "b": "NOT_STARTED"}, wf="RUNNING"),
            signal("a"),
            expect(ran="a", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            signal("b", n=2),
            expect(ran="a b c", noted={"b": [{"n": 2}]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S23.3",
        title="a signal for a finished stage is lost, and nothing runs again",
        graph=CHAIN,
        steps=(
            signal("a"),
            signal("a", n=1),
            expect(ran="a", statuses={"a": "SUCCEEDED", "b": "SUSPENDED"}, wf="RUNNING"),
            signal("b", n=2),
            signal("b", n=3),
            expect(ran="a b c", noted={"b": [{"n": 2}]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S23.3 at work",
        title="a signal for a stage whose body is at work is lost",
        graph=(stage("b", does=signalled_at_work), stage("c", "b")),
        workers=2,
        steps=(
            expect(ran="", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            signal("b", n=2),
            expect(ran="b c", noted={"b": [{"n": 2}]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S23.3 two workflows",
        title="of two workflows with equal ref_ids only the one addressed wakes",
        graph=(stage("b", does=waits()), stage("c", "b")),
        flows=2,
        steps=(
            signal("2/b", n=2),
            expect(ran="2/b 2/c", statuses={"b": "SUSPENDED", "2/b 2/c": "SUCCEEDED"}),
            signal("b", n=1),
            expect(ran="b c 2/b 2/c", noted={"b": [{"n": 1}], "2/b": [{"n": 2}]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S23.3 activations",
        title="of several activations of a stage only the one whose id the signal carries wakes",
        graph=(
            stage("a"),
            *(stage(ref, "a") for ref in "fgh"),
            stage("m", "f", "g", "h", join="MM", does=waits()),
            stage("n", "m", does=sees("got")),
        ),
        steps=(
            signal("m#2", n=2),
            expect(rows_ran="a f g h m#2 n", statuses={"m m#3": "SUSPENDED", "m#2": "SUCCEEDED"}, wf="RUNNING"),
            signal("m#3", n=3),
            signal("m", n=1),
            expect(
                ran="a f g h m×3 n×3",
                noted={"n": [{"got": [{"n": each}]} for each in (1, 2, 3)]},
                wf="SUCCEEDED",
            ),
        ),
    ),
]

KEPT = (
    signal("b", persistent=True, n=7),
    expect(ran="", statuses={"a": "SUSPENDED", "b": "NOT_STARTED"}, wf="RUNNING"),
)
CONSUMED = expect(ran="a b c", noted={"b": [{"n": 7}]}, statuses={"a b c": "SUCCEEDED"}, wf="SUCCEEDED")
THREE = (stage("a", does=waits()), stage("b", "a", does=waits(3)), stage("c", "b"))

PERSISTENT = [
    Case(
        id="S24.1",
        title="a signal that comes early is kept until the stage waits, which then goes on at once",
        graph=CHAIN,
        everywhere=True,
        steps=(*KEPT, signal("a"), CONSUMED),
    ),
    Case(
        id="S24.1 waiting",
        title="a persistent signal for a stage that waits resumes it as any other",
        graph=CHAIN,
        steps=(signal("a"), signal("b", persistent=True, n=7), CONSUMED),
    ),
    Case(
        id="S24.2",
        title="each suspension consumes the oldest signal",
        graph=THREE,
        steps=(
            signal("b", persistent=True, n=1),
            signal("b", persistent=True, n=2),
            signal("a"),
            expect(ran="a", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            signal("b", persistent=True, n=3),
            expect(ran="a b c", outputs={"b": {"got": [{"n": 1}, {"n": 2}, {"n": 3}]}}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S24.2 together",
        title="signals that come one after the other before the engine works keep their order",
        graph=THREE,
        steps=(
            signal("a"),
            together(*(signal("b", persistent=True, n=each) for each in (1, 2, 3))),
            expect(ran="a b c", outputs={"b": {"got": [{"n": 1}, {"n": 2}, {"n": 3}]}}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S24.3",
        title="a kept signal outlives the process",
        graph=CHAIN,
        steps=(*KEPT, restart(), signal("a"), CONSUMED),
    ),
    Case(
        id="S24.3 twice",
        title="the same message delivered twice is one signal",
        graph=(stage("a", does=waits()), stage("b", "a", does=waits(2)), stage("c", "b")),
        steps=(
            twice(signal("b", persistent=True, n=7)),
            signal("a"),
            expect(ran="a", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            twice(signal("b", persistent=True, n=8)),
            expect(ran="a b c", outputs={"b": {"got": [{"n": 7}, {"n": 8}]}}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S24.4",
        title="a signal for a finished stage has no effect, and none is left over",
        graph=CHAIN,
        steps=(
            signal("a"),
            signal("a", persistent=True, n=1),
            expect(ran="a", statuses={"a": "SUCCEEDED", "b": "SUSPENDED"}, wf="RUNNING"),
            signal("b", persistent=True, n=7),
            signal("b", persistent=True, n=8),
            CONSUMED,
        ),
    ),
    Case(
        id="S24.4 unconsumed",
        title="a signal that a stage never asks for is dropped when the workflow ends",
        graph=(stage("a", does=waits()), stage("b", "a"), stage("c", "b")),
        steps=(
            signal("b", persistent=True, n=7),
            signal("c", persistent=True, n=8),
            signal("a"),
            expect(ran="a b c", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S24.4 crash",
        title="the process is killed when the signal was sent: it is delivered exactly once",
        graph=(stage("a", does=waits()), stage("b", "a", does=waits(2)), stage("c", "b")),
        steps=(
            signal("a"),
            together(signal("b", persistent=True, n=7), kill()),
            expect(ran="a", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            signal("b", persistent=True, n=8),
            expect(ran="a b c", outputs={"b": {"got": [{"n": 7}, {"n": 8}]}}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S24.4 crash at work",
        title="the process is killed in the body that a signal resumed: the body begins again with this signal",
        graph=CHAIN,
        crash=inside("b", nth=2),
        steps=(*KEPT, signal("a"), CONSUMED, expect(started="a×2 b×3 c", wf="SUCCEEDED")),
    ),
    Case(
        id="S24.3 jump",
        title="a kept signal outlives a jump over its stage, and is consumed once",
        graph=(
            stage("a"),
            stage("b", "a", does=waits()),
            stage("b2", "b", does=waits()),
            stage("k", "a", does=waits(then=jumps("a"))),
        ),
        steps=(
            signal("b2", persistent=True, n=7),
            signal("k"),
            expect(ran="a×2", statuses={"b k": "SUSPENDED", "b2": "NOT_STARTED"}, wf="RUNNING"),
            signal("b"),
            signal("k"),
            expect(ran="a×2 b b2 k", noted={"b2": [{"n": 7}]}, wf="SUCCEEDED"),
        ),
    ),
]

test_pattern = matrix([*RECURSION, *TRANSIENT, *PERSISTENT])
