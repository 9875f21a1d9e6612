"""Cancelling an activity and a case, structured loops, recursion (WCP-19 to WCP-22)."""

from __future__ import annotations

import json
from collections import Counter
from typing import ClassVar

from stabilize_nb import StageExecution, TaskExecution, TaskResult
from stabilize_nb.queue import messages as m
from stabilize_nb.stages.loop_builder import LoopBuilder
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from stabilize_nb.tasks.sub_workflow import SubWorkflowTask
from tests.scenarios.case import (
    Case,
    add,
    cancel,
    cancel_workflow,
    do,
    expect,
    fails,
    inside,
    kill,
    matrix,
    ok,
    once,
    redeliver,
    sees,
    signal,
    stage,
    together,
    twice,
    waits,
)

# -- cancellation -------------------------------------------------------------------------------------


def cancelled_at_work(kind, row=""):
    """Have the own stage cancelled while the body is at work, look whether it can see that, and succeed."""

    def body(running, call):
        call.world.push(kind, row)
        call.world.until(lambda: running.cancelled)
        call.note(running.cancelled)
        return TaskResult.success(outputs={"late": True})

    return body


def log_of_the_end(world):
    """Whether the log says who ended the workflow, and why."""
    data = [json.loads(data) for _, _, data in world.events("workflow.ending")]
    return [(each["user"], each["reason"]) for each in data] == [("ann", "enough")]


def orchestrated_cancel(world):
    """Cancel as a program does."""
    world.bench.orchestrator.cancel(world.flow(), user="ann", reason="enough")


TWO_WAITING = (
    stage("a"),
    stage("p", "a", does=waits()),
    stage("p2", "p"),
    stage("q", "a", does=waits()),
    stage("q2", "q"),
)
CANCELLING = (
    stage("a"),
    stage("two", "a", does=waits()),
    stage("t2", "two"),
    stage("one", "a", does=waits(), cancels_stages={"two"}),
    stage("o2", "one"),
)
#: `a → p! → p2` beside `q`, which ends at once.
ONE_WAITING = (stage("a"), stage("p", "a", does=waits()), stage("p2", "p"), stage("q", "a"))
REMOVED = {"a q": "SUCCEEDED", "p p2": "CANCELED"}

