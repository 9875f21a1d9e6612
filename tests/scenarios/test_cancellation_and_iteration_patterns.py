"""Cancelling an activity and a case, structured loops (WCP-19 to WCP-21)."""

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
    once,
    polls,
    push,
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


def cancels_polling(running, call):
    """Cancel `p` once it polls."""
    if not call.world.started()["p"]:
        return TaskResult.running()
    call.world.push(m.CancelStage, "p")
    return TaskResult.success()


def never(world):
    """Poll for ever."""
    return False


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
        id="S19.3 polling",
        title="a stage that polls is withdrawn",
        graph=(
            stage("a"),
            stage("p", "a", does=polls(never)),
            stage("p2", "p"),
            stage("q", "a", does=cancels_polling),
        ),
        steps=(
            expect(
                ran="a q",
                statuses={"p": "CANCELED", "p2": "NOT_STARTED", "q": "SUCCEEDED"},
                on_cancel="p",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S19.1 activation",
        title="one of two threads in a stage is cancelled; the other goes on",
        graph=(
            stage("a"),
            stage("f", "a"),
            stage("g", "a"),
            stage("m", "f", "g", join="MM", does=waits()),
            stage("n", "m"),
        ),
        steps=(
            cancel("m#2"),
            expect(ran="a f g", statuses={"m": "SUSPENDED", "m#2": "CANCELED"}, on_cancel="m#2", wf="RUNNING"),
            signal("m#2"),
            signal("m"),
            expect(
                ran="a f g m n",
                statuses={"m n": "SUCCEEDED", "m#2": "CANCELED", "n#2": None},
                on_cancel="m#2",
                wf="SUCCEEDED",
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
        id="S20.1 paused",
        title="a workflow that is paused can be cancelled",
        graph=ONE_WAITING,
        steps=(
            together(push(m.PauseWorkflow), signal("p")),
            cancel_workflow(),
            expect(ran="a q", statuses=REMOVED, wf="CANCELED"),
        ),
    ),
    Case(
        id="S20.1 locks",
        title="what waits for a lock or a milestone is withdrawn, and nothing of it is left over",
        graph=(
            *ONE_WAITING,
            stage("x", "a", does=waits(), mutex_key="k"),
            stage("y", "a", mutex_key="k"),
            stage("r", "a", milestone_ref_id="p", milestone_status="SUCCEEDED"),
        ),
        steps=(
            signal("p2", persistent=True),
            cancel_workflow(),
            expect(ran="a q", statuses=REMOVED | {"x y r": "CANCELED"}, on_cancel="p x", wf="CANCELED"),
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
        everywhere=True,
        steps=(
            expect(statuses={"s": "SUSPENDED", "child1/c1 child1/s2 child2/g1": "SUSPENDED"}, wf="RUNNING"),
            cancel_workflow(),
            expect(
                ran="",
                statuses={"s n": "CANCELED", "child1/c1 child1/s2 child2/g1": "CANCELED"},
                on_cancel="c1 g1",
                check=lambda world: world.forgiving or WatchedChild.cleaned[world.row("s").id] == 1,
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

test_pattern = matrix([*CANCEL_ACTIVITY, *CANCEL_CASE, *LOOPS])
