"""Cancelling a region, cancelling and completing a multi-instance activity (WCP-25 to WCP-27)."""

from __future__ import annotations

from stabilize_nb import TaskExecution
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from tests.scenarios.case import (
    Case,
    add,
    cancel,
    cancel_region,
    cancel_workflow,
    complete,
    expect,
    jumps,
    kill,
    matrix,
    once,
    sees,
    signal,
    stage,
    together,
    twice,
    waits,
)

R = "R"

#: `a → {p!R → p2R → p3, q! → {q2R → q3, u}}`
SCATTERED = (
    stage("a"),
    stage("p", "a", does=waits(), cancel_region=R),
    stage("p2", "p", cancel_region=R),
    stage("p3", "p2"),
    stage("q", "a", does=waits()),
    stage("q2", "q", cancel_region=R),
    stage("q3", "q2"),
    stage("u", "q"),
)
SCATTERED_CANCELED = expect(
    ran="a",
    statuses={"p p2 q2": "CANCELED", "q": "SUSPENDED", "u": "NOT_STARTED"},
    on_cancel="p",
    context={"p": {"_cancel_reason": "region:R"}},
    wf="RUNNING",
)
SCATTERED_END = expect(
    ran="a q u",
    statuses={"p p2 q2": "CANCELED", "p3 q3": "SKIPPED", "q u": "SUCCEEDED"},
    on_cancel="p",
    wf="SUCCEEDED",
)

