"""
Pieces of work, each in a process of its own, done in rounds: every round does all of them, each in another order.

So a slow minute of the machine strikes all alike, and ratios are taken within a round.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.peers import OTHERS
from tests.postgres import Server

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "peers"
#: Seconds after which a piece of work has failed.
PATIENCE = 900
Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    A piece of work of somebody: `work` as adapters call it, on a `store` ("full", "normal": SQLite; "postgresql").

    `variant` is a word to the adapter. It is done in so many `rounds` at most.
    """

    work: str
    store: str
    size: int
    who: str = "stabilize_nb"
    variant: str = ""
    rounds: int = 99

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.who}, {self.variant}" if self.variant else self.who


@dataclass
class Place:
    """
    Where work is done: a folder for stores, the environments of others, and a server if there is one.

    No round of a part is begun when `minutes` have passed since its first one.
    """

    folder: Path
    environments: Path | None
    server: Server | None
    told: Callable[[str], None]
    minutes: float = field(default=1e9)
    _made: int = field(default=0)

    def has(self, job: Job) -> bool:
        """Return whether somebody can do this here."""
        if job.store == "postgresql" and self.server is None:
            return False
        return job.who not in OTHERS or (
            self.environments is not None and OTHERS[job.who].python(self.environments).exists()
        )

    def python(self, who: str) -> Path:
        """Return the interpreter of somebody."""
        if who in OTHERS and self.environments is not None:
            return OTHERS[who].python(self.environments)
        return Path(sys.executable)

    @contextmanager
    def store(self, job: Job) -> Iterator[list[str]]:
        """Give the words that name an empty store."""
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as folder:
            words = ["--folder", folder]
            if job.store != "postgresql":
                yield [*words, "--durability", job.store]
                return
            assert self.server is not None
            self._made += 1
            database = f"bench{self._made}"
            with psycopg.connect(self.server.address, autocommit=True) as session:
                session.execute(f"CREATE DATABASE {database}")
                yield [*words, "--url", f"{self.server.address.rpartition('/')[0]}/{database}"]
                session.execute(f"DROP DATABASE {database} WITH (FORCE)")

    def play(self, job: Job, work: str, words: Iterable[str]) -> Record:
        """Have it done, and return what the adapter says; what was to be killed says nothing."""
        script = {"stabilize_nb": "ours", "bare": "bare"}.get(job.who) or OTHERS[job.who].script
        command = [self.python(job.who), SCRIPTS / f"{script}.py", work, "--size", job.size, "--variant", job.variant]
        given = environment("" if job.who in OTHERS else str(ROOT))
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(
                [*map(str, command), *words], stdout=subprocess.PIPE, stderr=said, text=True, env=given,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip
            try:
                out, _ = child.communicate(timeout=PATIENCE)
            finally:
                _end(child)
            if work == "crash" and child.returncode == -signal.SIGKILL:
                return {}
            if child.returncode:
                said.seek(0)
                raise RuntimeError(f"{job.name} failed at {job.work} of {job.size}: {said.read()[-2_000:]}")
            return dict(json.loads(out.splitlines()[-1]))


def environment(path: str = str(ROOT)) -> dict[str, str]:
    """Return what processes are given: nobody is to compile what it imports each time, nor to tell of it."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**given, "PYTHONPATH": path, "DO_NOT_TRACK": "1", "LANGSMITH_TRACING": "false"}


def _end(child: subprocess.Popen[str]) -> None:
    """End a child and what it has started, such as a server."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        child.wait()


def in_rounds(
    place: Place, jobs: list[Job], rounds: int, do: Callable[[Place, Job], Record]
) -> dict[Job, list[Record | None]]:
    """Do all jobs in so many rounds; return a record for each round, or None where a job was left out."""
    possible = [job for job in jobs if place.has(job)]
    done: dict[Job, list[Record | None]] = {job: [] for job in possible}
    begun_at = time.monotonic()
    for number in range(rounds):
        if number and time.monotonic() - begun_at > place.minutes * 60:
            break
        first = number * len(possible) // rounds
        for job in possible[first:] + possible[:first]:
            if number >= job.rounds:
                done[job].append(None)
                continue
            begun = time.monotonic()
            done[job].append(do(place, job))
            place.told(
                f"round {number + 1} of {rounds}: {job.work} of {job.size}, {job.store}, {job.name}:"
                f" {time.monotonic() - begun:.1f} s"
            )
    return done


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of what was measured; None of nothing."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratio(these: Iterable[float | None], others: Iterable[float | None]) -> float | None:
    """Return the median of the ratios within each round in which both were measured."""
    return median(a / b for a, b in zip(these, others, strict=True) if a is not None and b is not None)
