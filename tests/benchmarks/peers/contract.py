"""
What every adapter does: one piece of work of one engine, in a process of its own and in the engine's environment.

    python tests/benchmarks/peers/peer_burr.py chain --size 100 --folder DIR [--durability full] [--url URL]

It needs the standard library alone. Work that is done in no time is done again until half a second has passed, and the
median counts. Bodies of steps call `ran`: a piece of work in which a body did not run exactly once is an error. The
last line that is printed is the record, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Steps of each of many small workflows.
STEPS = 3
#: Seconds and times that work is done again at most.
AGAIN, TIMES = 0.5, 9
#: Seconds that an engine is given for anything.
PATIENCE = 600.0
NOTES = "bodies"


class Bodies:
    """Counts the bodies that ran; where a process is to die, writes each down and dies in one of them."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self._notes = -1
        self._fatal = -1

    def note(self, path: Path, fatal: int) -> None:
        """Write each body and its time down from now on, and die in one of them as by kill -9."""
        self._notes = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._fatal = fatal

    def __call__(self, step: int) -> int:
        """Be what a body does."""
        self.seen.append(step)
        if self._notes >= 0:
            os.write(self._notes, b"%d %.6f\n" % (step, time.time()))
            if step == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)
        return step


ran = Bodies()


class Peer:
    """One engine. `url` is an empty database of PostgreSQL, or empty; then a file in `folder` is used."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.folder = Path(given.folder)
        self.durability: str = given.durability
        self.url: str = given.url
        self.variant: str = given.variant

    def open(self) -> None:
        """Make ready; it is not timed."""

    def chain(self, size: int) -> float:
        """Run a workflow of so many steps in a row; return seconds."""
        raise NotImplementedError

    def fan(self, size: int) -> float:
        """Run a step, so many that follow it, and one that follows those."""
        raise NotImplementedError

    def many(self, size: int) -> float:
        """Run so many workflows of three steps."""
        raise NotImplementedError

    def resume(self, size: int) -> float:
        """Finish the chain that a process had begun when it was killed in `chain`."""
        raise NotImplementedError

    def answer(self, rounds: int) -> list[float]:
        """Have a workflow wait for a signal, send it and wait for the end, so many times; return the seconds."""
        raise NotImplementedError


def alike(durability: str) -> None:
    """Have whoever opens SQLite in this process write ahead and wait for the disk as this durability does."""
    connect = sqlite3.connect

    def connected(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute(f"PRAGMA synchronous = {durability.upper()}").close()
        return connection

    sqlite3.connect = sqlite3.dbapi2.connect = connected


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def until(is_so: Callable[[], bool], every: float = 0.001) -> None:
    """Wait for something that can only be asked for."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("the engine did not get there")
        time.sleep(every)


def play(kind: type[Peer]) -> None:
    """Do what the command line says, print the record, and leave at once: engines may leave threads behind."""
    asked = argparse.ArgumentParser()
    asked.add_argument("work", choices=["chain", "fan", "many", "crash", "resume", "answer"])
    asked.add_argument("--size", type=int, default=100)
    asked.add_argument("--folder", default=".")
    asked.add_argument("--durability", default="full")
    asked.add_argument("--url", default="")
    asked.add_argument("--variant", default="")
    given = asked.parse_args()
    peer = kind(given)
    if given.work in {"crash", "resume"}:
        ran.note(peer.folder / NOTES, given.size // 2 if given.work == "crash" else -1)
    peer.open()
    if given.work == "answer":
        record: dict[str, Any] = {"times": peer.answer(given.size)}
    elif given.work in {"crash", "resume"}:
        record = {"seconds": (peer.chain if given.work == "crash" else peer.resume)(given.size)}
    else:
        record = _measured(peer, given.work, given.size)
    record["mb"] = _peak()
    print(json.dumps(record))
    sys.stdout.flush()
    os._exit(0)


def _peak() -> float:
    """Return the most MB that this process has held; `getrusage` would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _measured(peer: Peer, work: str, size: int) -> dict[str, Any]:
    bodies = {"chain": size, "fan": size + 2, "many": size * STEPS}[work]
    peer.chain(3)
    seconds: list[float] = []
    cpu = 0.0
    while not seconds or (sum(seconds) < AGAIN and len(seconds) < TIMES):
        ran.seen.clear()
        begun = time.process_time()
        seconds.append(getattr(peer, work)(size))
        cpu += time.process_time() - begun
        if len(ran.seen) != bodies:
            raise RuntimeError(f"{len(ran.seen)} bodies ran, and not {bodies}")
    return {"seconds": statistics.median(seconds), "cpu": cpu / len(seconds), "steps": bodies}
