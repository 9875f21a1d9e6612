"""
A process that works on a store until nothing is unfinished, and notes in a file what its bodies do.

    python -m tests.crash.work DATABASE NOTES

A note is a line: what ("ready", "begin", "call"), stage, process, seconds since the epoch. The first attempt of a body
waits for its death as long as there is a file "NOTES.hold".
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from stabilize_nb import StageExecution, TaskResult
from stabilize_nb.queue.processor.config import QueueProcessorConfig
from tests.makers import Bench

#: Seconds: long enough that nothing is taken over because a claim ran out.
LEASE = 600


def note(path: str, what: str, ref: str = "-") -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{what} {ref} {os.getpid()} {time.time()}\n".encode())
    os.close(handle)


def main(database: str, notes: str) -> None:
    hold = Path(f"{notes}.hold")

    def work(stage: StageExecution) -> TaskResult:
        note(notes, "begin", stage.ref_id)
        stage.step("call", note, notes, "call", stage.ref_id)
        while stage.tasks[0].attempt == 1 and hold.exists():
            time.sleep(0.01)
        return TaskResult.success()

    config = QueueProcessorConfig(lease=LEASE, max_workers=2)
    with Bench(f"sqlite:///{database}", tasks={"work": work}, config=config) as bench:
        bench.processor.start()
        note(notes, "ready")
        while bench.store.unfinished():
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
