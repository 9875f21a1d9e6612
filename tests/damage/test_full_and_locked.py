"""On a full disk or a locked database work pauses with a reason and goes on; nothing is half done (R4, R5)."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import StoreUnavailableError
from stabilize_nb.queue.processor import worker

#: Pages that are left when a run begins, one level each.
LEVELS = 30
#: Seconds that a lock is waited for in these tests; 30 otherwise.
BUDGET = 0.4
PLENTY = 2**30
#: An input that takes some pages.
NOTE = "n" * 12_000

done: Counter[str] = Counter()
filling = Flow("filling")
for number in range(8):

    @filling.stage(name=f"s{number}", after=f"s{number - 1}" if number else None)
    def fill(stage: object) -> str:
        """Return what takes a page."""
        done[stage.ref_id] += 1
        return stage.ref_id * 1_500


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "stabilize_nb")
    monkeypatch.setattr(worker, "STORE_RETRY", 0.02)
    done.clear()


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def test_full_disk_pauses_a_run(tmp_path: Path) -> None:
    """At each of thirty levels the run says that the disk is full, and ends by itself when there is space again."""
    seen: Counter[str] = Counter()
    for level in range(LEVELS):
        done.clear()
        with Engine(tmp_path / f"{level}.db", durability="normal") as engine:
            writer = engine.database.writer.raw
            writer.pragma("max_page_count", writer.pragma("page_count") + level)
            with contextlib.suppress(StoreUnavailableError):
                engine.start(filling, note=NOTE)
            if not len(engine.runs()):
                with pytest.raises(StoreUnavailableError, match="the disk is full: free space"):
                    engine.start(filling, note=NOTE)
                seen["refused"] += 1
                writer.pragma("max_page_count", PLENTY)
                engine.start(filling, note=NOTE)
            run = engine.run(engine.runs()["run_id"][0])
            desk = engine.processor.desk
            until(lambda desk=desk, run=run: desk.trouble is not None or run.status.is_complete)
            if desk.trouble is not None:
                seen["paused"] += 1
                assert "the disk is full: free space, then the engine goes on by itself" in run.explain()[0]
                assert not run.status.is_complete
            writer.pragma("max_page_count", PLENTY)

            assert run.wait(20).name == "SUCCEEDED"
            assert set(done.values()) == {1}
            assert desk.trouble is None
            assert not any("cannot go on" in line for line in run.explain())

    print(f"{LEVELS} levels: {dict(seen)}")
    assert seen["paused"] >= LEVELS // 2
    assert seen["refused"]


HOLDER = """
import sys, time, apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(10_000)
for line in sys.stdin:
    mode, seconds = line.split()
    connection.execute(f"BEGIN {mode}")
    print("held", flush=True)
    time.sleep(float(seconds))
    connection.execute("ROLLBACK")
    print("free", flush=True)
"""


class Holder:
    """Another process that holds a lock of a database for as long as it is told."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", HOLDER, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hold(self, mode: str, seconds: float) -> None:
        """Take the lock; it is held when this returns."""
        self.process.stdin.write(f"{mode} {seconds}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "held\n"

    def wait(self) -> None:
        """Return when the lock was given back."""
        assert self.process.stdout.readline() == "free\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, Holder]]:
    """An engine that waits for locks for `BUDGET`, and another process on its database."""
    monkeypatch.setenv("STABILIZE_SQLITE_BUSY_TIMEOUT_MS", str(int(BUDGET * 1_000)))
    with Engine(tmp_path / "runs.db", durability="normal") as engine:
        holder = Holder(tmp_path / "runs.db")
        yield engine, holder
        holder.process.communicate()


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
def test_lock_within_the_budget_is_waited_for(mode: str, place: tuple[Engine, Holder]) -> None:
    """A lock that ends in time is not noticed but by its time, by whoever starts a run and by the run itself."""
    engine, holder = place
    for seconds in (0.05, 0.1, 0.2, 0.3):
        done.clear()
        holder.hold(mode, seconds)
        run = engine.start(filling)
        holder.wait()
        holder.hold(mode, seconds)

        assert run.wait(20).name == "SUCCEEDED"
        assert set(done.values()) == {1}
        assert engine.processor.desk.trouble is None
        holder.wait()


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
def test_lock_beyond_the_budget_is_said(mode: str, place: tuple[Engine, Holder]) -> None:
    """Whoever starts a run gets a typed error and nothing is stored; afterwards everything goes on."""
    engine, holder = place
    for seconds in (1.6, 2.0):
        before = len(engine.runs())
        holder.hold(mode, seconds)
        begin = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="another process holds it locked"):
            engine.start(filling)
        took = time.monotonic() - begin
        holder.wait()

        assert took >= BUDGET * 0.8
        assert len(engine.runs()) == before
        assert engine.start(filling).wait(20).name == "SUCCEEDED"


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
def test_run_that_meets_a_lock_pauses(mode: str, place: tuple[Engine, Holder]) -> None:
    """A run at work while the lock is held beyond the budget says so, and ends with each body run once."""
    engine, holder = place
    held: list[bool] = []

    def take(stage: object) -> None:
        if not held:
            held.append(True)
            holder.hold(mode, 1.2)

    flow = Flow("meeting")
    flow.stage(name="take")(take)
    flow.stage(name="last", after="take")(lambda: "done")
    run = engine.start(flow)
    until(lambda: engine.processor.desk.trouble)

    assert "another process holds it locked" in run.explain()[0]
    holder.wait()
    assert run.wait(20).name == "SUCCEEDED"
    assert list(run.tasks["status"]) == ["SUCCEEDED", "SUCCEEDED"]


def test_store_that_is_locked_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rollback journal an exclusive lock keeps readers out too: opening says so after the budget."""
    monkeypatch.setenv("STABILIZE_SQLITE_BUSY_TIMEOUT_MS", str(int(BUDGET * 1_000)))
    monkeypatch.setenv("STABILIZE_SQLITE_JOURNAL_MODE", "TRUNCATE")
    path = tmp_path / "runs.db"
    Engine(path).close()
    holder = Holder(path)
    holder.hold("EXCLUSIVE", 2.0)
    with pytest.raises(StoreUnavailableError, match="another process holds it locked"):
        Engine(path)
    holder.wait()
    with Engine(path) as engine:
        assert engine.start(filling).wait(20).name == "SUCCEEDED"
    holder.process.communicate()
