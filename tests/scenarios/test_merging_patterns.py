"""Partial joins that cancel, joins of several threads, merges of the branches taken (WCP-32, 33, 37, 38)."""

from __future__ import annotations

from itertools import chain

from tests.scenarios.case import (
    Case,
    cancel,
    cancel_region,
    expect,
    inside,
    jumps,
    kill,
    matrix,
    meets,
    ok,
    once,
    sees,
    signal,
    stage,
    together,
    waits,
)

# -- cancelling partial join --------------------------------------------------------------------------

TWO_OF_FOUR = (
    stage("a"),
    stage("b", "a"),
    *(stage(ref, "a", does=waits()) for ref in "cde"),
    stage("p", "b", "c", "d", "e", join="2/4", join_cancel_remaining=True),
    stage("n", "p"),
)
AFTER_D = expect(
    ran="a b d p n",
    rows={"p": 1},
    statuses={"b d p n": "SUCCEEDED", "c e": "CANCELED"},
    context={"c": {"_cancel_reason": "join_fired"}, "e": {"_cancel_reason": "join_fired"}},
    wf="SUCCEEDED",
)
CLEANED_UP = expect(on_cancel="c e", wf="SUCCEEDED")


def at_least_two_succeeded(world):
    """Whether two of three branches that ended together count; the third may have completed before the join fired."""
    found = sorted(world.statuses()[ref] for ref in "bcd")
    return found[1:] == ["SUCCEEDED", "SUCCEEDED"] and found[0] in {"SUCCEEDED", "CANCELED"}


