"""Choices and merges without a count: exclusive choice to structured discriminator (WCP-4 to WCP-9)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from stabilize_nb import TaskResult
from tests.scenarios.case import (
    Body,
    Case,
    Part,
    expect,
    fails,
    inside,
    jumps,
    matrix,
    meets,
    ok,
    sees,
    signal,
    soft,
    stage,
    waits,
)
from tests.scenarios.world import Call, World


def number_of_pass() -> Body:
    """Give the number of the pass as `n`."""
    return lambda stage, call: {"n": call.number}


def either(x: str = "x == 1", y: str = "x == 2", *, join: str = "AND", b: Any = None) -> tuple[Part, ...]:
    """Make a{b: x==1, c: x==2}, c → c2, {b, c2} → m → z."""
    return (
        stage("a", split={"b": x, "c": y}),
        stage("b", "a", does=b),
        stage("c", "a"),
        stage("c2", "c"),
        stage("m", "b", "c2", join=join),
        stage("z", "m"),
    )


def joined(*branches: Part, join: str = "DISC") -> tuple[Part, ...]:
    """Make a → branches → m → n."""
    return (stage("a"), *branches, stage("m", *(branch.ref_id for branch in branches), join=join), stage("n", "m"))


def is_said_of(*edges: str) -> Callable[[World], bool]:
    """Make a check that the log names these conditions that count as false: by their edge, "" for those of a stage."""

    def check(world: World) -> bool:
        told = [json.loads(data) for _, _, data in world.events("condition.failed")]
        return [each.get("edge", "") for each in told] == [*edges] and all(each["error"] for each in told)

    return check


def branch(ref: str, does: Any = None, **fields: Any) -> Part:
    """Make a stage behind a."""
    return stage(ref, "a", does=does, **fields)


def stale(stage: Any, call: Call) -> None:
    """Note whether a row of a pass before is still there."""
    call.note([ref for ref in call.world.statuses() if "#" in ref])


CHOICE = (
    stage("a", split={"p": "env == 'prod'", "q": "env != 'prod'"}),
    *(stage("p", "a"), stage("p2", "p"), stage("q", "a"), stage("q2", "q")),
    stage("z", "p2", "q2"),
)

EXCLUSIVE_CHOICE = [
    Case(
        id="S4.1 prod",
        title="one of two branches with disjoint conditions runs, the other is skipped to its end",
        graph=CHOICE,
        context={"env": "prod"},
        everywhere=True,
        steps=(expect(ran="a p p2 z", statuses={"q q2": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S4.1 dev",
        title="other data take the other branch",
        graph=CHOICE,
        context={"env": "dev"},
        steps=(expect(ran="a q q2 z", statuses={"p p2": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S4.2",
        title="a router names the branch",
        graph=(
            stage("a"),
            stage("r", "a", does=jumps("fix")),
            *(stage("deploy", "r"), stage("fix", "r"), stage("z", "deploy", "fix")),
        ),
        steps=(
            expect(
                ran="a fix z",
                statuses={"r": "SUCCEEDED", "deploy": "SKIPPED", "fix z": "SUCCEEDED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    *(
        Case(
            id=f"S4.3 x={x}",
            title="the first condition that is true decides, none takes the default",
            graph=(
                stage("a", xor={"p": "x == 1", "q": "x <= 2"}, split_default="r"),
                *(stage("p", "a"), stage("q", "a"), stage("r", "a"), stage("z", "p", "q", "r")),
            ),
            context={"x": x},
            steps=(
                expect(
                    ran=f"a {taken} z",
                    statuses={taken: "SUCCEEDED", other: "SKIPPED"},
                    wf="SUCCEEDED",
                ),
            ),
        )
        for x, taken, other in ((1, "p", "q r"), (2, "q", "p r"), (9, "r", "p q"))
    ),
    Case(
        id="S4.4",
        title="the choice stays when the process is killed in the chosen branch and the data have changed since",
        graph=(
            stage("a", does=ok(x=1), split={"p": "x == 1", "q": "x == 2"}),
            stage("other", "a", does=ok(x=2)),
            stage("p", "a", does=waits(then=ok(x=2))),
            *(stage("q", "a"), stage("z", "p", "q", "other")),
        ),
        crash=inside("p", 2),
        steps=(
            expect(ran="a other", statuses={"p": "SUSPENDED", "q": "SKIPPED"}, wf="RUNNING"),
            signal("p"),
            expect(ran="a other p z", started="p×3 q×0", statuses={"q": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
]

PASSES = {"AND": "AND", "MM": "MULTI_MERGE"}

SIMPLE_MERGE = [
    *(
        Case(
            id=f"S5.1 x={x} {name}",
            title="the branch that is alive passes its thread on",
            graph=either(join=join),
            context={"x": x},
            everywhere=(x, join) == (2, "MM"),
            steps=(
                expect(
                    ran=f"a {taken} m z",
                    rows={"m": 1, "z": 1},
                    statuses={other: "SKIPPED"},
                    wf="SUCCEEDED",
                ),
            ),
        )
        for join, name in PASSES.items()
        for x, taken, other in ((1, "b", "c c2"), (2, "c c2", "b"))
    ),
    *(
        Case(
            id=f"S5.2 {name}",
            title="each pass merges the branch that it takes",
            graph=(
                stage("a", does=number_of_pass(), split={"b": "n == 1", "c": "n == 2"}),
                *(stage("b", "a"), stage("c", "a"), stage("c2", "c"), stage("m", "b", "c2", join=join)),
                stage("k", "m", does=jumps("a")),
                stage("z", "k"),
            ),
            steps=(
                expect(
                    ran="a×2 b c c2 m×2 k z",
                    rows={"m": 1, "z": 1},
                    statuses={"b": "SKIPPED", "c c2 m z": "SUCCEEDED"},
                    wf="SUCCEEDED",
                ),
            ),
        )
        for join, name in PASSES.items()
    ),
    *(
        Case(
            id=f"S5.3 ~ {name}",
            title="a tolerated failure of the chosen branch goes on",
            graph=either(join=join, b=soft()),
            context={"x": 1},
            steps=(expect(ran="a b m z", statuses={"b": "FAILED_CONTINUE", "c c2": "SKIPPED"}, wf="SUCCEEDED"),),
        )
        for join, name in PASSES.items()
    ),
    *(
        Case(
            id=f"S5.3 ✗ {name}",
            title="the chosen branch fails",
            graph=either(join=join, b=fails()),
            context={"x": 1},
            steps=(expect(ran="a b", statuses={"b": "TERMINAL", "m z": "NOT_STARTED"}, wf="TERMINAL"),),
        )
        for join, name in PASSES.items()
    ),
]

SERVICES = {"police": "kind == 'crime' or kind == 'accident'", "ambulance": "injured > 0", "fire": "fire == True"}

MULTI_CHOICE = [
    *(
        Case(
            id=f"S6.1 {kind} {injured} {fire}",
            title="exactly the branches whose conditions are true run",
            graph=(stage("triage", split=SERVICES), *(stage(ref, "triage") for ref in SERVICES)),
            context={"kind": kind, "injured": injured, "fire": fire},
            everywhere=kind == "crime",
            steps=(
                expect(
                    ran=f"triage {taken}",
                    statuses={taken: "SUCCEEDED", other: "SKIPPED"},
                    wf="SUCCEEDED",
                ),
            ),
        )
        for kind, injured, fire, taken, other in (
            ("crime", 0, False, "police", "ambulance fire"),
            ("accident", 2, False, "police ambulance", "fire"),
            ("accident", 1, True, "police ambulance fire", ""),
            ("none", 0, True, "fire", "police ambulance"),
        )
    ),
    Case(
        id="S6.2",
        title="a branch that is not chosen is skipped to its end",
        graph=(
            stage("a", split={"b": "x == 1", "c": "x == 2"}),
            *(stage("b", "a"), stage("b2", "b"), stage("c", "a"), stage("c2", "c"), stage("c3", "c2")),
        ),
        context={"x": 1},
        steps=(expect(ran="a b b2", statuses={"c c2 c3": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S6.3",
        title="no condition is true and there is no default: no branch is taken",
        graph=(
            stage("a", split={"b": "x == 1", "c": "x == 2"}),
            *(branch("b"), branch("c"), stage("j", "b", "c", join="OR")),
        ),
        context={"x": 9},
        steps=(expect(ran="a", statuses={"b c j": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S6.3 default",
        title="no condition is true: the default is taken",
        graph=(
            stage("a", split={"b": "x == 1", "c": "x == 2"}, split_default="c"),
            *(branch("b"), branch("c"), stage("j", "b", "c", join="OR")),
        ),
        context={"x": 9},
        steps=(expect(ran="a c j", statuses={"b": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S6.4",
        title="a stage that was not chosen by one requisite waits for the other",
        graph=(
            stage("a", split={"b": "True", "c": "False"}),
            *(stage("k", does=waits()), branch("b"), stage("c", "a", "k")),
        ),
        steps=(
            expect(ran="a b", statuses={"c": "NOT_STARTED", "k": "SUSPENDED"}, wf="RUNNING"),
            signal("k"),
            expect(ran="a b k c", rows={"c": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S6.5",
        title="conditions see outputs as well as context, outputs first",
        graph=(
            stage("s", does=ok(far=1, both="output")),
            stage(
                "a",
                "s",
                does=ok(near=2),
                context={"own": 3},
                split={
                    "b": "far == 1 and near == 2 and own == 3 and given == 4 and both == 'output'",
                    "c": "both == 'context'",
                },
            ),
            *(branch("b"), branch("c")),
        ),
        context={"given": 4, "both": "context"},
        steps=(expect(ran="s a b", statuses={"c": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S6.5 wrong type",
        title="a condition that cannot be computed counts as false",
        graph=(
            stage("a", split={"b": "None > 3", "c": "unknown > 3", "d": "unknown == None"}),
            *(branch("b"), branch("c"), branch("d")),
        ),
        steps=(expect(ran="a d", statuses={"b c": "SKIPPED"}, wf="SUCCEEDED", check=is_said_of("b", "c")),),
    ),
    Case(
        id="S6.5 wrong type elsewhere",
        title="the log says so of stageEnabled, too, and of an XOR split only as far as it was asked",
        graph=(
            stage("a", xor={"b": "word < 3", "c": "word == 'text'", "d": "word < 4"}),
            branch("b"),
            branch("c", context={"stageEnabled": {"expression": "word * 2"}}),
            branch("d"),
        ),
        context={"word": "text"},
        steps=(expect(ran="a", statuses={"b c d": "SKIPPED"}, wf="SUCCEEDED", check=is_said_of("b", "")),),
    ),
    Case(
        id="S6.5 no expression",
        title="a condition that is no expression is rejected when the workflow is made",
        graph=(stage("a", split={"b": "x =="}), branch("b")),
        rejected="x ==",
    ),
]


def synchronizing(*, b2: Any = None) -> tuple[Part, ...]:
    """Make a{b: x>0, c: x>1, d: x>9}, b → b2, c → c2, d → d2, {b2, c2, d2} → j[OR] → z."""
    return (
        stage("a", split={"b": "x > 0", "c": "x > 1", "d": "x > 9"}),
        *(branch("b"), branch("c"), branch("d")),
        *(stage("b2", "b", does=b2), stage("c2", "c"), stage("d2", "d")),
        stage("j", "b2", "c2", "d2", join="OR"),
        stage("z", "j"),
    )


SYNCHRONIZING_MERGE = [
    Case(
        id="S7.1",
        title="the merge waits for the branches that were chosen, and for no other",
        graph=synchronizing(b2=waits()),
        context={"x": 2},
        everywhere=True,
        steps=(
            expect(
                ran="a b c c2",
                statuses={"d d2": "SKIPPED", "j z": "NOT_STARTED", "b2": "SUSPENDED"},
                wf="RUNNING",
            ),
            signal("b2"),
            expect(ran="a b b2 c c2 j z", rows={"j": 1, "z": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S7.2 one",
        title="a single branch was chosen",
        graph=synchronizing(),
        context={"x": 1},
        steps=(expect(ran="a b b2 j z", order="b2 j z", statuses={"c c2 d d2": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S7.2 none",
        title="no branch was chosen: the merge is skipped",
        graph=synchronizing(),
        context={"x": 0},
        steps=(expect(ran="a", statuses={"b b2 c c2 d d2 j z": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S7.3 ~",
        title="a tolerated failure in a chosen branch arrives",
        graph=synchronizing(b2=soft()),
        context={"x": 2},
        steps=(expect(ran="a b b2 c c2 j z", statuses={"b2": "FAILED_CONTINUE"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S7.3 ✗",
        title="a chosen branch fails",
        graph=synchronizing(b2=waits(then=fails())),
        context={"x": 2},
        steps=(
            signal("b2"),
            expect(
                ran="a b b2 c c2",
                statuses={"b2": "TERMINAL", "c2": "SUCCEEDED", "j z": "NOT_STARTED"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S7.4",
        title="each pass of a loop makes its own choice, and the merge waits for that",
        graph=(
            stage("a", does=number_of_pass(), split={"b": "n == 1 or n == 3", "c": "n >= 2"}),
            *(branch("b"), branch("c"), stage("j", "b", "c", join="OR")),
            *(stage("k", "j", does=jumps("a", 2)), stage("z", "k")),
        ),
        steps=(
            expect(
                ran="a×3 b×2 c×2 j×3 k z",
                order=("b j c j b c j", "b j c j c b j"),
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S7.5",
        title="the process is killed in a chosen branch, whose data would choose otherwise now",
        graph=(
            stage("a", does=ok(x=2), split={"b": "x > 0", "c": "x > 1", "d": "x > 9"}),
            *(branch("b", ok(x=10)), branch("c", ok(x=10)), branch("d")),
            *(stage("b2", "b"), stage("c2", "c"), stage("d2", "d")),
            *(stage("j", "b2", "c2", "d2", join="OR"), stage("z", "j")),
        ),
        crash=inside("c2"),
        steps=(
            expect(
                ran="a b b2 c c2 j z",
                started="a b b2 c c2×2 j z",
                statuses={"d d2": "SKIPPED"},
                rows={"j": 1},
                wf="SUCCEEDED",
            ),
        ),
    ),
]


def named(ref: str, does: Any = None) -> Part:
    """Make a branch whose output `which` is its name."""
    return branch(ref, does or ok(which=ref))


def fails_behind_g(stage: Any) -> Any:
    """Fail in the thread of g only."""
    return TaskResult.terminal("no") if stage.context["which"] == "g" else None


ROWS = ("", "#2", "#3")


def threads_are_told_apart(world: World) -> bool:
    """Compare what is kept about each activation of m and n with what is said of it."""
    stages, triggers = world.stages(), {}
    for ref in "mn":
        rows = [stages[f"{ref}{row}"] for row in ROWS]
        triggers[ref] = sorted(row.context["_triggered_by"] for row in rows)
        assert [row.context["_activation"] for row in rows] == [1, 2, 3]
        assert all(row.requisite_stage_ref_ids == set(row.context["_triggered_by"]) for row in rows[1:])
    return triggers == {"m": [["f"], ["g"], ["h"]], "n": [["m"], ["m#2"], ["m#3"]]}


MULTI_MERGE = [
    Case(
        id="S8.1",
        title="every thread passes the merge, and what follows runs once a thread",
        graph=(*joined(branch("f"), branch("g"), branch("h"), join="MM"), stage("o", "n")),
        everywhere=True,
        steps=(
            expect(
                ran="a f g h m×3 n×3 o×3",
                rows_ran=" ".join(["a f g h", *(f"m{row} n{row} o{row}" for row in ROWS)]),
                statuses={f"m{row} n{row} o{row}": "SUCCEEDED" for row in ROWS},
                rows={"m": 3, "n": 3, "o": 3},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S8.2",
        title="each thread has the history of its own branch",
        graph=(
            *(stage("a"), named("f"), named("g"), named("h")),
            *(stage("m", "f", "g", "h", join="MM", does=sees("which")), stage("n", "m", does=sees("which"))),
        ),
        steps=(
            expect(
                ran="a f g h m×3 n×3",
                noted={ref: [{"which": "f"}, {"which": "g"}, {"which": "h"}] for ref in "mn"},
                check=threads_are_told_apart,
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S8.3",
        title="a thread that comes late passes when it comes",
        graph=joined(branch("f"), branch("g", waits()), join="MM"),
        steps=(
            expect(ran="a f m n", rows={"m": 1, "n": 1}, wf="RUNNING"),
            signal("g"),
            expect(ran="a f g m×2 n×2", rows={"m": 2, "n": 2}, wf="SUCCEEDED"),
        ),
    ),
    *(
        Case(
            id=f"S8.4 {first} first",
            title="two activations wait side by side, each is signalled for itself",
            graph=(
                *(stage("a"), branch("f"), branch("g", waits())),
                *(stage("m", "f", "g", join="MM", does=waits()), stage("n", "m")),
            ),
            steps=(
                expect(ran="a f", statuses={"m": "SUSPENDED", "m#2": None}, wf="RUNNING"),
                signal("g"),
                expect(ran="a f g", statuses={"m m#2": "SUSPENDED", "n": "NOT_STARTED"}, wf="RUNNING"),
                signal(first),
                expect(
                    rows_ran=f"a f g {first} n",
                    statuses={first: "SUCCEEDED", second: "SUSPENDED", "n": "SUCCEEDED", "n#2": None},
                    wf="RUNNING",
                ),
                signal(second),
                expect(rows_ran="a f g m m#2 n n#2", wf="SUCCEEDED"),
            ),
        )
        for first, second in (("m", "m#2"), ("m#2", "m"))
    ),
    Case(
        id="S8.5",
        title="a branch that is not chosen does not fire the merge",
        graph=(
            stage("a", split={"f": "True", "g": "False", "h": "True"}),
            *(branch("f"), branch("g"), branch("h"), stage("m", "f", "g", "h", join="MM"), stage("n", "m")),
        ),
        steps=(expect(ran="a f h m×2 n×2", statuses={"g": "SKIPPED"}, rows={"m": 2, "n": 2}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S8.5 none",
        title="no branch is chosen: the merge is skipped",
        graph=(
            stage("a", split={"f": "False", "g": "False", "h": "False"}),
            *(branch("f"), branch("g"), branch("h"), stage("m", "f", "g", "h", join="MM"), stage("n", "m")),
        ),
        steps=(expect(ran="a", statuses={"f g h m n": "SKIPPED"}, rows={"m": 1, "n": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S8.6",
        title="a failure in one thread fails the workflow",
        graph=(
            *(stage("a"), named("f"), named("g", waits(then=ok(which="g")))),
            *(stage("m", "f", "g", join="MM", does=fails_behind_g), stage("n", "m")),
        ),
        steps=(
            expect(ran="a f m n", wf="RUNNING"),
            signal("g"),
            expect(
                ran="a f g m×2 n",
                statuses={"m n": "SUCCEEDED", "m#2": "TERMINAL", "n#2": None},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S8.6 join behind two merges",
        title="two merges fed twice fire the join of both twice",
        graph=(
            *(stage("a"), branch("f"), branch("g"), branch("p"), branch("q")),
            *(stage("m", "f", "g", join="MM"), stage("y", "p", "q", join="MM"), stage("j", "m", "y"), stage("z", "j")),
        ),
        steps=(expect(ran="a f g p q m×2 y×2 j×2 z×2", rows={"j": 2, "z": 2}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S8.7",
        title="a jump back takes the further activations away, and the next pass makes new ones",
        graph=(
            stage("a", does=stale),
            *(branch("f"), branch("g"), stage("m", "f", "g", join="MM"), stage("n", "m")),
            *(stage("w", does=waits()), stage("k", "f", "g", "w", does=jumps("a")), stage("z", "k")),
        ),
        steps=(
            expect(ran="a f g m×2 n×2", rows={"m": 2, "n": 2}, wf="RUNNING"),
            signal("w"),
            expect(
                ran="a×2 f×2 g×2 m×4 n×4 w k z",
                rows={"m": 2, "n": 2, "k": 1},
                noted={"a": [[], []]},
                statuses={"m m#2 n n#2": "SUCCEEDED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S8.8",
        title="the process is killed in the first of two firings",
        graph=joined(branch("f"), branch("g"), join="MM"),
        crash=inside("m"),
        steps=(
            expect(
                ran="a f g m×2 n×2",
                started="f g m×3 n×2",
                rows_ran="a f g m m#2 n n#2",
                wf="SUCCEEDED",
            ),
        ),
    ),
]


def after_both(then: Body) -> Body:
    """Poll until both branches have ended in each pass: which of them comes first is left to the engine."""

    def body(stage: Any, call: Call) -> Any:
        if call.world.ran("f", "g") < 2 * call.number:
            return TaskResult.running()
        return then(stage, call)

    return body


SIX = tuple("bcdefg")

DISCRIMINATOR = [
    Case(
        id="S9.1",
        title="the first branch fires the join, a late one only completes it",
        graph=joined(branch("f", waits()), branch("g")),
        everywhere=True,
        steps=(
            expect(ran="a g m n", order="g m n", statuses={"f": "SUSPENDED", "m n": "SUCCEEDED"}, wf="RUNNING"),
            signal("f"),
            expect(
                ran="a f g m n",
                statuses={"f": "SUCCEEDED"},
                rows={"m": 1, "n": 1},
                context={"m": {"_triggered_by": ["g"]}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S9.2 ~",
        title="a late branch ends in a tolerated failure",
        graph=joined(branch("f", waits(then=soft())), branch("g")),
        steps=(
            expect(ran="a g m n", wf="RUNNING"),
            signal("f"),
            expect(ran="a f g m n", statuses={"f": "FAILED_CONTINUE"}, rows={"m": 1, "n": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S9.2 ✗",
        title="a late branch fails: so does the workflow",
        graph=joined(branch("f", waits(then=fails())), branch("g")),
        steps=(
            expect(ran="a g m n", wf="RUNNING"),
            signal("f"),
            expect(
                ran="a f g m n",
                statuses={"f": "TERMINAL", "m n": "SUCCEEDED"},
                rows={"m": 1, "n": 1},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S9.3 ~",
        title="a tolerated failure is an arrival",
        graph=joined(branch("f", soft()), branch("g", waits())),
        steps=(
            expect(ran="a f m n", statuses={"f": "FAILED_CONTINUE", "g": "SUSPENDED"}, wf="RUNNING"),
            signal("g"),
            expect(ran="a f g m n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S9.3 ✗",
        title="a failure before any arrival fails the workflow",
        graph=joined(branch("f", fails()), branch("g", waits())),
        steps=(
            # g was enabled, its body may have begun before f failed: withdrawn while it waits (2.9)
            expect(
                ran="a f",
                statuses={"f": "TERMINAL", "g": "CANCELED", "m n": "NOT_STARTED"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S9.4",
        title="a branch that was not chosen does not fire the join",
        graph=(
            stage("a", split={"f": "False", "g": "True", "h": "True"}),
            *(branch("f"), branch("g", waits()), branch("h", waits())),
            *(stage("m", "f", "g", "h", join="DISC"), stage("n", "m")),
        ),
        steps=(
            expect(ran="a", statuses={"f": "SKIPPED", "m": "NOT_STARTED", "g h": "SUSPENDED"}, wf="RUNNING"),
            signal("g"),
            expect(ran="a g m n", wf="RUNNING"),
            signal("h"),
            expect(ran="a g h m n", rows={"m": 1, "n": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S9.5",
        title="six branches that end together fire their join once",
        graph=joined(*(branch(ref, meets("end", 6)) for ref in SIX)),
        workers=10,
        repeat=100,
        steps=(expect(ran="a b c d e f g m n", rows={"m": 1, "n": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S9.6",
        title="the join fires once in each pass of a loop",
        graph=(
            *(stage("a"), branch("f"), branch("g"), stage("m", "f", "g", join="DISC")),
            *(stage("k", "m", does=after_both(jumps("a", 2))), stage("z", "k")),
        ),
        steps=(expect(ran="a×3 f×3 g×3 m×3 k z", rows={"m": 1, "z": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S9.6 waiting",
        title="a late branch of the last pass changes nothing more",
        graph=(
            *(stage("a"), branch("f", waits()), branch("g"), stage("m", "f", "g", join="DISC")),
            *(stage("k", "m", does=jumps("a")), stage("z", "k")),
        ),
        steps=(
            # whether f had begun to wait when the jump repeated it is left to the engine: on_cancel is not looked at
            expect(ran="a×2 g×2 m×2 k z", statuses={"f": "SUSPENDED", "z": "SUCCEEDED"}, wf="RUNNING"),
            signal("f"),
            expect(ran="a×2 f g×2 m×2 k z", rows={"m": 1, "z": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S9.7",
        title="the process is killed in the stage that fired while another branch is open",
        graph=joined(branch("f", waits()), branch("g")),
        crash=inside("m"),
        steps=(
            expect(ran="a g m n", started="g m×2 n", statuses={"f": "SUSPENDED"}, wf="RUNNING"),
            signal("f"),
            expect(ran="a f g m n", rows={"m": 1, "n": 1}, wf="SUCCEEDED"),
        ),
    ),
]

CASES = [*EXCLUSIVE_CHOICE, *SIMPLE_MERGE, *MULTI_CHOICE, *SYNCHRONIZING_MERGE, *MULTI_MERGE, *DISCRIMINATOR]

test_pattern = matrix(CASES)
