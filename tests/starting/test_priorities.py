"""Priorities: what is urgent goes first, and nothing waits for ever."""

from __future__ import annotations

import threading

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import ConfigError
from stabilize_nb.models.priority import STEP
from tests.makers import stage, workflow


class Bench:
    """An engine with one worker that is kept busy until `go`, and a note of what ran after that."""

    def __init__(self, url: str) -> None:
        self.engine = Engine(url, workers=1)
        self.now = self.engine.database.clock()
        self.engine.database.clock = lambda: self.now
        self.seen: list[str] = []
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.engine.registry.register("hold", self._hold)
        self.engine.registry.register("note", lambda stage: self.seen.append(stage.ref_id))
        self.runs = [self.engine.start(workflow(stage("hold", task="hold")))]
        assert self.begun.wait(10)

    def _hold(self, _stage: object) -> None:
        self.begun.set()
        assert self.gate.wait(30)

    def start(self, *names: str, priority: int = 0, **fields: object) -> None:
        """Start a run of a chain of stages."""
        stages = [stage(name, *names[:at][-1:], task="note", **fields) for at, name in enumerate(names)]
        run = self.engine.start(workflow(*stages), priority=priority)
        while "RUNNING" not in [str(each.status) for each in run.workflow.stages]:
            ticket = self.engine.database.changes.ticket()
            assert "RUNNING" in [str(each.status) for each in run.workflow.stages] or ticket.wait(20)
        self.runs.append(run)
        self.now += 1_000

    def go(self) -> list[str]:
        self.gate.set()
        for run in self.runs:
            run.wait(20)
        return self.seen


@pytest.fixture
def bench(url: str):
    made = Bench(url)
    yield made
    made.gate.set()
    made.engine.close()


def test_higher_priority_is_first_and_equal_ones_are_in_order(bench: Bench) -> None:
    """Of what waits, the run with most; of runs with the same, the one that came first."""
    bench.start("a")
    bench.start("b", priority=1)
    bench.start("c", priority=5)
    bench.start("d", priority=1)
    bench.start("e")

    assert bench.go() == ["c", "b", "d", "a", "e"]


def test_priority_of_a_stage_is_added(bench: Bench) -> None:
    """A stage may be urgent in a run that is not."""
    bench.start("a", priority=1)
    bench.start("b", context={"_priority": 3})
    bench.start("c", priority=1, context={"_priority": 4})

    assert bench.go() == ["c", "b", "a"]


def test_nothing_waits_for_ever(bench: Bench) -> None:
    """What has waited a minute for each step goes before what is more urgent and new."""
    bench.start("old")
    bench.now += 5 * STEP
    bench.start("urgent", priority=4)
    bench.start("very urgent", priority=6)

    assert bench.go() == ["very urgent", "old", "urgent"]


def test_run_at_work_gives_way_between_its_stages(bench: Bench) -> None:
    """A long run does not keep its worker from one that is urgent, and takes its place anew then."""
    bench.start("a1", "a2", "a3")
    bench.start("b1", "b2")
    bench.seen.clear()

    class Start:
        """Starts an urgent run from inside the first stage of the long one."""

        def __init__(self) -> None:
            self.done = False

        def __call__(self, made: object) -> None:
            bench.seen.append(made.ref_id)  # type: ignore[attr-defined]
            if not self.done:
                self.done = True
                bench.start("urgent", priority=2)

    bench.engine.registry.replace("note", Start())

    assert bench.go() == ["a1", "urgent", "b1", "b2", "a2", "a3"]


def test_child_is_as_urgent_as_its_parent(engine: Engine) -> None:
    """A flow that is called has the priority of the run that calls it."""
    inner = Flow("inner")

    @inner.stage
    def work() -> int:
        return 1

    outer = Flow("outer")
    outer.call(inner)
    run = engine.start(outer, priority=7)
    run.wait(20)
    contexts = {header["name"]: engine.store.retrieve(header["id"]).context for header in engine.store.list()}

    assert contexts["inner"]["_priority"] == contexts["outer"]["_priority"] == 7


def test_flow_says_priority(engine: Engine) -> None:
    """As a word of a stage, and where it is run; a flow that asks for an input of that name gets it."""
    flow = Flow("words")
    flow.engine = engine

    @flow.stage(priority=3)
    def work() -> int:
        return 1

    asking = Flow("asking")

    @asking.stage
    def told(priority: int) -> int:
        return priority

    assert flow.build().stages[0].context["_priority"] == 3
    assert flow.run(priority=2).workflow.context == {"_priority": 2}
    run = engine.start(asking, priority=500)
    assert run.result(10) == 500
    assert run.workflow.context == {"priority": 500}


@pytest.mark.parametrize("priority", [-1, 101, 1.5, True, "high"], ids=["low", "high", "float", "truth", "text"])
def test_what_is_no_priority_is_refused(engine: Engine, priority: object) -> None:
    """Where a run is started and where a stage is written."""
    flow = Flow("words")
    with pytest.raises(ConfigError, match="from 0, which is usual, to 100 is expected"):
        engine.start(workflow(stage("a")), priority=priority)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="an integer from 0 to 100 is expected"):
        flow.stage(priority=priority)(lambda: 1)
