"""Arbitrary cycles and the end that nobody has to model (WCP-10 and WCP-11)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.scenarios.case import (
    Case,
    Part,
    expect,
    inside,
    jumps,
    kill,
    matrix,
    once,
    restart,
    sees,
    signal,
    stage,
    together,
    waits,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scenarios.world import World


def limit_named(ref: str, limit: int) -> Callable[[World], bool]:
    """Whether a stage says which number of jumps was exceeded."""
    wanted = re.compile(rf"Max jump count exceeded: \d+/{limit}")
    return lambda world: bool(wanted.fullmatch(world.row(ref).context["jump_error"]))


def endless(**context: int) -> tuple[Part, ...]:
    """Make a → c↩a×50, with a context for c."""
    return (stage("a"), stage("c", "a", does=jumps("a", 50), context=context))


ENDLESS = endless()

CYCLES = [
    Case(
        id="S10.1",
        title="a stage jumps back twice, what lies between is repeated",
        graph=(stage("a"), stage("b", "a"), stage("c", "b", does=jumps("b", 2)), stage("d", "c")),
        everywhere=True,
        steps=(expect(ran="a b×3 c d", order="a b b b c d", started="c×3", rows={"b": 1, "c": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S10.1 itself",
        title="a stage jumps to itself",
        graph=(stage("a"), stage("b", "a"), stage("c", "b", does=jumps("c", 2)), stage("d", "c")),
        steps=(expect(ran="a b c d", started="a b c×3 d", wf="SUCCEEDED"),),
    ),
    Case(
        id="S10.2",
        title="a cycle with two entries and two exits",
        graph=(
            stage("a", does=jumps("c")),
            *(stage("b", "a"), stage("c", "b"), stage("d", "c", does=jumps("b")), stage("z", "d")),
        ),
        steps=(
            expect(
                ran="b c×2 d z",
                order="c b c d z",
                started="a b c×2 d×2 z",
                statuses={"a b c d z": "SUCCEEDED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S10.2 exits",
        title="a cycle of b, c and d that is entered at b and at d, and left from c and from d",
        graph=(
            stage("a", does=jumps("d")),
            *(stage("b", "a"), stage("c", "b", does=jumps("y")), stage("d", "c", does=jumps("b"))),
            *(stage("x", "d"), stage("y", "x")),
        ),
        # a enters at d, d goes to b, c leaves the cycle for y: what lies between is skipped
        steps=(
            expect(
                ran="b y",
                started="a b c d y",
                statuses={"a b c y": "SUCCEEDED", "d x": "SKIPPED"},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S10.3",
        title="a jump forward leaves out what lies between",
        graph=(stage("a", does=jumps("d")), stage("b", "a"), stage("c", "b"), stage("d", "c"), stage("e", "d")),
        steps=(
            expect(
                ran="d e",
                started="a d e",
                statuses={"a": "SUCCEEDED", "b c": "SKIPPED", "d e": "SUCCEEDED"},
                rows={"d": 1, "e": 1},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S10.4",
        title="a branch outside the cycle is not repeated, and the join behind both takes its outcome again",
        graph=(
            *(stage("a"), stage("b", "a"), stage("x", "a"), stage("j", "b", "x", does=sees("x"))),
            *(stage("k", "j", does=jumps("b")), stage("z", "k")),
        ),
        steps=(expect(ran="a b×2 x j×2 k z", noted={"j": [{"x": "x"}] * 2}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S10.4 not fired",
        title="a cycle before a join that has not fired",
        graph=(stage("a"), stage("b", "a"), stage("c", "b", does=jumps("b", 2)), stage("x", "a"), stage("j", "c", "x")),
        steps=(expect(ran="a b×3 c x j", rows={"j": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S10.4 waiting",
        title="a branch outside the cycle waits through the passes and is not begun again",
        graph=(
            *(stage("a"), stage("b", "a"), stage("c", "b", does=jumps("b", 2))),
            *(stage("x", "a", does=waits()), stage("j", "c", "x")),
        ),
        steps=(
            expect(ran="a b×3 c", statuses={"x": "SUSPENDED", "j": "NOT_STARTED"}, wf="RUNNING"),
            signal("x"),
            expect(ran="a b×3 c x j", on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S10.5",
        title="an endless cycle fails at its eleventh jump",
        graph=ENDLESS,
        steps=(
            expect(
                ran="a×11",
                started="a×11 c×11",
                statuses={"a": "SUCCEEDED", "c": "TERMINAL"},
                errors={"c": "/10"},
                check=limit_named("c", 10),
                wf="TERMINAL",
            ),
        ),
    ),
    *(
        Case(
            id=f"S10.5 limit of the {whose}",
            title="the number of jumps can be given; the workflow's goes before the stage's",
            graph=graph,
            context=context,
            steps=(
                expect(
                    ran=f"a×{limit + 1}",
                    statuses={"c": "TERMINAL"},
                    check=limit_named("c", limit),
                    wf="TERMINAL",
                ),
            ),
        )
        for whose, graph, context, limit in (
            ("workflow", ENDLESS, {"_max_jumps": 3}, 3),
            ("stage", endless(_max_jumps=2), {}, 2),
            ("workflow before the stage's", endless(_max_jumps=2), {"_max_jumps": 12}, 12),
        )
    ),
    Case(
        id="S10.5 two routers",
        title="the jumps of all stages are counted together: after six of one, the other's fifth fails",
        graph=(
            *(stage("a"), stage("r1", "a", does=jumps("a", 6))),
            *(stage("b", "r1"), stage("r2", "b", does=jumps("b", 5))),
        ),
        steps=(
            expect(
                ran="a×7 r1 b×5",
                started="r1×7 r2×5",
                statuses={"r1": "SUCCEEDED", "r2": "TERMINAL"},
                check=limit_named("r2", 10),
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S10.6",
        title="what is given to a jump reaches its target",
        graph=(
            *(stage("a"), stage("b", "a", does=sees("why", "a"))),
            *(stage("c", "b", does=jumps("b", why="once more")), stage("d", "c")),
        ),
        steps=(
            expect(
                ran="a b×2 c d",
                noted={"b": [{"why": None, "a": "a"}, {"why": "once more", "a": "a"}]},
                context={"b": {"why": "once more"}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S10.6 nowhere",
        title="a jump to a stage that is not there fails the stage",
        graph=(stage("a", does=jumps("nowhere")), stage("b", "a")),
        steps=(
            expect(
                ran="",
                statuses={"a": "TERMINAL", "b": "NOT_STARTED"},
                context={"a": {"jump_error": "Target stage not found: nowhere"}},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S10.6 crash",
        title="the process is killed in the second pass",
        graph=(stage("a"), stage("b", "a"), stage("c", "b", does=jumps("b", why="more")), stage("d", "c")),
        crash=inside("b", 2),
        steps=(
            expect(
                ran="a b×2 c d",
                started="a b×3 c×2 d",
                context={"b": {"why": "more"}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S10.6 crash and limit",
        title="jumps made before the process was killed are counted",
        graph=ENDLESS,
        context={"_max_jumps": 3},
        crash=inside("a", 3),
        steps=(expect(ran="a×4", started="a×5 c×4", check=limit_named("c", 3), wf="TERMINAL"),),
    ),
]

WAITING = (stage("a"), stage("b", "a", does=waits()), stage("c", "a"), stage("c2", "c"))

TERMINATION = [
    Case(
        id="S11.1",
        title="a workflow runs as long as one stage waits, and ends with it",
        graph=WAITING,
        everywhere=True,
        steps=(
            expect(ran="a c c2", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            signal("b"),
            expect(ran="a b c c2", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S11.1 restarts",
        title="it goes on to run when its process is ended, or killed, and another one opens the store",
        graph=WAITING,
        steps=(
            restart(),
            expect(ran="a c c2", started="b", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            kill(),
            expect(ran="a c c2", started="b", statuses={"b": "SUSPENDED"}, wf="RUNNING"),
            restart(),
            together(signal("b"), kill()),
            expect(ran="a b c c2", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S11.2",
        title="a workflow with several starts and ends is over after the last of them",
        graph=(*(stage("a"), stage("c", "a"), stage("b", does=waits()), stage("d", "b"), stage("e", does=waits())),),
        steps=(
            expect(ran="a c", wf="RUNNING"),
            signal("e"),
            expect(ran="a c e", statuses={"b": "SUSPENDED", "d": "NOT_STARTED"}, wf="RUNNING"),
            signal("b"),
            expect(ran="a c b d e", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S11.3",
        title="a workflow in which everything is disabled succeeds",
        graph=(
            *(stage("a", enabled=False), stage("b", "a", enabled=False), stage("c", "a", enabled=False)),
            stage("d", "b", "c", enabled=False),
        ),
        steps=(expect(ran="", started="", statuses={"a b c d": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S11.4",
        title="too few threads for a merge are a deadlock and no success",
        graph=(stage("a", thread_split=2), stage("r", "a"), stage("m", "r", thread_merge=3)),
        steps=(
            expect(
                ran="a r×2",
                statuses={"r r#2": "SUCCEEDED", "m": "NOT_STARTED"},
                errors={"": "deadlock: m "},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S11.4 crash",
        title="the process is killed when the last stage has ended and the workflow perhaps not",
        graph=(stage("a"), stage("b", "a")),
        crash=once("b", "SUCCEEDED"),
        steps=(expect(ran="a b", started="a b", wf="SUCCEEDED"),),
    ),
]

CASES = [*CYCLES, *TERMINATION]

test_pattern = matrix(CASES)
