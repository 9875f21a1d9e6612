"""crash_sweep names the tasks of a user's workflow that do not bear to be run again, and no others."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stabilize_nb import Engine, Flow, StageExecution, Task, TaskExecution, TaskRegistry, TaskResult
from stabilize_nb.errors import ConfigError, PreconditionError
from stabilize_nb.events import get_event_bus
from stabilize_nb.testing import crash_sweep, effect
from tests.crash import habits
from tests.crash.forty import sweep
from tests.makers import stage, workflow


def verdicts(report):
    return dict(zip(report["task"], report["verdict"], strict=True))


@pytest.mark.timeout(400)
def test_forty_habits(record_property):
    """20 of 20 tasks that do not bear it are found, and none of 20 that do is accused."""
    found = sweep()

    record_property("line", str(found))
    assert len(found.caught) == len(habits.BAD) == 20
    assert found.accused == []


def test_process_that_has_awaited_bodies_and_has_listeners_can_sweep():
    """Threads do not pass to a fork: neither that of the loop, on which bodies wait, nor that of the process's bus."""
    flow = Flow("awaits")

    @flow.stage
    async def fetch():
        return 1

    get_event_bus().subscribe("test", lambda _event: None)
    with Engine(":memory:") as engine:
        assert engine.start(flow).result(10) == 1

    assert verdicts(crash_sweep(flow, timeout=5)) == {"fetch": "safe"}


class Sells(Task):
    """Appends to a file by its name, which is relative: to the scratch folder."""

    def execute(self, stage: StageExecution) -> TaskResult:
        with Path("sold.txt").open("a") as opened:
            opened.write(f"{stage.context['item']}\n")
        return TaskResult.success()


def test_a_workflow_of_the_reference_api(tmp_path, monkeypatch):
    """A Workflow is swept with its registry; each task of a stage has a row, and nothing is written in this folder."""
    monkeypatch.chdir(tmp_path)
    registry = TaskRegistry()
    registry.register("sells", Sells)
    registry.register("tells", lambda stage: {"told": stage.context["item"]})
    tasks = [TaskExecution.create("sell", "sells"), TaskExecution.create("tell", "tells")]

    report = crash_sweep(workflow(stage("a", tasks=tasks)), {"item": "pen"}, registry=registry)

    assert verdicts(report) == {"a.sell": "repeated", "a.tell": "safe"}
    assert report["repeated"].dtype == "int64"
    assert list(report["verdict"].cat.categories) == ["untried", "safe", "repeated", "lost"]
    assert any("sold.txt: 2 lines instead of 1" in moment for moment in report["moments"][0])
    assert list(tmp_path.iterdir()) == []


def test_a_gate_needs_a_decision():
    """A workflow that waits for a person is refused by name, and swept with what the person would say."""
    flow = Flow("sale")
    flow.approval("sell it?", name="sign_off")

    @flow.stage
    def sell(sign_off):
        effect(f"sold to {sign_off['approval']['user']}")

    with pytest.raises(
        PreconditionError, match=r"'sign_off' waits for a decision.*decisions=\{'sign_off': 'approve'\}"
    ):
        crash_sweep(flow)

    report = crash_sweep(flow, decisions={"sign_off": ("approve", {"user": "me"})})
    assert verdicts(report) == {"sell": "repeated"}


def test_a_workflow_that_fails_is_refused():
    """A workflow that fails by itself is refused with its error."""
    flow = Flow("sale")

    @flow.stage
    def sell():
        Path("prices.csv").read_text()

    with pytest.raises(PreconditionError, match=r"does not succeed without being killed: 'sale' .*prices.csv"):
        crash_sweep(flow)
    with pytest.raises(ConfigError, match="a Flow is expected"):
        crash_sweep(sell)


def test_what_is_elsewhere_is_seen_through_a_probe(tmp_path):
    """Files are brought along, and what bodies change outside the working folder is seen by `effects`."""
    (tmp_path / "prices.csv").write_text("pen,3\n")
    till = tmp_path / "till"
    flow = Flow("sale")

    @flow.stage
    def sell():
        with till.open("a") as opened:
            opened.write(Path("prices.csv").read_text())

    def empty():
        till.write_text("")

    with pytest.raises(ConfigError, match=r"cannot find .*nothing.csv"):
        crash_sweep(flow, files=[tmp_path / "nothing.csv"])
    files = [tmp_path / "prices.csv"]
    assert verdicts(crash_sweep(flow, files=files, setup=empty)) == {"sell": "safe"}
    assert verdicts(crash_sweep(flow, files=files, setup=empty, effects=till.read_text)) == {"sell": "repeated"}


def test_a_fork_of_a_process_at_work():
    """A process whose engine is at work in other threads can be forked for a sweep: neither stands still."""
    busy, stop = Flow("busy"), threading.Event()

    @busy.stage
    def count(stage):
        at = 0
        while not stop.is_set():
            at = stage.step("count", lambda at=at: at + 1)
        return at

    flow = Flow("sale")

    @flow.stage
    def sell():
        effect("sold")

    with Engine(":memory:") as engine:
        run = engine.start(busy)
        try:
            found = [verdicts(crash_sweep(flow, limit=4, jobs=1)) for _ in range(10)]
        finally:
            stop.set()
        assert run.result(timeout=30) > 0
    assert all(each.keys() == {"sell"} for each in found)


def test_instances_loops_and_flows_that_are_called():
    """Whatever the engine makes of a stage, the stage its author wrote is named, and no stage of the engine's own."""
    child, flow = Flow("child"), Flow("sale")

    @child.stage
    def pay(item, stage):
        effect(f"paid {item}", key=stage.idempotency_key)

    @flow.stage
    def names():
        return ["Ann", "Bea"]

    @flow.stage(each="names")
    def greet(name):
        with Path("greetings.txt").open("a") as opened:
            opened.write(f"{name}\n")

    with flow.loop("again", until="n > 1", max=3, after=greet):

        @flow.stage
        def count(n=0):
            effect("counted")
            return {"n": n + 1}

    flow.call(child, name="payment", after="again")

    found = verdicts(crash_sweep(flow, {"item": "pen"}))
    assert found == {"names": "safe", "greet": "repeated", "count": "repeated", "pay": "safe"}
