"""Locks, threads that merge and split, ends that are stated (WCP-39 to WCP-43)."""

from __future__ import annotations

import time
from itertools import chain, pairwise

from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from stabilize_nb.tasks.sub_workflow import SubWorkflowTask
from tests.makers import Bench, refs, workflow
from tests.makers import stage as plain
from tests.scenarios.case import (
    Case,
    cancel,
    cancel_region,
    expect,
    fails,
    inside,
    jumps,
    matrix,
    meets,
    ok,
    once,
    passes,
    sees,
    signal,
    soft,
    stage,
    stops,
    waits,
)

YES, NO = "True", "False"


def sleeps(row):
    """Be at work for a while, long enough to meet whoever is at work too."""
    time.sleep(0.005)


def locked(ref, *after, **fields):
    """Make a stage that needs the lock "k"."""
    return stage(ref, *after, mutex_key="k", **fields)


# -- critical sections --------------------------------------------------------------------------------


def held(does, *others, **fields):
    """Make a holder `h` of the lock for which `w` waits; both are enabled by `a`, `h` first."""
    return (stage("a"), locked("h", "a", does=does, **fields), locked("w", "a"), *others)


def section(ref, *after, name, **fields):
    """Make a stage of a critical section."""
    return locked(ref, *after, critical_section=name, **fields)


def sections(d=None, **fields):
    """Make two sections on one key: one = b→d, two = c→e."""
    return (
        stage("a"),
        *(section("b", "a", name="one", does=sleeps), section("c", "a", name="two", does=sleeps)),
        *(section("d", "b", name="one", does=d or sleeps, **fields), section("e", "c", name="two", does=sleeps)),
    )


W_WAITS = expect(ran="a", statuses={"h": "SUSPENDED", "w": "NOT_STARTED"}, wf="RUNNING")

