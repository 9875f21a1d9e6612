"""What has been written ahead is moved into the database: beside everybody, and by the writer before it is too much."""

from __future__ import annotations

import threading
from pathlib import Path

import apsw
import pytest

from stabilize_nb.errors import StoreUnavailableError
from stabilize_nb.store import database as store
from stabilize_nb.store import sqlite
from stabilize_nb.store.sqlite import SqliteConnection
from tests.makers import Bench, chain

pytestmark = pytest.mark.sqlite
FEW = 40
PATIENCE = 20


def test_writer_begins_the_wal_anew_before_it_is_too_long(tmp_path, monkeypatch):
    """Nobody sweeps here; the pages of a hundred steps would be eight hundred."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_LATEST", FEW)
    most = 0
    committed = SqliteConnection.committed

    def seen(connection: SqliteConnection, raw: apsw.Connection, name: str, pages: int) -> int:
        nonlocal most
        most = max(most, pages)
        return committed(connection, raw, name, pages)

    monkeypatch.setattr(SqliteConnection, "committed", seen)
    with Bench(f"sqlite:///{tmp_path}/runs.db", durability="normal") as bench:
        bench.run(chain(3))
        most = 0
        bench.run(chain(100))

    assert FEW <= most < 5 * FEW


def test_sweep_moves_what_has_gathered_and_nobody_waits_for_it(tmp_path, monkeypatch):
    """Whoever asks goes on while the file is written, and is told the next time what went wrong."""
    may, moved = threading.Event(), threading.Event()
    checkpoint = SqliteConnection.checkpoint

    def move(sweeper: SqliteConnection) -> None:
        assert may.wait(PATIENCE)
        checkpoint(sweeper)
        moved.set()
        raise apsw.FullError("no space left on device")

    with Bench(f"sqlite:///{tmp_path}/runs.db", durability="normal") as bench:
        bench.run(chain(20))
        file = Path(bench.database.path)
        before = file.stat().st_size
        monkeypatch.setattr(SqliteConnection, "checkpoint", move)
        monkeypatch.setattr(store, "SWEEP", FEW)
        bench.database.sweep()
        (sweep,) = (thread for thread in threading.enumerate() if thread.name == "stabilize-sweep")
        may.set()
        sweep.join(PATIENCE)
        assert moved.is_set()
        assert file.stat().st_size > before
        with pytest.raises(StoreUnavailableError, match="the disk is full"):
            bench.database.sweep()
