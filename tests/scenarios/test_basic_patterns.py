"""Sequence, parallel split, synchronization (WCP-1 to WCP-3)."""

from __future__ import annotations

from tests.scenarios.case import (
    Case,
    expect,
    fails,
    inside,
    matrix,
    meets,
    once,
    sees,
    signal,
    soft,
    stage,
    stops,
    waits,
)

BRANCHES = tuple("bcdefg")

CASES = [
    Case(
        id="S1.1",
        title="stages run one after the other, and each sees what those before it left",
        graph=(stage("a"), stage("b", "a"), stage("c", "b", does=sees("a", "b"))),
        everywhere=True,
        steps=(expect(ran="a b c", order="a b c", noted={"c": [{"a": "a", "b": "b"}]}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S1.2",
        title="nothing follows a stage that failed",
        graph=(stage("a"), stage("b", "a", does=fails()), stage("c", "b")),
        everywhere=True,
        steps=(
            expect(
                ran="a b",
                statuses={"a": "SUCCEEDED", "b": "TERMINAL", "c": "NOT_STARTED"},
                errors={"b": "no"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S1.3",
        title="a tolerated failure and a disabled stage pass the thread on",
        graph=(stage("a", does=soft()), stage("b", "a", enabled=False), stage("c", "b")),
        everywhere=True,
        steps=(expect(ran="a c", statuses={"a": "FAILED_CONTINUE", "b": "SKIPPED", "c": "SUCCEEDED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S1.4",
        title="a body in flight when the process is killed is executed again, nothing else",
        graph=(stage("a"), stage("b", "a"), stage("c", "b")),
        crash=inside("b"),
        steps=(expect(ran="a b c", started="a b×2 c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S2.1",
        title="every branch gets a thread",
        graph=(stage("a"), *(stage(ref, "a") for ref in "bcd")),
        everywhere=True,
        steps=(expect(ran="a b c d", wf="SUCCEEDED"),),
    ),
    Case(
        id="S2.2",
        title="branches are at work at the same time: each body ends only when the other has begun",
        graph=(stage("a"), stage("b", "a", does=meets("x", 2)), stage("c", "a", does=meets("x", 2))),
        workers=2,
        steps=(expect(ran="a b c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S2.3",
        title="a branch that waits does not hold the other up",
        graph=(stage("a"), stage("b", "a", does=waits()), stage("b2", "b"), stage("c", "a"), stage("c2", "c")),
        everywhere=True,
        steps=(
            expect(
                ran="a c c2",
                statuses={"b": "SUSPENDED", "b2": "NOT_STARTED", "c c2": "SUCCEEDED"},
                wf="RUNNING",
            ),
            signal("b"),
            expect(ran="a b b2 c c2", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S2.4",
        title="the process is killed when the first stage has completed, before a branch begins",
        graph=(stage("a"), stage("b", "a"), stage("c", "a")),
        crash=once("a", "SUCCEEDED"),
        everywhere=True,
        steps=(expect(ran="a b c", started="a b c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S3.1",
        title="a join waits for every branch and sees what all of them left",
        graph=(
            stage("a"),
            stage("b", "a", does=waits()),
            stage("c", "a"),
            stage("d", "b", "c", does=sees("a", "b", "c")),
        ),
        everywhere=True,
        steps=(
            expect(ran="a c", statuses={"d": "NOT_STARTED"}, wf="RUNNING"),
            signal("b"),
            expect(ran="a b c d", noted={"d": [{"a": "a", "b": "b", "c": "c"}]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S3.2",
        title="a tolerated failure and a disabled branch deliver",
        graph=(
            stage("a"),
            stage("b", "a", does=soft()),
            stage("c", "a", enabled=False),
            stage("e", "a"),
            stage("d", "b", "c", "e"),
        ),
        everywhere=True,
        steps=(expect(ran="a b e d", wf="SUCCEEDED"),),
    ),
    Case(
        id="S3.3",
        title="a failed branch fails the workflow; branches at work end",
        graph=(
            stage("a"),
            stage("b", "a", does=meets("x", 3, fails())),
            stage("c", "a", does=meets("x", 3)),
            stage("d", "a", does=meets("x", 3)),
            stage("e", "b", "c", "d"),
        ),
        workers=3,
        steps=(
            expect(
                ran="a b c d",
                statuses={"b": "TERMINAL", "c d": "SUCCEEDED", "e": "NOT_STARTED"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S3.3 one after the other",
        title="branches that were enabled when another failed end, also when their bodies begin later",
        graph=(
            stage("a"),
            stage("b", "a", does=fails()),
            stage("c", "a"),
            stage("d", "a"),
            stage("e", "b", "c", "d"),
        ),
        everywhere=True,
        steps=(
            expect(
                ran="a b c d",
                statuses={"b": "TERMINAL", "c d": "SUCCEEDED", "e": "NOT_STARTED"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S3.3 waiting",
        title="a branch that waits is withdrawn when another fails",
        graph=(
            stage("a"),
            stage("c", "a", does=waits()),
            stage("b", "a", does=waits(then=fails())),
            stage("d", "a"),
            stage("e", "b", "c", "d"),
        ),
        everywhere=True,
        steps=(
            signal("b"),
            expect(
                ran="a b d",
                statuses={"b": "TERMINAL", "c": "CANCELED", "d": "SUCCEEDED", "e": "NOT_STARTED"},
                on_cancel="c",
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S3.4",
        title="a branch that stopped blocks what needs it, and nothing else",
        graph=(
            stage("a"),
            stage("b", "a", does=stops()),
            stage("b2", "b"),
            stage("c", "a"),
            stage("c2", "c"),
            stage("j", "b2", "c"),
        ),
        everywhere=True,
        steps=(
            expect(
                ran="a b c c2",
                statuses={"b": "STOPPED", "b2 j": "NOT_STARTED", "c c2": "SUCCEEDED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S3.5",
        title="six branches that end together fire their join once",
        graph=(stage("a"), *(stage(ref, "a", does=meets("end", 6)) for ref in BRANCHES), stage("j", *BRANCHES)),
        workers=10,
        repeat=100,
        steps=(expect(ran="a b c d e f g j", rows_ran="a b c d e f g j", rows={"j": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S3.6",
        title="the process is killed when one branch is done and the other in its body",
        graph=(stage("a"), stage("b", "a"), stage("c", "a"), stage("j", "b", "c")),
        crash=inside("c"),
        everywhere=True,
        steps=(expect(ran="a b c j", started="a b c×2 j", wf="SUCCEEDED"),),
    ),
]

test_pattern = matrix(CASES)
