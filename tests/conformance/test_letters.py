"""An order to a processor at work is committed together with what it leads to, and answered once it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import StageNotFoundError, StoreUnavailableError, WorkflowNotFoundError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import PauseWorkflow, SignalStage, StartWorkflow
from stabilize_nb.store.database import Database
from stabilize_nb.store.sqlite import SqliteConnection
from tests.makers import Bench, chain, stage, workflow

PATIENCE = 30
NOBODY = "01" + "0" * 24


@pytest.fixture
def at_work(tmp_path):
    """Return a bench whose processor works in the background."""
    with Bench(f"sqlite:///{tmp_path}/runs.db") as bench:
        bench.processor.start()
        bench.processor.process_all(timeout=PATIENCE)
        yield bench


def pause(bench: Bench) -> str:
    """Store a workflow and order its pause, which waits for its start; return its id."""
    flow = chain(1)
    bench.store.store(flow)
    bench.queue.push(PauseWorkflow(execution_id=flow.id))
    return flow.id


@pytest.mark.sqlite
def test_approval_takes_three_commits(tmp_path):
    """The decision with what it wakes, the gate's end with the next stage, and the end of the workflow."""
    flow = Flow("gate")
    flow.approval("Go on?", name="gate")
    flow.stage(name="after", after=["gate"])(lambda: 7)
    with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
        run = engine.start(flow)
        run.until_gate(PATIENCE)
        by = []  # threads that commit; the keeper's commits are about other things
        watch(engine.database, lambda: by.append(threading.current_thread().name.rstrip("-0123456789")))
        by.clear()
        run.approve("gate")
        assert run.wait(PATIENCE) is WorkflowStatus.SUCCEEDED
        watch(engine.database, None)

    assert [name for name in by if name != "stabilize-keeper"] == ["stabilize-worker"] * 3


def watch(database: Database, note: Callable[[], None] | None) -> None:
    """Have each commit of the writer noted, from the one on with which this is said."""
    hook = None if note is None else lambda: bool(note())
    database.write(lambda connection: connection.raw.set_commit_hook(hook))  # tells nobody, so nobody looks


def test_order_that_is_refused_keeps_no_other_from_being_carried_out(at_work):
    """Each is told what is wrong with its own order, whatever else the commit holds."""
    kept = chain(1)
    at_work.store.store(kept)
    orders = [
        StartWorkflow(execution_id=kept.id),
        PauseWorkflow(execution_id=NOBODY),
        SignalStage(execution_id=kept.id, stage_id=NOBODY, signal_name="go"),
    ]
    desk = at_work.processor.desk
    desk.leading = True  # so that one commit has all of them
    replies = [desk.post(_push(at_work, order)) for order in orders]
    with desk.changed:
        desk.leading = False
        desk.changed.notify()

    for reply, error in zip(replies, (None, WorkflowNotFoundError, StageNotFoundError), strict=True):
        if error is None:
            reply.result()
        else:
            with pytest.raises(error, match="names"):
                reply.result()
    at_work.processor.process_all(timeout=PATIENCE)
    assert at_work.store.retrieve(kept.id).status is WorkflowStatus.SUCCEEDED


def _push(bench: Bench, order):
    """Return what `push` has written for an order."""
    taken = []
    bench.database.order, orders = taken.append, bench.database.order
    try:
        bench.queue.push(order)
    finally:
        bench.database.order = orders
    return taken[0]


def test_nothing_is_ordered_while_nobody_works(tmp_path):
    """Then an order is written for itself, and taken by whoever works next."""
    with Bench(f"sqlite:///{tmp_path}/runs.db") as bench:
        assert bench.processor.desk.post(lambda _: None) is None
        flow = chain(2)
        bench.begin(flow)
        bench.processor.process_all(timeout=PATIENCE)
        assert bench.store.retrieve(flow.id).status is WorkflowStatus.SUCCEEDED


def test_no_order_is_lost_while_processors_come_and_go(tmp_path):
    """Of eight threads that order while a processor starts and stops, each is answered, and its order is there."""
    with Bench(f"sqlite:///{tmp_path}/runs.db", durability="normal") as bench:
        over = threading.Event()

        def come_and_go() -> None:
            while not over.is_set():
                bench.processor.start()
                bench.processor.stop(timeout=PATIENCE)

        with ThreadPoolExecutor(9) as pool:
            restless = pool.submit(come_and_go)
            try:
                ordered = list(pool.map(lambda _: pause(bench), range(200)))
            finally:
                over.set()
            restless.result(PATIENCE)

        assert len(ordered) == len(set(ordered)) == 200
        assert [(len(ordered),)] == bench.sql("SELECT count(*) FROM message WHERE kind = 'PauseWorkflow'")
        bench.processor.process_all(timeout=PATIENCE)
        assert bench.queue.size() == 0


@pytest.mark.sqlite
def test_order_that_cannot_be_committed_is_answered_with_the_reason(at_work, monkeypatch):
    """The caller is told at once that the store is not available; later orders wait for nobody."""
    flow = workflow(stage("a"))
    at_work.store.store(flow)
    broken = StoreUnavailableError("the disk is full")
    commit = SqliteConnection.commit

    def fail(connection: SqliteConnection) -> None:
        if connection is at_work.database.writer:
            raise broken
        commit(connection)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteConnection, "commit", fail)
        with pytest.raises(StoreUnavailableError, match="the disk is full"):
            at_work.orchestrator.start(flow)

    with suppress(StoreUnavailableError):  # whoever comes first may find the trouble not over yet
        at_work.orchestrator.start(flow)
    at_work.orchestrator.start(flow)
    at_work.processor.process_all(timeout=PATIENCE)
    assert at_work.store.retrieve(flow.id).status is WorkflowStatus.SUCCEEDED
