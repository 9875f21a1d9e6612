"""Several processors share one store; some hang longer than their lease, some die: nothing is done twice (C2, C3)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.crash.shift import LEASE
from tests.makers import Bench, stage, workflow

if TYPE_CHECKING:
    from pathlib import Path

    from stabilize_nb import Workflow

WORKFLOWS = 200
PROCESSES = 4
#: In each round two processes are stopped for longer than their lease; at the end of some, one is killed.
ROUNDS = 10
STOPPED = 2
HANG = LEASE + 1.1
KILLS = {2, 5, 8}
LANES = 8
#: Seconds after it has hung in which a process may begin what it had taken before.
IN_HAND = 1.0
PATIENCE = 40.0


def diamond(number: int) -> Workflow:
    """Make two stages between two others; both need the lock of a lane, which many workflows share."""
    words = {"task": "work", "context": {"number": number}}
    lock = {"mutex_key": f"lane-{number % LANES}"}
    return workflow(
        stage("a", **words), stage("m", "a", **words, **lock), stage("n", "a", **words, **lock),
        stage("z", "m", "n", **words),
    )  # fmt: skip


@dataclass
class Shift:
    """The processes at work on a store, and when which of them was not."""

    folder: Path
    living: list[subprocess.Popen[str]] = field(default_factory=list)
    away: list[tuple[int, float, float]] = field(default_factory=list)  # process, from, to: seconds since the epoch

    @property
    def url(self) -> str:
        """Where the store is."""
        return f"sqlite:///{self.folder}/runs.db"

    def hire(self) -> None:
        """Have one process more, and wait until it works."""
        command = [sys.executable, "-m", "tests.crash.shift", self.url, f"{self.folder}/notes"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.living.append(process)
        assert process.stdout is not None
        process.stdout.readline()

    def stop(self, processes: list[subprocess.Popen[str]]) -> None:
        """Have processes hang for longer than their lease."""
        began = time.time()
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
        time.sleep(HANG)
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)
            self.away.append((process.pid, began, time.time()))

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill one process."""
        self.away.append((process.pid, time.time(), float("inf")))
        self.living.remove(process)
        process.kill()
        self.bury(process)

    def end(self) -> list[int | None]:
        """Wait until all have ended by themselves; return with which codes, None for one that has not."""
        deadline = time.monotonic() + PATIENCE
        for process in self.living:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        return [process.poll() for process in self.living]

    @staticmethod
    def bury(process: subprocess.Popen[str]) -> None:
        """Take leave of a process that has ended."""
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def begun(self) -> dict[tuple[str, str], list[tuple[int, float]]]:
        """Return for each body the processes that began it, and when, in order."""
        found = defaultdict(list)
        for line in (self.folder / "notes").read_text().splitlines():
            what, number, ref, pid, at = line.split()
            if what == "begin":
                found[number, ref].append((int(pid), float(at)))
        return found

    def was_away(self, pid: int, since: float, until: float) -> bool:
        """Whether a process hung or was dead at some time between two moments, or had it in hand when it hung."""
        return any(who == pid and began <= until and since <= ended + IN_HAND for who, began, ended in self.away)

    def excuses(self, first: tuple[int, float], then: tuple[int, float]) -> bool:
        """
        Whether a body may have been begun twice: who began it first was away since, or who began it then was meanwhile.

        A process that is stopped between asking for what it has in hand and beginning it begins it when it goes on.
        """
        hung = [(began, ended) for who, began, ended in self.away if who == then[0]]
        goes_on = any(began <= first[1] <= ended and then[1] <= ended + IN_HAND for began, ended in hung)
        return goes_on or self.was_away(first[0], first[1], then[1])


def work_in_shifts(shift: Shift, luck: random.Random) -> list[int | None]:
    """Have the processes work, hang and die; return with which codes they ended."""
    for _ in range(PROCESSES):
        shift.hire()
    try:
        for at in range(ROUNDS):
            shift.stop(luck.sample(shift.living, STOPPED))
            if at in KILLS:
                shift.kill(luck.choice(shift.living))
                shift.hire()
        return shift.end()
    finally:
        for process in shift.living:
            process.kill()
            shift.bury(process)


def test_nothing_is_done_twice_by_processors_that_hang_or_die(tmp_path: Path, record_property) -> None:
    """Each result is committed once, a lock is never shared, and only what a lost process had in hand is repeated."""
    seed = random.randrange(10**6)
    shift = Shift(tmp_path)
    flows = [diamond(number) for number in range(WORKFLOWS)]
    with Bench(shift.url, durability="normal", tasks={"work": lambda _stage: None}) as bench:
        bench.begin(*flows)

    codes = work_in_shifts(shift, random.Random(seed))

    with Bench(shift.url, durability="normal", tasks={"work": lambda _stage: None}) as bench:
        statuses = {row[0] for row in bench.sql("SELECT status FROM workflow")}
        completed = bench.sql("SELECT stage_id, count(*) FROM event WHERE type = 'task.completed' GROUP BY 1")
        discarded = bench.sql("SELECT count(*) FROM event WHERE type = 'result.discarded'")[0][0]
        left, check = bench.left_over(), bench.sql("PRAGMA integrity_check")
        dead = bench.sql("SELECT kind, error FROM message WHERE dead_at IS NOT NULL")
        shared = overlaps(bench)
    begun = shift.begun()
    again = [(body, first, then) for body, times in begun.items() for first, then in pairwise(times)]
    unexcused = [each for each in again if not shift.excuses(*each[1:])]
    record_property(
        "line", f"{len(shift.away)} processes stopped or killed beside others: {len(again)} bodies begun again, "
                f"{discarded} late results discarded by name",
    )  # fmt: skip
    print(f"seed {seed}: {len(again)} begun again, {len(unexcused)} of them without cause")
    for body, first, then in unexcused:
        near = [each for each in shift.away if abs(each[1] - first[1]) < PATIENCE / 4]
        print(f"{body}: begun by {first[0]} at {first[1]:.3f}, by {then[0]} at {then[1]:.3f}; away were {near}")
    assert (left, dead, check) == ([], [], [("ok",)]), f"seed {seed}"
    assert statuses == {"SUCCEEDED"}, f"seed {seed}"
    assert codes == [0] * PROCESSES
    assert len(completed) == 4 * WORKFLOWS
    assert {count for _, count in completed} == {1}, f"seed {seed}"
    assert shared == [], f"seed {seed}"
    assert again, "nobody was stopped in a body"
    assert unexcused == [], f"seed {seed}"


def overlaps(bench: Bench) -> list[str]:
    """Return where one stage with a lock began before another with the same one had ended, in the order of commits."""
    rows = bench.sql(
        "SELECT e.type, e.stage_id, w.id FROM event AS e JOIN stage AS s ON s.id = e.stage_id"
        " JOIN workflow AS w ON w.id = e.workflow_id"
        " WHERE s.ref_id IN ('m', 'n') AND e.type IN ('stage.started', 'stage.completed') ORDER BY e.position"
    )
    lane = {workflow_id: number for number, workflow_id in enumerate(lanes(bench))}
    holders: dict[int, str | None] = {}
    found = []
    for type_, stage_id, workflow_id in rows:
        place = lane[workflow_id] % LANES
        if type_ == "stage.completed":
            holders[place] = None
        elif holders.get(place) is not None:
            found.append(f"{stage_id} began beside {holders[place]}")
        else:
            holders[place] = stage_id
    return found


def lanes(bench: Bench) -> list[str]:
    """Return the ids of all workflows in the order in which they were made."""
    return [row[0] for row in bench.sql("SELECT id FROM workflow ORDER BY id")]
