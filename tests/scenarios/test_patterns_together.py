"""Patterns that meet in one workflow (section 4 of patterns.md, T1 to T15)."""

from __future__ import annotations

import random
from dataclasses import replace

from stabilize_nb import TaskExecution
from stabilize_nb.stages.loop_builder import LoopBuilder
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from stabilize_nb.tasks.sub_workflow import SubWorkflowTask
from tests.scenarios.case import (
    Case,
    add,
    after_commits,
    cancel_region,
    do,
    expect,
    jumps,
    matrix,
    ok,
    passes,
    signal,
    stage,
    together,
    waits,
)

YES, NO = "True", "False"
#: Members of one deferred choice.
CHOICE = {"deferred_choice_group": "g"}
#: A stage that jumps to `a` when it is signalled, and in its second pass does nothing.
BACK_TO_A = passes(waits(then=jumps("a")), ok())


def locked(ref, *after, **fields):
    """Make a stage that needs the lock "k"."""
    return stage(ref, *after, mutex_key="k", **fields)


def child_of(*stages):
    """Return the context of a stage that starts a child workflow."""
    return {"_sub_workflow_config": {"name": "child", "stages": [part.make() for part in stages]}}


def instances(count, **options):
    """Make instances of `p` and their join."""
    return lambda made: MultiInstanceBuilder.create_fixed(made["p"], count, **options)


def dynamic(count, **options):
    """Make an activity `p` to which instances may be added."""
    return lambda made: MultiInstanceBuilder.create_dynamic(made["p"], count, **options)


WAITING = {"p_instance_*": waits()}

# -- choices, locks, cancelling joins -----------------------------------------------------------------