CANCELLING = [
    Case(
        id="S32.1",
        title="the second of four branches fires the join, and the others are cancelled",
        graph=TWO_OF_FOUR,
        everywhere=True,
        steps=(
            expect(ran="a b", statuses={"c d e": "SUSPENDED", "p": "NOT_STARTED"}, wf="RUNNING"),
            signal("d"),
            AFTER_D,
            CLEANED_UP,
        ),
    ),
    Case(
        id="S32.1 scope",
        title="a branch of two stages is cancelled whole; a stage that serves something else keeps running",
        graph=(
            *(stage("a"), stage("b", "a"), stage("c", "a", does=waits())),
            *(stage("f", "a", does=waits()), stage("audit", "f"), stage("h", "a", does=waits()), stage("h2", "h")),
            stage("p", "b", "c", "f", "h2", join="2/4", join_cancel_remaining=True),
        ),
        steps=(
            signal("c"),
            expect(ran="a b c p", statuses={"f": "SUSPENDED", "h h2": "CANCELED"}, on_cancel="h", wf="RUNNING"),
            signal("f"),
            expect(ran="a b c p f audit", statuses={"f": "SUCCEEDED"}, rows={"p": 1}, on_cancel="h", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S32.2",
        title="two branches that reach the threshold together fire the join once",
        graph=(
            *(stage("a"), *(stage(ref, "a", does=waits()) for ref in "de")),
            *(stage(ref, "a", does=meets("end", 2)) for ref in "bc"),
            stage("p", "b", "c", "d", "e", join="2/4", join_cancel_remaining=True),
            stage("n", "p"),
        ),
        workers=3,
        repeat=40,
        steps=(
            expect(
                ran="a b c p n",
                rows={"p": 1},
                statuses={"b c p": "SUCCEEDED", "d e": "CANCELED"},
                # a branch may be cancelled before its body has begun
                check=lambda world: set(world.cancels) <= {"d", "e"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S32.2 three",
        title="three branches end together: the join fires once, the third may come too late",
        graph=(
            *(stage("a"), stage("e", "a", does=waits())),
            *(stage(ref, "a", does=meets("end", 3)) for ref in "bcd"),
            stage("p", "b", "c", "d", "e", join="2/4", join_cancel_remaining=True),
        ),
        workers=3,
        repeat=40,
        steps=(
            expect(
                ran="a b c d p",
                rows={"p": 1},
                statuses={"e": "CANCELED"},
                check=at_least_two_succeeded,
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S32.2 loop",
        title="each pass cancels its own rest",
        graph=(
            *(stage("a"), stage("b", "a"), stage("c", "a", does=waits()), stage("d", "a", does=waits())),
            stage("p", "b", "c", "d", join="2/3", join_cancel_remaining=True),
            *(stage("k", "p", does=jumps("a")), stage("z", "k")),
        ),
        steps=(
            signal("c"),
            expect(ran="a×2 b×2 c p", statuses={"c d": "SUSPENDED", "p": "NOT_STARTED"}, on_cancel="d", wf="RUNNING"),
            signal("d"),
            expect(
                ran="a×2 b×2 c d p×2 k z",
                statuses={"c": "CANCELED", "d": "SUCCEEDED"},
                on_cancel="c d",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S32.2 crash",
        title="the process is killed inside the join: the rest stays cancelled",
        graph=TWO_OF_FOUR,
        crash=inside("p"),
        steps=(signal("d"), AFTER_D, expect(started="p×2", wf="SUCCEEDED")),
    ),
    Case(
        id="S32.2 crash clean-up",
        title="the process is killed inside the join: the clean-up of the cancelled branches is not lost (2.7)",
        graph=TWO_OF_FOUR,
        crash=inside("p"),
        steps=(signal("d"), CLEANED_UP),
    ),
    Case(
        id="S32.2 crash at the threshold",
        title="the process is killed when the branch that reaches the threshold has completed",
        graph=TWO_OF_FOUR,
        crash=once("d", "SUCCEEDED"),
        steps=(signal("d"), AFTER_D),
    ),
]

# -- joins of several threads -------------------------------------------------------------------------


def triggered_by(world, ref):
    """Return which rows supplied the threads of each activation of a stage."""
    return [row.context["_triggered_by"] for row in world.flow().activations(ref)]


def pairs_of_threads(world):
    """Whether each firing of j used up one thread of m and one of y."""
    found = triggered_by(world, "j")
    rows = [row.requisite_stage_ref_ids for row in world.flow().activations("j")]
    return sorted(chain(*found)) == ["m", "m#2", "y", "y#2"] and rows[1] == set(found[1]) and len(found[0]) == 2


KEPT = (
    *(stage("s", thread_split=3), stage("f", "s")),
    *(stage("a"), stage("g", "a", does=waits())),
    *(stage("j", "f", "g"), stage("z", "j")),
)
KEPT_STEPS = (
    expect(ran="s f×3 a", statuses={"j": "NOT_STARTED", "g": "SUSPENDED"}, wf="RUNNING"),
    signal("g"),
    expect(ran="s f×3 a g j z", rows={"f": 3, "j": 1, "z": 1}, wf="SUCCEEDED"),
)

THREADS = [
    Case(
        id="S33.1",
        title="an AND-join fires once for each pair of threads",
        graph=(
            *(stage("a"), *(stage(ref, "a") for ref in "fgpq")),
            *(stage("m", "f", "g", join="MM"), stage("y", "p", "q", join="MM")),
            *(stage("j", "m", "y"), stage("z", "j")),
        ),
        everywhere=True,
        steps=(
            expect(
                ran="a f g p q m×2 y×2 j×2 z×2",
                rows={"m": 2, "y": 2, "j": 2, "z": 2},
                check=pairs_of_threads,
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S33.2",
        title="threads that come early are kept; those that find no partner are left over",
        graph=KEPT,
        steps=KEPT_STEPS,
    ),
    Case(
        id="S33.2 partners",
        title="each thread of the other branch finds the next one that was kept",
        graph=(
            *(stage("s", thread_split=3), stage("f", "s")),
            *(stage("t", thread_split=2), stage("g", "t", does=waits())),
            *(stage("j", "f", "g"), stage("z", "j")),
        ),
        steps=(
            signal("g#2"),
            expect(
                ran="s t f×3 g j z",
                check=lambda world: triggered_by(world, "j") == [["f", "g#2"]],
                wf="RUNNING",
            ),
            signal("g"),
            expect(
                ran="s t f×3 g×2 j×2 z×2",
                check=lambda world: triggered_by(world, "j") == [["f", "g#2"], ["f#2", "g"]],
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S33.3",
        title="the process is killed while triggers are kept: they are still there",
        graph=KEPT,
        steps=(kill(), *KEPT_STEPS),
    ),
    Case(
        id="S33.3 crash",
        title="the process is killed inside the body of the branch that came late",
        graph=KEPT,
        crash=inside("g", nth=2),
        steps=KEPT_STEPS,
    ),
    Case(
        id="S33.3 dead",
        title="a branch that is withdrawn in round 2 does not keep round 2 from firing",
        graph=(
            *(stage("s", thread_split=2), stage("f", "s")),
            *(stage("t", thread_split=2), stage("g", "t", does=waits(), cancel_region="R")),
            *(stage("j", "f", "g"), stage("z", "j")),
        ),
        steps=(
            signal("g"),
            expect(ran="s t f×2 g j z", statuses={"g": "SUCCEEDED", "g#2": "SUSPENDED"}, wf="RUNNING"),
            cancel_region("R"),
            expect(
                ran="s t f×2 g j×2 z×2",
                statuses={"g": "SUCCEEDED", "g#2": "CANCELED"},
                check=lambda world: triggered_by(world, "j")[1] == ["f#2"],
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S33.3 not chosen",
        title="of two threads one takes the edge to the join and the other does not: both rounds fire",
        graph=(
            *(stage("s", thread_split=2), stage("f", "s")),
            stage("t", thread_split=2),
            stage("g", "t", does=lambda row: {"first": row.ref_id == "g"}, split={"j": "first", "e": "not first"}),
            *(stage("e", "g"), stage("j", "f", "g"), stage("z", "j")),
        ),
        steps=(expect(ran="s t f×2 g×2 e j×2 z×2", wf="SUCCEEDED"),),
    ),
]

# -- merges of the branches that were taken -----------------------------------------------------------

YES, NO = "True", "False"


def nested(**chosen):
    """Make a split in a split: `a{b, c}`, `b{d, f!}`, `{d, f} → j1[OR]`, `{j1, c} → j[OR]`."""
    return (
        stage("a", split={ref: chosen.get(ref, YES) for ref in "bc"}),
        *(stage("b", "a", split={"d": NO, "f": YES}), stage("c", "a")),
        *(stage("d", "b"), stage("f", "b", does=waits())),
        *(stage("j1", "d", "f", join="OR"), stage("j", "j1", "c", join="OR")),
    )


ACYCLIC = [
    Case(
        id="S37.1",
        title="a merge does not wait for a branch not taken, nor for one that ends elsewhere",
        graph=(
            stage("a", split={"b": YES, "c": NO}),
            *(stage("b", "a"), stage("c", "a"), stage("d", "b"), stage("e", "b", does=waits())),
            *(stage("j", "e", "c", join="OR"), stage("z", "j")),
        ),
        steps=(
            expect(ran="a b d", statuses={"c": "SKIPPED", "j": "NOT_STARTED"}, wf="RUNNING"),
            signal("e"),
            expect(ran="a b d e j z", statuses={"c": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S37.2",
        title="merges of a split in a split wait for the one branch that is under way",
        graph=nested(),
        everywhere=True,
        steps=(
            expect(ran="a b c", statuses={"d": "SKIPPED", "f": "SUSPENDED", "j1 j": "NOT_STARTED"}, wf="RUNNING"),
            signal("f"),
            expect(ran="a b c f j1 j", statuses={"d": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S37.3",
        title="a split that is not reached is skipped with its merge",
        graph=nested(b=NO),
        steps=(expect(ran="a c j", statuses={"b d f j1": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S37.4",
        title="two merges and an AND-join over overlapping branches run once each",
        graph=(
            stage("a", split={"b": YES, "c": YES, "d": NO}),
            *(stage("b", "a"), stage("c", "a", does=waits()), stage("d", "a")),
            *(stage("j1", "b", "c", join="OR"), stage("j2", "c", "d", join="OR"), stage("j3", "b", "d")),
            stage("z", "j1", "j2", "j3", join="OR"),
        ),
        steps=(
            expect(ran="a b j3", statuses={"d": "SKIPPED", "j1 j2 z": "NOT_STARTED"}, wf="RUNNING"),
            signal("c"),
            expect(ran="a b c j1 j2 j3 z", rows={"j1": 1, "j2": 1, "j3": 1, "z": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S37.5",
        title="the process is killed between two arrivals",
        graph=(
            stage("a", split={"b": YES, "c": YES, "d": NO}),
            *(stage("b", "a"), stage("c", "a", does=waits()), stage("d", "a")),
            stage("j", "b", "c", "d", join="OR"),
        ),
        crash=once("b", "SUCCEEDED"),
        steps=(
            expect(ran="a b", statuses={"d": "SKIPPED", "j": "NOT_STARTED"}, wf="RUNNING"),
            together(signal("c"), kill()),
            expect(ran="a b c j", rows={"j": 1}, started="a b j", wf="SUCCEEDED"),
        ),
    ),
]

CYCLE_BEFORE = (
    stage("a", split={"b": YES, "c": YES}),
    *(stage("b", "a"), stage("c", "a"), stage("w", "b", does=jumps("b", 2))),
    *(stage("j", "w", "c", join="OR", does=sees("w", "c")), stage("z", "j")),
)
CYCLE_EXPECTED = expect(
    ran="a b×3 c w j z",
    order=("b b b w j z",),
    rows={"j": 1},
    noted={"j": [{"w": "w", "c": "c"}]},
    wf="SUCCEEDED",
)


def revived(body, **fields):
    """Make a merge behind a branch not taken, to which another stage may jump later."""
    return (
        stage("a", split={"b": NO, "c": YES}),
        *(stage("b", "a"), stage("c", "a")),
        *(stage("j", "b", "c", join="OR", does=sees("b", "c")), stage("z", "j")),
        *(stage("o", does=waits()), stage("r", "o", does=body, **fields)),
    )


GENERAL = [
    Case(
        id="S38.1",
        title="a merge waits for a branch that goes round a cycle",
        graph=CYCLE_BEFORE,
        everywhere=True,
        steps=(CYCLE_EXPECTED,),
    ),
    Case(
        id="S38.2",
        title="a jump from behind the merge to one of its branches repeats that branch and the merge",
        graph=(
            *(stage("b"), stage("c"), stage("j", "b", "c", join="OR", does=sees("b", "c"))),
            *(stage("k", "j", does=jumps("b")), stage("z", "k")),
        ),
        steps=(
            expect(
                ran="b×2 c j×2 k z",
                noted={"j": [{"b": "b", "c": "c"}] * 2},
                rows={"j": 1, "z": 1},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S38.3",
        title="a merge waits for a stage that may yet jump to a branch not taken",
        graph=revived(jumps("b"), jump_targets={"b"}),
        steps=(
            expect(ran="a c", statuses={"b": "SKIPPED", "j": "NOT_STARTED"}, wf="RUNNING"),
            signal("o"),
            expect(
                ran="a b c o j z",
                started="r",
                statuses={"b r": "SUCCEEDED"},
                noted={"j": [{"b": "b", "c": "c"}]},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S38.3 no jump",
        title="a merge goes on when the stage that might have jumped ends without a jump",
        graph=revived(ok(), jump_targets={"b"}),
        steps=(
            expect(ran="a c", statuses={"j": "NOT_STARTED"}, wf="RUNNING"),
            signal("o"),
            expect(
                ran="a c o r j z",
                statuses={"b": "SKIPPED"},
                noted={"j": [{"b": None, "c": "c"}]},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S38.3 gone",
        title="a merge goes on when the stage that might have jumped is cancelled",
        graph=revived(ok(), jump_targets={"b"}),
        steps=(
            cancel("r"),
            expect(ran="a c j z", statuses={"r": "CANCELED", "o": "SUSPENDED"}, wf="RUNNING"),
            signal("o"),
            expect(ran="a c j z o", statuses={"b": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S38.3 blocked",
        title="a merge goes on when the stage that might have jumped is blocked",
        graph=revived(ok(), jump_targets={"b"}),
        steps=(
            cancel("o"),
            expect(ran="a c j z", statuses={"o": "CANCELED", "r": "NOT_STARTED", "b": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S38.3 not declared",
        title="a jump that was not declared repeats a merge that has fired",
        graph=revived(jumps("b")),
        steps=(
            expect(ran="a c j z", statuses={"b": "SKIPPED"}, wf="RUNNING"),
            signal("o"),
            expect(
                ran="a b c o j×2 z×2",
                rows={"j": 1, "z": 1},
                noted={"j": [{"b": None, "c": "c"}, {"b": "b", "c": "c"}]},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S38.3 crash",
        title="the process is killed inside the stage that will jump",
        graph=revived(jumps("b"), jump_targets={"b"}),
        crash=inside("r"),
        steps=(
            signal("o"),
            expect(ran="a b c o j z", started="b r×2 j", noted={"j": [{"b": "b", "c": "c"}]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S38.4",
        title="the process is killed in the second pass of the cycle",
        graph=CYCLE_BEFORE,
        crash=inside("b", nth=2),
        steps=(CYCLE_EXPECTED, expect(started="b×4 w×3 j", wf="SUCCEEDED")),
    ),
    Case(
        id="S38.4 jump",
        title="the process is killed in the stage that goes round once more",
        graph=CYCLE_BEFORE,
        crash=inside("w", nth=2),
        steps=(CYCLE_EXPECTED, expect(started="b×3 w×4 j", wf="SUCCEEDED")),
    ),
]

test_pattern = matrix([*CANCELLING, *THREADS, *ACYCLIC, *GENERAL])
