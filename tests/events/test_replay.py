import pytest

from stabilize_nb.errors import ConfigError, WorkflowNotFoundError
from stabilize_nb.events import EventReplayer, SqliteEventStore
from stabilize_nb.events.history import entries_of
from stabilize_nb.events.log import EventLog
from stabilize_nb.events.replay import fold
from stabilize_nb.models.status import WorkflowStatus
from tests.events.scenes import SCENES, play, tasks
from tests.events.stored import rebuilt, stored
from tests.makers import Bench, stage, workflow


def watch_commits(bench, monkeypatch):
    """Have the rows of every workflow looked at in every transaction; returns (workflow, sequence) -> rows."""
    seen = {}
    write = bench.database.write

    def looking(work, *more, **named):
        def both(connection):
            result = work(connection)
            for (workflow_id,) in connection.raw.execute("SELECT id FROM workflow").fetchall():
                picture = stored(connection, workflow_id)
                seen[workflow_id, picture[0].sequence] = picture
            return result

        return write(both, *more, **named)

    monkeypatch.setattr(bench.database, "write", looking)
    return seen


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_log_folds_to_the_stored_rows(scene, monkeypatch):
    """C7: after every commit the fold of the log up to there is the stored rows, and the log has no gaps."""
    with Bench(tasks=tasks()) as bench:
        seen = watch_commits(bench, monkeypatch)
        play(scene, bench)
        logs = {run_id: entries_of(bench.database, run_id) for run_id in {run_id for run_id, _ in seen}}

        for run_id, entries in logs.items():
            assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
            assert max(sequence for of, sequence in seen if of == run_id) == len(entries)
        for (run_id, sequence), picture in seen.items():
            assert rebuilt(fold(logs[run_id][:sequence])) == picture


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_state_at_the_end_is_what_the_store_returns(scene):
    """A rebuilt workflow is equal to the retrieved one."""
    with Bench(tasks=tasks()) as bench:
        flow = play(scene, bench)
        state = EventReplayer(EventLog(bench.database)).rebuild_workflow_state(flow.id)

        assert state.workflow == bench.store.retrieve(flow.id)


def test_state_goes_back_in_time():
    """As of a fact, nothing of what came after it is there."""
    with Bench(tasks=tasks()) as bench:
        flow = bench.run(workflow(stage("a", task="give"), stage("b", "a", task="give")))
        event_store = SqliteEventStore("sqlite:///:memory:")
        replayer = EventReplayer(event_store)
        first = replayer.rebuild_workflow_state(flow.id, as_of_sequence=1)
        middle = replayer.rebuild_workflow_state(flow.id, as_of_sequence=6)
        last = replayer.rebuild_workflow_state(flow.id)
        event_store.close()

        assert (first.status, first.outputs) == (WorkflowStatus.NOT_STARTED, {})
        assert (middle.sequence, middle.outputs) == (6, {"a": {"done": "a"}})
        assert middle.stage("b").status is WorkflowStatus.NOT_STARTED
        assert (last.status, sorted(last.outputs)) == (WorkflowStatus.SUCCEEDED, ["a", "b"])
        assert first.time <= middle.time <= last.time


def test_number_beyond_the_end_gives_the_last_state():
    """A log that is shorter than asked for is folded as far as it goes."""
    with Bench() as bench:
        flow = bench.run(workflow(stage("a")))
        replayer = EventReplayer(EventLog(bench.database))

        assert replayer.rebuild_workflow_state(flow.id, as_of_sequence=10_000).sequence == 7


def test_state_is_not_shared_with_anything():
    """Changing a state changes neither the store nor another state."""
    with Bench(tasks=tasks()) as bench:
        flow = bench.run(workflow(stage("a", task="give")))
        replayer = EventReplayer(EventLog(bench.database))
        replayer.rebuild_workflow_state(flow.id).stages[0].outputs.clear()

        assert replayer.rebuild_workflow_state(flow.id).outputs == {"a": {"done": "a"}}


def test_unknown_workflow_is_named():
    """A workflow that the log lacks is an error with its id and the log."""
    with Bench() as bench, pytest.raises(WorkflowNotFoundError, match=r"'nope' is not in the log sqlite:///:memory:"):
        EventReplayer(EventLog(bench.database)).rebuild_workflow_state("nope")


def test_facts_are_numbered_from_one():
    """A number below one is refused."""
    with Bench() as bench, pytest.raises(ConfigError, match="numbered from 1"):
        EventReplayer(EventLog(bench.database)).rebuild_workflow_state("any", as_of_sequence=0)
