"""
The stop button, pressed at random moments while cells of a real kernel start, watch, decide and await runs.

What is measured is how soon the cell stops and answers. IPython may then take seconds to write the traceback of a deep
stack with the sources of each frame, so it is told to write the last line only; and pandas is imported before, because
Python leaves a module half made whose import is interrupted. The suite presses the button 40 times. The long mode, with
the kernel of the tests and with the oldest one:

    python -m tests.crash.interrupts --times 500
    python -m tests.crash.interrupts --times 500 --oldest
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kernels import NEWEST_NAME, OLDEST_NAME, Kernel, oldest_kernel, started_kernel

#: Seconds after which a cell must have ended, and those after which an interrupt counts as lost.
SOON, LOST = 0.5, 5.0

SETUP = """
import faulthandler, json, os, pathlib, signal, time
import pandas
from stabilize_nb import Engine, Flow
from stabilize_nb.engine import use_engine

engine = use_engine(Engine("runs.db", durability="normal"))
flow = Flow("short")

def note(stage):
    with open("done.txt", "a") as file:
        file.write(f"{stage.id}\\n")

@flow.stage
def first(stage):
    time.sleep(0.02)
    note(stage)

@flow.stage(after="first")
def second(stage):
    time.sleep(0.02)
    note(stage)

sign_off = flow.approval("Go on?", name="sign_off", after="second")

@flow.stage(after="sign_off")
def last(stage):
    note(stage)

started, approved = [], set()
def begin():
    run = flow.run()
    started.append(run.id)
    return run

run = begin()
faulthandler.register(signal.SIGUSR1, file=open("stacks.txt", "w"))
print(os.getpid())
"""

#: First line of a cell: it says that it has begun. An interrupt before that reaches the kernel itself, and no cell.
BEGUN = "get_ipython().display_pub.publish({'text/plain': 'begun'})\n"
#: What the cells do when the button is pressed; none of them ends by itself.
CELLS = {
    "await run": "await run",
    "run.wait()": "run.wait()",
    "start and await": "await begin()",
    "start and wait": "begin().wait()",
    "start many": "while True:\n    begin()\n    time.sleep(0.05)",
    "result": "while True:\n    try:\n        run.result()\n    except Exception as error:\n        time.sleep(0.001)",
    "approve": """
while True:
    for gate in engine.inbox()[:-1]:
        if gate.run_id != run.id and gate.run_id not in approved:
            engine.run(gate.run_id).approve(gate.name)
            approved.add(gate.run_id)
    time.sleep(0.01)
""",
    "frames": "while True:\n    run.events, run.stages, engine.runs()",
    "show": "from IPython.display import display\nwhile True:\n    display(run.workflow)",
    "own code": "while True:\n    sum(range(1_000))",
}

FINAL = """
import collections
deadline = time.monotonic() + 60
engine.resume()
waiting = lambda: [each for each in engine.unfinished() if each.status.name == "PAUSED"]
for each in waiting():
    each.resume()
while engine.unfinished() and time.monotonic() < deadline:
    for gate in engine.inbox():
        engine.run(gate.run_id).approve(gate.name)
    time.sleep(0.05)
