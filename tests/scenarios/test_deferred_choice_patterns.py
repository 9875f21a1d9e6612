"""Deferred choice (WCP-16)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from stabilize_nb.queue import messages as m
from tests.scenarios.case import (
    Case,
    Part,
    expect,
    inside,
    jumps,
    kill,
    matrix,
    polls,
    redeliver,
    signal,
    stage,
    together,
    twice,
    waits,
)

if TYPE_CHECKING:
    from tests.scenarios.world import World


def member(ref: str, *after: str, does: Any = None, **fields: Any) -> Part:
    """Make a stage of the choice."""
    return stage(ref, *after, does=does, deferred_choice_group="choice", **fields)


def branches(p: Any = None, q: Any = None) -> tuple[Part, ...]:
    """Make a → {p, q}, p → p2, q → q2, {p2, q2} → z."""
    return (
        *(stage("a"), member("p", "a", does=p), member("q", "a", does=q)),
        *(stage("p2", "p"), stage("q2", "q"), stage("z", "p2", "q2")),
    )


def one_way(world: World) -> bool:
    """Whether one of p and q was taken, whole, and the other not at all."""
    statuses, reason = world.statuses(), {"_cancel_reason": "deferred_choice"}
    taken, other = ("p", "q") if statuses["p"] == "SUCCEEDED" else ("q", "p")
    assert statuses == {
        **dict.fromkeys(("a", taken, f"{taken}2", "z"), "SUCCEEDED"),
        other: "CANCELED",
        f"{other}2": "SKIPPED",
    }
    assert reason.items() <= world.row(other).context.items()
    assert world.forgiving or world.started()[other] == 0
    return Counter(call.base for call in world.ends()) == Counter(["a", taken, f"{taken}2", "z"])


FIVE = tuple("bcdef")


def one_of_five(world: World) -> bool:
    """Whether one member ran and the other four were withdrawn."""
    found = Counter(world.statuses()[ref] for ref in FIVE)
    return found == {"SUCCEEDED": 1, "CANCELED": 4} and world.ran(*FIVE) == 1 and world.ran("z") == 1


OFFER = (stage("a"), member("p", "a", does=waits()), member("q", "a", does=waits()), stage("z", "p", "q"))
OPEN = (*OFFER, stage("k", does=waits()))

DEFERRED_CHOICE = [
    Case(
        id="S16.1",
        title="of two alternatives that wait for nobody one is taken",
        graph=branches(),
        steps=(expect(check=one_way, on_cancel="", wf="SUCCEEDED"),),
    ),
    Case(
        id="S16.1 two workers",
        title="of two alternatives that could begin at once one is taken",
        graph=branches(),
        workers=4,
        repeat=40,
        steps=(expect(check=one_way, on_cancel="", wf="SUCCEEDED"),),
    ),
    Case(
        id="S16.1 polling",
        title="an alternative that polls has been taken",
        graph=branches(*[polls(lambda world: sum(call.base in ("p", "q") for call in world.calls) > 2)] * 2),
        steps=(expect(check=one_way, on_cancel="", wf="SUCCEEDED"),),
    ),
    *(
        Case(
            id=f"S16.2 {taken}",
            title="alternatives on offer: the first signal takes one and withdraws the other",
            graph=OFFER,
            everywhere=taken == "p",
            steps=(
                expect(ran="a", statuses={"p q": "SUSPENDED", "z": "NOT_STARTED"}, wf="RUNNING"),
                signal(taken),
                expect(
                    ran=f"a {taken} z",
                    statuses={taken: "SUCCEEDED", other: "CANCELED", "z": "SUCCEEDED"},
                    context={other: {"_cancel_reason": "deferred_choice"}},
                    on_cancel=other,
                    wf="SUCCEEDED",
                ),
                *(signal(other), signal(other, persistent=True)),
                expect(ran=f"a {taken} z", statuses={other: "CANCELED"}, on_cancel=other, wf="SUCCEEDED"),
            ),
        )
        for taken, other in (("p", "q"), ("q", "p"))
    ),
    Case(
        id="S16.2 late signals",
        title="signals for the alternative that was withdrawn have no effect while the workflow goes on",
        graph=OPEN,
        steps=(
            signal("q"),
            expect(ran="a q z", statuses={"p": "CANCELED"}, on_cancel="p", wf="RUNNING"),
            *(signal("p"), signal("p", persistent=True)),
            expect(
                ran="a q z",
                started="p",
                statuses={"p": "CANCELED", "q z": "SUCCEEDED"},
                on_cancel="p",
                check=lambda world: not world.sql("SELECT * FROM signal"),
                wf="RUNNING",
            ),
            signal("k"),
            expect(ran="a q z k", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S16.2 both",
        title="signals for both alternatives at once: the first one counts",
        graph=OFFER,
        steps=(
            together(signal("q"), signal("p"), signal("p", persistent=True)),
            expect(ran="a q z", statuses={"q": "SUCCEEDED", "p": "CANCELED"}, on_cancel="p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S16.2 twice",
        title="the signal that decides is delivered twice",
        graph=OPEN,
        steps=(
            twice(signal("q")),
            redeliver(m.StartStage, m.RunTask, m.SignalStage),
            expect(ran="a q z", statuses={"p": "CANCELED"}, on_cancel="p", wf="RUNNING"),
            signal("k"),
            expect(ran="a q z k", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S16.2 mixed",
        title="an alternative on offer loses against one that begins and waits for nobody",
        graph=(
            *(stage("a"), member("p", "a", does=waits()), stage("w", "a", does=waits()), member("q", "w")),
            stage("z", "p", "q"),
        ),
        steps=(
            expect(ran="a", statuses={"p w": "SUSPENDED"}, wf="RUNNING"),
            signal("w"),
            expect(ran="a w q z", statuses={"p": "CANCELED"}, on_cancel="p", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S16.3",
        title="an alternative that becomes enabled after the choice is withdrawn without running",
        graph=(stage("a"), member("p", "a"), stage("w", "a", does=waits()), member("q", "w")),
        steps=(
            expect(ran="a p", statuses={"p": "SUCCEEDED", "w": "SUSPENDED"}, wf="RUNNING"),
            signal("w"),
            expect(ran="a p w", started="q×0", statuses={"q": "CANCELED"}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S16.4",
        title="five alternatives at once: exactly one runs",
        graph=(stage("a"), *(member(ref, "a") for ref in FIVE), stage("z", *FIVE)),
        workers=10,
        repeat=100,
        steps=(
            expect(
                check=lambda world: one_of_five(world) and sum(world.started()[ref] for ref in FIVE) == 1,
                on_cancel="",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S16.4 on offer",
        title="five alternatives on offer and a signal for each at once: exactly one runs",
        graph=(stage("a"), *(member(ref, "a", does=waits()) for ref in FIVE), stage("z", *FIVE)),
        workers=10,
        repeat=40,
        steps=(
            expect(ran="a", statuses={" ".join(FIVE): "SUSPENDED"}, wf="RUNNING"),
            together(*(signal(ref, persistent=True) for ref in reversed(FIVE))),
            expect(
                check=lambda world: one_of_five(world) and sum(world.cancels.values()) == 4,
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S16.5",
        title="each pass of a loop chooses anew",
        graph=(
            *(stage("a"), member("p", "a"), member("q", "a"), stage("j", "p", "q", join="OR")),
            *(stage("k", "j", does=jumps("a", 2)), stage("z", "k")),
        ),
        steps=(
            expect(
                check=lambda world: (
                    (world.ran("p", "q"), world.ran("a"), world.ran("j"), world.ran("k"), world.ran("z"))
                    == (3, 3, 3, 1, 1)
                ),
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S16.5 on offer",
        title="each pass of a loop offers all alternatives again, also that which was withdrawn",
        graph=(
            *(stage("a"), member("p", "a", does=waits()), member("q", "a", does=waits())),
            *(stage("j", "p", "q", join="OR"), stage("k", "j", does=jumps("a", 2)), stage("z", "k")),
        ),
        steps=(
            signal("p"),
            expect(ran="a×2 p j", statuses={"p q": "SUSPENDED", "j k": "NOT_STARTED"}, on_cancel="q", wf="RUNNING"),
            signal("q"),
            expect(ran="a×3 p q j×2", statuses={"p q": "SUSPENDED"}, on_cancel="q p", wf="RUNNING"),
            signal("q"),
            expect(ran="a×3 p q×2 j×3 k z", statuses={"p": "CANCELED"}, on_cancel="p×2 q", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S16.6",
        title="the process is killed inside the alternative that was taken: it stays the one",
        graph=(
            *(stage("a"), member("p", "a"), stage("w", "a", does=waits()), member("q", "w")),
            stage("z", "p", "q"),
        ),
        crash=inside("p"),
        steps=(
            signal("w"),
            expect(ran="a p w z", started="p×2 q×0", statuses={"p": "SUCCEEDED", "q": "CANCELED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S16.6 on offer",
        title="the process is killed inside the alternative that a signal has taken",
        graph=OPEN,
        crash=inside("q", 2),
        steps=(
            signal("q"),
            expect(ran="a q z", started="p q×3", statuses={"p": "CANCELED", "q": "SUCCEEDED"}, wf="RUNNING"),
            signal("p"),
            expect(ran="a q z", started="p q×3", wf="RUNNING"),
            signal("k"),
            expect(ran="a q z k", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S16.6 signal",
        title="the process is killed when the signal that decides is in the queue",
        graph=OFFER,
        steps=(
            together(signal("q"), kill()),
            expect(ran="a q z", started="p q×2", statuses={"p": "CANCELED"}, wf="SUCCEEDED"),
        ),
    ),
]

test_pattern = matrix(DEFERRED_CHOICE)