CHOICES = [
    Case(
        id="T1",
        title="a member of a choice that waits for a lock decides nothing",
        pattern=(16, 39),
        graph=(
            *(locked("h", does=waits()), stage("o", does=waits())),
            *(locked("p", "o", **CHOICE), stage("q", "o", **CHOICE), stage("q2", "q")),
        ),
        everywhere=True,
        steps=(
            signal("o"),
            expect(ran="o q q2", statuses={"h": "SUSPENDED", "p": "CANCELED"}, on_cancel="", wf="RUNNING"),
            signal("h"),
            expect(ran="o q q2 h", statuses={"p": "CANCELED"}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T1 loser",
        title="a loser does not keep its lock",
        pattern=(16, 39),
        graph=(
            *(stage("a"), stage("p", "a", does=waits(), **CHOICE), locked("q", "a", does=waits(), **CHOICE)),
            locked("p2", "p"),
        ),
        steps=(
            expect(ran="a", statuses={"p q": "SUSPENDED"}, wf="RUNNING"),
            signal("p"),
            expect(ran="a p p2", statuses={"q": "CANCELED"}, on_cancel="q", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T2",
        title="an OR-join waits for the winner of a choice and for a third branch, not for the loser",
        pattern=(7, 16),
        graph=(
            *(stage("a"), stage("p", "a", does=waits(), **CHOICE), stage("q", "a", does=waits(), **CHOICE)),
            *(stage("x", "a", does=waits()), stage("j", "p", "q", "x", join="OR")),
        ),
        steps=(
            signal("q"),
            expect(ran="a q", statuses={"p": "CANCELED", "j": "NOT_STARTED"}, wf="RUNNING"),
            signal("x"),
            expect(ran="a q x j", rows={"j": 1}, on_cancel="p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T3",
        title="a choice in a loop is made anew in each pass",
        pattern=(10, 16),
        graph=(
            *(stage("a"), stage("p", "a", **CHOICE), stage("q", "a", **CHOICE)),
            *(stage("j", "p", "q", join="OR"), stage("k", "j", does=jumps("a", 2)), stage("z", "k")),
        ),
        steps=(
            expect(
                check=lambda world: (world.ran("p", "q"), world.ran("j"), world.ran("k", "z")) == (3, 3, 2),
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="T3 other winner",
        title="another member may win in the next pass",
        pattern=(10, 16),
        graph=(
            *(stage("a"), stage("p", "a", does=waits(), **CHOICE), stage("q", "a", does=waits(), **CHOICE)),
            *(stage("j", "p", "q", join="OR"), stage("k", "j", does=jumps("a", 2)), stage("z", "k")),
        ),
        steps=(
            *(signal("p"), signal("q"), signal("p")),
            expect(ran="a×3 p×2 q j×3 k z", statuses={"q": "CANCELED"}, on_cancel="q×2 p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T3 nested split",
        title="everything in the branch of the loser is skipped",
        pattern=(6, 16),
        graph=(
            *(stage("a"), stage("p", "a", does=waits(), **CHOICE)),
            stage("q", "a", does=waits(), split={"q1": YES, "q2": YES, "q3": NO}, **CHOICE),
            *(stage(ref, "q") for ref in ("q1", "q2", "q3")),
            *(stage("qj", "q1", "q2", "q3", join="OR"), stage("z", "p", "qj")),
        ),
        steps=(
            signal("p"),
            expect(ran="a p z", statuses={"q": "CANCELED", "q1 q2 q3 qj": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T5",
        title="a branch that a join cancels gives its lock up to what follows",
        pattern=(29, 39),
        graph=(
            *(stage("a"), locked("f", "a", does=waits()), stage("g", "a", does=waits())),
            *(stage("m", "f", "g", join="DISC", join_cancel_remaining=True), locked("n", "m")),
        ),
        steps=(
            signal("g"),
            expect(ran="a g m n", statuses={"f": "CANCELED"}, on_cancel="f", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T5 sub-workflow",
        title="a join that cancels a branch cancels its child workflow",
        pattern=(22, 29),
        graph=(
            *(stage("a"), stage("g", "a", does=waits())),
            stage("s", "a", does=SubWorkflowTask, context=child_of(stage("c1"), stage("c2", "c1"))),
            *(stage("m", "s", "g", join="DISC", join_cancel_remaining=True), stage("n", "m")),
        ),
        bodies={"c1": waits()},
        steps=(
            expect(statuses={"s child1/c1": "SUSPENDED"}, wf="RUNNING"),
            signal("g"),
            expect(
                ran="a g m n",
                statuses={"s child1/c1 child1/c2": "CANCELED"},
                on_cancel="c1",
                check=lambda world: world.flow("child1/").status.name == "CANCELED",
                wf="SUCCEEDED",
            ),
        ),
    ),
]

# -- jumps over and around other patterns -------------------------------------------------------------


def milestone_in_loop(**fields):
    """Make a loop in which a stage looks for another one that waits: in pass 1 it is too late, in pass 2 in time."""
    return (
        *(stage("a"), stage("m", "a", does=passes(ok(), waits())), stage("q", "a", does=waits())),
        stage("r", "q", milestone_ref_id="m", milestone_status="SUSPENDED"),
        *(stage("k", "m", "r", does=jumps("a")), stage("z", "k")),
    )


JUMPS = [
    Case(
        id="T4",
        title="a jump over a join runs what lies behind it once; the join takes what comes late alone",
        pattern=(3, 10),
        graph=(
            *(stage("a"), stage("b", "a", does=jumps("k")), stage("c", "a", does=waits())),
            *(stage("j", "b", "c"), stage("k", "j"), stage("z", "k")),
        ),
        everywhere=True,
        steps=(
            expect(ran="a k z", statuses={"b": "SUCCEEDED", "c": "SUSPENDED", "j": "NOT_STARTED"}, wf="RUNNING"),
            signal("c"),
            expect(
                ran="a k z c j",
                rows={"j": 1, "k": 1, "z": 1},
                context={"j": {"_triggered_by": ["c"]}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="T6",
        title="a jump that repeats a stage that waits has it wait anew",
        pattern=(10, 23),
        graph=(
            *(stage("a"), stage("b", "a", does=waits()), stage("c", "a", does=BACK_TO_A)),
            stage("z", "b", "c"),
        ),
        steps=(
            signal("c"),
            expect(ran="a×2 c", statuses={"b": "SUSPENDED", "z": "NOT_STARTED"}, on_cancel="b", wf="RUNNING"),
            signal("b"),
            expect(ran="a×2 c b z", on_cancel="b", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T7",
        title="a signal that is kept for a stage outlives a jump and is consumed once",
        pattern=(10, 24),
        graph=(
            *(stage("a"), stage("k", "a", does=BACK_TO_A), stage("c", "k", does=waits())),
            stage("l", "c", does=jumps("c")),
        ),
        steps=(
            signal("c", persistent=True, n=7),
            signal("k"),
            # pass 2 consumes it, pass 3 of c waits for another one
            expect(ran="a×2 k c", noted={"c": [{"n": 7}]}, statuses={"c": "SUSPENDED"}, wf="RUNNING"),
            signal("c", n=8),
            expect(ran="a×2 k c×2 l", noted={"c": [{"n": 7}, {"n": 8}]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T8",
        title="a partial join in a loop with a branch that comes late",
        pattern=(10, 30),
        graph=(
            *(stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "a", does=waits())),
            *(stage("p", "b", "c", "d", join="2/3"), stage("k", "p", does=jumps("a")), stage("z", "k")),
        ),
        steps=(
            expect(ran="a×2 b×2 c×2 p×2 k z", statuses={"d": "SUSPENDED"}, rows={"p": 1}, wf="RUNNING"),
            signal("d"),
            expect(ran="a×2 b×2 c×2 d p×2 k z", rows={"p": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T10",
        title="a milestone that was passed before the start does not hold the process up",
        pattern=(18,),
        graph=(
            *(stage("m"), stage("o", does=waits()), stage("r2", "r")),
            stage("r", "o", milestone_ref_id="m", milestone_status="RUNNING"),
        ),
        steps=(
            signal("o"),
            expect(ran="m o r2", statuses={"m": "SUCCEEDED", "r": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T10 reset",
        title="a milestone that was reached and then reset by a jump is not reached",
        pattern=(10, 18),
        graph=(
            *(stage("a"), stage("m", "a", does=passes(ok(), waits())), stage("x", "m", does=BACK_TO_A)),
            *(stage("o", does=waits()), stage("r", "o", milestone_ref_id="m", milestone_status="SUCCEEDED")),
        ),
        steps=(
            expect(ran="a m", statuses={"x": "SUSPENDED"}, wf="RUNNING"),
            signal("x"),
            signal("o"),
            expect(ran="a×2 m o", statuses={"m": "SUSPENDED", "r": "NOT_STARTED"}, wf="RUNNING"),
            signal("m"),
            expect(ran="a×2 m×2 o r x", statuses={"r": "SUCCEEDED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T10 anew",
        title="a milestone that was passed in one pass may be reached in the next",
        pattern=(10, 18),
        graph=milestone_in_loop(),
        steps=(
            expect(ran="a m", statuses={"q": "SUSPENDED"}, wf="RUNNING"),
            signal("q"),
            expect(ran="a×2 m q", statuses={"m q": "SUSPENDED", "r": "NOT_STARTED"}, wf="RUNNING"),
            signal("q"),
            expect(ran="a×2 m q×2 r", statuses={"m": "SUSPENDED", "r": "SUCCEEDED"}, wf="RUNNING"),
            signal("m"),
            expect(ran="a×2 m×2 q×2 r k z", wf="SUCCEEDED"),
        ),
    ),
]

# -- regions, multi-merges, instances -----------------------------------------------------------------


def threshold_behind_region(**fields):
    """Make a join of two that cannot be reached when the region R is cancelled."""
    return (
        *(stage("a"), stage("f", "a", does=waits(), cancel_region="R"), stage("g", "a", **fields)),
        *(stage("p", "f", "g", join="2/2"), stage("n", "p")),
    )


OUT_OF_REACH = expect(
    ran="a g",
    statuses={"f": "CANCELED", "g": "SUCCEEDED", "p": "TERMINAL", "n": "NOT_STARTED"},
    errors={"p": "threshold 2 is out of reach"},
    wf="TERMINAL",
)

COUNTS = [
    Case(
        id="T9",
        title="the cancelled branch of a discriminator does not fire it",
        pattern=(9, 25),
        graph=(
            *(stage("a"), stage("f", "a", does=waits(), cancel_region="R"), stage("g", "a", does=waits())),
            stage("m", "f", "g", join="DISC"),
        ),
        steps=(
            cancel_region("R"),
            expect(ran="a", statuses={"f": "CANCELED", "m": "NOT_STARTED"}, on_cancel="f", wf="RUNNING"),
            signal("g"),
            expect(ran="a g m", rows={"m": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T9 threshold",
        title="a cancelled region puts a threshold out of reach",
        pattern=(25, 30),
        graph=threshold_behind_region(),
        steps=(cancel_region("R"), OUT_OF_REACH),
    ),
    Case(
        id="T9 threshold later",
        title="a threshold is out of reach only when some branch has delivered (2.2)",
        pattern=(25, 30),
        graph=threshold_behind_region(does=waits()),
        steps=(
            cancel_region("R"),
            expect(statuses={"f": "CANCELED", "g": "SUSPENDED", "p": "NOT_STARTED"}, wf="RUNNING"),
            signal("g"),
            OUT_OF_REACH,
        ),
    ),
    Case(
        id="T9 milestone",
        title="a milestone in a cancelled region can no longer be reached: who waits for it is skipped",
        pattern=(18, 25),
        graph=(
            *(stage("a"), stage("m", "a", does=waits(), cancel_region="R")),
            *(stage("r", "a", milestone_ref_id="m", milestone_status="SUCCEEDED"), stage("r2", "r")),
        ),
        steps=(
            expect(ran="a", statuses={"r": "NOT_STARTED"}, wf="RUNNING"),
            cancel_region("R"),
            expect(ran="a r2", statuses={"m": "CANCELED", "r": "SKIPPED"}, on_cancel="m", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T11",
        title="three threads in a stage with a lock take turns, and each goes on",
        pattern=(8, 39),
        graph=(
            *(stage("a"), *(stage(ref, "a") for ref in "fgh")),
            *(locked("m", "f", "g", "h", join="MM"), stage("n", "m"), stage("o", "n")),
        ),
        workers=3,
        repeat=20,
        steps=(expect(ran="a f g h m×3 n×3 o×3", disjoint="m", rows={"m": 3, "o": 3}, wf="SUCCEEDED"),),
    ),
    Case(
        id="T11 discriminator",
        title="two threads before a discriminator are two rounds; a late branch changes nothing",
        pattern=(8, 9),
        graph=(
            *(stage("a"), stage("f", "a"), stage("g", "a"), stage("x", "a", does=waits())),
            *(stage("m", "f", "g", join="MM"), stage("d", "m", "x", join="DISC"), stage("z", "d")),
        ),
        steps=(
            expect(ran="a f g m×2 d×2 z×2", rows={"d": 2, "z": 2}, wf="RUNNING"),
            signal("x"),
            expect(ran="a f g m×2 d×2 z×2 x", rows={"d": 2, "z": 2}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T12",
        title="a split that does not choose an activity of several instances skips all of it",
        pattern=(6, 13),
        graph=(
            *(stage("a", split={"p": NO, "b": YES}), stage("b", "a"), stage("p", "a"), instances(3)),
            stage("j", "p_mi_join", "b", join="OR"),
        ),
        steps=(
            expect(
                ran="a b j",
                statuses={"p p_instance_0 p_instance_1 p_instance_2 p_mi_join": "SKIPPED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="T13",
        title="a threshold that cancels the rest, in a loop with an added instance: it is gone after the jump",
        pattern=(10, 15, 35),
        graph=(
            *(stage("p"), dynamic(2, join_threshold=2, cancel_remaining=True)),
            *(stage("k", "p_mi_join", does=jumps("p")), stage("z", "k")),
        ),
        bodies=WAITING,
        steps=(
            add("p"),
            signal("p_instance_2"),
            signal("p_instance_0"),
            expect(
                ran="p×2 p_instance_0 p_instance_2",
                statuses={"p_instance_0 p_instance_1": "SUSPENDED", "p_instance_2": None},
                on_cancel="p_instance_1",
                wf="RUNNING",
            ),
            add("p"),
            signal("p_instance_0"),
            signal("p_instance_1"),
            expect(
                ran="p×2 p_instance_0×2 p_instance_1 p_instance_2 k z",
                statuses={"p_instance_0 p_instance_1": "SUCCEEDED", "p_instance_2": "CANCELED"},
                on_cancel="p_instance_1 p_instance_2",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="T13 addition",
        title="an addition after the join has fired, or after the end, changes nothing",
        pattern=(15, 34),
        graph=(
            *(stage("p"), dynamic(2, join_threshold=1, cancel_remaining=True)),
            *(stage("next", "p_mi_join"), stage("other", does=waits())),
        ),
        bodies=WAITING,
        steps=(
            signal("p_instance_1"),
            expect(ran="p p_instance_1 next", statuses={"p_instance_0": "CANCELED"}, wf="RUNNING"),
            add("p"),
            expect(statuses={"p_instance_2": None, "other": "SUSPENDED"}, wf="RUNNING"),
            signal("other"),
            expect(ran="p p_instance_1 next other", wf="SUCCEEDED"),
            add("p"),
            expect(
                ran="p p_instance_1 next other",
                statuses={"p_instance_2": None},
                on_cancel="p_instance_0",
                wf="SUCCEEDED",
            ),
        ),
    ),
]

# -- one pattern inside the other ---------------------------------------------------------------------


def plus(row):
    """Count up."""
    return {"n": row.context["n"] + 1}


def loop_behind_a(made):
    """Make three passes of b behind `a`."""
    loop = LoopBuilder.while_loop("n < 3", [stage("b").make()])
    loop[0].requisite_stage_ref_ids = {"a"}
    return loop


def instances_in_a_loop(made):
    """Make a loop around an activity of two instances."""
    parent = stage("p").make()
    return LoopBuilder.repeat_until("n >= 3", [parent, *MultiInstanceBuilder.create_fixed(parent, 2)])


def children_in_instances(made, parent=None):
    """Make two instances that are workflows of two stages each."""
    made_here = MultiInstanceBuilder.create_fixed(
        parent or made["p"], 2, instance_contexts=[child_of(stage("c1"), stage("c2", "c1")) for _ in range(2)]
    )
    for each in made_here[:-1]:
        each.tasks = [TaskExecution.create("child", "sub_workflow", stage_start=True, stage_end=True)]
    return made_here


def everything_in_a_loop(made):
    """Make a loop of two passes around a split, of which one branch is an activity of two children."""
    choose = stage("choose", split={"p": YES, "x": YES, "y": NO}).make()
    parent = stage("p", "choose").make()
    others = [stage("x", "choose").make(), stage("y", "choose").make()]
    join = stage("j", "p_mi_join", "x", "y", join="OR").make()
    return LoopBuilder.repeat_until("n >= 2", [choose, parent, *children_in_instances({}, parent), *others, join])


def in_or_branch(first, second):
    """Make an OR-split before a loop."""
    return (
        *(stage("a", split={"loop_entry": first, "c": second, "d": NO}), stage("c", "a"), stage("d", "a")),
        *(loop_behind_a, stage("j", "loop_exit", "c", "d", join="OR"), stage("z", "j")),
    )


NESTED = [
    Case(
        id="T14 loop in branch",
        title="a loop in a branch of an OR-split: the merge waits for its last pass",
        pattern=(7, 21),
        graph=in_or_branch(YES, YES),
        bodies={"b": plus},
        context={"n": 0},
        steps=(expect(ran="a b×3 c j z", statuses={"d": "SKIPPED"}, rows={"j": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="T14 loop not chosen",
        title="a loop in a branch that is not taken is skipped whole",
        pattern=(7, 21),
        graph=in_or_branch(NO, YES),
        bodies={"b": plus},
        context={"n": 0},
        steps=(expect(ran="a c j z", statuses={"loop_entry b loop_exit": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="T14 instances in loop",
        title="three passes of two instances are six runs",
        pattern=(13, 21),
        graph=(instances_in_a_loop, stage("next", "loop_exit")),
        bodies={"p": plus},
        context={"n": 0},
        steps=(
            expect(
                ran="p×3 p_instance_0×3 p_instance_1×3 next",
                rows={"p_instance_0": 1, "p_mi_join": 1},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="T14 child in instance",
        title="each of two instances is a workflow of two stages",
        pattern=(13, 22),
        graph=(stage("p"), children_in_instances, stage("n", "p_mi_join")),
        everywhere=True,
        steps=(
            expect(
                ran="p c1×2 c2×2 n",
                statuses={"child1/c2 child2/c2": "SUCCEEDED", "child3/c1": None},
                check=lambda world: world.ends()[-1].base == "n",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="T14 child in choice",
        title="a sub-workflow wins a choice by starting its child: that is no suspend() (WCP-16)",
        pattern=(16, 22),
        graph=(
            *(stage("a"), stage("q", "a", does=waits(), **CHOICE)),
            stage("s", "a", does=SubWorkflowTask, context=child_of(stage("c1"), stage("c2", "c1")), **CHOICE),
            *(stage("s2", "s"), stage("q2", "q"), stage("z", "s2", "q2")),
        ),
        bodies={"c1": waits()},
        steps=(
            expect(ran="a", statuses={"q": "CANCELED", "child1/c1": "SUSPENDED"}, on_cancel="q", wf="RUNNING"),
            signal("child1/c1"),
            expect(ran="a c1 c2 s2 z", statuses={"s": "SUCCEEDED", "q2": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="T14 all",
        title="two passes of two instances of two stages are eight runs",
        pattern=(7, 13, 21, 22),
        graph=(everything_in_a_loop, stage("next", "loop_exit")),
        bodies={"choose": plus},
        context={"n": 0},
        steps=(expect(ran="choose×2 p×2 c1×4 c2×4 x×2 j×2 next", statuses={"y": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
]

# -- everything at once -------------------------------------------------------------------------------

EVERYTHING = (
    stage("a"),
    *(stage("o", "a", split={"o1": "x > 0", "o2": "x > 1", "o3": "x > 9"}), stage("o1", "o", does=waits())),
    *(stage("o2", "o"), stage("o3", "o"), stage("oj", "o1", "o2", "o3", join="OR")),
    *(stage("d1", "a", does=waits()), stage("d2", "a"), stage("d", "d1", "d2", join="DISC")),
    *(stage("e1", "a"), stage("e2", "a", does=waits()), stage("e3", "a"), stage("e", "e1", "e2", "e3", join="2/3")),
    *(locked("l1", "a", does=waits()), locked("l2", "a")),
    *(stage("p", "a", does=waits(), **CHOICE), stage("q", "a", does=waits(), **CHOICE)),
    *(stage("c1", "a"), stage("c2", "c1", does=jumps("c1", 2))),
    stage("z", "oj", "d", "e", "l1", "l2", "p", "q", "c2"),
)
BEFORE = "a o o2 d2 d e1 e3 e c1×3 c2"
SIGNALLED = ("e2", "o1", "q", "l1", "d1")
AT_THE_END = expect(
    ran=f"{BEFORE} e2 o1 oj q l1 l2 d1 z",
    statuses={
        "a o o1 o2 oj d1 d2 d e1 e2 e3 e l1 l2 q c1 c2 z": "SUCCEEDED",
        "o3": "SKIPPED",
        "p": "CANCELED",
    },
    rows={"z": 1, "d": 1, "e": 1, "oj": 1},
    disjoint="l1 l2",
    wf="SUCCEEDED",
)


def dies_soon(seed):
    """Have the process killed after one of the next commits."""
    chance = random.Random(seed)
    return do(lambda world: setattr(world, "crash", after_commits(world._commits + chance.randint(1, 3))))


def killed(seed, *steps):
    """Kill the process some time during each of these steps; a killed process remembers nothing."""
    return tuple(replace(together(dies_soon(f"{seed} {at}"), step), file_only=True) for at, step in enumerate(steps))


ALL_PATTERNS = (3, 6, 7, 9, 10, 16, 30, 39)
AT_ONCE = [
    Case(
        id="T15",
        title="seven patterns run side by side into one AND-join; the process is killed anywhere",
        pattern=ALL_PATTERNS,
        graph=EVERYTHING,
        context={"x": 2},
        everywhere=True,
        steps=(
            expect(ran=BEFORE, statuses={"l1 p q o1 d1 e2": "SUSPENDED", "l2 z": "NOT_STARTED"}, wf="RUNNING"),
            *(signal(ref) for ref in SIGNALLED),
            AT_THE_END,
        ),
    ),
    *(
        Case(
            id=f"T15 kills {seed}",
            title="the process is killed six times at moments that were drawn",
            pattern=ALL_PATTERNS,
            graph=EVERYTHING,
            context={"x": 2},
            crash=after_commits(seed),
            steps=(
                *killed(seed, *(signal(ref) for ref in SIGNALLED)),
                expect(check=lambda world: world.crashes == 6, wf=None),
                AT_THE_END,
            ),
        )
        for seed in range(1, 5)
    ),
]

test_pattern = matrix([*CHOICES, *JUMPS, *COUNTS, *NESTED, *AT_ONCE])
