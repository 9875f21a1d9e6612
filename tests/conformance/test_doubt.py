"""
A commit that fails and is kept all the same, as a disk may do that fails in its last moment, holds nothing up.

On PostgreSQL a proxy cuts sessions at real commits: tests/postgresql/proxy.py.
"""

from __future__ import annotations

import apsw
import pytest

from stabilize_nb.queue.processor import worker
from stabilize_nb.store.connection import Connection
from tests.makers import Bench, chain

pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("nth", range(1, 9))
def test_a_commit_that_fails(nth, kept, monkeypatch):
    """Whether it was kept or not, the workflow ends at once, and each body has run once, or once more."""
    commits, begun = 0, []
    commit = Connection.commit

    def failing(connection):
        nonlocal commits
        commits += 1
        if commits == nth and not kept:
            raise apsw.IOError
        commit(connection)
        if commits == nth:
            raise apsw.IOError

    flow = chain(3, task="work")
    monkeypatch.setattr(worker, "STORE_RETRY", 0.01)
    with Bench(tasks={"work": lambda stage: begun.append(stage.ref_id)}) as bench:
        bench.begin(flow)
        monkeypatch.setattr(Connection, "commit", failing)
        bench.processor.process_all(timeout=5)

        assert bench.statuses(flow) == dict.fromkeys(["s0", "s1", "s2"], "SUCCEEDED")
        assert bench.left_over() == []
        assert len(begun) <= 4