CANCEL_ACTIVITY = [
    Case(
        id="S19.1",
        title="a waiting stage is withdrawn, and the branch beside it does not notice",
        graph=TWO_WAITING,
        everywhere=True,
        steps=(
            cancel("p"),
            expect(
                ran="a",
                statuses={"p": "CANCELED", "q": "SUSPENDED", "p2 q2": "NOT_STARTED"},
                on_cancel="p",
                context={"p": {"_cancel_reason": "command"}},
                wf="RUNNING",
            ),
            signal("q"),
            expect(
                ran="a q q2",
                statuses={"p": "CANCELED", "p2": "NOT_STARTED", "q q2": "SUCCEEDED"},
                on_cancel="p",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S19.2",
        title="a workflow whose only branch was cancelled came nowhere: it is cancelled",
        graph=(stage("a"), stage("p", "a", does=waits()), stage("p2", "p")),
        steps=(
            cancel("p"),
            expect(ran="a", statuses={"p": "CANCELED", "p2": "NOT_STARTED"}, on_cancel="p", wf="CANCELED"),
        ),
    ),
    Case(
        id="S19.2 join",
        title="a join that needs the cancelled branch does not run",
        graph=(stage("a"), stage("p", "a", does=waits()), stage("q", "a"), stage("j", "p", "q")),
        steps=(
            cancel("p"),
            expect(
                ran="a q",
                statuses={"p": "CANCELED", "q": "SUCCEEDED", "j": "NOT_STARTED"},
                on_cancel="p",
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S19.3",
        title="what a body answers after its stage was cancelled is thrown away; the body can see that it was",
        graph=(stage("a"), stage("p", "a", does=cancelled_at_work(m.CancelStage, "p")), stage("p2", "p")),
        workers=2,
        steps=(
            expect(
                ran="a p",
                noted={"p": [True]},
                statuses={"p": "CANCELED", "p2": "NOT_STARTED"},
                on_cancel="p",
                outputs={"p": {"late": None}},
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S19.4",
        title="a complete stage cannot be cancelled",
        graph=(stage("a"), stage("p", "a"), stage("q", "p", does=waits()), stage("q2", "q")),
        steps=(
            cancel("a"),
            cancel("p"),
            expect(ran="a p", statuses={"a p": "SUCCEEDED", "q": "SUSPENDED"}, on_cancel="", wf="RUNNING"),
            signal("q"),
            cancel("q2"),
            expect(ran="a p q q2", statuses={"a p q q2": "SUCCEEDED"}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S19.4 signal",
        title="a signal for a cancelled stage has no effect, persistent or not",
        graph=TWO_WAITING,
        steps=(
            cancel("p"),
            signal("p", persistent=True),
            signal("p"),
            twice(cancel("p")),
            expect(ran="a", statuses={"p": "CANCELED", "q": "SUSPENDED"}, on_cancel="p", wf="RUNNING"),
            signal("q"),
            expect(ran="a q q2", statuses={"p": "CANCELED", "p2": "NOT_STARTED"}, on_cancel="p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S19.4 not started",
        title="a stage that has not begun is cancelled at once, will not run, and has nothing to clean up",
        graph=(stage("a", does=waits()), stage("p", "a"), stage("p2", "p"), stage("q", "a")),
        steps=(
            cancel("p"),
            expect(ran="", statuses={"a": "SUSPENDED", "p": "CANCELED"}, on_cancel="", wf="RUNNING"),
            signal("a"),
            expect(
                ran="a q",
                statuses={"a q": "SUCCEEDED", "p": "CANCELED", "p2": "NOT_STARTED"},
                on_cancel="",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S19.5",
        title="the completion of one stage cancels another, as the model says",
        graph=CANCELLING,
        steps=(
            signal("one"),
            expect(
                ran="a one o2",
                statuses={"one o2": "SUCCEEDED", "two": "CANCELED", "t2": "NOT_STARTED"},
                on_cancel="two",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S19.5 crash in the model",
        title="the process is killed when the cancelling stage has completed: the other one is cancelled",
        graph=CANCELLING,
        crash=once("one", "SUCCEEDED"),
        everywhere=True,
        steps=(
            signal("one"),
            expect(
                ran="a one o2",
                statuses={"one o2": "SUCCEEDED", "two": "CANCELED", "t2": "NOT_STARTED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S19.5 crash",
        title="the process is killed between the request and its effect: the effect comes",
        graph=TWO_WAITING,
        steps=(
            together(cancel("p"), kill()),
            expect(ran="a", statuses={"p": "CANCELED", "q": "SUSPENDED"}, on_cancel="p", wf="RUNNING"),
            signal("q"),
            expect(ran="a q q2", statuses={"p": "CANCELED", "p2": "NOT_STARTED"}, on_cancel="p", wf="SUCCEEDED"),
        ),
    ),
]


class WatchedChild(SubWorkflowTask):
    """A sub-workflow that counts how often its clean-up was called, by the id of its stage."""

    cleaned: ClassVar[Counter[str]] = Counter()

    def on_cancel(self, stage):
        self.cleaned[stage.id] += 1


def child_of(*stages, **context):
    """Return the context of a stage that starts a child workflow."""
    return {"_sub_workflow_config": {"name": "child", "stages": list(stages), "context": context}}


def sub_workflow(ref_id, *after, config):
    """Make a stage of a child workflow that is a workflow of its own."""
    task = TaskExecution.create(ref_id, "sub_workflow", stage_start=True, stage_end=True)
    return StageExecution(
        ref_id=ref_id, type="sub_workflow", tasks=[task], context=config, requisite_stage_ref_ids=set(after)
    )


def all_ended(status):
    """Check how a workflow and its children ended."""
    return lambda world: {world.flow(prefix).status.name for prefix in world.all_flows()} == {status}


def _dynamic(made):
    return MultiInstanceBuilder.create_dynamic(made["d"], 1)


CANCEL_CASE = [
    Case(
        id="S20.1",
        title="a cancelled workflow keeps what is complete, withdraws the rest, and logs who wanted it and why",
        graph=ONE_WAITING,
        everywhere=True,
        steps=(
            cancel_workflow(user="ann", reason="enough"),
            expect(ran="a q", statuses=REMOVED, on_cancel="p", check=log_of_the_end, wf="CANCELED"),
        ),
    ),
    Case(
        id="S20.1 orchestrator",
        title="Orchestrator.cancel does the same",
        graph=ONE_WAITING,
        steps=(
            do(orchestrated_cancel),
            expect(
                ran="a q",
                statuses=REMOVED,
                on_cancel="p",
                context={"p": {"_cancel_reason": "workflow_canceled"}},
                check=log_of_the_end,
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S20.2",
        title="after the cancel signals, additions, redelivered starts and a second cancel change nothing",
        graph=(*ONE_WAITING, stage("d", "a"), _dynamic),
        bodies={"d_instance_*": waits()},
        steps=(
            cancel_workflow(user="ann", reason="enough"),
            expect(
                ran="a q d",
                statuses=REMOVED | {"d": "SUCCEEDED", "d_instance_0 d_mi_join": "CANCELED"},
                on_cancel="p d_instance_0",
                wf="CANCELED",
            ),
            signal("p"),
            signal("p", persistent=True),
            signal("p2", persistent=True),
            signal("d_instance_0"),
            add("d"),
            redeliver(m.StartStage, m.RunTask),
            twice(cancel_workflow(user="bob", reason="once more")),
            cancel("p2"),
            expect(
                ran="a q d",
                statuses=REMOVED | {"d": "SUCCEEDED", "d_instance_0 d_mi_join": "CANCELED", "d_instance_1": None},
                on_cancel="p d_instance_0",
                check=log_of_the_end,
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S20.2 late result",
        title="what a body answers after its workflow was cancelled is thrown away",
        graph=(stage("a"), stage("p", "a", does=cancelled_at_work(m.CancelWorkflow)), stage("p2", "p")),
        workers=2,
        steps=(
            expect(
                ran="a p",
                noted={"p": [True]},
                statuses={"a": "SUCCEEDED", "p p2": "CANCELED"},
                on_cancel="p",
                outputs={"p": {"late": None}},
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S20.2 complete",
        title="a workflow that has ended cannot be cancelled",
        graph=(stage("a"), stage("b", "a")),
        steps=(
            expect(ran="a b", wf="SUCCEEDED"),
            cancel_workflow(),
            expect(ran="a b", statuses={"a b": "SUCCEEDED"}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S20.3",
        title="child workflows are cancelled with their parent, and their children too",
        graph=(
            stage(
                "s",
                does=WatchedChild,
                context=child_of(
                    stage("c1", does=waits()).make(),
                    sub_workflow("s2", config=child_of(stage("g1", does=waits()).make())),
                ),
            ),
            stage("n", "s"),
        ),
        bodies={"c1": waits(), "g1": waits()},
        steps=(
            expect(statuses={"s": "SUSPENDED", "child1/c1 child1/s2 child2/g1": "SUSPENDED"}, wf="RUNNING"),
            cancel_workflow(),
            expect(
                ran="",
                statuses={"s n": "CANCELED", "child1/c1 child1/s2 child2/g1": "CANCELED"},
                on_cancel="c1 g1",
                check=lambda world: WatchedChild.cleaned[world.row("s").id] == 1,
                wf="CANCELED",
            ),
            expect(check=all_ended("CANCELED"), wf="CANCELED"),
        ),
    ),
    Case(
        id="S20.4 crash",
        title="the process is killed when the cancel was requested: the workflow is cancelled, nothing more runs",
        graph=ONE_WAITING,
        steps=(
            together(cancel_workflow(user="ann", reason="enough"), kill()),
            expect(ran="a q", statuses=REMOVED, on_cancel="p", check=log_of_the_end, wf="CANCELED"),
        ),
    ),
    Case(
        id="S20.4",
        title="the completion of a stage cancels the workflow, as the model says",
        graph=(*ONE_WAITING, stage("x", "a", does=waits(), ends_workflow="CANCELED"), stage("x2", "x")),
        crash=once("x", "SUCCEEDED"),
        steps=(
            expect(ran="a q", wf="RUNNING"),
            signal("x"),
            expect(ran="a q x", statuses=REMOVED | {"x": "SUCCEEDED", "x2": "CANCELED"}, wf="CANCELED"),
        ),
    ),
    Case(
        id="S20.4 in the model",
        title="the clean-up of what waits is called once when a stage cancels the workflow",
        graph=(*ONE_WAITING, stage("x", "a", does=waits(), ends_workflow="CANCELED"), stage("x2", "x")),
        steps=(
            signal("x"),
            expect(
                ran="a q x",
                statuses=REMOVED | {"x": "SUCCEEDED", "x2": "CANCELED"},
                on_cancel="p",
                wf="CANCELED",
            ),
        ),
    ),
]

# -- iteration ----------------------------------------------------------------------------------------


def plus(running):
    """Give n + 1."""
    return {"n": running.context["n"] + 1}


def loop(kind, condition, *refs, **options):
    """Make a loop of stages in a row."""

    def make(made):
        return getattr(LoopBuilder, kind)(condition, [stage(ref).make() for ref in refs], **options)

    return make


def behind_a(part):
    """Put what a maker makes behind `a`."""

    def make(made):
        stages = part(made)
        stages[0].requisite_stage_ref_ids = {"a"}
        return stages

    return make


NEXT = stage("next", "loop_exit", does=sees("n", "loop_exhausted"))

LOOPS = [
    Case(
        id="S21.1",
        title="a while loop repeats its body in order while its condition holds",
        graph=(loop("while_loop", "n < 3", "b1", "b2"), NEXT),
        bodies={"b1": plus, "b2": sees("n")},
        context={"n": 0},
        everywhere=True,
        steps=(
            expect(
                ran="b1×3 b2×3 next",
                order="b1 b2 b1 b2 b1 b2 next",
                noted={"b2": [{"n": 1}, {"n": 2}, {"n": 3}], "next": [{"n": 3, "loop_exhausted": False}]},
                statuses={"loop_entry loop_exit b1 b2": "SUCCEEDED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S21.1 not at all",
        title="a while loop whose condition is false skips its body",
        graph=(loop("while_loop", "n < 0", "b1", "b2"), NEXT),
        context={"n": 0},
        steps=(expect(ran="next", statuses={"b1 b2": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S21.2",
        title="a repeat loop ends with the pass after which its condition holds",
        graph=(loop("repeat_until", "n >= 3", "b1", "b2"), NEXT),
        bodies={"b1": plus},
        context={"n": 0},
        steps=(expect(ran="b1×3 b2×3 next", order="b1 b2 b1 b2 b1 b2 next", wf="SUCCEEDED"),),
    ),
    Case(
        id="S21.2 once",
        title="a repeat loop makes one pass at least",
        graph=(loop("repeat_until", "n >= 0", "b1", "b2"), NEXT),
        bodies={"b1": plus},
        context={"n": 0},
        steps=(expect(ran="b1 b2 next", wf="SUCCEEDED"),),
    ),
    Case(
        id="S21.3",
        title="passes are not counted as jumps",
        graph=(loop("while_loop", "n < 15", "b"), NEXT),
        bodies={"b": plus},
        context={"n": 0},
        steps=(expect(ran="b×15 next", noted={"next": [{"n": 15, "loop_exhausted": False}]}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S21.3 bound",
        title="a bound ends a loop after exactly so many passes, and the process goes on",
        graph=(loop("repeat_until", "n < 0", "b", max_iterations=4), NEXT),
        bodies={"b": plus},
        context={"n": 0},
        steps=(
            expect(
                ran="b×4 next",
                noted={"next": [{"n": 4, "loop_exhausted": True}]},
                statuses={"loop_exit": "FAILED_CONTINUE"},
                outputs={"loop_exit": {"loop_exhausted": True}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S21.3 nested",
        title="an inner loop has its full budget on each pass of the outer one",
        graph=(
            lambda made: LoopBuilder.while_loop(
                "iteration_count < 3",
                LoopBuilder.repeat_until("n < 0", [stage("b").make()], "inner", max_iterations=2),
                "loop",
            ),
            NEXT,
        ),
        bodies={"b": plus},
        context={"n": 0},
        steps=(
            expect(
                ran="b×6 next",
                noted={"next": [{"n": 6, "loop_exhausted": False}]},
                statuses={"inner_exit": "FAILED_CONTINUE"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S21.4",
        title="a failure in the body fails the workflow",
        graph=(loop("while_loop", "n < 3", "b1", "b2"), NEXT),
        bodies={"b1": plus, "b2": fails()},
        context={"n": 0},
        steps=(
            expect(
                ran="b1 b2",
                statuses={"b1": "SUCCEEDED", "b2": "TERMINAL", "loop_exit next": "NOT_STARTED"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S21.4 beside",
        title="a branch beside the loop is not repeated",
        graph=(
            stage("a"),
            behind_a(loop("while_loop", "n < 3", "b1", "b2")),
            stage("x", "a"),
            stage("j", "loop_exit", "x"),
        ),
        bodies={"b1": plus},
        context={"n": 0},
        steps=(expect(ran="a b1×3 b2×3 x j", wf="SUCCEEDED"),),
    ),
    Case(
        id="S21.4 unknown name",
        title="a name in the condition that is defined nowhere fails the loop, naming it",
        graph=(loop("while_loop", "unheard < 3", "b"), NEXT),
        steps=(expect(ran="", errors={"loop_entry": "unheard"}, wf="TERMINAL"),),
    ),
    Case(
        id="S21.5",
        title="the process is killed in the body of the second pass: the loop goes on there",
        graph=(loop("while_loop", "n < 3", "b1", "b2"), NEXT),
        bodies={"b1": plus},
        context={"n": 0},
        crash=inside("b2", nth=2),
        steps=(
            expect(
                ran="b1×3 b2×3 next",
                started="b1×3 b2×4 next",
                order="b1 b2 b1 b2 b1 b2 next",
                noted={"next": [{"n": 3, "loop_exhausted": False}]},
                wf="SUCCEEDED",
            ),
        ),
    ),
]


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
        id="S22.5",
        title="the process is killed in the child: there is one child, and what was done is not repeated",
        graph=(stage("s", does=SubWorkflowTask, context=OBJECTS), stage("n", "s")),
        bodies={"c1": ok(x=1)},
        crash=inside("c1"),
        steps=(expect(ran="c1 c2 n", started="c1×2 c2 n", order="c1 c2 n", check=child_id, wf="SUCCEEDED"),),
    ),
]

test_pattern = matrix([*CANCEL_ACTIVITY, *CANCEL_CASE, *LOOPS, *RECURSION])
