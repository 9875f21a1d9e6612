"""A worker: it takes runs from a database until it is killed, and notes every body that it begins in a file.

python -m tests.postgresql.work URL NOTES
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from stabilize_nb import Engine, Flow

#: Seconds that a body takes.
TAKES = 0.03


def made(notes: Path) -> Flow:
    """Return a workflow of four stages, two of them side by side."""
    flow = Flow("order")

    def note(name: str, order: int) -> int:
        with notes.open("a") as file:
            file.write(f"{order} {name} {os.getpid()}\n")
        time.sleep(TAKES)
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


def main(url: str, notes: str) -> None:
    """Work until killed."""
    with Engine(url, workers=4, durability="normal") as engine:
        engine.define(made(Path(notes)))
        engine.processor.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
