"""
How long it takes from the death of a process to the next body, over many deaths of real processes (C8, R1d).

    python -m tests.crash.recovery [--kills 200] [--seed N] [--json FILE]

Three processes, forks of this one, share the work of one store. One that is in the middle of a body is killed at a
random moment, another takes the body up, and a new one takes the place of the dead. In the end nothing is lost or done
twice.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from stabilize_nb.testing.forks import Child, told_by, warm
from tests.crash.work import work_on
from tests.makers import Bench, chain

PROCESSES = 3
#: Seconds after its beginning within which a body is killed, and after which waiting for anything has failed.
SOON, PATIENCE = 0.03, 30.0


@dataclass(frozen=True)
class Note:
    """A line of tests.crash.work."""

    what: str
    ref: str
    pid: int
    at: float


class Recovery:
    """Processes that work on a chain of stages in a folder, and their deaths."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.seconds: list[float] = []
        self._folder = folder
        self._kills = kills
        self._random = random.Random(seed)
        self._living: dict[int, Child] = {}
        self._flow = chain(kills + PROCESSES, task="work")

    def run(self) -> list[str]:
        """Kill, wait for the next body, and so on to the end; return what is wrong then."""
        with Bench(self._url, tasks={"work": lambda _stage: None}) as bench:
            bench.begin(self._flow)
        hold = self._folder / "notes.hold"
        hold.touch()
        with ExitStack() as ends:
            ends.callback(self._end)
            for _ in range(PROCESSES):
                self._start()
            for _ in range(self._kills):
                self.seconds.append(self._kill())
                self._start()
            hold.unlink()
            assert list(told_by([*self._living.values()], PATIENCE)) == []
            self._living.clear()
        return self._wrong()

    @property
    def _url(self) -> str:
        return f"sqlite:///{self._folder}/runs.db"

    def _start(self) -> None:
        database, notes = str(self._folder / "runs.db"), str(self._folder / "notes")
        child = Child(lambda _say: work_on(database, notes))
        self._living[child.pid] = child

    def _end(self) -> None:
        for child in self._living.values():
            child.bury()

    def _kill(self) -> float:
        """Kill the process that is in a body while another one is there; return seconds until a body begins again."""
        note = self._await(self._victim)
        time.sleep(self._random.uniform(0, SOON))
        victim = self._living.pop(note.pid)
        killed = time.time()
        os.kill(victim.pid, signal.SIGKILL)
        victim.bury()
        again = self._await(lambda notes: next((n for n in notes if n.what == "begin" and n.at > killed), None))
        return again.at - killed

    def _victim(self, notes: list[Note]) -> Note | None:
        """Return the note of the body that waits for its death, if somebody is there to take it up."""
        ready = {note.pid for note in notes if note.what == "ready"} & self._living.keys()
        held = next((note for note in reversed(notes) if note.what == "hold"), None)
        return held if held is not None and held.pid in self._living and ready - {held.pid} else None

    def _await(self, wanted):
        deadline = time.monotonic() + PATIENCE
        while (found := wanted(self._notes())) is None:
            assert time.monotonic() < deadline, f"nothing in {PATIENCE} s"
            time.sleep(0.002)
        return found

    def _notes(self) -> list[Note]:
        file = self._folder / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        return [Note(what, ref, int(pid), float(at)) for what, ref, pid, at in map(str.split, lines)]

    def _wrong(self) -> list[str]:
        with Bench(self._url, tasks={"work": lambda _stage: None}) as bench:
            statuses = Counter(bench.statuses(self._flow).values())
            ended = bench.sql("SELECT stage_id FROM event WHERE type = 'task.completed' GROUP BY 1 HAVING count(*) > 1")
            wrong = [*bench.left_over(), *(f"completed twice: {row}" for row in ended)]
        begun = Counter(note.ref for note in self._notes() if note.what == "begin")
        again = sum(begun.values()) - len(begun)
        wrong += [f"{again} bodies again after {self._kills} kills"] if again > self._kills else []
        return wrong + ([f"ended with {dict(statuses)}"] if set(statuses) != {"SUCCEEDED"} else [])


def recover(kills: int, seed: int) -> tuple[list[float], list[str]]:
    """Return the seconds of each recovery, sorted, and what was wrong in the end."""
    with tempfile.TemporaryDirectory() as folder:
        recovery = Recovery(Path(folder), kills, seed)
        wrong = recovery.run()
    return sorted(recovery.seconds), wrong


def quantile(ordered: list[float], share: float) -> float:
    """Return the value below or at which there is this share of the values."""
    return ordered[max(0, -(-round(share * 100) * len(ordered) // 100) - 1)]


@click.command()
@click.option("--kills", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--json", "file", type=click.Path(path_type=Path), help="The results of a long run, to which these are added."
)
def main(kills: int, seed: int, file: Path | None) -> None:
    """Measure recoveries."""
    warm()
    seconds, wrong = recover(kills, seed)
    figures = {"p50": quantile(seconds, 0.5), "p99": quantile(seconds, 0.99), "slowest": seconds[-1]}
    report = {"kills": kills, "seed": seed, **{name: round(figure, 3) for name, figure in figures.items()}}
    print(json.dumps({**report, "wrong": wrong}))
    if file and not wrong:
        kept = json.loads(file.read_text())
        file.write_text(json.dumps({**kept, "recovery": report}, indent=1) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