CRITICAL = [
    Case(
        id="S39.1",
        title="stages with one key are never at work together",
        graph=(stage("a"), locked("b", "a", does=sleeps), locked("c", "a", does=sleeps)),
        workers=2,
        repeat=20,
        steps=(expect(ran="a b c", disjoint="b c", rows={"b": 1, "c": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S39.1 other key",
        title="stages with different keys are at work together",
        graph=(
            stage("a"),
            *(stage(ref, "a", does=meets("both", 2), mutex_key=f"key of {ref}") for ref in "bc"),
        ),
        workers=2,
        steps=(expect(ran="a b c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S39.1 workflows",
        title="a key is one lock for all workflows of a store",
        graph=(locked("b", does=waits()), stage("c", "b")),
        flows=2,
        steps=(
            expect(ran="", statuses={"b": "SUSPENDED", "2/b": "NOT_STARTED"}, wf="RUNNING"),
            signal("b"),
            expect(ran="b c", statuses={"b c": "SUCCEEDED", "2/b": "SUSPENDED"}),
            signal("2/b"),
            expect(ran="b c 2/b 2/c", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S39.2 ~",
        title="a holder with a tolerated failure gives the lock up",
        graph=held(waits(then=soft())),
        steps=(W_WAITS, signal("h"), expect(ran="a h w", statuses={"h": "FAILED_CONTINUE"}, wf="SUCCEEDED")),
    ),
    Case(
        id="S39.2 ✗",
        title="a holder that fails gives the lock up to another workflow",
        graph=(locked("h", does=waits(then=fails())), stage("n", "h")),
        flows=2,
        steps=(
            signal("h"),
            expect(ran="h", statuses={"h": "TERMINAL", "2/h": "SUSPENDED"}),
            signal("2/h"),
            expect(ran="h 2/h", statuses={"h 2/h": "TERMINAL", "n 2/n": "NOT_STARTED"}, wf="TERMINAL"),
        ),
    ),
    Case(
        id="S39.2 ✗ same workflow",
        title="a holder that fails ends its workflow: a stage of it that has no lock yet does not begin",
        graph=held(waits(then=fails()), stage("n", "w")),
        # "the waiter runs" is the two workflows above; within one workflow 2.9 wins: from the failure on no stage
        # becomes enabled, and a stage without its lock is in nothing that it could finish
        steps=(
            signal("h"),
            expect(
                ran="a h",
                statuses={"h": "TERMINAL", "w n": "NOT_STARTED"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S39.2 ■",
        title="a holder that stops gives the lock up",
        graph=held(waits(then=stops())),
        steps=(signal("h"), expect(ran="a h w", statuses={"h": "STOPPED"}, wf="SUCCEEDED")),
    ),
    Case(
        id="S39.2 cancelled",
        title="a holder that is cancelled gives the lock up, and who waited is not cancelled",
        graph=held(waits()),
        steps=(
            W_WAITS,
            cancel("h"),
            expect(ran="a w", statuses={"h": "CANCELED", "w": "SUCCEEDED"}, on_cancel="h", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S39.2 withdrawn",
        title="a holder that is withdrawn gives the lock up",
        graph=held(waits(), cancel_region="R"),
        steps=(
            cancel_region("R"),
            expect(ran="a w", statuses={"h": "CANCELED", "w": "SUCCEEDED"}, on_cancel="h", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S39.2 jump",
        title="a holder that a jump resets gives the lock up, and gets in line again behind who waited",
        graph=(
            *(stage("b"), locked("h", "b", does=waits()), stage("x", "b", does=passes(waits(then=jumps("b")), ok()))),
            *(stage("o", does=waits()), locked("w", "o", does=waits())),
        ),
        steps=(
            signal("o"),
            expect(ran="b o", statuses={"h x": "SUSPENDED", "w": "NOT_STARTED"}, wf="RUNNING"),
            signal("x"),
            expect(ran="b×2 o x", statuses={"h": "NOT_STARTED", "w": "SUSPENDED"}, on_cancel="h", wf="RUNNING"),
            signal("w"),
            expect(ran="b×2 o x w", statuses={"h": "SUSPENDED"}, wf="RUNNING"),
            signal("h"),
            expect(ran="b×2 o x w h", on_cancel="h", disjoint="w h", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S39.2 disabled",
        title="a disabled stage takes no lock",
        graph=(stage("a"), locked("h", "a", enabled=False), locked("w", "a", does=waits()), stage("n", "h")),
        steps=(
            expect(ran="a n", statuses={"h": "SKIPPED", "w": "SUSPENDED"}, wf="RUNNING"),
            signal("w"),
            expect(ran="a n w", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S39.2 cancelled in line",
        title="a stage that is cancelled while it waits for the lock lets the next one have it",
        graph=(*held(waits()), locked("v", "a", does=waits())),
        steps=(
            cancel("w"),
            expect(ran="a", statuses={"h": "SUSPENDED", "w": "CANCELED", "v": "NOT_STARTED"}, wf="RUNNING"),
            signal("h"),
            expect(ran="a h", statuses={"v": "SUSPENDED"}, wf="RUNNING"),
            signal("v"),
            expect(ran="a h v", statuses={"w": "CANCELED"}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S39.2 line",
        title="those who wait get the lock in the order in which they became ready",
        graph=(
            locked("h", does=waits()),
            *(stage(f"o{at}", does=waits()) for at in (1, 2, 3)),
            *(locked(f"w{at}", f"o{at}") for at in (1, 2, 3)),
        ),
        steps=(
            *(signal(f"o{at}") for at in (2, 3, 1)),
            expect(ran="o1 o2 o3", wf="RUNNING"),
            signal("h"),
            expect(order="h w2 w3 w1", disjoint="h w1 w2 w3", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S39.3",
        title="a section of two stages is never mixed with another",
        graph=sections(),
        workers=4,
        repeat=20,
        steps=(expect(ran="a b c d e", order=("b d c e", "c e b d"), disjoint="b c d e", wf="SUCCEEDED"),),
    ),
    Case(
        id="S39.3 crash",
        title="a process that is killed anywhere keeps the sections apart",
        graph=sections(),
        crash=inside("d"),
        everywhere=True,
        steps=(expect(ran="a b c d e", order=("b d c e", "c e b d"), disjoint="b c d e", wf="SUCCEEDED"),),
    ),
    Case(
        id="S39.3 waiting",
        title="while one section waits in its second stage the other does not begin",
        graph=sections(waits()),
        steps=(
            expect(ran="a b", statuses={"d": "SUSPENDED", "c e": "NOT_STARTED"}, wf="RUNNING"),
            signal("d"),
            expect(order="b d c e", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S39.3 between",
        title="a section keeps its lock while a stage that does not belong to it lies between its stages",
        graph=(
            *(section("b", name="one"), stage("x", "b", does=waits()), section("d", "x", name="one")),
            *(stage("o", does=waits()), section("c", "o", name="two")),
        ),
        steps=(
            signal("o"),
            expect(ran="b o", statuses={"x": "SUSPENDED", "c d": "NOT_STARTED"}, wf="RUNNING"),
            signal("x"),
            expect(order="b o x d c", wf="SUCCEEDED"),
        ),
    ),
    *(
        Case(
            id=f"S39.3 {what}",
            title=f"a section gives its lock up when its second stage can no longer run: {what}",
            graph=(
                stage("a"),
                section("b", "a", name="one", does=body, **fields),
                *(stage("x", "b"), section("d", "x", name="one"), stage("y", "b")),
                *(section("c", "a", name="two"), section("e", "c", name="two")),
            ),
            steps=(
                *steps,
                expect(order=order, disjoint="b c e", statuses={"d": status, "c e": "SUCCEEDED"}, wf="SUCCEEDED"),
            ),
        )
        for what, body, fields, steps, order, status in (
            ("pruned", ok(), {"split": {"x": NO, "y": YES}}, (), "b y c e", "SKIPPED"),
            ("blocked", stops(), {}, (), "b c e", "NOT_STARTED"),
            ("cancelled", waits(), {}, (cancel("b"),), "c e", "NOT_STARTED"),
            ("second cancelled", waits(), {}, (cancel("d"), signal("b")), "b x y c e", "CANCELED"),
        )
    ),
    Case(
        id="S39.3 loop",
        title="a jump inside a section keeps the lock, for the section is not over",
        graph=(
            *(section("b", name="one"), section("d", "b", name="one", does=jumps("b"))),
            *(section("c", name="two"), section("e", "c", name="two")),
        ),
        steps=(expect(ran="b×2 d c e", order=("b b d c e", "c e b b d"), wf="SUCCEEDED"),),
    ),
    Case(
        id="S39.4",
        title="a holder whose process is killed is executed again, still holding the lock",
        graph=(stage("a"), locked("b", "a"), locked("c", "a")),
        crash=inside("b"),
        steps=(expect(order="a b c", started="a b×2 c", disjoint="b c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S39.4 activation",
        title="each activation of a stage takes its turn like any other stage",
        graph=(
            *(stage("a"), stage("f", "a"), stage("g", "a")),
            *(locked("m", "f", "g", join="MM", does=waits()), stage("n", "m")),
        ),
        steps=(
            expect(ran="a f g", statuses={"m": "SUSPENDED", "m#2": "NOT_STARTED"}, wf="RUNNING"),
            signal("m"),
            expect(ran="a f g m n", statuses={"m#2": "SUSPENDED"}, wf="RUNNING"),
            signal("m#2"),
            expect(ran="a f g m×2 n×2", disjoint="m", wf="SUCCEEDED"),
        ),
    ),
]

# -- interleaved routing ------------------------------------------------------------------------------

CHECKS = ("oil", "feeder", "unit", "warranty")


def interleaved(**changed):
    """Make four checks in any order, one at a time, and what follows."""
    parts = {ref: {"does": sleeps} for ref in CHECKS} | changed
    return (stage("a"), *(locked(ref, "a", **parts[ref]) for ref in CHECKS), stage("z", *CHECKS))


ALL_FOUR = "a oil feeder unit warranty z"


def z_is_last(world):
    """Whether z came when everything else was over."""
    return world.ends()[-1].base == "z"


INTERLEAVED = [
    Case(
        id="S40.1",
        title="four checks are made one at a time, each once, then what follows",
        graph=interleaved(),
        workers=4,
        repeat=20,
        steps=(expect(ran=ALL_FOUR, disjoint=" ".join(CHECKS), check=z_is_last, wf="SUCCEEDED"),),
    ),
    Case(
        id="S40.2 ~",
        title="a check with a tolerated failure counts",
        graph=interleaved(unit={"does": soft()}),
        steps=(expect(ran=ALL_FOUR, disjoint=" ".join(CHECKS), check=z_is_last, wf="SUCCEEDED"),),
    ),
    Case(
        id="S40.2 disabled",
        title="a check that is disabled is left out",
        graph=interleaved(feeder={"enabled": False}),
        steps=(expect(ran="a oil unit warranty z", statuses={"feeder": "SKIPPED"}, check=z_is_last, wf="SUCCEEDED"),),
    ),
    Case(
        id="S40.2 waiting",
        title="while one check waits nobody else begins",
        graph=interleaved(oil={"does": waits()}),
        workers=4,
        steps=(
            expect(
                ran="a",
                started="oil feeder×0 unit×0 warranty×0",
                statuses={"oil": "SUSPENDED", "feeder unit warranty z": "NOT_STARTED"},
                wf="RUNNING",
            ),
            signal("oil"),
            expect(ran=ALL_FOUR, disjoint=" ".join(CHECKS), check=z_is_last, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S40.3",
        title="the process is killed inside the second check: each is made once in the end",
        graph=interleaved(),
        crash=inside("feeder"),
        everywhere=True,
        steps=(
            expect(ran=ALL_FOUR, started="oil feeder×2 unit warranty z", disjoint=" ".join(CHECKS), wf="SUCCEEDED"),
        ),
    ),
]


def test_lock_is_handed_on_at_once():
    """Four stages of 0.2 s each that share a lock take 0.8 s and little more: whoever waits is woken, none polls."""
    stages = [plain(ref, task="sleep", mutex_key="k") for ref in CHECKS]
    with Bench(tasks={"sleep": lambda _: time.sleep(0.2)}) as bench:
        began = time.monotonic()
        flow = bench.run(workflow(*stages), workers=4)
        took = time.monotonic() - began

    assert flow.status.name == "SUCCEEDED"
    spans = sorted((row.start_time, row.end_time) for row in refs(flow).values())
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans))
    assert 0.8 <= took < 1.2


# -- threads ------------------------------------------------------------------------------------------


def own_name(row):
    """Give the row's own name."""
    return {"v": row.ref_id}


def pairs(world):
    """Whether each of two merges collected the values of two of four threads."""
    seen = [note["v"] for note in world.notes()["m"]]
    rows = {row.ref_id: row.context["_triggered_by"] for row in world.flow().activations("m")}
    return (
        sorted(chain(*seen)) == ["r", "r#2", "r#3", "r#4"]
        and [len(values) for values in seen] == [2, 2]
        and sorted(rows.values()) == sorted(map(sorted, seen))
    )


MERGED = (
    *(stage("s", thread_split=3), stage("r", "s", does=own_name)),
    stage("m", "r", thread_merge=3, output_reducers={"v": "collect"}, does=sees("v")),
)
MERGED_EXPECTED = expect(ran="s r×3 m", rows={"r": 3, "m": 1}, wf="SUCCEEDED")


def threads_into(count, wanted):
    """Make so many threads and a stage that merges a number of them."""
    return (stage("s", thread_split=count), stage("r", "s"), stage("m", "r", thread_merge=wanted), stage("n", "m"))


MERGES = [
    Case(
        id="S41.1",
        title="four threads merge two by two; each merge sees the threads it used up",
        graph=(
            *(stage("s", thread_split=4), stage("r", "s", does=own_name)),
            stage("m", "r", thread_merge=2, output_reducers={"v": "collect"}, does=sees("v")),
            stage("n", "m"),
        ),
        steps=(expect(ran="s r×4 m×2 n×2", rows={"r": 4, "m": 2, "n": 2}, check=pairs, wf="SUCCEEDED"),),
    ),
    Case(
        id="S41.1 together",
        title="four threads that end together merge two by two",
        graph=(
            *(stage("s", thread_split=4), stage("r", "s", does=meets("end", 4, own_name))),
            stage("m", "r", thread_merge=2, output_reducers={"v": "collect"}, does=sees("v")),
            stage("n", "m"),
        ),
        workers=6,
        repeat=40,
        steps=(expect(ran="s r×4 m×2 n×2", rows={"r": 4, "m": 2, "n": 2}, check=pairs, wf="SUCCEEDED"),),
    ),
    Case(
        id="S41.2",
        title="three instances without a join of their own merge into one thread",
        graph=(
            stage("p"),
            lambda made: MultiInstanceBuilder.create_fixed(made["p"], 3, sync_on_complete=False),
            stage("m", *(f"p_instance_{at}" for at in range(3)), join="MM", thread_merge=3),
            stage("n", "m"),
        ),
        steps=(
            expect(
                ran="p p_instance_0 p_instance_1 p_instance_2 m n",
                rows={"m": 1},
                check=lambda world: world.row("m").context["_triggered_by"] == [f"p_instance_{at}" for at in range(3)],
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S41.3",
        title="too few threads are a deadlock, not a success",
        graph=threads_into(2, 3),
        steps=(expect(ran="s r×2", statuses={"m n": "NOT_STARTED"}, errors={"": "deadlock: m"}, wf="TERMINAL"),),
    ),
    Case(
        id="S41.3 left over",
        title="a thread too many is left over",
        graph=threads_into(4, 3),
        steps=(expect(ran="s r×4 m n", rows={"m": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S41.3 refused",
        title="a thread merge behind an AND-join of two branches is refused",
        graph=(stage("a"), stage("b"), stage("m", "a", "b", thread_merge=2)),
        rejected="thread_merge",
    ),
    Case(
        id="S41.4",
        title="the process is killed inside one thread",
        graph=MERGED,
        crash=inside("r", nth=2),
        everywhere=True,
        steps=(MERGED_EXPECTED,),
    ),
    Case(
        id="S41.4 started",
        title="the thread that was in flight is the only one executed again",
        graph=MERGED,
        crash=inside("r", nth=3),
        steps=(MERGED_EXPECTED, expect(started="s r×4 m", wf="SUCCEEDED")),
    ),
]


def own_thread(world):
    """Whether each row of t saw what the row before it in its thread gave."""
    return all(
        [call.stage.context["v"]] == world.row(call.row).context["_triggered_by"]
        for call in world.ends()
        if call.base == "t"
    )


THREE = (stage("a"), stage("s", "a", thread_split=3), stage("r", "s", does=own_name), stage("t", "r", does=sees("v")))
R_ROWS = {"r r#2 r#3": "SUCCEEDED", "r#4": None}

SPLITS = [
    Case(
        id="S42.1",
        title="a stage starts three threads; each sees its own outputs",
        graph=THREE,
        steps=(
            expect(
                ran="a s r×3 t×3",
                rows_ran="a s r r#2 r#3 t t#2 t#3",
                statuses=R_ROWS,
                noted={"t": [{"v": "r"}, {"v": "r#2"}, {"v": "r#3"}]},
                check=own_thread,
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S42.2 ✗",
        title="a failure in one thread fails the workflow",
        graph=THREE,
        bodies={"r#2": fails()},
        steps=(expect(statuses={"r": "SUCCEEDED", "r#2": "TERMINAL"}, wf="TERMINAL"),),
    ),
    Case(
        id="S42.2 disabled",
        title="a disabled stage passes on as many threads as it would have started",
        graph=(stage("a"), stage("s", "a", thread_split=3, enabled=False), stage("r", "s")),
        steps=(expect(ran="a r×3", statuses=R_ROWS | {"s": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S42.2 not chosen",
        title="a stage that is not chosen starts no thread",
        graph=(stage("a", split={"s": NO}), stage("s", "a", thread_split=3), stage("r", "s"), stage("t", "r")),
        steps=(expect(ran="a", statuses={"s r t": "SKIPPED", "r#2": None}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S42.2 branches",
        title="each branch of a split gets as many threads, or none",
        graph=(
            stage("s", thread_split=2, split={"r": YES, "q": NO, "t": YES}),
            *(stage("r", "s"), stage("q", "s"), stage("t", "s")),
        ),
        steps=(expect(ran="s r×2 t×2", statuses={"q": "SKIPPED", "q#2": None}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S42.3",
        title="a jump back to the split starts as many threads anew",
        graph=(
            *(stage("a"), stage("s", "a", thread_split=3), stage("r", "s")),
            *(stage("k", "r", thread_merge=3, does=jumps("s")), stage("z", "k")),
        ),
        steps=(expect(ran="a s×2 r×6 k z", statuses=R_ROWS, rows={"k": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S42.3 crash",
        title="the process is killed when the split has completed",
        graph=THREE,
        crash=once("s", "SUCCEEDED"),
        everywhere=True,
        steps=(expect(ran="a s r×3 t×3", started="a s r×3 t×3", statuses=R_ROWS, check=own_thread, wf="SUCCEEDED"),),
    ),
]

# -- explicit termination -----------------------------------------------------------------------------


def nominated(**end):
    """Make a workflow with a nominated end beside a branch that waits."""
    return (
        *(stage("a"), stage("b", "a", does=waits()), stage("b2", "b")),
        *(stage("c", "a"), stage("end", "c", ends_workflow="SUCCEEDED", **end), stage("after", "end")),
    )


ENDED = expect(
    ran="a c end",
    statuses={"a c end": "SUCCEEDED", "b b2 after": "CANCELED"},
    context={"b": {"_cancel_reason": "workflow_ended"}},
    wf="SUCCEEDED",
)


def child_with_end(row):
    """Make a child workflow with a nominated end beside a stage that waits."""
    stages = [
        stage("w", does=waits()).make(),
        stage("c").make(),
        stage("e", "c", ends_workflow="SUCCEEDED").make(),
    ]
    return {"_sub_workflow_config": {"name": "child", "stages": stages}}


ENDS = [
    Case(
        id="S43.1",
        title="the workflow ends at its nominated end; what is under way or to come is cancelled",
        graph=nominated(),
        everywhere=True,
        steps=(
            ENDED,
            expect(on_cancel="b", wf="SUCCEEDED"),
            signal("b"),
            signal("b", persistent=True),
            signal("after", persistent=True),
            ENDED,
            expect(on_cancel="b", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S43.1 at work",
        title="what a body answers after the end was reached is thrown away",
        graph=(
            *(stage("b", does=lambda row, call: call.world.until(lambda: row.cancelled)), stage("b2", "b")),
            stage(
                "end",
                does=lambda row, call: call.world.until(lambda: call.world.started()["b"]) or ok()(row),
                ends_workflow="SUCCEEDED",
            ),
        ),
        workers=2,
        steps=(expect(ran="b end", statuses={"b b2": "CANCELED"}, on_cancel="b", wf="SUCCEEDED"),),
    ),
    Case(
        id="S43.2",
        title="an end that cannot be reached because of a failure does not count",
        graph=(stage("a", does=fails()), stage("end", "a", ends_workflow="SUCCEEDED")),
        steps=(expect(ran="a", statuses={"a": "TERMINAL", "end": "NOT_STARTED"}, wf="TERMINAL"),),
    ),
    *(
        Case(
            id=f"S43.2 {what}",
            title=f"an end that is {what} is not reached: the workflow ends when nothing is left to do",
            graph=graph,
            steps=(
                expect(ran=ran, statuses={"b": "SUSPENDED", "end": status}, wf="RUNNING"),
                signal("b"),
                expect(ran=f"{ran} b b2", on_cancel="", wf="SUCCEEDED"),
            ),
        )
        for what, graph, ran, status in (
            ("disabled", nominated(enabled=False), "a c after", "SKIPPED"),
            ("failed and tolerated", nominated(does=soft()), "a c end after", "FAILED_CONTINUE"),
            (
                "pruned",
                (
                    *(stage("a", split={"b": YES, "end": NO}), stage("b", "a", does=waits()), stage("b2", "b")),
                    stage("end", "a", ends_workflow="SUCCEEDED"),
                ),
                "a",
                "SKIPPED",
            ),
        )
    ),
    Case(
        id="S43.3",
        title="an end in a child workflow ends the child only",
        graph=(
            stage("s", does=SubWorkflowTask, context=child_with_end(None)),
            *(stage("n", "s"), stage("q", does=waits())),
        ),
        bodies={"w": waits()},
        steps=(
            expect(
                ran="c e n",
                statuses={"s": "SUCCEEDED", "q": "SUSPENDED", "child1/w": "CANCELED", "child1/e": "SUCCEEDED"},
                on_cancel="w",
                check=lambda world: world.flow("child1/").status.name == "SUCCEEDED",
                wf="RUNNING",
            ),
            signal("q"),
            expect(ran="c e n q", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S43.3 crash",
        title="the process is killed inside the end",
        graph=nominated(),
        crash=inside("end"),
        steps=(ENDED, expect(on_cancel="b", started="end×2", wf="SUCCEEDED")),
    ),
]

test_pattern = matrix([*CRITICAL, *INTERLEAVED, *MERGES, *SPLITS, *ENDS])
