"""
Many workflows and several worker processes, while a worker is killed every second, or the server loses power.

The workers are forks of this process, which has no threads and no open store.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from stabilize_nb import Engine
from stabilize_nb.testing.forks import Child, Say, forked, scratch
from tests.crash.recovery import quantile
from tests.postgres import Served, Server
from tests.postgresql.work import STAGES, Note, made, notes_in, work

PROCESSES = 4
#: Bodies that a worker has at work at a time.
THREADS = 4
#: Bodies that a worker has in hand at most: those at work, and as many that have ended while others were committed.
IN_HAND = 2 * THREADS
#: Seconds after which work that has not ended is stuck.
PATIENCE = 600.0
QUANTILES = {"p50": 0.5, "p99": 0.99, "slowest": 1.0}


def workers_die(server: Served, runs: int = 500, beat: float = 1.0) -> dict[str, Any]:
    """Have workers share runs, and kill one of them at every beat; another one takes its place."""
    with scratch() as folder:
        crowd = Crowd(server, "dying", Path(folder) / "notes", runs, takes=0.03)
        deaths: dict[int, float] = {}
        chance = random.Random(0)
        with crowd.at_work() as living:

            def kill() -> None:
                victim = living.pop(chance.randrange(PROCESSES))
                os.kill(victim.pid, signal.SIGKILL)
                deaths[victim.pid] = time.time()
                victim.bury()
                living.append(crowd.hire())

            seconds = crowd.until_done(beat, kill)
        again = begun_again(notes_in(crowd.notes), deaths)
        wrong = forked(crowd.wrong)
        most = IN_HAND * len(deaths)
        wrong += [f"{len(again)} bodies begun again after {len(deaths)} deaths"] if len(again) > most else []
    return {
        "runs": runs, "processes": PROCESSES, "kills": len(deaths), "again": len(again),
        **{name: round(quantile(again, share), 3) if again else 0.0 for name, share in QUANTILES.items()},
        "seconds": round(seconds, 1), "wrong": wrong,
    }  # fmt: skip


def server_dies(runs: int = 200, restarts: int = 20) -> dict[str, Any]:
    """Have workers share runs while the server ends at once and comes back, again and again."""
    left = restarts
    with scratch() as folder, Server() as server:
        crowd = Crowd(server, "power", Path(folder) / "notes", runs, takes=0.1)
        with crowd.at_work():

            def restart() -> None:
                nonlocal left
                if left:
                    left -= 1
                    server.stop(signal.SIGQUIT)
                    server.start()

            seconds = crowd.until_done(0.2, restart)
        again = sum(Counter(note.body for note in notes_in(crowd.notes)).values()) - len(STAGES) * runs
        wrong = forked(crowd.wrong)
        wrong += [f"the work was done after {restarts - left} restarts"] if left else []
    return {"runs": runs, "restarts": restarts - left, "again": again, "seconds": round(seconds, 1), "wrong": wrong}


class Crowd:
    """Runs in a schema of a server, and the workers that share them; `notes` is the file of what they begin."""

    def __init__(self, server: Served, schema: str, notes: Path, runs: int, takes: float) -> None:
        self.notes = notes
        self._server = server
        self._schema = server.schema(schema)
        self._url = server.url(schema)
        self._runs = runs
        self._takes = takes

    @contextmanager
    def at_work(self) -> Iterator[list[Child]]:
        """Start all runs and give the workers; they are gone in the end."""
        forked(self._start)
        living = [self.hire() for _ in range(PROCESSES)]
        try:
            for each in living:
                while not [*each.lines()]:
                    assert each.hear(), "a worker has ended"
            yield living
        finally:
            for each in living:
                each.bury()

    def hire(self) -> Child:
        """Have one worker more."""

        def live(say: Say) -> None:
            def ready() -> None:
                say("ready")
                signal.pause()

            work(self._url, self.notes, ready, self._takes)

        return Child(live)

    def until_done(self, beat: float, meanwhile: Callable[[], None]) -> float:
        """Wait until no run is left, and do something at every beat; return how many seconds that took."""
        begun = last = time.monotonic()
        while not self._done():
            assert time.monotonic() < begun + PATIENCE, "waited too long"
            time.sleep(0.02)
            if time.monotonic() >= last + beat:
                last = time.monotonic()
                meanwhile()
        return time.monotonic() - begun

    def wrong(self) -> list[str]:
        """Return what is lost, doubled or left over in the end."""
        with Engine(self._url) as engine:
            headers = engine.store.list()
            statuses = Counter(header["status"] for header in headers)
            found = [f"ended {dict(statuses)}"] if statuses != {"SUCCEEDED": self._runs} else []
            for header in headers:
                events = engine.run(header["id"]).events
                if (ends := Counter(events["type"])["task.completed"]) != len(STAGES):
                    found.append(f"{ends} results in a run")
                if list(events["seq"]) != list(range(1, len(events) + 1)):
                    found.append(f"gap in the log of {header['id']}")
            size = engine.processor.queue.size()
        begun = {note.body for note in notes_in(self.notes)}
        found += [f"{size} messages left"] if size else []
        return found + ([f"{len(begun)} bodies"] if len(begun) != len(STAGES) * self._runs else [])

    def _start(self) -> None:
        with Engine(self._url, only=("nothing",)) as engine:  # bodies are for the workers
            flow = made(self.notes, self._takes)
            for order in range(self._runs):
                engine.start(flow, order=order)

    def _done(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self._server.address, autocommit=True) as session:
            unfinished = f"SELECT EXISTS (SELECT 1 FROM {self._schema}.workflow WHERE ended_at IS NULL)"
            row = session.execute(unfinished).fetchone()
            return row is not None and not row[0]
        return False


def begun_again(notes: list[Note], deaths: Mapping[int, float]) -> list[float]:
    """Return how many seconds after the death of a process each body that it had in hand was begun again, sorted."""
    bodies: dict[tuple[str, str], list[Note]] = defaultdict(list)
    for note in sorted(notes, key=lambda note: note.at):
        bodies[note.body].append(note)
    pairs = ((first, then) for each in bodies.values() for first, then in pairwise(each))
    return sorted(then.at - deaths[first.process] for first, then in pairs if first.process in deaths)
