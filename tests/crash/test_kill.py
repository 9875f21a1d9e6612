"""A killed processor loses nothing, repeats nothing committed, and is replaced within a second (C2, C8)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.processor import QueueProcessorConfig
from tests.makers import Bench, stage, workflow

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: Real processes that are killed in the middle of a body; `python -m tests.crash.recovery` kills 200.
KILLS = 60
WORKER = """
import os, sys, time
from tests.makers import Bench
from stabilize_nb import TaskResult

def note(path, text):
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (text + "\\n").encode())
    os.close(handle)

def work(stage):
    note(sys.argv[2], f"begin {stage.ref_id}")
    value = stage.step("call", lambda: note(sys.argv[2], f"call {stage.ref_id}") or stage.ref_id)
    time.sleep(float(sys.argv[3]))
    note(sys.argv[2], f"end {stage.ref_id}")
    return TaskResult.success(outputs={"seen": [*stage.context.get("seen", []), value]})

bench = Bench(f"sqlite:///{sys.argv[1]}", tasks={"work": work})
bench.processor.start()
print("working", flush=True)
while bench.store.unfinished():
    time.sleep(0.02)
bench.close()
"""


def diamond_chain(length: int) -> list[StageExecution]:
    """Make `length` diamonds in a row."""
    stages = []
    for at in range(length):
        before = [f"j{at - 1}"] if at else []
        stages += [
            stage(f"a{at}", *before, task="work"), stage(f"b{at}", f"a{at}", task="work"),
            stage(f"c{at}", f"a{at}", task="work"), stage(f"j{at}", f"b{at}", f"c{at}", task="work"),
        ]  # fmt: skip
    return stages


def start_worker(folder: Path, pause: float) -> subprocess.Popen[str]:
    """Start a process that works on the store until nothing is unfinished."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder / "runs.db"), str(folder / "effects"), str(pause)],
        stdout=subprocess.PIPE, text=True, cwd=Path.cwd(),
    )  # fmt: skip


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Workers killed at random moments, one after the other, finish the run; no committed body or step ran twice."""
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    flow = workflow(*diamond_chain(4))
    with Bench(f"sqlite:///{tmp_path}/runs.db", tasks={"work": lambda _stage: None}) as bench:
        bench.begin(flow)

    kills = 0
    for _ in range(40):
        worker = start_worker(tmp_path, 0.02)
        assert worker.stdout is not None
        worker.stdout.readline()
        try:
            worker.wait(moments.uniform(0.02, 0.35))
        except subprocess.TimeoutExpired:
            worker.kill()
            kills += 1
        worker.stdout.close()
        if worker.wait() == 0:
            break

    with Bench(f"sqlite:///{tmp_path}/runs.db", tasks={"work": lambda _stage: None}) as bench:
        done = bench.store.retrieve(flow.id)
        rows = bench.database.writer.raw.execute(
            "SELECT s.ref_id, count(*) FROM event e JOIN stage s ON s.id = e.stage_id"
            " WHERE e.type = 'task.completed' GROUP BY 1"
        )
        completed = dict(rows)
        assert bench.database.writer.raw.pragma("integrity_check") == "ok"
    effects = Counter((tmp_path / "effects").read_text().split("\n"))
    begun = sum(count for effect, count in effects.items() if effect.startswith("begin"))
    print(f"seed {seed}: {kills} kills, {begun} bodies begun for 16 stages")
    assert kills > 0
    assert done.status is WorkflowStatus.SUCCEEDED, f"seed {seed}"
    assert set(completed.values()) == {1}, f"seed {seed}"
    repeated = {effect for effect, count in effects.items() if count > 1}
    assert sum(effects[effect] - 1 for effect in repeated if effect.startswith("call")) <= kills, f"seed {seed}"
    assert done.stage_by_ref_id("j3").outputs["seen"][-1] == "j3"


def test_another_processor_takes_over_within_a_second(tmp_path: Path) -> None:
    """A live processor sees the death of another and begins its task again within a second, not after a lease."""
    begun: list[float] = []
    with Bench(
        f"sqlite:///{tmp_path}/runs.db",
        tasks={"work": lambda _stage: begun.append(time.monotonic())},
        config=QueueProcessorConfig(lease=600, max_workers=1),
    ) as bench:
        flow = workflow(stage("a", task="work"))
        bench.begin(flow)
        worker = start_worker(tmp_path, 60)
        effects = tmp_path / "effects"
        while not effects.exists() or "begin" not in effects.read_text():
            time.sleep(0.01)
        bench.processor.start()
        time.sleep(0.6)
        assert begun == []

        killed = time.monotonic()
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        while not bench.store.retrieve(flow.id).status.is_complete:
            assert time.monotonic() - killed < 10
            time.sleep(0.01)

        print(f"taken over {begun[0] - killed:.2f} s after the kill, with a lease of 600 s")
        assert begun[0] - killed <= 1.0
        if worker.stdout is not None:
            worker.stdout.close()


def test_worker_that_lost_its_claim_changes_nothing(tmp_path: Path) -> None:
    """A worker that was stopped longer than its lease commits nothing when it goes on: its result is fenced (C3)."""
    with Bench(
        f"sqlite:///{tmp_path}/runs.db", tasks={"work": lambda _stage: {"by": "second"}},
        config=QueueProcessorConfig(max_workers=2),
    ) as bench:  # fmt: skip
        flow = workflow(stage("a", task="work"))
        bench.begin(flow)
        worker = start_worker(tmp_path, 0.4)
        steps = "SELECT count(*) FROM journal"
        while not bench.database.read(lambda connection: connection.raw.execute(steps).get):
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGSTOP)  # while the body is at work, and not within a transaction
        bench.database.write(lambda c: c.raw.execute("UPDATE processor SET lease = 500"))
        bench.processor.start()
        while not bench.store.retrieve(flow.id).status.is_complete:
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGCONT)
        assert worker.wait(20) == 0

        done = bench.store.retrieve(flow.id)
        assert done.stages[0].outputs == {"by": "second"}
        completions = bench.database.writer.raw.execute("SELECT count(*) FROM event WHERE type = 'task.completed'").get
        assert completions == 1
        if worker.stdout is not None:
            worker.stdout.close()


def test_p99_of_recovery(record_property):
    """From the death of a real process to the next body it takes a second at most (C8)."""
    command = [sys.executable, "-m", "tests.crash.recovery", "--kills", str(KILLS), "--seed", "1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=110)

    found = json.loads(done.stdout)
    record_property("line", f"{KILLS} processes killed in a body: the next began after {found['p50']:.2f} s (p50), "
                            f"{found['p99']:.2f} s (p99)")  # fmt: skip
    assert found["wrong"] == []
    assert found["p99"] <= 1.0
