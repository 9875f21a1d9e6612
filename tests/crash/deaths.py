"""
A body that kills its process whenever it is run, among others that are at work then.

    python -m tests.crash.deaths exit|segv|oom first|last retry|fail|ask

Processes work on one file, one after the other, until one lives to the end. Then what killed them is mended, and the
dead letter put back, or the doubt settled. Prints what there was as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stabilize_nb import StageExecution, TaskResult
from stabilize_nb.events.past import Past
from stabilize_nb.explain_stage import explain_stage
from stabilize_nb.queue.messages import SignalStage
from stabilize_nb.queue.processor import QueueProcessorConfig
from stabilize_nb.run_state import RunState
from stabilize_nb.testing.forks import forked, scratch, warm
from tests.crash.shapes import plain
from tests.makers import Bench, stage, workflow

KILLS: dict[str, Callable[[], Any]] = {
    "exit": lambda: os._exit(3),
    "segv": lambda: ctypes.string_at(0),
    "oom": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the system does that runs out of memory
}
NEIGHBOURS = 4
#: Processes that are tried, and seconds that each may take.
MOST, PATIENCE = 10, 20.0


def main(kind: str, place: str, word: str) -> dict[str, Any]:
    """Play one case."""
    warm()
    with scratch() as name:
        folder = Path(name)
        forked(lambda: prepare(folder, place, word))
        found, processes = None, 0
        while found is None and processes < MOST:
            found, processes = forked(lambda: live(folder, kind)), processes + 1
        before = bodies(folder)
        (folder / "mended").touch()
        after = forked(lambda: live(folder, kind, mend=True))
        return {
            "processes": processes,
            "found": found,
            "bodies": before,
            "after": after,
            "bodies_after": bodies(folder),
        }


def prepare(folder: Path, place: str, word: str) -> None:
    """Store and start a killer beside its neighbours; something follows each."""
    killer = [stage("killer", task="killer", on_crash=word), stage("then", "killer")]
    rest = [stage(f"n{at}", task="slow") for at in range(NEIGHBOURS)]
    follows = stage("z", *(each.ref_id for each in rest))
    stages = [*killer, *rest, follows] if place == "first" else [*rest, follows, *killer]
    known = dict.fromkeys(("killer", "slow"), plain)
    with Bench(f"sqlite:///{folder}/runs.db", tasks=known) as bench:
        bench.begin(workflow(*stages))


def live(folder: Path, kind: str, *, mend: bool = False) -> dict[str, Any]:
    """Work until nothing moves any more, if this process lives so long."""

    def killer(given: StageExecution) -> TaskResult:
        note(folder, given)
        if not (folder / "mended").exists():
            time.sleep(0.05)  # the others are at work by then
            KILLS[kind]()
        return TaskResult.success(outputs={"by": "killer"})

    def slow(given: StageExecution) -> TaskResult:
        note(folder, given)
        time.sleep(0.3)
        return TaskResult.success()

    config = QueueProcessorConfig(max_workers=NEIGHBOURS + 1)
    with Bench(f"sqlite:///{folder}/runs.db", tasks={"killer": killer, "slow": slow}, config=config) as bench:
        flow = bench.store.retrieve(bench.store.list()[0]["id"])
        if mend:
            mended(bench, flow.id, flow.stage_by_ref_id("killer").id)
        bench.processor.start()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not at_rest(bench.statuses(flow), mend=mend):
            time.sleep(0.005)
        past = Past(bench.database, flow.id)
        return {
            "run": bench.store.retrieve(flow.id).status.name,
            "stages": bench.statuses(flow),
            "said": explain_stage(RunState.of(past, past.last), "killer"),
            "letters": [[letter["kind"], letter["error"], letter["lost"]] for letter in bench.queue.dead_letters()],
            "size": bench.queue.size(),
        }


def mended(bench: Bench, run_id: str, stage_id: str) -> None:
    """Have the killer run once more."""
    if bench.queue.dead_letters():
        bench.queue.redrive()
    else:
        data = {"decision": "retry"}
        bench.queue.push(
            SignalStage(execution_id=run_id, stage_id=stage_id, signal_name="settle", signal_data=data)
        )  # fmt: skip


def at_rest(statuses: dict[str, str], *, mend: bool) -> bool:
    """Whether the neighbours have ended, and the killer has, or waits before it is mended."""
    ended = all(statuses[ref] == "SUCCEEDED" for ref in statuses if ref not in ("killer", "then"))
    waits = not mend and statuses["killer"] == "SUSPENDED" and statuses["then"] == "NOT_STARTED"
    return ended and (waits or statuses["killer"] == "TERMINAL" or statuses["then"] == "SUCCEEDED")


def note(folder: Path, given: StageExecution) -> None:
    """Keep that a body was begun."""
    handle = os.open(folder / "bodies", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{given.ref_id}\n".encode())
    os.close(handle)


def bodies(folder: Path) -> dict[str, int]:
    """Return how often each body was begun."""
    return dict(Counter((folder / "bodies").read_text().split()))


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
