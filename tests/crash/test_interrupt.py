"""Ctrl-C at any moment ends only the waiting (C12)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

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
def test_waiting_cell_can_be_interrupted_anywhere(tmp_path: Path) -> None:
    """A cell of a real kernel that waits for a run is interrupted 50 times; the run goes on and ends well."""
    moments = random.Random(7)
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        setup = f"""
        import sys; sys.path.insert(0, {str(Path.cwd())!r})
        import time
        from stabilize_nb import Engine, Flow
        engine = Engine({str(tmp_path / "kernel.db")!r}, durability="normal")
        flow = Flow("slow")
        released = False
        calls = []
        def work(name):
            def body(stage):
                calls.append(name)
                while not released: time.sleep(0.01)
            body.__name__ = name
            return body
        flow.stage(work("first"))
        flow.stage(after="first")(work("second"))
        run = engine.start(flow)
        """
        assert execute(client, setup)["status"] == "ok"
        slowest = 0.0
        for at in range(INTERRUPTS):
            waiting = ("run.wait()", "await run", "run.result()")[at % 3]
            message = client.execute(waiting, stop_on_error=False)
            time.sleep(moments.uniform(0.02, 0.1))
            struck = time.monotonic()
            manager.interrupt_kernel()
            reply = client.get_shell_msg(timeout=20)
            while reply["parent_header"].get("msg_id") != message:
                reply = client.get_shell_msg(timeout=20)
            slowest = max(slowest, time.monotonic() - struck)
            assert reply["content"]["status"] == "error"
        print(f"{INTERRUPTS} interrupts, the slowest cell came back after {slowest:.2f} s")
        final = """
        released = True
        status = run.wait(timeout=30).name
        assert status == "SUCCEEDED", status
        assert calls == ["first", "second"], calls
        assert engine.database.writer.raw.in_transaction is False
        engine.close()
        """
        reply = execute(client, final)
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", []))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(client: object, source: str) -> dict:
    """Run a cell and return the content of its reply."""
    return client.execute_interactive(textwrap.dedent(source), timeout=60, output_hook=lambda _message: None)["content"]