runs = engine.runs()
bodies = collections.Counter(pathlib.Path("done.txt").read_text().split("\\n")[:-1])
found = {
    "runs": len(runs),
    "unknown": sorted(set(started) - set(runs["run_id"])),
    "unfinished": sorted(runs.loc[runs["status"] != "SUCCEEDED", "run_id"]),
    "twice": sorted(body for body, times in bodies.items() if times > 1),
    "missing": 3 * len(runs) - len(bodies),
    "writes": engine.database.call_write(lambda connection: True),  # it fails on a transaction that was left open
    "left": engine.queue.size(),
    "check": engine.database.call_read(lambda connection: connection.raw.pragma("integrity_check")),
}
engine.close()
print("FOUND", json.dumps(found))
"""

#: One interrupt in so many may have no effect: Python drops one that strikes in a finalizer, and numpy takes one that
#: strikes in a comparison for a failed comparison. A person presses the button again, as is done here.
DROPPED = 100
#: What must be found at the end, besides the number of runs.
WELL = {
    "unknown": [],
    "unfinished": [],
    "twice": [],
    "missing": 0,
    "writes": True,
    "left": 0,
    "check": "ok",
}


@dataclass(slots=True)
class Finding:
    """What came of pressing the button. `seconds`: how long each cell took to end; `lost`: cells that went on."""

    seed: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    lost: list[tuple[str, str]] = field(default_factory=list)
    runs: int = 0
    state: dict[str, object] = field(default_factory=dict)

    @property
    def late(self) -> list[tuple[str, float]]:
        """The cells that took longer than they may."""
        return [(name, took) for name, each in self.seconds.items() for took in each if took > SOON]

    @property
    def is_well(self) -> bool:
        """Whether cells ended in time, but for interrupts that Python dropped, and nothing was lost."""
        times = sum(map(len, self.seconds.values()))
        return self.state == WELL and not self.late and len(self.lost) <= max(1, times // DROPPED)

    def __str__(self) -> str:
        every = sorted(took for each in self.seconds.values() for took in each)
        lines = [
            f"seed {self.seed}: {len(every)} interrupts, {self.runs} runs",
            f"cells ended after {statistics.median(every):.3f} s in the middle, {every[-1]:.3f} s at most",
            f"later than {SOON} s: {self.late or 'none'}",
            f"at the end: {self.state}",
            f"interrupts that had no effect: {len(self.lost)}",
        ]
        lines += [f"{name}\n{stacks}" for name, stacks in self.lost]
        lines += [f"  {name:16} {len(each):4} times, at most {max(each):.3f} s" for name, each in self.seconds.items()]
        return "\n".join(lines)


def press(kernel: Kernel, folder: Path, times: int, seed: int) -> Finding:
    """Press the button that often, each time in another cell, and see what is left of the runs."""
    moments = random.Random(seed)
    found = Finding(seed)
    kernel.must("%xmode Minimal\n%load_ext stabilize_nb")
    process = int(kernel.must(SETUP).text)
    names = [list(CELLS)[at % len(CELLS)] for at in range(times)]
    moments.shuffle(names)
    for name in names:
        took = _strike(kernel, CELLS[name], moments.uniform(0.0, 0.25))
        if took is None:
            found.lost.append((name, _stacks(kernel, process, folder / "stacks.txt")))
        else:
            found.seconds.setdefault(name, []).append(took)
    said = kernel.must(FINAL, timeout=90).text
    found.state = json.loads(said.partition("FOUND ")[2].splitlines()[0])
    found.runs = int(str(found.state.pop("runs")))
    return found


def _strike(kernel: Kernel, source: str, after: float) -> float | None:
    """Interrupt a cell and return how many seconds later it ended; None when it goes on."""
    message = kernel.send(BEGUN + source)
    kernel.until_shown(message, "begun")
    time.sleep(after)
    struck = kernel.interrupt()
    reply = kernel.reply_within(message, LOST)
    if reply is None:
        return None
    assert not reply.is_ok, f"ended by itself: {source}: {reply}"
    return reply.at - struck


def _stacks(kernel: Kernel, process: int, file: Path) -> str:
    """Return where the threads of the kernel are, and interrupt the cell that goes on."""
    os.kill(process, signal.SIGUSR1)
    time.sleep(1)
    kernel.interrupt()
    kernel.must("pass", timeout=20)
    return file.read_text()


def main(arguments: Sequence[str] | None = None) -> int:
    """Press the button and print what was found; 1 when something was lost or late."""
    parser = argparse.ArgumentParser(description="Interrupt a kernel at random moments and see that nothing is lost.")
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--oldest", action="store_true", help="with the oldest kernel that is supported")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        specs = oldest_kernel(Path(".pytest_cache/d/oldest-kernel").resolve()).specs if chosen.oldest else None
        with started_kernel(Path(folder), OLDEST_NAME if chosen.oldest else NEWEST_NAME, specs) as kernel:
            found = press(kernel, Path(folder), chosen.times, chosen.seed)
    print(found)
    return 0 if found.is_well else 1


if __name__ == "__main__":
    raise SystemExit(main())
