import _thread
import threading
import time
from datetime import timedelta

import pytest

from stabilize_nb import Engine, Flow, StreamItem, TaskResult, WorkflowStream, emit_progress
from stabilize_nb.core import facts as f
from stabilize_nb.events import EventType, SqliteEventStore, configure_event_sourcing, get_event_bus
from stabilize_nb.events.log import EventLog
from stabilize_nb.store.writer import write_facts
from tests.events.scenes import SCENES, Stubborn, play, tasks
from tests.makers import Bench, chain, stage, workflow

SEVEN = [
    "workflow.created", "workflow.started", "stage.started", "task.started", "task.completed", "stage.completed",
    "workflow.completed",
]  # fmt: skip


def kinds(items):
    return [item.event_type.value for item in items]


def numbers(items):
    return [item.sequence for item in items if item.sequence]


def telling(stage):
    """Tell progress three times and succeed."""
    for step in range(3):
        emit_progress(stage, f"step {step}", fraction=step / 3, step=step)
    return TaskResult.success()


def in_thread(work):
    """Run `work` in a thread; returns a function that waits for its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()

    def wait():
        thread.join(20)
        return result[0]

    return wait


def test_replay_is_the_log():
    """The log of a workflow is replayed with its numbers."""
    with Bench() as bench:
        flow = bench.run(workflow(stage("a")))
        items = WorkflowStream(flow.id).replay()

        assert kinds(items) == SEVEN
        assert numbers(items) == [1, 2, 3, 4, 5, 6, 7]
        assert {item.source for item in items} == {"replay"}
        assert items[2] == StreamItem(
            event_type=EventType.STAGE_STARTED, entity_type="stage", entity_id=flow.stages[0].id,
            workflow_id=flow.id, data={"fact": "StageStarted", "stage": flow.stages[0].id}, sequence=3,
            source="replay",
        )  # fmt: skip


def test_following_a_finished_workflow_ends():
    """What has ended is shown from its history, and the iteration is over."""
    with Bench() as bench:
        flow = bench.run(workflow(stage("a")))

        assert kinds(WorkflowStream(flow.id).follow()) == SEVEN
        assert list(WorkflowStream(flow.id).follow(include_history=False)) == []


def test_following_begins_before_the_workflow_is_stored():
    """A stream may be there first; everything is live then, the creation too."""
    with Bench() as bench:
        flow = workflow(stage("a"))
        following = WorkflowStream(flow.id).follow()
        bench.run(flow)
        items = list(following)

        assert kinds(items) == SEVEN


def test_history_is_joined_with_what_follows():
    """Following in the middle of a run shows history, then live items, without a gap and nothing twice."""
    body = Stubborn()
    with Bench(tasks={"stubborn": body}) as bench:
        flow = workflow(stage("a"), stage("b", "a", task="stubborn"), stage("c", "b"))
        bench.begin(flow)
        bench.processor.start()
        body.begun.wait(20)
        following = WorkflowStream(flow.id).follow()
        first = next(following)
        body.let_go.set()
        items = [first, *following]

        assert numbers(items) == list(range(1, EventLog(bench.database).count(flow.id) + 1))
        assert [item.source for item in items] == sorted((item.source for item in items), reverse=True)
        assert {item.source for item in items} == {"live", "replay"}


@pytest.mark.parametrize("include_history", [True, False])
def test_nothing_is_missed_by_many_that_join_in(include_history):
    """Streams that join a running workflow at any moment see every event after their first one exactly once."""
    with Bench() as bench:
        flow = chain(40)
        bench.begin(flow)
        bench.processor.start()
        waits = [
            in_thread(lambda: numbers(WorkflowStream(flow.id).follow(include_history=include_history)))
            for _ in range(12)
        ]
        seen = [wait() for wait in waits]
        last = EventLog(bench.database).count(flow.id)

        for each in seen:
            assert each == list(range(1 if include_history else (each or [last + 1])[0], last + 1))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_live_items_come_in_order(scene):
    """A listener gets every event of a workflow, numbered without gaps, while it happens."""
    heard = []
    with Bench(tasks=tasks()) as bench:
        flow_id = []
        store = bench.store.store
        stream = []

        def listening(flow, *messages):
            flow_id.append(flow.id)
            stream.append(WorkflowStream(flow.id))
            stream[-1].on_event(heard.append)
            store(flow, *messages)

        bench.store.store = listening
        play(scene, bench)
        bench.database.flush()

        for run_id in flow_id:
            mine = [item for item in heard if item.workflow_id == run_id]
            assert numbers(mine) == list(range(1, EventLog(bench.database).count(run_id) + 1))
        assert {item.source for item in heard} == {"live"}


def test_progress_stands_between_start_and_end_of_its_task():
    """What a body tells comes live, in order, with the message and the name of its stage."""
    with Bench(tasks={"telling": telling}) as bench:
        flow = workflow(stage("a", task="telling"))
        following = WorkflowStream(flow.id).follow()
        bench.run(flow)
        items = list(following)

        assert kinds(items) == [*SEVEN[:4], *["custom.progress"] * 3, *SEVEN[4:]]
        assert [item.data["message"] for item in items[4:7]] == ["step 0", "step 1", "step 2"]
        assert items[4].data == {"message": "step 0", "fraction": 0.0, "stage_ref_id": "a", "step": 0}
        assert (items[4].entity_type, items[4].entity_id, items[4].sequence) == ("stage", flow.stages[0].id, 0)


def test_progress_is_live_only():
    """The log has no progress."""
    with Bench(tasks={"telling": telling}) as bench:
        flow = bench.run(workflow(stage("a", task="telling")))

        assert kinds(WorkflowStream(flow.id).replay()) == SEVEN


def test_progress_outside_a_run_is_told_to_nobody():
    """A body that a test calls by itself may tell progress; nothing happens."""
    assert emit_progress(stage("a"), "hello") is None


def test_listener_that_fails_disturbs_nobody(caplog):
    """A listener that raises is reported; the others and the workflow go on."""
    heard = []
    with Bench() as bench:
        flow = workflow(stage("a"))
        stream = WorkflowStream(flow.id)

        @stream.on_event
        def _broken(item):
            raise ValueError(item)

        stream.on_event(heard.append)
        done = bench.run(flow)

    assert (done.status.name, kinds(heard)) == ("SUCCEEDED", SEVEN)
    assert f"a listener of the stream of workflow {flow.id} failed" in caplog.text


def test_stream_shows_only_its_workflow():
    """Events of other workflows of the same store are left out."""
    heard = []
    with Bench() as bench:
        flow = workflow(stage("a"))
        WorkflowStream(flow.id).on_event(heard.append)
        bench.begin(flow, workflow(stage("b")))
        bench.processor.process_all(timeout=20)

    assert {item.workflow_id for item in heard} == {flow.id}


def test_closing_ends_iterations():
    """An iteration that waits ends when its stream is closed, and hears nothing more."""
    with Bench() as bench:
        flow = workflow(stage("a"))
        bench.store.store(flow)
        stream = WorkflowStream(flow.id)
        following = stream.follow()
        first = next(following)
        wait = in_thread(lambda: list(following))
        stream.close()

        assert (kinds([first]), wait()) == (["workflow.created"], [])


def test_finished_iteration_listens_no_more():
    """When the last iteration is over nothing is built for the stream any more."""
    with Bench() as bench:
        flow = bench.run(workflow(stage("a")))
        list(WorkflowStream(flow.id).follow())

    assert not get_event_bus().wanted


def test_restart_after_the_end_is_a_new_stream():
    """A restarted workflow is followed from its history through the restart to its new end."""
    scene = next(scene for scene in SCENES if scene.name == "failure, then restart")
    with Bench(tasks=tasks()) as bench:
        flow = play(scene, bench)
        shown = kinds(WorkflowStream(flow.id).follow())

        assert shown.count("workflow.restarted") == 1
        assert shown[-1] == "workflow.completed"


def test_commits_of_other_processes_are_seen():
    """Facts that nobody announces in this process are found in the log."""
    with Bench() as bench:
        flow = workflow(stage("a"))
        bench.store.store(flow)
        following = WorkflowStream(flow.id).follow()
        kinds([next(following)])
        bench.database.write(lambda connection: write_facts(connection, flow.id, 2, [f.WorkflowStarted()], 0))

        assert next(following).event_type is EventType.WORKFLOW_STARTED


def test_copied_log_is_enough_for_a_replay(tmp_path):
    """With the event store alone, its database closed, a finished workflow is shown from the copy."""
    event_store = SqliteEventStore(f"sqlite:///{tmp_path}/log.db")
    configure_event_sourcing(event_store)
    with Bench() as bench:
        flow = bench.run(workflow(stage("a")))
    stream = WorkflowStream(flow.id, event_store=event_store)

    assert kinds(stream.replay()) == kinds(stream.follow()) == SEVEN
    event_store.close()


def test_interrupt_ends_only_the_waiting():
    """An interrupt of the main thread while it follows leaves the run and other streams as they were."""
    with Bench() as bench:
        flow = workflow(stage("a"), stage("b", "a"))
        bench.store.store(flow)
        with WorkflowStream(flow.id) as stream:
            following = stream.follow()
            next(following)
            timer = threading.Timer(timedelta(milliseconds=50).total_seconds(), _thread.interrupt_main)
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                next(following)
            timer.join()
            again = stream.follow()
            bench.orchestrator.start(flow)
            bench.processor.start()

            assert numbers(again) == list(range(1, EventLog(bench.database).count(flow.id) + 1))


def test_closing_lets_listeners_have_what_was_told():
    """A stream that is closed as soon as the run has ended gives a slow listener all of it first."""
    flow = Flow("pieces")

    @flow.stage
    def tell(count, progress):
        for number in range(count):
            progress(None, str(number))

    heard = []
    with Engine(":memory:") as engine:
        engine.define(flow)
        work = flow.build(count=100)
        with WorkflowStream(work.id) as stream:
            stream.on_event(lambda item: (time.sleep(0.001), heard.append(item)))
            engine.start(work).wait(30)

    told = [item.data["message"] for item in heard if item.event_type == "custom.progress"]
    assert told == [str(number) for number in range(100)]
    assert kinds([heard[0], heard[-1]]) == ["workflow.created", "workflow.completed"]


def test_closing_does_not_wait_for_ever():
    """A listener that never comes back holds up who closes its stream for no longer than was said."""
    entered, leave = threading.Event(), threading.Event()
    with Bench() as bench:
        flow = workflow(stage("a"))
        stream = WorkflowStream(flow.id)
        stream.on_event(lambda _: (entered.set(), leave.wait(30)))
        bench.store.store(flow)
        assert entered.wait(30)
        begun = time.monotonic()
        stream.close(timeout=0.05)
        waited = time.monotonic() - begun
        leave.set()

    assert 0.05 <= waited < 10


def test_a_listener_may_close_its_stream():
    """It hears nothing more, and nobody waits for itself."""
    heard = []
    with Bench() as bench:
        flow = workflow(stage("a"))
        stream = WorkflowStream(flow.id)
        stream.on_event(lambda item: (heard.append(item), stream.close()))
        bench.run(flow)

    assert kinds(heard) == ["workflow.created"]
