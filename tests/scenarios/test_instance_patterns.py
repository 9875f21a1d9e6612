"""Several instances of one activity (WCP-12 to WCP-15)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from stabilize_nb.queue import messages as m
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder
from tests.scenarios.case import (
    Body,
    Case,
    Maker,
    Part,
    Step,
    add,
    cancel_region,
    close,
    expect,
    fails,
    inside,
    jumps,
    kill,
    matrix,
    meets,
    ok,
    once,
    passes,
    sees,
    signal,
    soft,
    stage,
    together,
    twice,
    waits,
)

if TYPE_CHECKING:
    from tests.scenarios.world import Call, World


def instances(kind: str, *values: Any, region: str = "", **options: Any) -> Maker:
    """Make the instances of p, those with an odd index in a region."""

    def make(made: Any) -> list[Any]:
        stages = getattr(MultiInstanceBuilder, f"create_{kind}")(made["p"], *values, **options)
        for each in stages:
            if region and each.context.get("_mi_instance_index", 0) % 2:
                each.cancel_region = region
        return stages

    return make


def activity(kind: str, *values: Any, p: Part | None = None, **options: Any) -> tuple[Part | Maker, ...]:
    """Make a → p with its instances → p_mi_join → n."""
    return (stage("a"), p or stage("p", "a"), instances(kind, *values, **options), stage("n", "p_mi_join"))


def run(*indexes: int, times: int = 1) -> str:
    """Name instances of p as they are written in `ran`."""
    return " ".join(f"p_instance_{index}×{times}" for index in indexes)


def names(*indexes: int) -> str:
    """Name instances of p as they are written in `statuses`."""
    return " ".join(f"p_instance_{index}" for index in indexes)


def each(does: Body, **others: Body) -> dict[str, Body]:
    """Give all instances a body, and some another one: `_1=fails()`."""
    return {f"p_instance{index}": body for index, body in others.items()} | {"p_instance_*": does}


WAITING = each(waits())
UNSYNCHRONIZED = (
    *(stage("a", does=ok(case_no=7)), stage("p", "a", does=ok(prepared=True))),
    instances("fixed", 3, sync_on_complete=False),
    stage("n", "p"),
)

WITHOUT_SYNCHRONIZATION = [
    Case(
        id="S12.1",
        title="what follows the activity does not wait for its instances, the workflow does",
        graph=UNSYNCHRONIZED,
        bodies=WAITING,
        everywhere=True,
        steps=(
            expect(
                ran="a p n",
                statuses={names(0, 1, 2): "SUSPENDED", "n": "SUCCEEDED", "p_mi_join": None},
                wf="RUNNING",
            ),
            *(signal("p_instance_1"), signal("p_instance_0")),
            expect(ran=f"a p n {run(0, 1)}", wf="RUNNING"),
            signal("p_instance_2"),
            expect(ran=f"a p n {run(0, 1, 2)}", rows={"n": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S12.2",
        title="every instance sees the data of the workflow and knows which one it is",
        graph=UNSYNCHRONIZED,
        bodies=each(sees("case_no", "prepared", "_mi_parent_ref_id", "_mi_instance_index")),
        steps=(
            expect(
                ran=f"a p n {run(0, 1, 2)}",
                noted={
                    f"p_instance_{index}": [
                        {"case_no": 7, "prepared": True, "_mi_parent_ref_id": "p", "_mi_instance_index": index}
                    ]
                    for index in range(3)
                },
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S12.3 ✗",
        title="an instance fails: so does the workflow",
        graph=UNSYNCHRONIZED,
        bodies=each(waits(), _1=waits(then=fails())),
        steps=(
            signal("p_instance_0"),
            signal("p_instance_1"),
            expect(
                ran=f"a p n {run(0, 1)}",
                statuses={"p_instance_0": "SUCCEEDED", "p_instance_1": "TERMINAL", "p_instance_2": "CANCELED"},
                on_cancel="p_instance_2",
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S12.3 ~",
        title="a tolerated failure of an instance is tolerated",
        graph=UNSYNCHRONIZED,
        bodies=each(ok(), _1=soft()),
        steps=(expect(ran=f"a p n {run(0, 1, 2)}", statuses={"p_instance_1": "FAILED_CONTINUE"}, wf="SUCCEEDED"),),
    ),
]

FIXED = activity("fixed", 3)

DESIGN_TIME = [
    Case(
        id="S13.1",
        title="the next stage waits for all six instances",
        graph=activity("fixed", 6),
        bodies=WAITING,
        steps=(
            *(signal(f"p_instance_{index}") for index in (3, 1, 0, 5, 2)),
            expect(
                ran=f"a p {run(0, 1, 2, 3, 5)}",
                statuses={"p_instance_4": "SUSPENDED", "p_mi_join n": "NOT_STARTED"},
                wf="RUNNING",
            ),
            signal("p_instance_4"),
            expect(ran=f"a p {run(*range(6))} n", rows={"p_mi_join": 1, "n": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S13.1 contexts",
        title="each instance has its own context",
        graph=activity("fixed", 3, instance_contexts=[{"town": "Basel"}, {"town": "Bonn"}]),
        bodies=each(sees("town", "_mi_parent_ref_id", "_mi_instance_index")),
        steps=(
            expect(
                ran=f"a p {run(0, 1, 2)} n",
                noted={
                    f"p_instance_{index}": [{"town": town, "_mi_parent_ref_id": "p", "_mi_instance_index": index}]
                    for index, town in enumerate(("Basel", "Bonn", None))
                },
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S13.2",
        title="instances are at work at the same time",
        graph=FIXED,
        bodies=each(meets("x", 3)),
        workers=3,
        steps=(expect(ran=f"a p {run(0, 1, 2)} n", wf="SUCCEEDED"),),
    ),
    Case(
        id="S13.3 ~",
        title="a tolerated failure of an instance is a completion",
        graph=FIXED,
        bodies=each(ok(), _1=soft()),
        steps=(expect(ran=f"a p {run(0, 1, 2)} n", statuses={"p_instance_1": "FAILED_CONTINUE"}, wf="SUCCEEDED"),),
    ),
    Case(
        id="S13.3 ✗",
        title="an instance fails: so does the workflow",
        graph=FIXED,
        bodies=each(ok(), _1=fails()),
        steps=(
            expect(
                ran=f"a p {run(0, 1, 2)}",
                statuses={names(0, 2): "SUCCEEDED", "p_instance_1": "TERMINAL", "p_mi_join n": "NOT_STARTED"},
                wf="TERMINAL",
            ),
        ),
    ),
    Case(
        id="S13.3 region",
        title="an instance whose region is cancelled is not waited for",
        graph=activity("fixed", 3, region="R"),
        bodies=WAITING,
        steps=(
            signal("p_instance_0"),
            cancel_region("R"),
            expect(ran=f"a p {run(0)}", statuses={"p_instance_1": "CANCELED", "n": "NOT_STARTED"}, wf="RUNNING"),
            signal("p_instance_2"),
            expect(
                ran=f"a p {run(0, 2)} n",
                on_cancel="p_instance_1",
                context={"p_instance_1": {"_cancel_reason": "region:R"}},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S13.4",
        title="a loop around the activity repeats it whole",
        graph=(
            *(stage("a"), stage("p", "a"), instances("fixed", 3)),
            *(stage("k", "p_mi_join", does=jumps("p")), stage("n", "k")),
        ),
        everywhere=True,
        steps=(
            expect(
                ran=f"a p×2 {run(0, 1, 2, times=2)} k n",
                rows={"p_mi_join": 1, "n": 1, "p_instance_0": 1},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S13.4 crash",
        title="the process is killed inside an instance: the others are not repeated",
        graph=FIXED,
        bodies=each(ok()),
        crash=inside("p_instance_1"),
        steps=(
            expect(
                ran=f"a p {run(0, 1, 2)} n",
                started="p p_instance_0 p_instance_1×2 p_instance_2 n",
                wf="SUCCEEDED",
            ),
        ),
    ),
]


def counted(value: Any, *, where: str = "outputs") -> tuple[Part | Maker, ...]:
    """Make an activity whose number of instances is `num`, known from somewhere."""
    given = {"does": ok(num=value)}
    return (
        stage("a", **(given if where == "outputs" else {})),
        stage("p", "a", **(given if where == "parent" else {"context": {"num": value}} if where == "own" else {})),
        *(instances("from_context", "num"), stage("n", "p_mi_join")),
    )


def collected(items: Any) -> tuple[Part | Maker, ...]:
    """Make an activity with an instance for each of the items that are the output of the stage before."""
    return (
        *(stage("a", does=ok(items=items)), stage("p", "a")),
        *(instances("from_collection", "items"), stage("n", "p_mi_join")),
    )


def no_instances(stage: Any, call: Call) -> dict[str, int]:
    """Note the rows of the pass before, and give a number of instances: 2, then 3."""
    call.note([ref for ref in call.world.statuses() if "_instance_" in ref])
    return {"num": call.number + 1}


LOOPED = (
    *(stage("a", does=no_instances), stage("p", "a"), instances("from_context", "num")),
    *(stage("k", "p_mi_join", does=jumps("a")), stage("n", "k")),
)

RUN_TIME = [
    *(
        Case(
            id=f"S14.1 {where}",
            title="the number of instances is read when the parent completes, or before",
            graph=counted(3, where=where),
            context={"num": 3} if where == "workflow" else {},
            everywhere=where == "outputs",
            steps=(
                expect(
                    ran=f"a p {run(0, 1, 2)} n",
                    order=tuple(
                        f"a p {names(*order)} n"
                        for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
                    ),
                    statuses={f"{names(0, 1, 2)} p_mi_join n": "SUCCEEDED", "p_instance_3": None},
                    wf="SUCCEEDED",
                ),
            ),
        )
        for where in ("outputs", "parent", "own", "workflow")
    ),
    Case(
        id="S14.1 waiting",
        title="the next stage waits for every instance that was made",
        graph=counted(3),
        bodies=WAITING,
        steps=(
            expect(ran="a p", statuses={names(0, 1, 2): "SUSPENDED"}, wf="RUNNING"),
            *(signal("p_instance_2"), signal("p_instance_0")),
            expect(ran=f"a p {run(0, 2)}", statuses={"p_mi_join n": "NOT_STARTED"}, wf="RUNNING"),
            signal("p_instance_1"),
            expect(ran=f"a p {run(0, 1, 2)} n", rows={"n": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S14.1 concurrent",
        title="the instances are at work at the same time",
        graph=counted(3),
        bodies=each(meets("x", 3)),
        workers=3,
        steps=(expect(ran=f"a p {run(0, 1, 2)} n", wf="SUCCEEDED"),),
    ),
    Case(
        id="S14.2",
        title="each item of a collection has its instance",
        graph=collected(["x", "y", "z"]),
        bodies=each(sees("item", "_mi_instance_index")),
        steps=(
            expect(
                ran=f"a p {run(0, 1, 2)} n",
                noted={
                    f"p_instance_{index}": [{"item": item, "_mi_instance_index": index}]
                    for index, item in enumerate("xyz")
                },
                statuses={"p_instance_3": None},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S14.2 own",
        title="a collection in the parent's own context, items under another name",
        graph=activity(
            "from_collection", "towns", item_context_key="town", p=stage("p", "a", context={"towns": ["Basel", "Bonn"]})
        ),
        bodies=each(sees("town")),
        steps=(
            expect(
                ran=f"a p {run(0, 1)} n",
                noted={"p_instance_0": [{"town": "Basel"}], "p_instance_1": [{"town": "Bonn"}]},
                wf="SUCCEEDED",
            ),
        ),
    ),
    *(
        Case(
            id=f"S14.3 {what}",
            title="no instances: the join completes at once",
            graph=graph,
            steps=(
                expect(
                    ran="a p n",
                    statuses={"p_instance_0": None, "p p_mi_join n": "SUCCEEDED"},
                    wf="SUCCEEDED",
                ),
            ),
        )
        for what, graph in (
            ("count 0", counted(0)),
            ("own count 0", counted(0, where="own")),
            ("empty list", collected([])),
        )
    ),
    *(
        Case(
            id=f"S14.3 {what}",
            title="what is no number of instances fails the join",
            graph=graph,
            steps=(
                expect(
                    ran="a p",
                    statuses={"p_instance_0": None, "p": "SUCCEEDED", "p_mi_join": "TERMINAL", "n": "NOT_STARTED"},
                    errors={"p_mi_join": error},
                    wf="TERMINAL",
                ),
            ),
        )
        for what, graph, error in (
            ("text", counted("3"), "'num' is '3'"),
            ("fraction", counted(2.5), "'num' is 2.5"),
            ("negative", counted(-1), "'num' is -1"),
            ("missing", activity("from_context", "num"), "'num' is None"),
            ("no list", collected("xyz"), "'items' is 'xyz'"),
        )
    ),
    Case(
        id="S14.3 own negative",
        title="a number that cannot be is rejected when it is known",
        graph=counted(-1, where="own"),
        rejected="'num' -1",
    ),
    Case(
        id="S14.4",
        title="each pass of a loop reads the number again, and the instances of the pass before are gone",
        graph=LOOPED,
        steps=(
            expect(
                ran=f"a×2 p×2 {run(0, 1, times=2)} p_instance_2 k n",
                noted={"a": [[], []]},
                statuses={names(0, 1, 2): "SUCCEEDED", "p_instance_3": None},
                rows={"p_mi_join": 1, "n": 1},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S14.4 fewer",
        title="a later pass has fewer instances",
        graph=(
            *(stage("a", does=passes(ok(num=3), ok(num=1))), stage("p", "a"), instances("from_context", "num")),
            *(stage("k", "p_mi_join", does=jumps("a")), stage("n", "k")),
        ),
        steps=(
            expect(
                ran=f"a×2 p×2 p_instance_0×2 {run(1, 2)} k n",
                statuses={"p_instance_0": "SUCCEEDED", names(1, 2): None},
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S14.4 crash",
        title="the process is killed when the instances are made and have not begun",
        graph=counted(3),
        crash=once("p", "SUCCEEDED"),
        steps=(
            expect(
                ran=f"a p {run(0, 1, 2)} n",
                started=f"a p {run(0, 1, 2)} n",
                statuses={"p_instance_3": None},
                wf="SUCCEEDED",
            ),
        ),
    ),
]

DYNAMIC = activity("dynamic", 2)


class Lines(logging.Handler):
    """Keeps the warnings of the engine."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(record.getMessage())


