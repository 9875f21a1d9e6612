import pytest

from stabilize_nb.errors import ConfigError
from stabilize_nb.queue.queue import SqliteQueue
from stabilize_nb.recovery import RecoveryResult, WorkflowRecovery, recover_on_startup
from stabilize_nb.store.database import Database
from tests.events.scenes import Stubborn
from tests.makers import Bench, chain, stage, workflow

FAR = 2**50


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    """Where the workflows are."""
    return "sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/store.db"


def die_holding(bench, owner="dead"):
    """Have all queued messages claimed, for long, by a processor that is no more."""
    claim = "UPDATE message SET owner = ?, lease_until = ? WHERE done_at IS NULL AND owner IS NULL"
    bench.database.write(lambda connection: connection.raw.execute(claim, (owner, FAR)))


def test_what_the_dead_held_is_free_at_once(url):
    """Claims of a processor that died are freed however long they were to last, and the workflow ends."""
    with Bench(url) as bench:
        flow = chain(2)
        bench.begin(flow)
        bench.processor.process_one()
        die_holding(bench)
        results = recover_on_startup(bench.store, bench.queue)
        bench.processor.process_all(timeout=20)

        assert results == [RecoveryResult(workflow_id=flow.id, status="recovered", stages_requeued=1)]
        assert bench.store.retrieve(flow.id).status.name == "SUCCEEDED"


def test_recovering_again_changes_nothing(url):
    """The second time nothing is freed and the log is as before; the workflow is still reported."""
    with Bench(url) as bench:
        flow = chain(1)
        bench.begin(flow)
        die_holding(bench)
        recovery = WorkflowRecovery(bench.store, bench.queue)
        recovery.recover_pending_workflows()
        before = _everything(bench.database)
        second = recovery.recover_pending_workflows()

        assert second == [RecoveryResult(workflow_id=flow.id)]
        assert _everything(bench.database) == before


def _everything(database: Database):
    tables = ("workflow", "stage", "task", "message", "event", "processor")
    return database.read(
        lambda connection: [connection.raw.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
    )


def test_what_the_living_hold_is_left_alone(url):
    """A stage whose body is at work in a processor of this process is not taken from it."""
    body = Stubborn()
    with Bench(url, tasks={"stubborn": body}) as bench:
        flow = workflow(stage("a", task="stubborn"))
        bench.begin(flow)
        bench.processor.start()
        body.begun.wait(20)
        results = recover_on_startup(bench.store, bench.queue)
        body.let_go.set()
        bench.processor.stop()
        bench.processor.process_all(timeout=20)

        assert results == [RecoveryResult(workflow_id=flow.id, stages_requeued=0)]
        assert bench.statuses(flow) == {"a": "SUCCEEDED"}


def test_only_unfinished_workflows_are_reported(url):
    """Finished workflows need nothing; an application may be asked for alone."""
    with Bench(url) as bench:
        bench.run(chain(1))
        mine, other = chain(1), chain(1)
        other.application = "other"
        bench.begin(mine, other)
        recovery = WorkflowRecovery(bench.store, bench.queue)

        assert [result.workflow_id for result in recovery.recover_pending_workflows()] == [mine.id, other.id]
        assert [result.workflow_id for result in recovery.recover_pending_workflows("other")] == [other.id]
        assert [result.workflow_id for result in recovery.recover_pending_workflows("none")] == []


def test_a_processor_that_works_takes_over_by_itself():
    """A processor at work hears of what was freed and goes on with it."""
    with Bench() as bench:
        flow = chain(1)
        bench.begin(flow)
        die_holding(bench)
        bench.processor.start()
        recover_on_startup(bench.store, bench.queue)
        bench.processor.process_all(timeout=20)

        assert bench.store.retrieve(flow.id).status.name == "SUCCEEDED"


def test_store_and_queue_must_be_one_database(tmp_path):
    """A queue of another database is refused."""
    with Bench() as bench:
        other = SqliteQueue(f"sqlite:///{tmp_path}/other.db")
        with pytest.raises(ConfigError, match="must be one database"):
            WorkflowRecovery(bench.store, other)
        other.database.close()
