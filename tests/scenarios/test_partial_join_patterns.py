"""Structured and blocking partial joins (WCP-30 and WCP-31)."""

from __future__ import annotations

from stabilize_nb import TaskResult
from tests.scenarios.case import (
    Case,
    cancel,
    expect,
    fails,
    inside,
    kill,
    matrix,
    meets,
    once,
    restart,
    signal,
    soft,
    stage,
    together,
    waits,
)
from tests.scenarios.test_discriminator_patterns import (
    BLOCKED,
    OPENED,
    in_a_loop,
    outcomes,
    split_in_three,
    when_all_ran,
)

FIVE = ("r1", "r2", "r3", "r4", "r5")
SIX = tuple("bcdefg")


def five_waiting(join):
    """Five branches that wait, into `p → n`."""
    return (*(stage(ref, does=waits()) for ref in FIVE), stage("p", *FIVE, join=join), stage("n", "p"))


PARTIAL = [
    Case(
        id="S30.1",
        title="the join fires when so many have arrived, and absorbs the rest",
        graph=five_waiting("3/5"),
        everywhere=True,
        steps=(
            signal("r4"),
            signal("r2"),
            expect(ran="r4 r2", statuses={"p": "NOT_STARTED"}, wf="RUNNING"),
            signal("r5"),
            expect(
                ran="r4 r2 r5 p n",
                context={"p": {"_triggered_by": ["r2", "r4", "r5"]}},
                wf="RUNNING",
            ),
            signal("r1"),
            expect(ran="r4 r2 r5 r1 p n", wf="RUNNING"),
            signal("r3"),
            expect(ran="r4 r2 r5 r1 r3 p n", rows={"p": 1, "n": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S30.1 late ends",
        title="a late branch may fail softly, or be cancelled; a failure fails the workflow",
        graph=(
            stage("r1", does=waits(then=soft())),
            stage("r2", does=waits()),
            stage("r3", does=waits(then=fails())),
            stage("r4"),
            stage("r5"),
            stage("p", *FIVE, join="2/5"),
            stage("n", "p"),
        ),
        steps=(
            signal("r1"),
            cancel("r2"),
            expect(ran="r1 r4 r5 p n", wf="RUNNING"),
            signal("r3"),
            expect(
                ran="r1 r3 r4 r5 p n",
                statuses={"r1": "FAILED_CONTINUE", "r2": "CANCELED", "r3": "TERMINAL", "p n": "SUCCEEDED"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S30.2",
        title="a threshold of 0 is all of them",
        graph=five_waiting("0/5"),
        steps=(
            *(signal(ref) for ref in FIVE[:-1]),
            expect(ran="r1 r2 r3 r4", statuses={"p": "NOT_STARTED"}, wf="RUNNING"),
            signal("r5"),
            expect(ran="r1 r2 r3 r4 r5 p n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S30.2 too many",
        title="a threshold that is more than there are branches is rejected when the workflow is created",
        graph=five_waiting("6/5"),
        rejected="waits for 6 branches but has 5",
    ),
    Case(
        id="S30.3",
        title="a tolerated failure counts, a branch that was not chosen does not",
        graph=(
            stage("a", split={"b": "True", "c": "False", "d": "True"}),
            stage("b", "a", does=soft()),
            stage("c", "a"),
            stage("d", "a", does=waits()),
            stage("p", "b", "c", "d", join="2/3"),
        ),
        steps=(
            expect(
                ran="a b",
                statuses={"b": "FAILED_CONTINUE", "c": "SKIPPED", "p": "NOT_STARTED"},
                wf="RUNNING",
            ),
            signal("d"),
            expect(ran="a b d p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S30.3 disabled",
        title="a disabled branch counts",
        graph=(
            stage("a"),
            stage("b", "a"),
            stage("c", "a", enabled=False),
            stage("d", "a", does=waits()),
            stage("p", "b", "c", "d", join="2/3"),
        ),
        steps=(
            expect(ran="a b p", statuses={"c": "SKIPPED", "d": "SUSPENDED"}, wf="RUNNING"),
            signal("d"),
            expect(ran="a b d p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S30.4",
        title="a threshold that cannot be reached any more fails the workflow, and says so",
        graph=(
            stage("a", split={"b": "True", "c": "False", "d": "False"}),
            stage("b", "a"),
            stage("c", "a"),
            stage("d", "a"),
            stage("p", "b", "c", "d", join="2/3"),
            stage("n", "p"),
        ),
        steps=(
            expect(
                ran="a b",
                statuses={"c d": "SKIPPED", "p": "TERMINAL", "n": "NOT_STARTED"},
                errors={"p": "threshold 2 is out of reach", "": "'p'"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S30.4 halted",
        title="a threshold out of reach because a branch was cancelled blocks the join",
        graph=(
            stage("a"),
            stage("b", "a"),
            stage("c", "a", does=waits()),
            stage("d", "a", does=waits()),
            stage("p", "b", "c", "d", join="2/3"),
            stage("u", "a"),
        ),
        steps=(
            cancel("c"),
            expect(ran="a b u", statuses={"p": "NOT_STARTED", "d": "SUSPENDED"}, wf="RUNNING"),
            cancel("d"),
            expect(ran="a b u", statuses={"c d": "CANCELED", "p": "NOT_STARTED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S30.5",
        title="in a loop the join fires once in each pass",
        graph=in_a_loop("b", "c", "d", join="2/3"),
        steps=(expect(ran="a×3 b×3 c×3 d×3 m×3 k z", rows={"m": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S30.5 late branch",
        title="a branch that is late in both passes is absorbed in the end",
        graph=in_a_loop("b", "c", "d", join="2/3", late="d", jumped=1),
        steps=(
            expect(ran="a×2 b×2 c×2 m×2 k z", statuses={"d": "SUSPENDED"}, wf="RUNNING"),
            signal("d"),
            expect(ran="a×2 b×2 c×2 m×2 k z d", rows={"m": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S30.5 together",
        title="six branches that end together fire the join once",
        graph=(
            stage("a"),
            *(stage(ref, "a", does=meets("end", 6)) for ref in SIX),
            stage("p", *SIX, join="3/6"),
        ),
        workers=10,
        repeat=100,
        steps=(expect(ran="a b c d e f g p", rows={"p": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S30.6",
        title="the process is killed in a branch when the join is one short of its threshold",
        graph=(
            stage("a"),
            stage("b", "a"),
            stage("c", "a", does=when_all_ran("b", lambda running, call: TaskResult.success())),
            stage("d", "a", does=waits()),
            stage("p", "b", "c", "d", join="2/3"),
        ),
        crash=once("b", "SUCCEEDED"),
        steps=(
            expect(ran="a b c p", rows={"p": 1}, wf="RUNNING"),
            signal("d"),
            expect(ran="a b c d p", rows={"p": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S30.6 at work",
        title="the process is killed in the body of the branch that reaches the threshold",
        graph=(
            stage("a"),
            stage("b", "a"),
            stage("c", "a", does=waits()),
            stage("d", "a", does=waits()),
            stage("p", "b", "c", "d", join="2/3"),
        ),
        crash=inside("c", nth=2),
        steps=(
            signal("c"),
            expect(ran="a b c p", started="a b c×3 p", rows={"p": 1}, wf="RUNNING"),
            signal("d"),
            expect(ran="a b c d p", rows={"p": 1}, wf="SUCCEEDED"),
        ),
    ),
]


def two_of_three(**fields):
    """`s(2) → {b, c}`, `a → d!`, `{b, c, d} → p[2/3] → n`."""
    return (
        stage("s", thread_split=2),
        stage("b", "s"),
        stage("c", "s"),
        stage("a"),
        stage("d", "a", does=waits()),
        stage("p", "b", "c", "d", join="2/3", **fields),
        stage("n", "p"),
    )


SECOND_HELD_UP = expect(ran="s a b×2 c×2 p n", statuses={"d": "SUSPENDED"}, rows={"p": 1}, wf="RUNNING")
BOTH_ROUNDS = expect(ran="s a b×2 c×2 d p×2 n×2", rows={"p": 2, "n": 2}, wf="SUCCEEDED")

BLOCKING_PARTIAL = [
    Case(
        id="S31.1",
        title="the second round fires when the first is complete",
        graph=two_of_three(join_blocking=True),
        everywhere=True,
        steps=(
            SECOND_HELD_UP,
            signal("d"),
            BOTH_ROUNDS,
            expect(
                context={"p": {"_triggered_by": ["b", "c"]}, "p#2": {"_triggered_by": ["b#2", "c#2"]}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S31.1 not blocking",
        title="without blocking the second round fires at once",
        graph=two_of_three(),
        steps=(
            expect(ran="s a b×2 c×2 p×2 n×2", statuses={"d": "SUSPENDED"}, rows={"p": 2}, wf="RUNNING"),
            signal("d"),
            BOTH_ROUNDS,
        ),
    ),
    Case(
        id="S31.1 dead",
        title="a branch that was withdrawn completes the round too",
        graph=two_of_three(join_blocking=True),
        steps=(cancel("d"), expect(ran="s a b×2 c×2 p×2 n×2", statuses={"d": "CANCELED"}, wf="SUCCEEDED")),
    ),
    Case(
        id="S31.2 all of them",
        title="a threshold of all is an AND-join that keeps its triggers",
        graph=outcomes("2/2", join_blocking=True),
        steps=(
            expect(ran="s a f×2", statuses={"m": "NOT_STARTED"}, wf="RUNNING"),
            signal("g"),
            expect(ran="s a f×2 g m n", rows={"m": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S31.2 all, several rounds",
        title="a threshold of all fires once for each pair of triggers",
        graph=split_in_three("2/2", late=True, join_blocking=True),
        steps=(
            expect(ran="s f×3", wf="RUNNING"),
            signal("g#2"),
            expect(ran="s f×3 g m", wf="RUNNING"),
            signal("g#3"),
            signal("g"),
            expect(ran="s f×3 g×3 m×3", rows={"m": 3}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S31.2 one",
        title="a threshold of one is a blocking discriminator",
        graph=outcomes("1/2", join_blocking=True),
        steps=(BLOCKED, signal("g"), OPENED),
    ),
    Case(
        id="S31.2 crash",
        title="the process is killed between the rounds: the counts are the same",
        graph=two_of_three(join_blocking=True),
        steps=(SECOND_HELD_UP, restart(), SECOND_HELD_UP, together(signal("d"), kill()), BOTH_ROUNDS),
    ),
    Case(
        id="S31.2 crash in the join",
        title="the process is killed in the second activation of the join",
        graph=two_of_three(join_blocking=True),
        crash=inside("p", nth=2),
        steps=(SECOND_HELD_UP, signal("d"), BOTH_ROUNDS, expect(started="p×3 n×2", wf="SUCCEEDED")),
    ),
]

test_pattern = matrix([*PARTIAL, *BLOCKING_PARTIAL])
