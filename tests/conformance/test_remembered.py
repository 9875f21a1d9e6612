"""A header that was written last is not read again; whatever else is written, here or elsewhere, has it read."""

from __future__ import annotations

from contextlib import closing

import pytest

from stabilize_nb.store.reader import load_head, lock_head
from stabilize_nb.store.sqlite import SqliteConnection
from tests.benchmarks.counts import counted
from tests.makers import Bench, chain

pytestmark = pytest.mark.sqlite


@pytest.fixture
def connection(tmp_path):
    """Connect to a store in which one workflow is, whose header was the last thing that was written."""
    with Bench(f"sqlite:///{tmp_path}/runs.db") as bench:
        workflow = chain(1)
        bench.store.store(workflow)
    with closing(SqliteConnection(str(tmp_path / "runs.db"), "full")) as connection:
        connection.workflow_id = workflow.id
        connection.begin()
        connection.remember(load_head(connection, workflow.id))
        yield connection


def count(connection: SqliteConnection) -> None:
    """Write something: the header's own counters."""
    connection.run("count_head", {"id": connection.workflow_id, "active": 3, "sequence": 40})


def test_header_is_remembered_over_a_commit_and_a_part(connection):
    connection.begin_part()
    connection.end_part()
    connection.commit()
    connection.begin()

    assert connection.remembered(connection.workflow_id) == load_head(connection, connection.workflow_id)
    assert connection.remembered("another") is None


def test_what_another_connection_has_written_is_read(connection):
    connection.commit()
    with closing(SqliteConnection(connection.path, "full")) as other:
        other.begin()
        other.run("count_head", {"id": connection.workflow_id, "active": 2, "sequence": 7})
        other.commit()
    connection.begin()

    assert connection.remembered(connection.workflow_id) is None
    assert lock_head(connection, connection.workflow_id).sequence == 7


def test_what_is_undone_is_read_again(connection):
    for undo in (connection.undo_part, connection.rollback):
        count(connection)
        connection.remember(load_head(connection, connection.workflow_id))
        undo()

        assert connection.remembered(connection.workflow_id) is None


@pytest.mark.parametrize(
    "write",
    [
        count,
        lambda connection: connection.many("count_head", [{"id": connection.workflow_id, "active": 1, "sequence": 9}]),
        lambda connection: connection.script("UPDATE workflow SET sequence = 9"),
    ],
    ids=["run", "many", "script"],
)
def test_whatever_is_written_makes_it_forget(connection, write):
    write(connection)

    assert connection.remembered(connection.workflow_id) is None


def test_chain_reads_its_header_once(tmp_path):
    """Of a stage in a chain are read the stage that follows and its task, and nothing else."""
    with Bench(f"sqlite:///{tmp_path}/runs.db") as bench:
        bench.run(chain(5))
        few = counted(bench.database, lambda: bench.run(chain(20)))
        many = counted(bench.database, lambda: bench.run(chain(120)))

    assert many.rows_read - few.rows_read <= 2 * 100 + 20
