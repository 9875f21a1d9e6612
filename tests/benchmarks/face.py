"""What is paid once or for nothing: imports, the extension of a notebook, an engine that idles, frames, repaints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import frames
from tests.benchmarks.counts import called, counted
from tests.benchmarks.peers import OTHERS
from tests.benchmarks.rounds import ROOT, Place, environment
from tests.makers import Bench, chain

#: Turns in which others are imported, which takes them seconds.
OFTEN = 5
#: A process that does nothing but be there for so many seconds, with an engine whose one run waits for an approval.
IDLE = """
import sys, time
from stabilize_nb import Engine, Flow
flow = Flow("gate")
flow.approval("Go on?", name="gate")
with Engine(sys.argv[1]) as engine:
    run = engine.start(flow)
    run.until_gate(60)
    time.sleep(3)
    begun = time.process_time()
    time.sleep(float(sys.argv[2]))
    print(time.process_time() - begun)
"""
SLEEP = """
import sys, time
begun = time.process_time()
time.sleep(float(sys.argv[2]))
print(time.process_time() - begun)
"""
LOAD = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
begun = time.perf_counter()
shell.run_line_magic("load_ext", sys.argv[1])
print(time.perf_counter() - begun)
"""
EMPTY = "def load_ipython_extension(shell):\n    pass\n"


def imports(place: Place, times: int) -> dict[str, list[float]]:
    """Return ms that a process takes which imports something and ends, in turn; "bare": which imports nothing."""
    sources = {"bare": "pass", "stabilize_nb": "import stabilize_nb"}
    if place.environments is not None:
        present = {who: other for who, other in OTHERS.items() if other.python(place.environments).exists()}
        sources |= {who: f"import {other.imports}" for who, other in present.items()}
    found: dict[str, list[float]] = {who: [] for who in sources}
    for who, source in sources.items():
        _python(place, source, python=place.python(who))  # compiles what was never imported
    for turn in range(times):
        for who, source in sources.items():
            if who in OTHERS and turn >= OFTEN:
                continue
            begun = time.perf_counter()
            _python(place, source, python=place.python(who))
            found[who].append(round((time.perf_counter() - begun) * 1_000, 2))
    return found


def extension(place: Place, times: int) -> dict[str, list[float]]:
    """Return ms that `%load_ext` takes in fresh shells of IPython; "bare": of an extension that is empty."""
    found: dict[str, list[float]] = {"bare": [], "stabilize_nb": []}
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        (Path(folder) / "empty_extension.py").write_text(EMPTY)
        for _ in range(times):
            for who, name in (("bare", "empty_extension"), ("stabilize_nb", "stabilize_nb")):
                found[who].append(round(float(_python(place, LOAD, name, folder=folder)) * 1_000, 2))
    return found


def idle(place: Place, seconds: float) -> dict[str, float]:
    """Return the percentage of a core that a process takes that has nothing to do, all at the same time."""
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        stores = {"bare": "", "full": f"sqlite:///{folder}/runs.db"}
        if place.server is not None:
            stores["postgresql"] = place.server.url("idle")
        children = {
            store: subprocess.Popen(
                [sys.executable, "-c", IDLE if url else SLEEP, url, str(seconds)], stdout=subprocess.PIPE, text=True,
                env=environment(),
            )
            for store, url in stores.items()
        }  # fmt: skip
        return {
            store: round(float(child.communicate(timeout=seconds + 120)[0]) / seconds * 100, 4)
            for store, child in children.items()
        }


def repaint(place: Place, stages: int, times: int) -> dict[str, float]:
    """Return what tests.benchmarks.repaint says."""
    command = [sys.executable, "-m", "tests.benchmarks.repaint", "--stages", str(stages), "--times", str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place.folder, env=environment())
    return dict(json.loads(done.stdout.splitlines()[-1]))


def events(place: Place, number: int, times: int) -> dict[str, float]:
    """Return what tests.benchmarks.frames says of so many facts."""
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        path = Path(folder) / "runs.db"
        run_id = frames.make(path, number)
        return {
            "events": number, "GB": frames.memory(path, run_id), **frames.measure(path, run_id, times),
        }  # fmt: skip


def counts(place: Place) -> dict[str, dict[str, float]]:
    """Return what one more stage of a chain costs in counts."""
    few, many = 50, 250
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=place.folder) as folder, Bench(f"sqlite:///{folder}/runs.db") as bench:
        bench.run(chain(3))
        both = [counted(bench.database, lambda size=size: bench.run(chain(size), timeout=300)) for size in (few, many)]
        found["sqlite"] = {
            name: (getattr(both[1], name) - getattr(both[0], name)) / (many - few)
            for name in ("commits", "queries", "rows_read", "rows_written")
        }
        flows = chain(few), chain(many)
        bench.begin(flows[0])
        first = called(bench.processor.process_all)
        bench.begin(flows[1])
        found["sqlite"]["calls"] = (called(bench.processor.process_all) - first) / (many - few)
    if place.server is not None:
        costs = [_on_postgresql(place.server.url(f"counts{size}"), size) for size in (few, many)]
        found["postgresql"] = {name: (costs[1][name] - costs[0][name]) / (many - few) for name in costs[0]}
    return found


def _on_postgresql(url: str, size: int) -> dict[str, int]:
    """Return the round trips and commits of a chain that is worked on; it was stored and begun before."""
    with Bench(url) as bench:
        bench.begin(chain(size))
        pipeline: Any = bench.database.writer.pipeline  # type: ignore[attr-defined]
        found = {"trips": 0, "commits": 0}
        send = pipeline.send

        def counted_send(orders: Any) -> Any:
            found["trips"] += 1
            found["commits"] += any(order.name == "commit" for order in orders)
            return send(orders)

        pipeline.send = counted_send
        bench.processor.process_all(timeout=300)
        return found


def _python(place: Place, source: str, *words: str, python: Path | None = None, folder: str | None = None) -> str:
    """Run Python source in a fresh interpreter and return what it prints; modules in `folder` can be imported."""
    others = python is not None and python != Path(sys.executable)
    path = os.pathsep.join(filter(None, [folder, None if others else str(ROOT)]))
    return subprocess.run(
        [str(python or sys.executable), "-c", source, *words], capture_output=True, text=True, check=True,
        cwd=place.folder, env=environment(path),
    ).stdout  # fmt: skip
