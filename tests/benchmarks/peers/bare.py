"""
The limit: a transaction for each step with one INSERT, one UPDATE and a COMMIT, and nothing else.

Variant "two": two UPDATEs. SQLite is called through apsw, PostgreSQL through psycopg. `answer` is the time of a commit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import apsw
from contract import STEPS, Peer, play, ran, timed

FACT = '{"fact": "StageEnded", "status": "SUCCEEDED"}'
TABLES = (
    "CREATE TABLE IF NOT EXISTS state (id BIGINT PRIMARY KEY, step INTEGER, status TEXT)",
    "CREATE TABLE IF NOT EXISTS log (id {} PRIMARY KEY{}, run BIGINT, step INTEGER, data TEXT)",
)
BEGIN = "INSERT INTO state VALUES (?, 0, 'RUNNING')"
INSERT = "INSERT INTO log (run, step, data) VALUES (?, ?, ?)"
UPDATE = "UPDATE state SET step = ? WHERE id = ?"
AGAIN = "UPDATE state SET status = ? WHERE id = ?"


class Bare(Peer):
    """`_run` is the same for both databases but for how they begin and end a transaction."""

    def open(self) -> None:
        self._runs = 0
        if self.url:
            self._open_postgresql()
        else:
            self._open_sqlite()

    def _open_sqlite(self) -> None:
        db = apsw.Connection(str(self.folder / "bare.db"))
        db.pragma("journal_mode", "WAL")
        db.pragma("synchronous", self.durability.upper())
        for table in TABLES:
            db.execute(table.format("INTEGER", ""))
        self._execute: Callable[..., object] = db.execute
        self._transaction: Callable[[], AbstractContextManager[object]] = lambda: _Transaction(db)
        self._step = next((row[0] for row in db.execute("SELECT max(step) FROM state WHERE status = 'RUNNING'")), None)

    def _open_postgresql(self) -> None:
        import psycopg

        db = psycopg.connect(self.url, autocommit=True, prepare_threshold=1)
        for table in TABLES:
            db.execute(table.format("BIGINT", " GENERATED ALWAYS AS IDENTITY"))
        self._execute = lambda statement, values: db.execute(statement.replace("?", "%s"), values)
        self._transaction = db.transaction
        self._step = (db.execute("SELECT max(step) FROM state WHERE status = 'RUNNING'").fetchone() or [None])[0]

    def chain(self, size: int) -> float:
        return timed(lambda: self._run(range(size)))

    def fan(self, size: int) -> float:
        return self.chain(size + 2)

    def many(self, size: int) -> float:
        return timed(lambda: [self._run(range(STEPS)) for _ in range(size)])

    def resume(self, size: int) -> float:
        return timed(lambda: self._run(range(self._step or 0, size)))

    def answer(self, rounds: int) -> list[float]:
        self._run(range(STEPS))
        chance = random.Random(0)
        times = []
        for at in range(rounds):
            time.sleep(chance.uniform(0.02, 0.12))
            begun = time.perf_counter()
            self._commit(1, at)
            times.append(time.perf_counter() - begun)
        return times

    def _run(self, steps: range) -> None:
        self._runs += 1
        run = self._runs
        if not steps.start:
            self._execute(BEGIN, (run,))
        for step in steps:
            ran(step)
            self._commit(run, step)

    def _commit(self, run: int, step: int) -> None:
        with self._transaction():
            self._execute(INSERT, (run, step, FACT))
            self._execute(UPDATE, (step + 1, run))
            if self.variant == "two":
                self._execute(AGAIN, ("RUNNING", run))


class _Transaction:
    """BEGIN IMMEDIATE and COMMIT: apsw's own transaction is a savepoint, which costs more."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._db.execute("COMMIT")


if __name__ == "__main__":
    play(Bare)
