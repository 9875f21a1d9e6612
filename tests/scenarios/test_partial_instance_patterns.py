"""Joins that do not wait for all instances of an activity (WCP-34 to WCP-36)."""

from __future__ import annotations

from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from tests.scenarios.case import (
    Case,
    add,
    close,
    expect,
    fails,
    inside,
    jumps,
    kill,
    matrix,
    ok,
    once,
    signal,
    soft,
    stage,
    together,
    twice,
    waits,
)


def fixed(count, *, lock=None, **options):
    """Make the instances of `p`, which wait, and their join."""

    def make(made):
        stages = MultiInstanceBuilder.create_fixed(made["p"], count, **options)
        for each in stages[:-1]:
            each.mutex_key = lock
        return stages

    return make


def dynamic(count, **options):
    """Make an activity `p` to which instances may be added."""
    return lambda made: MultiInstanceBuilder.create_dynamic(made["p"], count, **options)


def of_p(*indexes):
    """Write the instances of `p` with these indexes."""
    return " ".join(f"p_instance_{index}" for index in indexes)


P = stage("p")
NEXT = stage("next", "p_mi_join")
#: A loop around the activity.
LOOP = (stage("k", "p_mi_join", does=jumps("p")), stage("z", "k"))
WAITING = {"p_instance_*": waits()}

THREE_OF_FIVE = (P, fixed(5, join_threshold=3), NEXT)
THREE_SIGNALS = (signal("p_instance_1"), signal("p_instance_4"), signal("p_instance_0"))
THREE_RAN = f"p {of_p(1, 4, 0)} next"

