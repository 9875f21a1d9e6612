"""What has been written ahead is moved into the database: beside everybody, and by the writer before it is too much.

Where commits wait for the disk, the file is made longer before there is work.
"""

from __future__ import annotations

import shutil
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


def length(path: Path) -> int:
    """Return how many frames a WAL has room for."""
    return Path(f"{path}-wal").stat().st_size // (4_096 + sqlite.FRAME_HEAD)


def test_no_step_makes_the_wal_longer(tmp_path):
    """There is room for the steps of a workflow when it is stored, and what a crash leaves of it is read to the end."""
    path, left = tmp_path / "runs.db", tmp_path / "left.db"
    flow = chain(100)
    with Bench(f"sqlite:///{path}", durability="full") as bench:
        bench.begin(flow)
        room = length(path)
        bench.processor.process_all()
        assert 8 * 100 < bench.database.writer.wal_pages <= room
        assert length(path) == room
        shutil.copy(path, left)
        shutil.copy(f"{path}-wal", f"{left}-wal")

    with Bench(f"sqlite:///{left}") as after:
        assert set(after.statuses(flow).values()) == {"SUCCEEDED"}
        assert after.sql("PRAGMA integrity_check") == [("ok",)]


def test_room_is_made_once_and_never_more_than_is_used_before_the_wal_begins_anew(tmp_path):
    """A workflow may have more stages than that, and there may be many of them."""
    path = tmp_path / "runs.db"
    with Bench(f"sqlite:///{path}") as bench:
        bench.store.store(chain(2))
        room = length(path)
        bench.store.store(chain(2))
        assert length(path) == room
        bench.store.store(chain(sqlite.CHECKPOINT_LATEST // sqlite.FRAMES - 15))
        assert length(path) < sqlite.CHECKPOINT_LATEST - 10
        bench.store.store(chain(1_500))
        assert length(path) == sqlite.CHECKPOINT_LATEST


def test_wal_of_commits_that_do_not_wait_is_as_long_as_what_it_holds(tmp_path):
    """Zeros would be written for nothing."""
    path = tmp_path / "runs.db"
    with Bench(f"sqlite:///{path}", durability="normal") as bench:
        bench.store.store(chain(100))
        assert length(path) == bench.database.writer.wal_pages


def test_disk_without_room_for_zeros_keeps_nobody_from_working(tmp_path, monkeypatch):
    """What a commit needs is another matter."""

    class Full(apsw.VFSFile):
        def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - a name of apsw
            raise apsw.FullError("no space left on device")

    monkeypatch.setattr(sqlite.apsw, "VFSFile", Full)
    path, flow = tmp_path / "runs.db", chain(100)
    with Bench(f"sqlite:///{path}") as bench:
        bench.begin(flow)
        assert length(path) == bench.database.writer.wal_pages
        bench.processor.process_all()
        assert set(bench.statuses(flow).values()) == {"SUCCEEDED"}
