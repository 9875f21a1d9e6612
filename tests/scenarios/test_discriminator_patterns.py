"""Blocking and cancelling discriminators (WCP-28 and WCP-29)."""

from __future__ import annotations

from stabilize_nb import TaskResult
from stabilize_nb.tasks.sub_workflow import SubWorkflowTask
from tests.scenarios.case import (
    Case,
    cancel,
    expect,
    fails,
    inside,
    jumps,
    kill,
    matrix,
    meets,
    once,
    polls,
    restart,
    signal,
    soft,
    stage,
    together,
    waits,
)


def when_all_ran(refs, then):
    """Poll until in this pass all these stages have run too, then do `then`."""

    def body(running, call):
        if any(call.world.ran(ref) < call.number for ref in refs.split()):
            return TaskResult.running()
        return then(running, call)

    return body


def when_waiting(*refs, then=None):
    """Poll until these stages wait for a signal, then do `then` or succeed."""

    def waiting(world):
        here = world.statuses()
        return all(here[ref] == "SUSPENDED" for ref in refs)

    return polls(waiting, then=then)


def outcomes(join, **fields):
    """`s(thread_split=2) → f`, `a → g!`, `{f, g} → m → n`: f delivers twice before g does."""
    return (
        stage("s", thread_split=2),
        stage("f", "s"),
        stage("a"),
        stage("g", "a", does=waits()),
        stage("m", "f", "g", join=join, **fields),
        stage("n", "m"),
    )


def split_in_three(join, *, late=False, **fields):
    """`s(thread_split=3) → {f, g} → m`; `late`: g waits."""
    return (
        stage("s", thread_split=3),
        stage("f", "s"),
        stage("g", "s", does=waits() if late else None),
        stage("m", "f", "g", join=join, **fields),
    )


def in_a_loop(*branches, join, late="", jumped=2, **fields):
    """`a → branches → m → k↩a → z`; k jumps when all branches have run in this pass, except the one that is late."""
    prompt = " ".join(ref for ref in branches if ref != late)
    return (
        stage("a"),
        *(stage(ref, "a", does=waits() if ref == late else None) for ref in branches),
        stage("m", *branches, join=join, **fields),
        stage("k", "m", does=when_all_ran(prompt, jumps("a", jumped))),
        stage("z", "k"),
    )


BLOCKED = expect(ran="s a f×2 m n", statuses={"g": "SUSPENDED", "m": "SUCCEEDED"}, rows={"m": 1}, wf="RUNNING")
OPENED = expect(ran="s a f×2 g m×2 n×2", rows={"m": 2, "n": 2}, wf="SUCCEEDED")

