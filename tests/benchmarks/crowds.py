"""
Many worker processes and one server, played: a discrete-event simulation with the measured costs of a stage.

A process has `THREADS` bodies at work. One of its threads at a time commits what has ended (all of it, at most
`BATCH`) and takes as many bodies anew: that costs CPU of the process for each stage, two round trips, CPU of one core
of the server for each stage and each listener that is told, and one sync of its log. Cores serve in the order of
arrival. There is always more work. Locks, vacuum, replication and what listeners look up then are not played.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

THREADS = 8
BATCH = 64
#: Seconds: a round trip within a data centre, a sync of the write-ahead log.
TRIP, SYNC = 0.0005, 0.001
#: Times a second at which a process tells the others of its commits at most.
TOLD = 100.0
#: Stages that are played, and the part of them that is not counted.
STAGES, WARM = 20_000, 0.2

#: Workers, seconds of a body, cores of a server, shards.
CASES = (
    (1, 0.0, 16, 1), (10, 0.0, 16, 1), (100, 0.0, 16, 1),
    (10, 1.0, 16, 1), (100, 1.0, 16, 1), (300, 1.0, 16, 1), (1_000, 1.0, 16, 1), (1_000, 1.0, 64, 1),
    (1_000, 1.0, 16, 4), (1_000, 1.0, 16, 10), (1_000, 10.0, 16, 1), (1_000, 60.0, 16, 1),
)  # fmt: skip


@dataclass
class Process:
    """A worker process: when the bodies ended that wait for a commit, and whether one is under way."""

    ended: list[float] = field(default_factory=list)
    commits: bool = False


class Crowd:
    """Workers at one server; `cost` has seconds of CPU: of the worker and of the server a stage, and of a listener."""

    def __init__(self, workers: int, body: float, cores: int, cost: tuple[float, float, float], seed: int = 0) -> None:
        self._body = body
        self._worker, self._server, told = cost
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._now = 0.0
        self._free = cores
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()
        self._processes = [Process() for _ in range(workers)]
        self._told = told * (workers - 1)  # seconds of the server for each telling
        self._last_told = dict.fromkeys(range(workers), -1.0)
        self.busy = 0.0
        self.waits: list[float] = []
        self.done = 0

        for number in range(workers):
            for _ in range(THREADS):
                self._begin_body(number)

    def play(self, stages: int) -> float:
        """Play until so many stages are done; return at which second that is."""
        while self.done < stages:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        return self._now

    def _at(self, time: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, happen))

    def _begin_body(self, number: int) -> None:
        takes = self._chance.expovariate(1 / self._body) if self._body else 0.0
        self._at(self._now + takes, lambda: self._end_body(number))

    def _end_body(self, number: int) -> None:
        process = self._processes[number]
        process.ended.append(self._now)
        if not process.commits:
            process.commits = True
            self._at(self._now, lambda: self._commit(number))

    def _commit(self, number: int) -> None:
        process = self._processes[number]
        batch, process.ended = process.ended[:BATCH], process.ended[BATCH:]
        self._at(self._now + len(batch) * self._worker + TRIP, lambda: self._arrive(number, batch))

    def _arrive(self, number: int, batch: list[float]) -> None:
        takes = len(batch) * self._server
        if self._now >= self._last_told[number] + 1 / TOLD:
            self._last_told[number] = self._now
            takes += self._told
        self._queue.append((takes, lambda: self._at(self._now + SYNC + TRIP, lambda: self._committed(number, batch))))
        self._serve()

    def _serve(self) -> None:
        while self._free and self._queue:
            takes, then = self._queue.popleft()
            self._free -= 1
            self.busy += takes

            def served(then: Callable[[], None] = then) -> None:
                self._free += 1
                then()
                self._serve()

            self._at(self._now + takes, served)

    def _committed(self, number: int, batch: list[float]) -> None:
        process = self._processes[number]
        self.done += len(batch)
        self.waits += [self._now - ended for ended in batch]
        process.commits = bool(process.ended)
        for _ in batch:
            self._begin_body(number)
        if process.commits:
            self._commit(number)


def played(costs: dict[str, float]) -> list[dict[str, Any]]:
    """Return what each case comes to: stages a second, the part of the server that is busy, seconds between bodies."""
    cost = costs["worker_ms"] / 1000, costs["server_ms"] / 1000, costs["listener_ms"] / 1000
    return [_played(*case, cost) for case in CASES]


def _played(workers: int, body: float, cores: int, shards: int, cost: tuple[float, float, float]) -> dict[str, Any]:
    crowd = Crowd(workers // shards, body, cores, cost)
    stages = max(STAGES, 4 * THREADS * workers // shards)
    warm = crowd.play(round(stages * WARM))
    done, busy = crowd.done, crowd.busy
    crowd.waits.clear()
    seconds = crowd.play(stages) - warm
    waits = sorted(crowd.waits)
    return {
        "workers": workers, "body": body, "cores": cores, "shards": shards,
        "rate": round((crowd.done - done) / seconds * shards, 1),
        "busy": round((crowd.busy - busy) / seconds / cores, 4), "p99": round(waits[len(waits) * 99 // 100], 4),
    }  # fmt: skip