def was_refused(world: World, times: int) -> bool:
    """Whether it is said of p, with a reason each, that so many additions were refused."""
    reasons = world.row("p").context["_mi_refused"]
    return len(reasons) == times == len(world.events("instance.refused")) and all(reasons)


def refused(step: Step, times: int = 1) -> Step:
    """Add to p in vain: nothing changes, and it is said why."""

    def act(world: World) -> None:
        log, heard, before = logging.getLogger("stabilize_nb"), Lines(), world.statuses()
        log.addHandler(heard)
        try:
            step.act(world)
            world.run()
        finally:
            log.removeHandler(heard)
        assert world.statuses() == before
        assert was_refused(world, times)
        for reason in world.row("p").context["_mi_refused"]:
            assert any(reason in line for line in heard.lines), f"{reason!r} is not among the warnings {heard.lines}"

    return Step(act)


def in_or_out(world: World) -> bool:
    """Whether the instance that was added is there and was waited for, or was refused; never half."""
    statuses = world.statuses()
    order = [call.base for call in world.ends() if call.base not in ("a", "p")]
    if "p_instance_2" in statuses:
        return (
            statuses["p_instance_2"] == "SUCCEEDED"
            and sorted(order) == ["n", *(f"p_instance_{index}" for index in range(3))]
            and order[-1] == "n"
            and "_mi_refused" not in world.row("p").context
        )
    return order == ["p_instance_0", "p_instance_1", "n"] and was_refused(world, 1)


