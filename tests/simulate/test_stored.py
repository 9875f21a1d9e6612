"""
The first thousand seeds, in a real database: at every moment the fold of the log is what is stored (C7).

They agree with the reference model too, as the further thousand of test_simulate.py do without a database.
"""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb.events.history import Entry, after, beginning
from stabilize_nb.store.codec import loads
from stabilize_nb.store.migrate import migrate
from stabilize_nb.store.sqlite import SqliteConnection
from stabilize_nb.store.store import create
from stabilize_nb.store.writer import write_facts, write_view
from tests.events.stored import rebuilt, stored
from tests.simulate.graphs import make_plan
from tests.simulate.memory import Table
from tests.simulate.simulation import simulate
from tests.simulate.world import World

if TYPE_CHECKING:
    from stabilize_nb.core.facts import Fact
    from stabilize_nb.core.view import View
    from stabilize_nb.store.connection import Connection

SEEDS = 1_000
CHUNK = 100


class StoredTable(Table):
    """A table that is written to a database too; each commit is read back, rows and log."""

    def __init__(self, connection: Connection, definition: dict[str, Any], now: int, shared: dict[Any, Any]) -> None:
        super().__init__(definition, now, shared)
        self._connection = connection
        create(connection, json.loads(json.dumps(definition)), now)
        (first,) = self._entries_after(0)
        self.folded = beginning(first)
        after(self.folded, first)
        self.sequence = 1
        self.compare()

    def write(self, view: View, facts: list[Fact], now: int) -> None:
        """Store what one step changed, fold what the log says of it, and compare."""
        if facts:
            write_view(self._connection, view, self.head)
            write_facts(self._connection, view.head.id, view.head.sequence, facts, now)
        super().write(view, facts, now)
        for entry in self._entries_after(self.sequence):
            self.sequence += 1
            assert entry.sequence == self.sequence
            after(self.folded, entry)
        self.compare()

    def compare(self) -> None:
        """Compare the fold with the rows."""
        assert rebuilt(self.folded) == stored(self._connection, self.head.id)

    def _entries_after(self, sequence: int) -> list[Entry]:
        found = self._connection.all(
            "events_of_workflow", {"workflow_id": self.head.id, "after": sequence, "until": 2**62}
        )
        return [Entry(number, kind, at, stage_id, loads(data)) for _, _, number, kind, at, stage_id, data in found]


class StoredWorld(World):
    """A world whose workflows are in a database."""

    def __init__(self, plan: Any, connection: Connection) -> None:
        self.connection = connection
        super().__init__(plan)

    def make_table(self, definition: dict[str, Any]) -> Table:
        """Return the rows of a new workflow."""
        return StoredTable(self.connection, definition, self.now, self.shared)


@pytest.mark.parametrize("start", range(0, SEEDS, CHUNK))
def test_fold_of_the_log_is_what_is_stored(start: int, record_property):
    """Whatever the graph, the order and the faults, after every commit the log says what the rows say."""
    commits = 0
    for seed in range(start, start + CHUNK):
        with closing(SqliteConnection(":memory:")) as connection:
            migrate(connection)
            commits += simulate(make_plan(seed), partial(StoredWorld, connection=connection)).commits
    record_property("line", f"seeds {start} to {start + CHUNK - 1}: rows and log compared after {commits} commits")


def test_a_row_that_the_log_does_not_tell_of_is_seen():
    """The comparison can fail."""
    with closing(SqliteConnection(":memory:")) as connection:
        migrate(connection)
        world = StoredWorld(make_plan(0), connection)
        connection.raw.execute("UPDATE stage SET depth = depth + 1")

        with pytest.raises(AssertionError):
            world.run()
