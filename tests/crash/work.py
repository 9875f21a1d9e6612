"""
A process that works on a store until nothing is unfinished, and notes in a file what its bodies do.

A note is a line: what ("ready", "begin", "call", "hold"), stage, process, seconds since the epoch. The first attempt of
a body waits for its death ("hold") as long as there is a file "NOTES.hold".
"""

from __future__ import annotations

import os
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


def work_on(database: str, notes: str) -> None:
    """Work."""
    hold = Path(f"{notes}.hold")

    def work(stage: StageExecution) -> TaskResult:
        note(notes, "begin", stage.ref_id)
        stage.step("call", note, notes, "call", stage.ref_id)
        if stage.tasks[0].attempt == 1 and hold.exists():
            note(notes, "hold", stage.ref_id)
        while stage.tasks[0].attempt == 1 and hold.exists():
            time.sleep(0.01)
        return TaskResult.success()

    config = QueueProcessorConfig(lease=LEASE, max_workers=2)
    with Bench(f"sqlite:///{database}", tasks={"work": work}, config=config) as bench:
        bench.processor.start()
        note(notes, "ready")
        while bench.store.unfinished():
            time.sleep(0.05)