BLOCKING = [
    Case(
        id="S28.1",
        title="a second trigger of a branch is held up until every branch has delivered once",
        graph=outcomes("DISC", join_blocking=True),
        everywhere=True,
        steps=(
            BLOCKED,
            signal("g"),
            OPENED,
            expect(context={"m#2": {"_activation": 2, "_triggered_by": ["f#2"]}}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S28.1 not blocking",
        title="without blocking the second trigger of a branch opens the second round at once",
        graph=outcomes("DISC"),
        steps=(
            expect(ran="s a f×2 m×2 n×2", statuses={"g": "SUSPENDED", "m m#2": "SUCCEEDED"}, wf="RUNNING"),
            signal("g"),
            OPENED,
        ),
    ),
    Case(
        id="S28.1 dead",
        title="a branch that delivers no thread completes a round too",
        graph=(
            stage("s", thread_split=2),
            stage("f", "s"),
            stage("g", does=waits()),
            stage("m", "f", "g", join="DISC", join_blocking=True),
        ),
        steps=(
            expect(ran="s f×2 m", wf="RUNNING"),
            cancel("g"),
            expect(ran="s f×2 m×2", statuses={"g": "CANCELED"}, rows={"m": 2}, wf="SUCCEEDED"),
        ),
    ),
    *(
        Case(
            id=f"S28.2{name}",
            title="three threads on each branch make three firings",
            graph=split_in_three("DISC", join_blocking=blocking),
            steps=(expect(ran="s f×3 g×3 m×3", rows={"m": 3}, wf="SUCCEEDED"),),
        )
        for name, blocking in ((" blocking", True), ("", False))
    ),
    Case(
        id="S28.2 late blocking",
        title="each thread of the late branch completes a round and lets the next one fire, in any order",
        graph=split_in_three("DISC", late=True, join_blocking=True),
        steps=(
            expect(ran="s f×3 m", statuses={"g g#2 g#3": "SUSPENDED"}, wf="RUNNING"),
            signal("g#3"),
            expect(ran="s f×3 g m×2", wf="RUNNING"),
            signal("g"),
            expect(ran="s f×3 g×2 m×3", wf="RUNNING"),
            signal("g#2"),
            expect(ran="s f×3 g×3 m×3", rows={"m": 3}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S28.2 late",
        title="without blocking all three rounds fire by the branch that is early",
        graph=split_in_three("DISC", late=True),
        steps=(
            expect(ran="s f×3 m×3", statuses={"g g#2 g#3": "SUSPENDED"}, wf="RUNNING"),
            signal("g#3"),
            signal("g"),
            signal("g#2"),
            expect(ran="s f×3 g×3 m×3", rows={"m": 3}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S28.2 together",
        title="branches that deliver at the same time on several workers fire every round once",
        graph=(
            stage("s", thread_split=3),
            stage("f", "s", does=meets("end", 6)),
            stage("g", "s", does=meets("end", 6)),
            stage("m", "f", "g", join="DISC", join_blocking=True),
        ),
        workers=6,
        repeat=20,
        steps=(expect(ran="s f×3 g×3 m×3", rows={"m": 3}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S28.3",
        title="in a loop it fires once in each pass",
        graph=in_a_loop("f", "g", join="DISC", join_blocking=True),
        steps=(expect(ran="a×3 f×3 g×3 m×3 k z", rows={"m": 1}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S28.3 late branch",
        title="a branch that is late in both passes holds the second pass not up: a jump begins the rounds anew",
        graph=in_a_loop("f", "g", join="DISC", late="f", jumped=1, join_blocking=True),
        steps=(
            expect(ran="a×2 g×2 m×2 k z", statuses={"f": "SUSPENDED"}, wf="RUNNING"),
            signal("f"),
            expect(ran="a×2 g×2 m×2 k z f", rows={"m": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S28.3 crash",
        title="a trigger that is held up outlives the process",
        graph=outcomes("DISC", join_blocking=True),
        steps=(BLOCKED, restart(), BLOCKED, together(signal("g"), kill()), OPENED),
    ),
]

#: `a → {f! → f2, h!, g!} → m → n`
CANCELLING_GRAPH = (
    stage("a"),
    stage("f", "a", does=waits()),
    stage("f2", "f"),
    stage("h", "a", does=waits()),
    stage("g", "a", does=waits()),
    stage("m", "f2", "h", "g", join="DISC", join_cancel_remaining=True),
    stage("n", "m"),
)
FIRST_ONLY = {"f f2 h": "CANCELED", "g m n": "SUCCEEDED"}
WITHDRAWS = {"join": "DISC", "join_cancel_remaining": True}

CANCELLING = [
    Case(
        id="S29.1",
        title="the first branch fires the join, and everything on the other branches is withdrawn",
        graph=CANCELLING_GRAPH,
        everywhere=True,
        steps=(
            signal("g"),
            expect(
                ran="a g m n",
                statuses=FIRST_ONLY,
                on_cancel="f h",
                context={"f": {"_cancel_reason": "join_fired"}, "m": {"_triggered_by": ["g"]}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S29.1 at once",
        title="a branch that is done before the others have begun withdraws them all the same",
        graph=(
            stage("a"),
            stage("g", "a"),
            stage("f", "a", does=waits()),
            stage("f2", "f"),
            stage("h", "a", does=waits()),
            stage("m", "f2", "h", "g", **WITHDRAWS),
            stage("n", "m"),
        ),
        steps=(expect(ran="a g m n", statuses=FIRST_ONLY, wf="SUCCEEDED"),),
    ),
    Case(
        id="S29.1 late signal",
        title="signals for what was withdrawn have no effect while the workflow goes on",
        graph=(*CANCELLING_GRAPH, stage("z", "n", does=waits())),
        steps=(
            signal("g"),
            signal("f", persistent=True),
            signal("h"),
            expect(ran="a g m n", statuses=FIRST_ONLY | {"z": "SUSPENDED"}, on_cancel="f h", wf="RUNNING"),
            signal("z"),
            expect(ran="a g m n z", statuses=FIRST_ONLY, on_cancel="f h", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S29.1 threads",
        title="each thread on one branch withdraws what is on the other",
        graph=(
            stage("s", thread_split=2),
            stage("f", "s"),
            stage("g", "s", does=waits()),
            stage("m", "f", "g", **WITHDRAWS),
            stage("n", "m"),
        ),
        steps=(expect(ran="s f×2 m×2 n×2", rows={"m": 2, "n": 2}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S29.1 threads waiting",
        title="all activations on a branch that has not delivered are withdrawn",
        graph=(
            stage("s", thread_split=2),
            stage("f", "s", does=waits()),
            stage("g", "s", does=waits()),
            stage("m", "f", "g", **WITHDRAWS),
            stage("n", "m"),
        ),
        steps=(
            signal("f"),
            expect(ran="s f m n", statuses={"f#2": "SUSPENDED", "g g#2": "CANCELED"}, wf="RUNNING"),
            signal("f#2"),
            expect(
                ran="s f×2 m×2 n×2", statuses={"g g#2": "CANCELED"}, on_cancel="g g#2", rows={"m": 2}, wf="SUCCEEDED"
            ),
        ),
    ),
    Case(
        id="S29.1 together",
        title="of branches that end at the same time on several workers one fires the join",
        graph=(
            stage("a"),
            *(stage(ref, "a", does=meets("end", 4)) for ref in "bcde"),
            stage("m", *"bcde", **WITHDRAWS),
            stage("n", "m"),
        ),
        workers=4,
        repeat=20,
        steps=(expect(ran="a b c d e m n", rows={"m": 1, "n": 1}, statuses={"m n": "SUCCEEDED"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S29.2",
        title="a branch that also serves something else is not withdrawn; its late end is absorbed",
        graph=(
            stage("a"),
            stage("f", "a", does=waits()),
            stage("audit", "f"),
            stage("g", "a", does=waits()),
            stage("m", "f", "g", **WITHDRAWS),
            stage("n", "m"),
        ),
        steps=(
            signal("g"),
            expect(ran="a g m n", statuses={"f": "SUSPENDED", "audit": "NOT_STARTED"}, on_cancel="", wf="RUNNING"),
            signal("f"),
            expect(ran="a g m n f audit", rows={"m": 1}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S29.2 partly",
        title="of a branch that serves something else only what leads to the join alone is withdrawn",
        graph=(
            stage("a"),
            stage("f", "a", does=waits()),
            stage("audit", "f"),
            stage("f2", "f"),
            stage("g", "a", does=waits()),
            stage("m", "f2", "g", **WITHDRAWS),
            stage("n", "m"),
        ),
        steps=(
            signal("g"),
            expect(
                ran="a g m n",
                statuses={"f": "SUSPENDED", "f2": "CANCELED", "audit": "NOT_STARTED"},
                on_cancel="",
                wf="RUNNING",
            ),
            signal("f"),
            expect(ran="a g m n f audit", statuses={"f2": "CANCELED"}, rows={"m": 1}, on_cancel="", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S29.3",
        title="a tolerated failure fires the join",
        graph=(
            stage("a"),
            stage("f", "a", does=waits()),
            stage("g", "a", does=when_waiting("f", then=soft())),
            stage("m", "f", "g", **WITHDRAWS),
            stage("n", "m"),
        ),
        steps=(
            expect(ran="a g m n", statuses={"g": "FAILED_CONTINUE", "f": "CANCELED"}, on_cancel="f", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S29.3 failure",
        title="a failure fires nothing and fails the workflow",
        graph=(
            stage("a"),
            stage("f", "a", does=waits()),
            stage("g", "a", does=when_waiting("f", then=fails())),
            stage("m", "f", "g", **WITHDRAWS),
        ),
        steps=(
            expect(
                ran="a g",
                statuses={"g": "TERMINAL", "f": "CANCELED", "m": "NOT_STARTED"},
                on_cancel="f",
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S29.3 not chosen",
        title="a branch that was not chosen fires nothing and withdraws nothing",
        graph=(
            stage("a", split={"f": "False", "g": "True", "h": "True"}),
            stage("f", "a"),
            stage("g", "a", does=waits()),
            stage("h", "a", does=waits()),
            stage("m", "f", "g", "h", **WITHDRAWS),
        ),
        steps=(
            expect(ran="a", statuses={"f": "SKIPPED", "g h": "SUSPENDED", "m": "NOT_STARTED"}, wf="RUNNING"),
            signal("h"),
            expect(ran="a h m", statuses={"f": "SKIPPED", "g": "CANCELED"}, on_cancel="g", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S29.3 lock",
        title="a withdrawn branch frees its lock",
        graph=(
            stage("a"),
            stage("f", "a", does=waits(), mutex_key="k"),
            stage("g", "a", does=when_waiting("f")),
            stage("m", "f", "g", **WITHDRAWS),
            stage("n", "m", mutex_key="k"),
        ),
        steps=(expect(ran="a g m n", statuses={"f": "CANCELED"}, on_cancel="f", wf="SUCCEEDED"),),
    ),
    Case(
        id="S29.3 child",
        title="a withdrawn branch cancels its child workflow",
        graph=(
            stage("a"),
            stage(
                "f",
                "a",
                does=SubWorkflowTask,
                context={"_sub_workflow_config": {"name": "child", "stages": [stage("c1").make()]}},
            ),
            stage("g", "a", does=when_waiting("f")),
            stage("m", "f", "g", **WITHDRAWS),
            stage("n", "m"),
        ),
        bodies={"c1": waits()},
        steps=(
            expect(
                ran="a g m n",
                statuses={"f": "CANCELED", "child1/c1": "CANCELED"},
                check=lambda world: world.flow("child1/").status.name == "CANCELED",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S29.4",
        title="in a loop each pass withdraws its own rest",
        graph=(
            stage("a"),
            stage("f", "a", does=waits()),
            stage("f2", "f"),
            stage("g", "a", does=when_waiting("f")),
            stage("m", "f2", "g", **WITHDRAWS),
            stage("k", "m", does=jumps("a", 2)),
            stage("z", "k"),
        ),
        steps=(
            expect(
                ran="a×3 g×3 m×3 k z",
                statuses={"f f2": "CANCELED", "g m z": "SUCCEEDED"},
                on_cancel="f×3",
                rows={"m": 1},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S29.4 another first",
        title="in a loop another branch may be first",
        graph=(
            stage("a"),
            stage("f", "a", does=waits()),
            stage("g", "a", does=waits()),
            stage("m", "f", "g", **WITHDRAWS),
            stage("k", "m", does=jumps("a")),
            stage("z", "k"),
        ),
        steps=(
            signal("g"),
            expect(ran="a×2 g m", statuses={"f g": "SUSPENDED", "m": "NOT_STARTED"}, on_cancel="f", wf="RUNNING"),
            signal("f"),
            expect(
                ran="a×2 g f m×2 k z",
                statuses={"f": "SUCCEEDED", "g": "CANCELED"},
                on_cancel="f g",
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S29.4 crash",
        title="the process is killed in the join: the rest stays withdrawn, and the join is one",
        graph=CANCELLING_GRAPH,
        crash=inside("m"),
        steps=(
            signal("g"),
            expect(ran="a g m n", started="m×2 n", statuses=FIRST_ONLY, rows={"m": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S29.4 crash at the branch",
        title="the process is killed when the first branch has completed: the rest is withdrawn",
        graph=CANCELLING_GRAPH,
        crash=once("g", "SUCCEEDED"),
        steps=(signal("g"), expect(ran="a g m n", statuses=FIRST_ONLY, rows={"m": 1}, wf="SUCCEEDED")),
    ),
]

test_pattern = matrix([*BLOCKING, *CANCELLING])
