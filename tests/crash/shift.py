"""
One of several processes that share the work of a store, until nothing is unfinished; its bodies note what they do.

A note is a line: "begin" or "end", workflow, stage, process, seconds since the epoch.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from stabilize_nb.queue.processor import QueueProcessorConfig
from tests.makers import Bench

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: Seconds a claim lasts without a sign of life.
LEASE = 2.0
#: Seconds of a body.
BODY = 0.12


def work_on(url: str, notes: str) -> None:
    """Work."""

    def note(what: str, stage: StageExecution) -> None:
        handle = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        line = f"{what} {stage.context['number']} {stage.ref_id} {os.getpid()} {time.time()}\n"
        os.write(handle, line.encode())
        os.close(handle)

    def work(stage: StageExecution) -> dict[str, int]:
        note("begin", stage)
        time.sleep(BODY)
        note("end", stage)
        return {"by": os.getpid()}

    config = QueueProcessorConfig(lease=LEASE, max_workers=2)
    with Bench(url, durability="normal", tasks={"work": work}, config=config) as bench:
        bench.processor.start()
        print("working", flush=True)
        while bench.store.unfinished():
            time.sleep(0.1)


if __name__ == "__main__":
    work_on(*sys.argv[1:])
