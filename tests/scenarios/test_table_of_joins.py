"""What a branch does and what comes of each join: the whole table of patterns.md 2.12."""

from __future__ import annotations

from tests.scenarios.case import (
    Case,
    cancel,
    cancel_region,
    expect,
    fails,
    jumps,
    matrix,
    ok,
    passes,
    signal,
    soft,
    stage,
    stops,
    waits,
)

X_SOFT = stage("x", "a", does=soft())
X_WAITS = stage("x", "a", does=waits())
Y, Z = stage("y", "a"), stage("z", "a")

#: join -> patterns, j's when x delivers, when x is DEAD, when x is HALT, when y and z are done and x is not.
JOINS = {
    "AND": ((3,), 1, 1, 0, 0),
    "OR": ((7, 37), 1, 1, 1, 0),
    "MM": ((8,), 3, 2, 2, 2),
    "DISC": ((9,), 1, 1, 1, 1),
    "2/3": ((30,), 1, 1, 1, 1),
    "3/3": ((30,), 1, None, 0, 0),
}


def times(ref, count):
    """Write how often a stage ran."""
    return f" {ref}×{count}" if count else ""


def table(join):
    """Make the cases of one line of the table: y and z succeed, x does what the column says."""
    patterns, live, dead, halt, early = JOINS[join]
    j = stage("j", "x", "y", "z", join=join)

    def case(column, title, x, *steps, before=(), **fields):
        graph = (*before, x, Y, Z, j) if before else (stage("a"), x, Y, Z, j)
        return Case(id=f"2.12 {join} {column}", title=title, pattern=patterns, graph=graph, steps=steps, **fields)

    def dead_end(ran, status, on_cancel=""):
        """Say what comes of a branch that says "not this way"."""
        if dead is None:
            return expect(
                ran=ran, statuses={"x": status, "j": "TERMINAL"}, errors={"j": "out of reach"}, on_cancel=on_cancel,
                wf="TERMINAL",
            )  # fmt: skip
        return expect(ran=ran + times("j", dead), statuses={"x": status}, on_cancel=on_cancel, wf="SUCCEEDED")

    def halted(status, on_cancel, wf):
        """Say what comes of a branch that was broken off."""
        return expect(
            ran="a y z" + (" x" if status == "STOPPED" else "") + times("j", halt),
            statuses={"x": status, "j": "SUCCEEDED" if halt else "NOT_STARTED"},
            on_cancel=on_cancel,
            wf="SUCCEEDED" if halt else wf,
        )

    yes, no = "True", "False"
    chosen = stage("a", split={"x": no, "y": yes, "z": yes})
    group = {"deferred_choice_group": "g"}
    behind = stage("k", "j", does=passes(waits(then=jumps("a")), ok()), thread_merge=3 if join == "MM" else 1)
    return [
        case("x~", "a tolerated failure delivers", X_SOFT, expect(ran="a x y z" + times("j", live), wf="SUCCEEDED")),
        case(
            "x∅",
            "a disabled branch delivers",
            stage("x", "a", enabled=False),
            expect(ran="a y z" + times("j", live), statuses={"x": "SKIPPED"}, wf="SUCCEEDED"),
        ),
        case(
            "not chosen",
            "a branch not chosen does not count",
            stage("x", "a"),
            dead_end("a y z", "SKIPPED"),
            before=(chosen,),
        ),
        case(
            "withdrawn",
            "the loser of a choice does not count",
            stage("x", "a", does=waits(), **group),
            signal("w"),
            dead_end("a w y z", "CANCELED", "x"),
            before=(stage("a"), stage("w", "a", does=waits(), **group)),
        ),
        case(
            "region",
            "a branch whose region was cancelled does not count",
            stage("x", "a", does=waits(), cancel_region="R"),
            cancel_region("R"),
            dead_end("a y z", "CANCELED", "x"),
        ),
        case(
            "cancelled",
            "a branch that was cancelled is broken off",
            X_WAITS,
            cancel("x"),
            halted("CANCELED", "x", "CANCELED"),
        ),
        case(
            "x■",
            "a branch that stopped is broken off",
            stage("x", "a", does=stops()),
            halted("STOPPED", "", "SUCCEEDED"),
        ),
        case(
            "x✗",
            "a branch that fails last fails the workflow, whether the join has fired or not",
            stage("x", "a", does=waits(then=fails())),
            signal("x"),
            expect(
                ran="a x y z" + times("j", early),
                statuses={"x": "TERMINAL", "j": "SUCCEEDED" if early else "NOT_STARTED"},
                wf="TERMINAL",
            ),
        ),
        case(
            "late",
            "a branch that ends last fires what has not fired; a multi-merge fires once more",
            X_WAITS,
            expect(ran="a y z" + times("j", early), wf="RUNNING"),
            signal("x"),
            expect(ran="a x y z" + times("j", live), rows={"j": live}, wf="SUCCEEDED"),
        ),
        Case(
            id=f"2.12 {join} jump",
            title="a jump over the join repeats it",
            pattern=patterns,
            graph=(stage("a"), stage("x", "a"), Y, Z, j, behind),
            steps=(
                expect(ran="a x y z" + times("j", live), statuses={"k": "SUSPENDED"}, wf="RUNNING"),
                signal("k"),
                expect(ran="a×2 x×2 y×2 z×2 k" + times("j", 2 * live), rows={"j": live}, wf="SUCCEEDED"),
            ),
        ),
        case(
            "crash",
            "the process is killed anywhere",
            stage("x", "a"),
            expect(ran="a x y z" + times("j", live), rows={"j": live}, wf="SUCCEEDED"),
            everywhere=True,
        ),
    ]


test_pattern = matrix([case for join in JOINS for case in table(join)])
