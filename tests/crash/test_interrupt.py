"""Ctrl-C at any moment ends only the waiting (C12)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.interrupts import press
from tests.kernels import started_kernel

INTERRUPTS = 50

SCRIPT = """
import json, os, random, signal, sys, threading, time
from collections import Counter
from stabilize_nb.models.status import WorkflowStatus
from tests.makers import Bench, stage, workflow

seed, rounds = int(sys.argv[2]), int(sys.argv[3])
moments = random.Random(seed)
bodies = Counter()

def work(given):
    bodies[given.id] += 1
    time.sleep(0.001)

bench = Bench(f"sqlite:///{sys.argv[1]}", durability="normal", tasks={"work": work})
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupted = 0
flows = []
while interrupted < rounds:
    flow = workflow(*(stage(f"s{at}", *([f"s{at - 1}"] if at else []), task="work") for at in range(20)))
    flows.append(flow)
    after = moments.uniform(0.0, 0.06)
    def strike():
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGINT)
    killer = threading.Thread(target=strike)
    try:
        killer.start()
        bench.begin(flow)
        bench.processor.process_all()
        killer.join()
        time.sleep(0.01)
    except KeyboardInterrupt:
        interrupted += 1
    killer.join()
    bench.database.write(lambda c: None)  # hangs on a lock left taken, fails on a transaction left open

lost = []
for flow in flows:
    if not bench.store.exists(flow.id):
        continue
    bench.orchestrator.start(flow)
bench.processor.process_all()
for flow in flows:
    if bench.store.exists(flow.id) and bench.store.retrieve(flow.id).status is not WorkflowStatus.SUCCEEDED:
        lost.append(flow.id)
in_transaction = bench.database.writer.raw.in_transaction
left = bench.queue.size()
check = bench.database.writer.raw.pragma("integrity_check")
bench.close()
print(json.dumps({"interrupted": interrupted, "lost": lost, "twice": [b for b, n in bodies.items() if n > 1],
                  "in_transaction": in_transaction, "left": left, "check": check, "runs": len(flows)}))
"""


def test_script_can_be_interrupted_anywhere(tmp_path: Path) -> None:
    """After 50 interrupts at random moments no transaction is open, no run is lost, no body ran twice."""
    seed = random.randrange(10**6)
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "runs.db"), str(seed), str(INTERRUPTS)],
        capture_output=True, text=True, timeout=100, check=False, cwd=Path.cwd(),
    )  # fmt: skip

    assert found.returncode == 0, f"seed {seed}: {found.stderr[-3000:]}"
    result = json.loads(found.stdout.splitlines()[-1])
    print(f"seed {seed}: {result}")
    assert result["interrupted"] == INTERRUPTS
    assert (result["lost"], result["twice"], result["in_transaction"], result["left"]) == ([], [], False, 0)
    assert result["check"] == "ok"


@pytest.mark.timeout(110)
def test_cells_can_be_interrupted_anywhere(tmp_path: Path) -> None:
    """Of 40 cells that are interrupted each ends within half a second, and every run ends well, each body done once."""
    seed = random.randrange(10**6)
    with started_kernel(tmp_path) as kernel:
        found = press(kernel, tmp_path, 40, seed)

    print(found)
    assert found.is_well, str(found)
    assert found.runs > 1, str(found)


FORK = """
import os, sys
from stabilize_nb.errors import StoreError
from stabilize_nb.store.database import Database

with Database.open(f"sqlite:///{sys.argv[1]}") as database:
    look = lambda: database.call_read(lambda connection: connection.schema_version())
    version = look()
    child = os.fork()
    if child == 0:
        try:
            look()
        except StoreError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert look() == version
"""


def test_fork_is_told_to_open_the_database_anew(tmp_path: Path) -> None:
    """A fork, which has none of the threads, gets a sentence instead of waiting for ever."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "runs.db")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=Path.cwd())

    assert found.returncode == 0, found.stderr[-3000:]
