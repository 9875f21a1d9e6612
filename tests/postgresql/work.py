"""A worker: it takes runs from a database until it is killed, and notes every body that it begins in a file.

python -m tests.postgresql.work URL NOTES
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stabilize_nb import Engine, Flow

#: Seconds that a body takes.
TAKES = 0.03
STAGES = ("take", "pack", "bill", "send")


@dataclass(frozen=True)
class Note:
    """That a body was begun, by which process, and when: seconds since the epoch."""

    order: str
    stage: str
    process: int
    at: float

    @property
    def body(self) -> tuple[str, str]:
        """Which body it was."""
        return self.order, self.stage


def made(notes: Path, takes: float = TAKES) -> Flow:
    """Return a workflow of four stages, two of them side by side."""
    flow = Flow("order")

    def note(name: str, order: int) -> int:
        with notes.open("a") as file:
            file.write(f"{order} {name} {os.getpid()} {time.time()}\n")
        time.sleep(takes)
        return order

    @flow.stage
    def take(order: int) -> int:
        return note("take", order)

    @flow.stage
    def pack(take: int) -> int:
        return note("pack", take)

    @flow.stage
    def bill(take: int) -> int:
        return note("bill", take)

    @flow.stage
    def send(pack: int, bill: int) -> int:
        assert pack == bill
        return note("send", pack)

    return flow


def notes_in(file: Path) -> list[Note]:
    """Return what workers have noted."""
    lines = map(str.split, file.read_text().splitlines())
    return [Note(order, stage, int(process), float(at)) for order, stage, process, at in lines]


def work(url: str, notes: Path, then: Callable[[], None], takes: float = TAKES) -> None:
    """Work as long as `then` takes, or until killed."""
    with Engine(url, workers=4, durability="normal") as engine:
        engine.define(made(notes, takes))
        engine.processor.start()
        then()


def until_told() -> None:
    """Say that the work has begun, and wait for the end of what this process reads."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), until_told)
