"""Interleaved parallel routing and milestone (WCP-17 and WCP-18)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stabilize_nb import TransientError
from tests.makers import asked
from tests.scenarios.case import (
    Body,
    Case,
    Part,
    Step,
    cancel,
    cancel_region,
    expect,
    fails,
    inside,
    jumps,
    kill,
    matrix,
    ok,
    once,
    passes,
    polls,
    signal,
    soft,
    stage,
    stops,
    together,
    waits,
)

if TYPE_CHECKING:
    from tests.scenarios.world import Call, World


def slow(seconds: float = 0.01) -> Body:
    """Take a little time."""

    def body(_stage: Any) -> None:
        time.sleep(seconds)

    return body


def fails_at_first(_stage: Any, call: Call) -> None:
    """Fail in a way that another try mends."""
    if call.attempt == 1:
        msg = "not yet"
        raise TransientError(msg)


def locked(ref: str, *after: str, does: Any = None, **fields: Any) -> Part:
    """Make a stage that needs the lock."""
    return stage(ref, *after, does=does, mutex_key="k", **fields)


def nothing_to_do(world: World) -> bool:
    """Whether no message is in the queue: who waits for a lock does not ask for it again and again."""
    return not world.sql("SELECT kind FROM message WHERE done_at IS NULL AND timer = 0")


def time_is_up() -> Step:
    """Let every timer be due now."""

    def act(world: World) -> None:
        world.bench.database.call_write(lambda db: asked(db, "UPDATE message SET due_at = 0 WHERE timer = 1"))

    return Step(act)


def held(b: Any, *more: Part, **fields: Any) -> tuple[Part, ...]:
    """Make a stage b that holds the lock, and c that needs it as soon as w was signalled."""
    return (
        *(stage("a"), locked("b", "a", does=b, **fields), *more),
        *(stage("w", does=waits()), locked("c", "w"), stage("c2", "c")),
    )


def released(name: str, title: str, graph: tuple[Part, ...], *end: Step, after: str, status: str, **how: Any) -> Case:
    """Make a case in which b ends in some way while c waits for its lock."""
    return Case(
        id=f"S17.3 {name}",
        title=title,
        graph=graph,
        steps=(
            signal("w"),
            expect(ran="a w", statuses={"b": "SUSPENDED", "c": "NOT_STARTED"}, check=nothing_to_do, wf="RUNNING"),
            *end,
            expect(ran=after, statuses={"b": status, "c c2": "SUCCEEDED"}, wf="SUCCEEDED", **how),
        ),
    )


INTERLEAVED = (
    *(stage("a"), locked("b", "a", does=slow()), locked("d", "b", does=slow()), locked("c", "a", does=slow())),
    stage("e", "d", "c"),
)

INTERLEAVED_ROUTING = [
    Case(
        id="S17.1",
        title="stages of one lock run one at a time, in an order that agrees with their requisites",
        graph=INTERLEAVED,
        workers=4,
        repeat=20,
        steps=(
            expect(
                ran="a b c d e",
                disjoint="b c d",
                order=("a b c d e", "a c b d e", "a b d c e"),
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S17.1 killed",
        title="wherever the process is killed, each stage runs once in the end",
        graph=INTERLEAVED,
        everywhere=True,
        steps=(expect(ran="a b c d e", disjoint="b c d", wf="SUCCEEDED"),),
    ),
    Case(
        id="S17.1 polling",
        title="a stage that polls keeps the lock",
        graph=(stage("a"), locked("b", "a", does=polls("x")), locked("c", "a"), stage("x", "a", does=slow(0.03))),
        workers=4,
        repeat=20,
        steps=(expect(ran="a b c x", disjoint="b c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S17.1 several tasks",
        title="a stage keeps the lock between its tasks",
        graph=(
            *(stage("a"), locked("b", "a", does=[slow(), slow(), slow()])),
            *(locked("c", "a", does=[slow(), slow(), slow()]), stage("e", "b", "c")),
        ),
        workers=4,
        steps=(expect(ran="a b×3 c×3 e", order=("b b b c c c", "c c c b b b"), disjoint="b c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S17.1 tried again",
        title="a stage keeps the lock until it is tried again",
        graph=(stage("a"), locked("b", "a", does=fails_at_first), locked("c", "a")),
        workers=2,
        steps=(expect(ran="a b c", started="b×2 c", order=("a b c", "a c b"), disjoint="b c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S17.2",
        title="a stage that is suspended keeps the lock; who waits for it asks once and begins when it is free",
        graph=held(waits()),
        steps=(
            signal("w"),
            expect(ran="a w", statuses={"b": "SUSPENDED", "c": "NOT_STARTED"}, check=nothing_to_do, wf="RUNNING"),
            signal("b"),
            expect(ran="a w b c c2", order="w b c c2", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S17.2 restarts",
        title="a suspended stage keeps the lock when its process is killed",
        graph=held(waits()),
        steps=(
            together(signal("w"), kill()),
            expect(ran="a w", statuses={"b": "SUSPENDED", "c": "NOT_STARTED"}, wf="RUNNING"),
            together(signal("b"), kill()),
            expect(ran="a w b c c2", order="w b c c2", wf="SUCCEEDED"),
        ),
    ),
    released(
        "~",
        "a tolerated failure of the holder sets the lock free",
        held(waits(then=soft())),
        signal("b"),
        after="a w b c c2",
        status="FAILED_CONTINUE",
    ),
    released(
        "cancelled",
        "the holder is cancelled",
        held(waits()),
        cancel("b"),
        after="a w c c2",
        status="CANCELED",
        on_cancel="b",
    ),
    released(
        "withdrawn",
        "the region of the holder is cancelled",
        held(waits(), cancel_region="R"),
        cancel_region("R"),
        after="a w c c2",
        status="CANCELED",
        on_cancel="b",
    ),
    released(
        "stopped",
        "the holder stops its branch",
        held(waits(then=stops())),
        signal("b"),
        after="a w b c c2",
        status="STOPPED",
    ),
    released(
        "timed out",
        "the time of the holder is up",
        held(waits(), context={"stageTimeoutMs": 3_600_000, "continuePipelineOnFailure": True}),
        time_is_up(),
        after="a w c c2",
        status="FAILED_CONTINUE",
    ),
    released(
        "jumps",
        "the holder leaves by a jump over what follows it",
        held(waits(then=jumps("e")), stage("d", "b"), stage("e", "d")),
        signal("b"),
        after="a w e c c2",
        status="SUCCEEDED",
    ),
    Case(
        id="S17.3 jumped over",
        title="a jump repeats the stage before the holder, and the next pass skips the holder",
        graph=(
            stage("a", does=lambda stage, call: {"n": call.number}, split={"b": "n == 1", "r": "True"}),
            *(locked("b", "a", does=waits()), stage("r", "a", does=waits(then=jumps("a", then=ok())))),
            *(stage("w", does=waits()), locked("c", "w")),
        ),
        steps=(
            signal("w"),
            expect(ran="a w", statuses={"b r": "SUSPENDED", "c": "NOT_STARTED"}, wf="RUNNING"),
            signal("r"),
            expect(ran="a×2 w c", statuses={"b": "SKIPPED", "r": "SUSPENDED"}, on_cancel="b", wf="RUNNING"),
            signal("r"),
            expect(ran="a×2 w c r", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S17.3 reset",
        title="a jump that repeats the holder gives the lock to who waited for it; the holder gets it back later",
        graph=(
            *(stage("a"), locked("b", "a", does=waits()), stage("r", "a", does=waits(then=jumps("a", then=ok())))),
            *(stage("w", does=waits()), locked("c", "w", does=waits())),
        ),
        steps=(
            signal("w"),
            expect(ran="a w", statuses={"b r": "SUSPENDED", "c": "NOT_STARTED"}, wf="RUNNING"),
            signal("r"),
            expect(ran="a×2 w", statuses={"b": "NOT_STARTED", "c r": "SUSPENDED"}, on_cancel="b", wf="RUNNING"),
            signal("c"),
            expect(ran="a×2 w c", statuses={"b r": "SUSPENDED"}, wf="RUNNING"),
            *(signal("b"), signal("r")),
            expect(ran="a×2 w c b r", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S17.3 ✗",
        title="a failure of the holder sets the lock free for another workflow",
        graph=(locked("b", does=waits(then=fails())),),
        flows=2,
        steps=(
            expect(ran="", statuses={"b": "SUSPENDED", "2/b": "NOT_STARTED"}, wf="RUNNING"),
            signal("b"),
            expect(ran="b", statuses={"b": "TERMINAL", "2/b": "SUSPENDED"}),
            signal("2/b"),
            expect(ran="b 2/b", wf="TERMINAL"),
        ),
    ),
    Case(
        id="S17.3 crash",
        title="the process is killed inside the holder: it is executed again, and nobody else came in between",
        graph=(stage("a"), locked("b", "a"), locked("c", "a"), stage("e", "b", "c")),
        crash=inside("b"),
        workers=4,
        steps=(expect(ran="a b c e", started="b×2 c", disjoint="b c", wf="SUCCEEDED"),),
    ),
    Case(
        id="S17.3 crash, waiting first",
        title="the process is killed inside the second holder",
        graph=(stage("a"), locked("b", "a"), locked("c", "b"), locked("d", "b"), stage("e", "c", "d")),
        crash=inside("c"),
        steps=(expect(ran="a b c d e", started="b c×2 d", disjoint="b c d", wf="SUCCEEDED"),),
    ),
]


def milestone(ref: str, *after: str, at: str, status: str = "SUCCEEDED", until: str | None = None) -> Part:
    """Make a stage that is enabled only while another has a status; it notes that status."""

    def body(_stage: Any, call: Call) -> None:
        call.note(call.world.statuses()[at])

    return stage(ref, *after, does=body, milestone_ref_id=at, milestone_status=status, milestone_until_ref_id=until)


def reaches(m: Part, *, status: str = "SUCCEEDED", w: Any = None) -> tuple[Part, ...]:
    """Make a → {w! → m, r → n} in which r is enabled while m has a status."""
    return (
        *(stage("a"), stage("w", "a", does=w or waits()), m),
        *(milestone("r", "a", at="m", status=status), stage("n", "r")),
    )


def passed(name: str, title: str, graph: tuple[Part, ...], *acts: Step, ran: str, status: str, **how: Any) -> Case:
    """Make a case in which r waits for a milestone that then cannot come any more: it is skipped, n is not."""
    return Case(
        id=f"S18.4 {name}",
        title=title,
        graph=graph,
        steps=(
            expect(ran="a", statuses={"r": "NOT_STARTED"}, wf="RUNNING"),
            *acts,
            expect(
                ran=ran,
                statuses={"m": status, "r": "SKIPPED", "n": "SUCCEEDED"},
                wf="SUCCEEDED",
                **how,
            ),
        ),
    )


REACHED = reaches(stage("m", "w"))

MILESTONE = [
    Case(
        id="S18.1",
        title="a stage waits until its milestone is reached",
        graph=REACHED,
        everywhere=True,
        steps=(
            expect(
                ran="a",
                started="r×0",
                statuses={"w": "SUSPENDED", "m r n": "NOT_STARTED"},
                check=nothing_to_do,
                wf="RUNNING",
            ),
            signal("w"),
            expect(ran="a w m r n", order="w m r n", noted={"r": ["SUCCEEDED"]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S18.2",
        title="a stage runs while its milestone polls, and does not change it",
        graph=(stage("a"), stage("m", "a", does=polls("r")), milestone("r", "a", at="m", status="RUNNING")),
        steps=(expect(ran="a r m", order="a r m", noted={"r": ["RUNNING"]}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S18.2 later",
        title="a stage waits until its milestone is at work",
        graph=reaches(stage("m", "w", does=polls("r")), status="RUNNING"),
        steps=(
            expect(ran="a", statuses={"r": "NOT_STARTED"}, wf="RUNNING"),
            signal("w"),
            expect(ran="a w r m n", noted={"r": ["RUNNING"]}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S18.2 suspended",
        title="a stage waits until its milestone waits for a signal",
        graph=reaches(stage("m", "w", does=waits()), status="SUSPENDED"),
        steps=(
            expect(ran="a", statuses={"r": "NOT_STARTED"}, wf="RUNNING"),
            signal("w"),
            expect(ran="a w r n", noted={"r": ["SUSPENDED"]}, statuses={"m": "SUSPENDED"}, wf="RUNNING"),
            signal("m"),
            expect(ran="a w r n m", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S18.3",
        title="the milestone was passed before: the stage is skipped, the process goes on",
        graph=(stage("a"), stage("m", "a"), milestone("r", "m", at="m", status="RUNNING"), stage("n", "r")),
        steps=(expect(ran="a m n", started="r×0", statuses={"r": "SKIPPED"}, wf="SUCCEEDED"),),
    ),
    passed(
        "disabled",
        "the milestone turns out to be disabled",
        reaches(stage("m", "w", enabled=False), status="RUNNING"),
        signal("w"),
        ran="a w n",
        status="SKIPPED",
    ),
    passed(
        "cancelled",
        "the milestone is cancelled before it started",
        reaches(stage("m", "w"), status="RUNNING"),
        *(cancel("m"), expect(ran="a n", statuses={"m": "CANCELED", "r": "SKIPPED"}, wf="RUNNING"), signal("w")),
        ran="a n w",
        status="CANCELED",
    ),
    passed(
        "cancelled at work",
        "the milestone is cancelled while it waits",
        reaches(stage("m", "w", does=waits())),
        *(signal("w"), expect(statuses={"m": "SUSPENDED", "r": "NOT_STARTED"}, wf="RUNNING"), cancel("m")),
        ran="a w n",
        status="CANCELED",
        on_cancel="m",
    ),
    passed(
        "withdrawn",
        "the region of the milestone is cancelled",
        reaches(stage("m", "w", does=waits(), cancel_region="R")),
        *(signal("w"), cancel_region("R")),
        ran="a w n",
        status="CANCELED",
        on_cancel="m",
    ),
    passed(
        "not chosen",
        "the milestone lies on a branch that is not chosen",
        (
            *(stage("a"), stage("w", "a", does=waits(), split={"m": "False", "o": "True"}), stage("m", "w")),
            *(stage("o", "w"), milestone("r", "a", at="m", status="RUNNING"), stage("n", "r")),
        ),
        signal("w"),
        ran="a w o n",
        status="SKIPPED",
    ),
    passed(
        "blocked",
        "the milestone can not be reached because its branch was broken off",
        reaches(stage("m", "w"), w=waits(then=stops())),
        signal("w"),
        ran="a w n",
        status="NOT_STARTED",
    ),
    passed(
        "~",
        "the milestone ends in a tolerated failure and had to succeed",
        reaches(stage("m", "w", does=soft())),
        signal("w"),
        ran="a w m n",
        status="FAILED_CONTINUE",
    ),
    Case(
        id="S18.4 reached ~",
        title="a tolerated failure is a milestone of its own",
        graph=reaches(stage("m", "w", does=soft()), status="FAILED_CONTINUE"),
        steps=(signal("w"), expect(ran="a w m r n", noted={"r": ["FAILED_CONTINUE"]}, wf="SUCCEEDED")),
    ),
    Case(
        id="S18.4 ✗",
        title="the milestone fails: so does the workflow, and who waited for it does not start",
        graph=reaches(stage("m", "w", does=fails())),
        steps=(
            signal("w"),
            expect(ran="a w m", statuses={"m": "TERMINAL", "r n": "NOT_STARTED"}, wf="TERMINAL"),
        ),
    ),
    Case(
        id="S18.4 not started",
        title="a stage that is enabled only before another starts",
        graph=(
            *(stage("a"), stage("w", "a", does=waits()), stage("m", "w"), stage("v", "a", does=waits())),
            *(milestone("early", "a", at="m", status="NOT_STARTED"), stage("n1", "early")),
            *(milestone("late", "v", at="m", status="NOT_STARTED"), stage("n2", "late")),
        ),
        steps=(
            expect(ran="a early n1", noted={"early": ["NOT_STARTED"]}, wf="RUNNING"),
            signal("w"),
            signal("v"),
            expect(ran="a early n1 w m v n2", statuses={"late": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    *(
        Case(
            id=f"S18.5 closing {what}",
            title="a window between two milestones: open until a stage starts",
            graph=(
                *(stage("open"), milestone("enrol", "open", at="open", until="close"), stage("e2", "enrol")),
                *(stage("w", "open", does=waits()), stage("close", "w", does=does)),
                *(
                    stage("v", "open", does=waits()),
                    milestone("late", "v", at="open", until="close"),
                    stage("l2", "late"),
                ),
            ),
            steps=(
                expect(ran="open enrol e2", wf="RUNNING"),
                signal("w"),
                signal("v"),
                expect(statuses={"enrol": "SUCCEEDED", "late": "SKIPPED", "l2": "SUCCEEDED"}),
                *((signal("close"),) if what == "waits" else ()),
                expect(ran="open enrol e2 w v close l2", started="late×0", wf="SUCCEEDED"),
            ),
        )
        for what, does in (("at once", ok()), ("waits", waits()))
    ),
    Case(
        id="S18.5 still open",
        title="a second stage finds the window open",
        graph=(
            *(stage("open"), milestone("enrol", "open", at="open", until="close")),
            *(stage("w", "open", does=waits()), stage("close", "w")),
            *(stage("v", "open", does=waits()), milestone("late", "v", at="open", until="close")),
        ),
        steps=(
            signal("v"),
            expect(ran="open enrol v late", wf="RUNNING"),
            signal("w"),
            expect(ran="open enrol v late w close", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S18.5 never open",
        title="the window closes before it opens: who waited for it is skipped",
        graph=(
            *(stage("a"), stage("w", "a", does=waits()), stage("m", "w"), stage("v", "a", does=waits())),
            *(stage("close", "v"), milestone("r", "a", at="m", until="close"), stage("n", "r")),
        ),
        steps=(
            expect(ran="a", statuses={"r": "NOT_STARTED"}, wf="RUNNING"),
            signal("v"),
            expect(ran="a v close n", statuses={"r": "SKIPPED"}, wf="RUNNING"),
            signal("w"),
            expect(ran="a v close n w m", statuses={"r": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S18.6 waiting",
        title="the process is killed while a stage waits for its milestone",
        graph=REACHED,
        steps=(
            kill(),
            expect(ran="a", statuses={"r": "NOT_STARTED"}, wf="RUNNING"),
            together(signal("w"), kill()),
            expect(ran="a w m r n", started="a m r n", order="w m r n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S18.6 reached",
        title="the process is killed when the milestone is reached and its stage has not begun",
        graph=REACHED,
        crash=once("m", "SUCCEEDED"),
        steps=(
            signal("w"),
            expect(ran="a w m r n", started="a m r n", order="w m r n", wf="SUCCEEDED"),
        ),
    ),
    *(
        Case(
            id=f"S18.6 loop, {name}",
            title="each pass of a loop judges the milestone anew",
            graph=(
                *(stage("a"), stage("m", "a", does=does), milestone("r", "a", at="m")),
                *(stage("k", "m", "r", does=jumps("a")), stage("z", "k")),
            ),
            steps=(
                expect(
                    ran=ran,
                    noted={"r": ["SUCCEEDED"] * times},
                    statuses={"r": status},
                    wf="SUCCEEDED",
                ),
            ),
        )
        for name, does, ran, times, status in (
            ("reached twice", ok(), "a×2 m×2 r×2 k z", 2, "SUCCEEDED"),
            ("passed then", passes(ok(), soft()), "a×2 m×2 r k z", 1, "SKIPPED"),
            ("passed at first", passes(soft(), ok()), "a×2 m×2 r k z", 1, "SUCCEEDED"),
        )
    ),
]

CASES = [*INTERLEAVED_ROUTING, *MILESTONE]

test_pattern = matrix(CASES)