ADDITIONS = [
    Case(
        id="S15.1",
        title="an instance that is added starts at once and is waited for",
        graph=DYNAMIC,
        bodies=WAITING,
        everywhere=True,
        steps=(
            expect(ran="a p", statuses={names(0, 1): "SUSPENDED"}, wf="RUNNING"),
            add("p"),
            expect(ran="a p", statuses={names(0, 1, 2): "SUSPENDED"}, wf="RUNNING"),
            *(signal("p_instance_0"), signal("p_instance_1")),
            expect(
                ran=f"a p {run(0, 1)}",
                statuses={"p_instance_2": "SUSPENDED", "p_mi_join n": "NOT_STARTED"},
                wf="RUNNING",
            ),
            signal("p_instance_2"),
            expect(ran=f"a p {run(0, 1, 2)} n", rows={"n": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.1 ahead of the parent's end",
        title="an instance that is added while the parent is at work starts with the others",
        graph=activity("dynamic", 1, p=stage("p", "a", does=waits())),
        steps=(
            add("p"),
            expect(ran="a", statuses={"p": "SUSPENDED", names(0, 1): "NOT_STARTED"}, wf="RUNNING"),
            signal("p"),
            expect(ran=f"a p {run(0, 1)} n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.1 none at first",
        title="an activity without instances stays open until one was added and all are complete",
        graph=activity("dynamic", 0),
        bodies=WAITING,
        steps=(
            expect(ran="a p", statuses={"p": "SUCCEEDED", "p_mi_join n": "NOT_STARTED"}, wf="RUNNING"),
            *(add("p"), add("p")),
            signal("p_instance_1"),
            expect(ran=f"a p {run(1)}", statuses={"p_instance_0": "SUSPENDED"}, wf="RUNNING"),
            signal("p_instance_0"),
            expect(ran=f"a p {run(0, 1)} n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.1 none at all",
        title="an activity without instances completes when it is closed",
        graph=activity("dynamic", 0),
        steps=(
            expect(ran="a p", wf="RUNNING"),
            close("p"),
            expect(ran="a p n", statuses={"p_instance_0": None}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.2",
        title="two additions at once: both run, each with the next index and its own data",
        graph=DYNAMIC,
        bodies=each(sees("town", "_mi_parent_ref_id", "_mi_instance_index"), _0=waits(), _1=waits()),
        steps=(
            together(add("p", town="Basel"), add("p", town="Bonn")),
            expect(ran=f"a p {run(2, 3)}", wf="RUNNING"),
            *(signal("p_instance_0"), signal("p_instance_1")),
            expect(
                ran=f"a p {run(0, 1, 2, 3)} n",
                noted={
                    f"p_instance_{index}": [{"town": town, "_mi_parent_ref_id": "p", "_mi_instance_index": index}]
                    for index, town in ((2, "Basel"), (3, "Bonn"))
                },
                wf="SUCCEEDED",
            ),
        ),
    ),
    Case(
        id="S15.3 join fired",
        title="an addition after the join has fired is refused",
        graph=(*DYNAMIC, stage("w", "a", does=waits())),
        steps=(
            expect(ran=f"a p {run(0, 1)} n", wf="RUNNING"),
            refused(add("p")),
            expect(statuses={"p_instance_2": None}, wf="RUNNING"),
            signal("w"),
            expect(ran=f"a p {run(0, 1)} n w", rows={"n": 1}, wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.3 workflow over",
        title="additions after the workflow has ended are refused",
        graph=DYNAMIC,
        steps=(
            expect(wf="SUCCEEDED"),
            refused(together(add("p"), add("p")), times=2),
            expect(ran=f"a p {run(0, 1)} n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.3 fixed",
        title="an addition to an activity with a fixed number is refused",
        graph=activity("fixed", 2),
        bodies=WAITING,
        steps=(
            refused(add("p")),
            expect(statuses={"p_instance_2": None}, wf="RUNNING"),
            *(signal("p_instance_0"), signal("p_instance_1")),
            expect(ran=f"a p {run(0, 1)} n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.3 closed",
        title="an addition to an activity that was closed is refused",
        graph=DYNAMIC,
        bodies=WAITING,
        steps=(
            *(close("p"), refused(add("p"))),
            expect(statuses={"p_instance_2": None}, wf="RUNNING"),
            *(signal("p_instance_0"), signal("p_instance_1")),
            expect(ran=f"a p {run(0, 1)} n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.3 parent cancelled",
        title="an addition to an activity whose parent was cancelled is refused",
        graph=(
            *activity("dynamic", 1, p=stage("p", "a", does=waits(), cancel_region="R")),
            stage("w", "a", does=waits()),
        ),
        steps=(
            *(cancel_region("R"), refused(add("p"))),
            expect(ran="a", statuses={"p_instance_1": None}, wf="RUNNING"),
            signal("w"),
            expect(ran="a w", statuses={"p": "CANCELED", "p_instance_0 p_mi_join n": "SKIPPED"}, wf="SUCCEEDED"),
        ),
    ),
    *(
        Case(
            id=f"S15.4 {title}",
            title="an addition and the end of the last instance at the same time",
            graph=DYNAMIC,
            bodies=each(ok(), _0=waits(), _1=waits()),
            workers=workers,
            repeat=repeat,
            steps=(
                signal("p_instance_0"),
                together(*acts),
                expect(check=in_or_out, wf="SUCCEEDED"),
            ),
        )
        for title, workers, repeat, acts in (
            ("addition first", 1, 1, (add("p"), signal("p_instance_1"))),
            ("end first", 1, 1, (signal("p_instance_1"), add("p"))),
            ("addition first, together", 4, 20, (add("p"), signal("p_instance_1"))),
            ("end first, together", 4, 20, (signal("p_instance_1"), add("p"))),
        )
    ),
    Case(
        id="S15.4 inside",
        title="an addition while the body of the last instance is at work",
        graph=DYNAMIC,
        bodies=each(ok(), _1=lambda stage, call: call.world.push(m.AddMultiInstance, "p")),
        steps=(expect(check=in_or_out, wf="SUCCEEDED"),),
    ),
    Case(
        id="S15.5",
        title="the process is killed when the addition is in the queue",
        graph=DYNAMIC,
        bodies=each(waits(), _2=ok()),
        steps=(
            together(add("p"), kill()),
            expect(ran=f"a p {run(2)}", started="p_instance_2", statuses={"p_instance_3": None}, wf="RUNNING"),
            *(signal("p_instance_0"), signal("p_instance_1")),
            expect(ran=f"a p {run(0, 1, 2)} n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.5 stored",
        title="the process is killed when the addition is stored and the instance has not begun",
        graph=DYNAMIC,
        bodies=each(waits(), _2=ok()),
        crash=once("p_instance_2", "RUNNING"),
        steps=(
            add("p"),
            expect(ran=f"a p {run(2)}", started="p_instance_2", statuses={"p_instance_3": None}, wf="RUNNING"),
            *(signal("p_instance_0"), signal("p_instance_1")),
            expect(ran=f"a p {run(0, 1, 2)} n", wf="SUCCEEDED"),
        ),
    ),
    Case(
        id="S15.5 twice",
        title="an addition that is delivered twice makes one instance",
        graph=DYNAMIC,
        bodies=each(waits(), _2=ok()),
        steps=(
            twice(add("p")),
            expect(ran=f"a p {run(2)}", started="p_instance_2", statuses={"p_instance_3": None}, wf="RUNNING"),
            *(signal("p_instance_0"), signal("p_instance_1")),
            expect(ran=f"a p {run(0, 1, 2)} n", wf="SUCCEEDED"),
        ),
    ),
]

CASES = [*WITHOUT_SYNCHRONIZATION, *DESIGN_TIME, *RUN_TIME, *ADDITIONS]

test_pattern = matrix(CASES)