STATIC = [
    Case(
        id="S34.1",
        title="the third of five instances lets the join pass; the others run on without effect",
        graph=THREE_OF_FIVE,
        bodies=WAITING,
        steps=(
            *THREE_SIGNALS[:2],
            expect(ran=f"p {of_p(1, 4)}", statuses={"next": "NOT_STARTED"}, wf="RUNNING"),
            THREE_SIGNALS[2],
            expect(ran=THREE_RAN, statuses={of_p(2, 3): "SUSPENDED", "next": "SUCCEEDED"}, wf="RUNNING"),
            signal("p_instance_2"),
            signal("p_instance_3"),
            expect(ran=f"p {of_p(*range(5))} next", rows={"next": 1, "p_mi_join": 1}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S34.1 loop",
        title="a jump begins the activity anew, with the threshold of its own",
        graph=(P, fixed(3, join_threshold=2), *LOOP),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            signal("p_instance_1"),
            expect(
                ran=f"p×2 {of_p(0, 1)}", statuses={of_p(0, 1, 2): "SUSPENDED"}, on_cancel="p_instance_2", wf="RUNNING"
            ),
            signal("p_instance_2"),
            expect(ran=f"p×2 {of_p(0, 1, 2)}", statuses={"k": "NOT_STARTED"}, wf="RUNNING"),
            signal("p_instance_1"),
            expect(ran="p×2 p_instance_0 p_instance_1×2 p_instance_2 k z", wf="RUNNING"),
            signal("p_instance_0"),
            expect(ran="p×2 p_instance_0×2 p_instance_1×2 p_instance_2 k z", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S34.2",
        title="a threshold above the number of instances is refused",
        graph=(P, fixed(5, join_threshold=6)),
        rejected="waits for 6 of 5 instances",
    ),
    Case(
        id="S34.2 run time",
        title="a threshold above a number that is known only at run time fails the join, which names both",
        graph=(
            stage("p", does=ok(num=2)),
            lambda made: MultiInstanceBuilder.create_from_context(made["p"], "num", join_threshold=3),
            NEXT,
        ),
        steps=(
            expect(
                statuses={"p_mi_join": "TERMINAL", "next": "NOT_STARTED"},
                errors={"p_mi_join": "3"},
                check=lambda world: world.ran("next") == 0,
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S34.2 tolerated",
        title="an instance with a tolerated failure counts",
        graph=(P, fixed(3, join_threshold=2), NEXT),
        bodies={"p_instance_0": soft()} | WAITING,
        steps=(
            expect(ran="p p_instance_0", wf="RUNNING"),
            signal("p_instance_1"),
            expect(ran=f"p {of_p(0, 1)} next", wf="RUNNING"),
            signal("p_instance_2"),
            expect(ran=f"p {of_p(0, 1, 2)} next", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S34.2 failed",
        title="an instance that fails after the threshold fails the workflow",
        graph=(P, fixed(3, join_threshold=1), NEXT),
        bodies={"p_instance_0": ok(), "p_instance_1": waits(then=fails())} | WAITING,
        steps=(
            expect(ran="p p_instance_0 next", wf="RUNNING"),
            signal("p_instance_1"),
            expect(
                ran=f"p {of_p(0, 1)} next",
                statuses={"p_instance_1": "TERMINAL", "p_instance_2": "CANCELED", "next": "SUCCEEDED"},
                on_cancel="p_instance_2",
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S34.3",
        title="the process is killed when the third instance has completed",
        graph=THREE_OF_FIVE,
        bodies=WAITING,
        crash=once("p_instance_0", "SUCCEEDED"),
        steps=(
            *THREE_SIGNALS,
            expect(ran=THREE_RAN, started="next", statuses={of_p(2, 3): "SUSPENDED"}, wf="RUNNING"),
            signal("p_instance_2"),
            signal("p_instance_3"),
            expect(ran=f"p {of_p(*range(5))} next", rows={"next": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S34.3 anywhere",
        title="the process is killed anywhere: the threshold is reached once",
        graph=(P, fixed(3, join_threshold=1), NEXT),
        bodies={"p_instance_0": ok(), "p_instance_1": soft()} | WAITING,
        everywhere=True,
        steps=(
            expect(ran=f"p {of_p(0, 1)} next", statuses={"p_instance_2": "SUSPENDED"}, wf="RUNNING"),
            signal("p_instance_2"),
            expect(ran=f"p {of_p(0, 1, 2)} next", rows={"next": 1, "p_mi_join": 1}, wf="SUCCEEDED"),
        ),
    ),
]

CANCELLING_THREE_OF_FIVE = (P, fixed(5, join_threshold=3, cancel_remaining=True), NEXT)
AFTER_THREE = expect(
    ran=THREE_RAN,
    statuses={of_p(0, 1, 4): "SUCCEEDED", of_p(2, 3): "CANCELED"},
    context={"p_instance_2": {"_cancel_reason": "mi_threshold"}},
    wf="SUCCEEDED",
)

CANCELLING_INSTANCES = [
    Case(
        id="S35.1",
        title="the third of five instances lets the join pass and cancels the others",
        graph=CANCELLING_THREE_OF_FIVE,
        bodies=WAITING,
        steps=(*THREE_SIGNALS, AFTER_THREE, expect(on_cancel=of_p(2, 3), wf="SUCCEEDED")),
    ),
    Case(
        id="S35.2",
        title="instances that wait for a lock are cancelled without having run",
        graph=(P, fixed(3, join_threshold=1, cancel_remaining=True, lock="k"), NEXT),
        bodies=WAITING,
        steps=(
            expect(statuses={"p_instance_0": "SUSPENDED", of_p(1, 2): "NOT_STARTED"}, wf="RUNNING"),
            signal("p_instance_0"),
            # whoever got the lock with the same commit was withdrawn with it, and had not begun
            expect(
                ran="p p_instance_0 next",
                started="p_instance_1×0 p_instance_2×0",
                statuses={"p_instance_0": "SUCCEEDED", of_p(1, 2): "CANCELED"},
                on_cancel="",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S35.3",
        title="in a loop each pass begins with all instances",
        graph=(P, fixed(3, join_threshold=1, cancel_remaining=True), *LOOP),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            expect(ran="p×2 p_instance_0", statuses={of_p(0, 1, 2): "SUSPENDED"}, on_cancel=of_p(1, 2), wf="RUNNING"),
            signal("p_instance_2"),
            expect(
                ran=f"p×2 {of_p(0, 2)} k z",
                statuses={of_p(0, 1): "CANCELED", "p_instance_2": "SUCCEEDED"},
                on_cancel="p_instance_0 p_instance_1×2 p_instance_2",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S35.4",
        title="the process is killed when the third instance has completed: the others are cancelled",
        graph=CANCELLING_THREE_OF_FIVE,
        bodies=WAITING,
        crash=once("p_instance_0", "SUCCEEDED"),
        steps=(*THREE_SIGNALS, AFTER_THREE),
    ),
    Case(
        id="S35.4 next",
        title="the process is killed inside the next stage: the others stay cancelled",
        graph=CANCELLING_THREE_OF_FIVE,
        bodies=WAITING,
        crash=inside("next"),
        steps=(*THREE_SIGNALS, AFTER_THREE, expect(started="next×2", wf="SUCCEEDED")),
    ),
    Case(
        id="S35.4 anywhere",
        title="the process is killed anywhere: the others are cancelled",
        graph=(P, fixed(3, join_threshold=1, cancel_remaining=True), NEXT),
        bodies=WAITING,
        everywhere=True,
        steps=(
            signal("p_instance_1"),
            expect(
                ran="p p_instance_1 next",
                statuses={"p_instance_1": "SUCCEEDED", of_p(0, 2): "CANCELED"},
                rows={"next": 1},
                on_cancel=of_p(0, 2),
                wf="SUCCEEDED",
            ),
        ),
    ),
]

REFUSED = {"p": {"_mi_refused": ["the activity is over"]}}
DYNAMIC = (P, dynamic(2, join_threshold=3), NEXT)
HALF = (P, dynamic(4, completion_condition="completed >= 0.5 * total"), NEXT)
TWO_SIGNALS = (signal("p_instance_0"), signal("p_instance_1"))

DYNAMIC_INSTANCES = [
    Case(
        id="S36.1",
        title="instances are added until the threshold is reached; then no more",
        graph=DYNAMIC,
        bodies=WAITING,
        everywhere=True,
        steps=(
            *TWO_SIGNALS,
            expect(ran=f"p {of_p(0, 1)}", statuses={"p_mi_join next": "NOT_STARTED"}, wf="RUNNING"),
            add("p", data="x"),
            add("p", data="y"),
            expect(
                statuses={of_p(2, 3): "SUSPENDED", "next": "NOT_STARTED"},
                context={"p_instance_2": {"data": "x"}, "p_instance_3": {"data": "y"}},
                wf="RUNNING",
            ),
            signal("p_instance_2"),
            expect(ran=f"p {of_p(0, 1, 2)} next", statuses={"p_instance_3": "SUSPENDED"}, wf="RUNNING"),
            add("p", data="late"),
            expect(context=REFUSED, statuses={"p_instance_4": None}, wf="RUNNING"),
            signal("p_instance_3"),
            expect(ran=f"p {of_p(0, 1, 2, 3)} next", rows={"next": 1}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.2",
        title="a condition is looked at whenever an instance completes; the others run on to their end",
        graph=HALF,
        bodies=WAITING,
        steps=(
            signal("p_instance_3"),
            expect(ran="p p_instance_3", wf="RUNNING"),
            signal("p_instance_0"),
            expect(ran=f"p {of_p(0, 3)} next", statuses={of_p(1, 2): "SUSPENDED"}, wf="RUNNING"),
            signal("p_instance_1"),
            signal("p_instance_2"),
            expect(ran=f"p {of_p(*range(4))} next", rows={"next": 1}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.2 total",
        title="an added instance counts in the total",
        graph=HALF,
        bodies=WAITING,
        steps=(
            together(add("p"), add("p")),
            *TWO_SIGNALS,
            expect(ran=f"p {of_p(0, 1)}", wf="RUNNING"),
            signal("p_instance_5"),
            expect(ran=f"p {of_p(0, 1, 5)} next", wf="RUNNING"),
            *(signal(f"p_instance_{index}") for index in (2, 3, 4)),
            expect(ran=f"p {of_p(*range(6))} next", rows={"next": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.2 outputs",
        title="a condition sees what the completed instances gave and what the parent sees",
        graph=(
            stage("a", does=ok(wanted="yes")),
            stage("p", "a"),
            dynamic(3, completion_condition="total == 3 and outputs[-1]['vote'] == wanted"),
            NEXT,
        ),
        bodies={"p_instance_1": waits(then=ok(vote="yes")), "p_instance_*": waits(then=ok(vote="no"))},
        steps=(
            signal("p_instance_0"),
            expect(ran="a p p_instance_0", wf="RUNNING"),
            signal("p_instance_1"),
            expect(ran=f"a p {of_p(0, 1)} next", wf="RUNNING"),
            signal("p_instance_2"),
            expect(ran=f"a p {of_p(0, 1, 2)} next", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.3",
        title="a closed activity takes no more, and is complete with its last instance",
        graph=DYNAMIC,
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            close("p"),
            add("p"),
            expect(
                ran="p p_instance_0",
                context={"p": {"_mi_refused": ["the activity was closed"]}},
                statuses={"p_instance_2": None},
                wf="RUNNING",
            ),
            signal("p_instance_1"),
            expect(ran=f"p {of_p(0, 1)} next", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.3 complete",
        title="closing an activity whose instances are all complete lets the join pass",
        graph=DYNAMIC,
        bodies=WAITING,
        steps=(
            *TWO_SIGNALS,
            expect(ran=f"p {of_p(0, 1)}", wf="RUNNING"),
            twice(close("p")),
            expect(ran=f"p {of_p(0, 1)} next", rows={"next": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.3 empty",
        title="closing an activity to which nothing was added lets the join pass",
        graph=(P, dynamic(0), NEXT),
        steps=(
            expect(ran="p", wf="RUNNING"),
            close("p"),
            expect(ran="p next", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.4 addition",
        title="the process is killed between an addition and its effect",
        graph=DYNAMIC,
        bodies=WAITING,
        steps=(
            *TWO_SIGNALS,
            together(add("p", data="x"), kill()),
            expect(statuses={"p_instance_2": "SUSPENDED", "p_instance_3": None}, wf="RUNNING"),
            signal("p_instance_2"),
            expect(ran=f"p {of_p(0, 1, 2)} next", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.4 close",
        title="the process is killed between a closing and its effect",
        graph=DYNAMIC,
        bodies=WAITING,
        steps=(
            *TWO_SIGNALS,
            together(close("p"), kill()),
            expect(ran=f"p {of_p(0, 1)} next", rows={"next": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S36.4 condition",
        title="the process is killed when the instance that makes the condition true has completed",
        graph=HALF,
        bodies=WAITING,
        crash=once("p_instance_1", "SUCCEEDED"),
        steps=(
            *TWO_SIGNALS,
            expect(ran=f"p {of_p(0, 1)} next", started="next", statuses={of_p(2, 3): "SUSPENDED"}, wf="RUNNING"),
            signal("p_instance_2"),
            signal("p_instance_3"),
            expect(ran=f"p {of_p(*range(4))} next", wf="SUCCEEDED"),
        ),
    ),
]

test_pattern = matrix([*STATIC, *CANCELLING_INSTANCES, *DYNAMIC_INSTANCES])
