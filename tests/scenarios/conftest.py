"""No scenario is about a disk; in each of them what a connection remembers is compared with what is stored."""

import pytest

from stabilize_nb.store.reader import Reader, load_head
from stabilize_nb.store.sqlite import SqliteConnection
from tests.memory import tmp_path

__all__ = ["tmp_path"]


@pytest.fixture(autouse=True)
def _memories_are_true(monkeypatch):
    wrong = []
    remembered, remembered_rows = SqliteConnection.remembered, SqliteConnection.remembered_rows

    def compared(self, workflow_id):
        head = remembered(self, workflow_id)
        if head is not None and head != (stored := load_head(self, workflow_id)):
            wrong.append((head, stored))
        return head

    def compared_rows(self, workflow_id):
        reader = Reader(self, workflow_id, "")
        for key, row in (rows := remembered_rows(self, workflow_id)).items():
            if row != (stored := reader.answer(key, None)[key]):
                wrong.append((row, stored))
        return rows

    monkeypatch.setattr(SqliteConnection, "remembered", compared)
    monkeypatch.setattr(SqliteConnection, "remembered_rows", compared_rows)
    yield
    assert wrong == []
