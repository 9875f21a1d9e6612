"""No scenario is about a disk; in each of them what a connection remembers is compared with what is stored."""

import pytest

from stabilize_nb.store.reader import load_head
from stabilize_nb.store.sqlite import SqliteConnection
from tests.memory import tmp_path

__all__ = ["tmp_path"]


@pytest.fixture(autouse=True)
def _memories_are_true(monkeypatch):
    wrong = []
    remembered = SqliteConnection.remembered

    def compared(self, workflow_id):
        head = remembered(self, workflow_id)
        if head is not None and head != (stored := load_head(self, workflow_id)):
            wrong.append((head, stored))
        return head

    monkeypatch.setattr(SqliteConnection, "remembered", compared)
    yield
    assert wrong == []