REGIONS = [
    Case(
        id="S25.1",
        title="members are withdrawn wherever they are, and those that have not begun never will",
        graph=SCATTERED,
        everywhere=True,
        steps=(cancel_region(R), SCATTERED_CANCELED, signal("q"), SCATTERED_END),
    ),
    Case(
        id="S25.1 again",
        title="cancelling a region once more changes nothing",
        graph=SCATTERED,
        steps=(
            twice(cancel_region(R)),
            cancel_region(R),
            signal("p", persistent=True),
            SCATTERED_CANCELED,
            signal("q"),
            cancel_region(R),
            SCATTERED_END,
        ),
    ),
    Case(
        id="S25.1 activations",
        title="all activations of a member are withdrawn",
        graph=(
            stage("a"),
            stage("f", "a"),
            stage("g", "a"),
            stage("m", "f", "g", join="MM", does=waits(), cancel_region=R),
            stage("n", "m"),
            stage("u", "a"),
        ),
        steps=(
            expect(ran="a f g u", statuses={"m m#2": "SUSPENDED"}, wf="RUNNING"),
            cancel_region(R),
            expect(
                ran="a f g u",
                statuses={"m m#2": "CANCELED", "n": "SKIPPED", "n#2": None},
                on_cancel="m m#2",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S25.1 lock",
        title="a member that waits for a lock is withdrawn, and whoever is next gets it",
        graph=(
            stage("a"),
            stage("x", "a", does=waits(), mutex_key="k"),
            stage("p", "a", mutex_key="k", cancel_region=R),
            stage("y", "a", mutex_key="k"),
        ),
        steps=(
            cancel_region(R),
            expect(ran="a", statuses={"x": "SUSPENDED", "p": "CANCELED", "y": "NOT_STARTED"}, wf="RUNNING"),
            signal("x"),
            expect(ran="a x y", statuses={"p": "CANCELED"}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S25.1 holder",
        title="a member that holds a lock frees it",
        graph=(
            stage("a"),
            stage("x", "a", does=waits(), mutex_key="k", cancel_region=R),
            stage("p", "a", mutex_key="k", cancel_region=R),
            stage("y", "a", mutex_key="k"),
        ),
        steps=(
            cancel_region(R),
            expect(ran="a y", statuses={"x p": "CANCELED"}, on_cancel="x", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S25.2",
        title="a join outside goes on without the members",
        graph=(
            stage("a"),
            stage("p", "a", does=waits(), cancel_region=R),
            stage("p2", "p"),
            stage("q", "a"),
            stage("j", "p2", "q"),
            stage("z", "j"),
        ),
        steps=(
            expect(ran="a q", statuses={"j": "NOT_STARTED"}, wf="RUNNING"),
            cancel_region(R),
            expect(ran="a q j z", statuses={"p": "CANCELED", "p2": "SKIPPED"}, on_cancel="p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S25.2 or",
        title="an OR-join waits for the branch outside the region only",
        graph=(
            stage("a"),
            stage("p", "a", does=waits(), cancel_region=R),
            stage("p2", "p"),
            stage("q", "a", does=waits()),
            stage("j", "p2", "q", join="OR"),
            stage("z", "j"),
        ),
        steps=(
            cancel_region(R),
            expect(ran="a", statuses={"p": "CANCELED", "p2": "SKIPPED", "q": "SUSPENDED"}, wf="RUNNING"),
            signal("q"),
            expect(ran="a q j z", statuses={"p": "CANCELED", "p2": "SKIPPED"}, on_cancel="p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S25.3",
        title="a complete member stays as it is; an unknown region changes nothing",
        graph=(
            stage("a"),
            stage("p", "a", cancel_region=R),
            stage("q", "a", does=waits(), cancel_region=R),
            stage("u", "p", does=waits()),
        ),
        steps=(
            cancel_region("S"),
            cancel_region(""),
            expect(ran="a p", statuses={"p": "SUCCEEDED", "q u": "SUSPENDED"}, on_cancel="", wf="RUNNING"),
            cancel_region(R),
            expect(
                ran="a p",
                statuses={"p": "SUCCEEDED", "q": "CANCELED", "u": "SUSPENDED"},
                on_cancel="q",
                wf="RUNNING",
            ),
            signal("u"),
            expect(ran="a p u", statuses={"p": "SUCCEEDED", "q": "CANCELED"}, on_cancel="q", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S25.4",
        title="a workflow that arrives nowhere because its only branch is a region is cancelled",
        graph=(stage("a"), stage("p", "a", does=waits(), cancel_region=R), stage("p2", "p")),
        steps=(
            cancel_region(R),
            expect(ran="a", statuses={"p": "CANCELED", "p2": "SKIPPED"}, on_cancel="p", wf="CANCELED"),
        ),
    ),
    Case(
        id="S25.4 in the model",
        title="a member that cancels its own region completes first, and its thread goes on",
        graph=(
            stage("a"),
            stage("p", "a", does=waits(), cancel_region=R),
            stage("p2", "p"),
            stage("killer", "a", does=waits(), cancel_region=R, cancels_regions={R}),
            stage("n", "killer"),
        ),
        steps=(
            signal("killer"),
            expect(
                ran="a killer n",
                statuses={"killer n": "SUCCEEDED", "p": "CANCELED", "p2": "SKIPPED"},
                on_cancel="p",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S25.4 loop",
        title="what a loop makes anew in a cancelled region is not affected by the old cancel",
        graph=(
            stage("a"),
            stage("p", "a", does=waits(), cancel_region=R),
            stage("q", "a"),
            stage("j", "p", "q"),
            stage("k", "j", does=jumps("a")),
            stage("z", "k"),
        ),
        steps=(
            cancel_region(R),
            expect(ran="a×2 q×2 j", statuses={"p": "SUSPENDED", "j": "NOT_STARTED"}, on_cancel="p", wf="RUNNING"),
            signal("p"),
            expect(ran="a×2 q×2 p j×2 k z", statuses={"p z": "SUCCEEDED"}, on_cancel="p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S25.5",
        title="the process is killed between the request and its effect: the effect comes",
        graph=SCATTERED,
        steps=(together(cancel_region(R), kill()), SCATTERED_CANCELED, signal("q"), SCATTERED_END),
    ),
    Case(
        id="S25.5 meanwhile",
        title="a member that becomes enabled meanwhile does not run",
        graph=SCATTERED,
        steps=(together(cancel_region(R), signal("q"), kill()), SCATTERED_END),
    ),
    Case(
        id="S25.5 in the model",
        title="the process is killed when the cancelling member has completed: the region is cancelled",
        graph=(
            stage("a"),
            stage("p", "a", does=waits(), cancel_region=R),
            stage("p2", "p", cancel_region=R),
            stage("killer", "a", does=waits(), cancels_regions={R}),
            stage("n", "killer"),
        ),
        crash=once("killer", "SUCCEEDED"),
        steps=(
            signal("killer"),
            expect(ran="a killer n", statuses={"killer n": "SUCCEEDED", "p p2": "CANCELED"}, wf="SUCCEEDED"),
        ),
    ),
]

# -- multi-instance activities ------------------------------------------------------------------------


def fixed(count, **fields):
    """Make a fixed number of instances of `p`, and their join, with other fields of each stage."""

    def make(made):
        stages = MultiInstanceBuilder.create_fixed(made["p"], count)
        for each in stages:
            for name, value in fields.items():
                setattr(each, name, value)
        return stages

    return make


def dynamic(count):
    """Make an activity `p` to which instances can be added."""
    return lambda made: MultiInstanceBuilder.create_dynamic(made["p"], count)


def collecting(count):
    """Make instances whose join collects what they give."""

    def make(made):
        *instances, join = MultiInstanceBuilder.create_fixed(made["p"], count)
        join.tasks = [TaskExecution.create("join", "script", stage_start=True, stage_end=True)]
        join.output_reducers = {"found": "collect"}
        return [*instances, join]

    return make


def refused(times):
    """Check that so many additions were refused, and that the parent and the log say so."""
    return lambda world: (
        len(world.row("p").context.get("_mi_refused", [])) == times == len(world.events("instance.refused"))
    )


WAITING = {"p_instance_*": waits()}
BESIDE = (stage("a"), stage("p", "a"), stage("next", "p_mi_join"), stage("other", "a", does=waits()))
ALONE = (stage("a"), stage("p", "a"), stage("next", "p_mi_join"))
ONE_OF_THREE = {"p p_instance_0": "SUCCEEDED", "p_instance_1 p_instance_2 p_mi_join": "CANCELED"}

CANCEL_INSTANCES = [
    Case(
        id="S26.1",
        title="what is not complete in an activity is withdrawn, what follows does not run, the rest goes on",
        graph=(*BESIDE, fixed(3)),
        bodies=WAITING,
        everywhere=True,
        steps=(
            signal("p_instance_0"),
            cancel("p"),
            expect(
                ran="a p p_instance_0",
                statuses=ONE_OF_THREE | {"next": "NOT_STARTED", "other": "SUSPENDED"},
                on_cancel="p_instance_1 p_instance_2",
                context={"p_instance_1": {"_cancel_reason": "mi_canceled"}},
                wf="RUNNING",
            ),
            signal("p_instance_1"),
            signal("other"),
            expect(
                ran="a p p_instance_0 other",
                statuses=ONE_OF_THREE | {"next": "NOT_STARTED"},
                on_cancel="p_instance_1 p_instance_2",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S26.1 alone",
        title="a workflow that has no other end is cancelled",
        graph=(*ALONE, fixed(3)),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            cancel("p"),
            expect(
                ran="a p p_instance_0",
                statuses=ONE_OF_THREE | {"next": "NOT_STARTED"},
                on_cancel="p_instance_1 p_instance_2",
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S26.1 parent",
        title="a parent that has not completed is cancelled as any stage: no instance is enabled",
        graph=(stage("a"), stage("p", "a", does=waits()), stage("next", "p_mi_join"), fixed(3)),
        bodies=WAITING,
        steps=(
            cancel("p"),
            expect(
                ran="a",
                statuses={"p": "CANCELED", "p_instance_0 p_instance_2 p_mi_join next": "NOT_STARTED"},
                on_cancel="p",
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S26.1 lock",
        title="instances that wait for their lock are cancelled without having run",
        graph=(*BESIDE, fixed(3, mutex_key="k"), stage("y", "other", mutex_key="k")),
        bodies=WAITING,
        steps=(
            cancel("p"),
            expect(
                ran="a p",
                statuses={"p_instance_0 p_instance_1 p_instance_2 p_mi_join": "CANCELED", "next": "NOT_STARTED"},
                check=lambda world: world.forgiving or sum(world.cancels.values()) == 1,
                wf="RUNNING",
            ),
            signal("other"),
            expect(ran="a p other y", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S26.2",
        title="an activity cancelled by its region passes no thread on",
        graph=(*ALONE, fixed(3, cancel_region=R)),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            cancel_region(R),
            expect(
                ran="a p p_instance_0",
                statuses=ONE_OF_THREE | {"next": "SKIPPED"},
                on_cancel="p_instance_1 p_instance_2",
                wf="CANCELED",
            ),
        ),
    ),
    Case(
        id="S26.2 beside",
        title="another end of the workflow is not affected",
        graph=(*BESIDE, fixed(3, cancel_region=R)),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            cancel_region(R),
            expect(statuses=ONE_OF_THREE | {"other": "SUSPENDED"}, wf="RUNNING"),
            signal("other"),
            expect(
                ran="a p p_instance_0 other",
                statuses=ONE_OF_THREE | {"next": "SKIPPED"},
                on_cancel="p_instance_1 p_instance_2",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S26.3",
        title="an activity that is over cannot be cancelled",
        graph=(stage("a"), stage("p", "a"), stage("next", "p_mi_join", does=waits()), fixed(2)),
        steps=(
            cancel("p"),
            expect(
                ran="a p p_instance_0 p_instance_1",
                statuses={"p p_instance_0 p_instance_1 p_mi_join": "SUCCEEDED", "next": "SUSPENDED"},
                on_cancel="",
                wf="RUNNING",
            ),
            signal("next"),
            expect(ran="a p p_instance_0 p_instance_1 next", on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S26.3 addition",
        title="an addition to a cancelled activity is refused, and said to be",
        graph=(*BESIDE, dynamic(1)),
        bodies=WAITING,
        steps=(
            cancel("p"),
            add("p"),
            expect(statuses={"p_instance_0 p_mi_join": "CANCELED", "p_instance_1": None}, wf="RUNNING"),
            signal("other"),
            add("p"),
            expect(
                ran="a p other",
                statuses={"p_instance_0 p_mi_join": "CANCELED", "next": "NOT_STARTED", "p_instance_1": None},
                on_cancel="p_instance_0",
                check=refused(2),
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S26.3 added",
        title="added instances are cancelled with the others",
        graph=(*BESIDE, dynamic(1)),
        bodies=WAITING,
        steps=(
            add("p"),
            cancel("p"),
            signal("other"),
            expect(
                ran="a p other",
                statuses={"p_instance_0 p_instance_1 p_mi_join": "CANCELED", "next": "NOT_STARTED"},
                on_cancel="p_instance_0 p_instance_1",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S26.3 crash",
        title="the process is killed between the request and its effect: the effect comes",
        graph=(*BESIDE, fixed(3)),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            together(cancel("p"), kill()),
            signal("other"),
            expect(
                ran="a p p_instance_0 other",
                statuses=ONE_OF_THREE | {"next": "NOT_STARTED"},
                on_cancel="p_instance_1 p_instance_2",
                wf="SUCCEEDED",
            ),
        ),
    ),
]

REST_OF_FOUR = "p_instance_1 p_instance_2 p_instance_3"
COMPLETED = {"p p_instance_0 p_mi_join next": "SUCCEEDED", REST_OF_FOUR: "CANCELED"}
FINDS = {"p_instance_*": waits(then=lambda running: {"found": [running.ref_id], running.ref_id: True})}

COMPLETE_INSTANCES = [
    Case(
        id="S27.1",
        title="an activity forced to complete withdraws the rest and goes on with what is complete",
        graph=(stage("a"), stage("p", "a"), stage("next", "p_mi_join", does=sees("found", "p_instance_1")), fixed(4)),
        bodies=FINDS,
        everywhere=True,
        steps=(
            signal("p_instance_0"),
            complete("p"),
            expect(
                ran="a p p_instance_0 next",
                noted={"next": [{"found": ["p_instance_0"], "p_instance_1": None}]},
                statuses=COMPLETED,
                on_cancel=REST_OF_FOUR,
                context={"p_instance_1": {"_cancel_reason": "mi_completed"}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S27.1 reducers",
        title="reducers of the join collect from the completed instances only",
        graph=(*ALONE, collecting(4)),
        bodies=FINDS | {"p_mi_join": sees("found"), "next": sees("p_instance_0", "p_instance_2", "p_instance_3")},
        steps=(
            signal("p_instance_0"),
            signal("p_instance_2"),
            complete("p"),
            expect(
                ran="a p p_instance_0 p_instance_2 p_mi_join next",
                noted={
                    "p_mi_join": [{"found": [["p_instance_0"], ["p_instance_2"]]}],
                    "next": [{"p_instance_0": True, "p_instance_2": True, "p_instance_3": None}],
                },
                statuses={"p_instance_1 p_instance_3": "CANCELED"},
                on_cancel="p_instance_1 p_instance_3",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S27.2",
        title="an activity of which nothing is complete goes on too",
        graph=(*ALONE, fixed(4)),
        bodies=WAITING,
        steps=(
            complete("p"),
            expect(
                ran="a p next",
                statuses={"p p_mi_join next": "SUCCEEDED", f"p_instance_0 {REST_OF_FOUR}": "CANCELED"},
                on_cancel=f"p_instance_0 {REST_OF_FOUR}",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S27.2 twice",
        title="an activity is completed once, whoever asks again",
        graph=(*ALONE, fixed(4), stage("z", "next", does=waits())),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            together(complete("p"), complete("p")),
            twice(complete("p")),
            expect(ran="a p p_instance_0 next", statuses=COMPLETED | {"z": "SUSPENDED"}, wf="RUNNING"),
            cancel("p"),
            complete("p"),
            signal("z"),
            expect(
                ran="a p p_instance_0 next z",
                statuses=COMPLETED,
                on_cancel=REST_OF_FOUR,
                rows={"next": 1},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S27.2 too early",
        title="an activity whose parent has not completed cannot be completed",
        graph=(stage("a"), stage("p", "a", does=waits()), stage("next", "p_mi_join"), fixed(2)),
        bodies=WAITING,
        steps=(
            complete("p"),
            signal("p"),
            expect(ran="a p", statuses={"p_instance_0 p_instance_1": "SUSPENDED"}, on_cancel="", wf="RUNNING"),
            signal("p_instance_0"),
            signal("p_instance_1"),
            expect(ran="a p p_instance_0 p_instance_1 next", on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S27.2 over",
        title="an activity or a workflow that is over stays as it is",
        graph=(*ALONE, fixed(2)),
        steps=(
            complete("p"),
            complete("next"),
            cancel_workflow(),
            expect(ran="a p p_instance_0 p_instance_1 next", on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S27.3",
        title="completing an activity closes it: later additions are refused",
        graph=(stage("a"), stage("p", "a"), stage("next", "p_mi_join", does=waits()), dynamic(1)),
        bodies=WAITING,
        steps=(
            add("p"),
            signal("p_instance_1"),
            together(complete("p"), add("p")),
            add("p"),
            expect(
                ran="a p p_instance_1",
                statuses={"p_instance_0": "CANCELED", "p_instance_2": None, "next": "SUSPENDED"},
                wf="RUNNING",
            ),
            signal("next"),
            add("p"),
            expect(
                ran="a p p_instance_1 next",
                statuses={"p_instance_0": "CANCELED", "p_instance_2": None, "p_mi_join": "SUCCEEDED"},
                on_cancel="p_instance_0",
                check=refused(3),
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S27.3 nothing added",
        title="completing an activity to which nothing was added goes on",
        graph=(*ALONE, dynamic(0)),
        steps=(
            expect(ran="a p", statuses={"p_mi_join next": "NOT_STARTED"}, wf="RUNNING"),
            complete("p"),
            add("p"),
            expect(ran="a p next", statuses={"p_instance_0": None}, check=refused(1), wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S27.3 crash",
        title="the process is killed between the request and its effect: what follows runs once",
        graph=(*ALONE, fixed(4)),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            together(complete("p"), kill()),
            expect(ran="a p p_instance_0 next", statuses=COMPLETED, on_cancel=REST_OF_FOUR, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S27.3 crash at the join",
        title="the process is killed when the join has fired: what follows runs once",
        graph=(*ALONE, fixed(4)),
        bodies=WAITING,
        crash=once("p_mi_join", "SUCCEEDED"),
        steps=(
            signal("p_instance_0"),
            complete("p"),
            expect(ran="a p p_instance_0 next", statuses=COMPLETED, wf="SUCCEEDED"),
        ),
    ),
]

test_pattern = matrix([*REGIONS, *CANCEL_INSTANCES, *COMPLETE_INSTANCES])
