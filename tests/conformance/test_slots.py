"""Concurrency limits: one too many is buffered, the oldest is next, and a slot is never lost."""

from __future__ import annotations

import pytest

from stabilize_nb import Orchestrator, TaskResult, Workflow
from stabilize_nb.errors import ConfigError
from stabilize_nb.queue.messages import SignalStage
from tests.makers import Bench, stage

TWO = {"limitConcurrent": True, "maxConcurrentExecutions": 2, "keepWaitingPipelines": True}


def waits(running):
    """Suspend until a signal comes."""
    return TaskResult.success() if "_signal_name" in running.context else TaskResult.suspend()


def make(config=TWO, name="report"):
    return Workflow.create("tests", name, [stage("a", task="waits")], config=config)


def statuses(bench, flows):
    return [bench.store.retrieve(flow.id).status.name for flow in flows]


def go_on(bench, flow):
    bench.queue.push(SignalStage(execution_id=flow.id, stage_id=flow.stages[0].id, signal_name="go", persistent=True))
    bench.processor.process_all(timeout=10)


@pytest.fixture(params=["memory", "file"])
def bench(request, tmp_path):
    url = "sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/slots.db"
    with Bench(url, tasks={"waits": waits}) as made:
        yield made


def left(bench):
    return [bench.sql(f"SELECT count(*) FROM {table}")[0][0] for table in ("claim", "waiter")]


def test_one_too_many_waits_and_the_oldest_is_next(bench):
    flows = [make() for _ in range(4)]
    bench.begin(*flows)
    bench.processor.process_all(timeout=10)
    assert statuses(bench, flows) == ["RUNNING", "RUNNING", "BUFFERED", "BUFFERED"]

    go_on(bench, flows[1])
    assert statuses(bench, flows) == ["RUNNING", "SUCCEEDED", "RUNNING", "BUFFERED"]

    for flow in (flows[0], flows[2], flows[3]):
        go_on(bench, flow)
    assert statuses(bench, flows) == ["SUCCEEDED"] * 4
    assert left(bench) == [0, 0]
    assert bench.queue.size() == 0


def test_other_lanes_are_not_held_up(bench):
    flows = [make(), make(), make(name="other"), make(config=None)]
    bench.begin(*flows)
    bench.processor.process_all(timeout=10)
    assert statuses(bench, flows) == ["RUNNING"] * 4


def test_cancelling_one_that_waits_or_one_that_runs_loses_no_slot(bench):
    flows = [make() for _ in range(5)]
    bench.begin(*flows)
    bench.processor.process_all(timeout=10)
    orchestrator = Orchestrator(bench.queue, bench.store)
    orchestrator.cancel(flows[2], user="ann", reason="not needed")
    orchestrator.cancel(flows[0], user="ann", reason="not needed")
    bench.processor.process_all(timeout=10)
    assert statuses(bench, flows) == ["CANCELED", "RUNNING", "CANCELED", "RUNNING", "BUFFERED"]

    for flow in (flows[1], flows[3], flows[4]):
        go_on(bench, flow)
    assert statuses(bench, flows) == ["CANCELED", "SUCCEEDED", "CANCELED", "SUCCEEDED", "SUCCEEDED"]
    assert left(bench) == [0, 0]


def test_without_keep_waiting_a_newer_one_takes_the_place_of_those_that_wait(bench):
    config = {"limitConcurrent": True, "maxConcurrentExecutions": 1, "keepWaitingPipelines": False}
    flows = [make(config) for _ in range(3)]
    bench.begin(*flows)
    bench.processor.process_all(timeout=10)
    assert statuses(bench, flows) == ["RUNNING", "CANCELED", "BUFFERED"]
    assert flows[2].id in bench.store.retrieve(flows[1].id).error


ONE = {"limitConcurrent": True, "maxConcurrentExecutions": 1, "keepWaitingPipelines": True}


def two_of_a_lane(bench):
    """One that has ended and is to be restarted, while another one of its lane has the only slot."""
    flows = [make(ONE) for _ in range(2)]
    bench.begin(*flows)
    bench.processor.process_all(timeout=10)
    go_on(bench, flows[0])
    assert statuses(bench, flows) == ["SUCCEEDED", "RUNNING"]
    orchestrator = Orchestrator(bench.queue, bench.store)
    orchestrator.restart(flows[0], "a")
    bench.processor.process_all(timeout=10)
    return orchestrator, flows


def test_one_that_is_restarted_needs_a_slot_again(bench):
    """It waits until one is free, holds it, and gives it to the next."""
    orchestrator, flows = two_of_a_lane(bench)
    orchestrator.restart(flows[0], "a")  # it waits already
    bench.processor.process_all(timeout=10)
    assert statuses(bench, flows) == ["BUFFERED", "RUNNING"]

    go_on(bench, flows[1])
    assert statuses(bench, flows) == ["RUNNING", "SUCCEEDED"]

    flows.append(make(ONE))
    bench.begin(flows[2])
    bench.processor.process_all(timeout=10)
    assert statuses(bench, flows) == ["RUNNING", "SUCCEEDED", "BUFFERED"]

    go_on(bench, flows[0])
    go_on(bench, flows[2])
    assert statuses(bench, flows) == ["SUCCEEDED"] * 3
    assert left(bench) == [0, 0]
    assert bench.queue.size() == 0


def test_one_that_waits_to_be_restarted_can_be_cancelled(bench):
    """It gives its place in the line up, and whoever runs is not disturbed."""
    orchestrator, flows = two_of_a_lane(bench)
    orchestrator.cancel(flows[0], user="ann", reason="not needed")
    bench.processor.process_all(timeout=10)
    assert statuses(bench, flows) == ["CANCELED", "RUNNING"]

    orchestrator.restart(flows[0], "a")
    bench.processor.process_all(timeout=10)
    orchestrator.cancel(flows[0], user="ann", reason="not needed")
    bench.processor.process_all(timeout=10)
    go_on(bench, flows[1])
    assert statuses(bench, flows) == ["CANCELED", "SUCCEEDED"]
    assert left(bench) == [0, 0]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"limit": 3}, "config has the key 'limit'; known are limitConcurrent"),
        ({"limitConcurrent": 1}, "config 'limitConcurrent' is 1; True or False is expected"),
        ({"limitConcurrent": True}, "maxConcurrentExecutions is not 1 or more"),
    ],
)
def test_a_wrong_config_gets_a_sentence(config, says):
    with pytest.raises(ConfigError, match=says):
        make(config)
