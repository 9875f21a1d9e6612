"""Threads and memory of agents that wait for a slow model, all at once.

    python -m tests.benchmarks.agents [--agents 200] [--delay 5]

Each agent is a stage that asks, calls a tool, and asks again. The model is a process of its own, in which every
answer takes `delay` seconds. Threads are those of the process with the engine; memory is what it holds (RSS).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

from stabilize_nb.llm import AgentLoopTask, LLMClient, ToolRegistry
from tests.makers import Bench, stage, workflow

#: What the issue asks for, of 200 agents.
MOST_THREADS = 12
MOST_MB = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was seen: the most threads and megabytes, seconds in all, and the stages that succeeded."""

    threads: int
    megabytes: float
    seconds: float
    succeeded: int


@contextmanager
def slow_model(folder: Path, delay: float) -> Iterator[str]:
    """Run a model that has a tool called and then answers, and give its address."""
    call = {"tool_calls": [{"name": "balance", "arguments": {"user": "u_42"}}], "delay": delay}
    script = folder / "script.json"
    script.write_text(json.dumps({"turns": [call, {"text": "It is 12 EUR.", "delay": delay}]}))
    command = [sys.executable, "-m", "stabilize_nb.testing.model", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


class Watch(threading.Thread):
    """Looks at this process again and again, not counting itself."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.threads = 0
        self.bytes = 0
        self.names: set[str] = set()
        self._process = psutil.Process()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.01):
            names = [each.name for each in threading.enumerate() if each is not self]
            if len(names) > self.threads:
                self.threads, self.names = len(names), set(names)
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def end(self) -> None:
        self._ended.set()
        self.join()


def balance(user: str) -> str:
    """Return the balance of a user."""
    return f"{user} has 12 EUR"


def measure(agents: int, delay: float) -> Found:
    """Run a workflow of so many agents that begin at once."""
    with tempfile.TemporaryDirectory() as folder, slow_model(Path(folder), delay) as url:
        task = AgentLoopTask(LLMClient("slow", base_url=url), ToolRegistry([balance]))
        with Bench(f"sqlite:///{folder}/agents.db", tasks={"agent": task}) as bench:
            work = workflow(*(stage(f"a{at}", task="agent", context={"prompt": "Well?"}) for at in range(agents)))
            watch = Watch()
            watch.start()
            began = time.perf_counter()
            bench.begin(work)
            bench.processor.start()
            while not bench.store.retrieve(work.id).status.is_complete:
                time.sleep(0.1)
            seconds = time.perf_counter() - began
            watch.end()
            statuses = list(bench.statuses(work).values())
    return Found(
        threads=watch.threads, megabytes=watch.bytes / 2**20, seconds=seconds, succeeded=statuses.count("SUCCEEDED")
    )


@click.command()
@click.option("--agents", default=200, show_default=True, help="Stages that wait at once.")
@click.option("--delay", default=5.0, show_default=True, help="Seconds that every answer takes.")
def main(agents: int, delay: float) -> None:
    """Measure and print."""
    found = measure(agents, delay)
    click.echo(
        f"{found.succeeded} of {agents} agents succeeded, with two answers of {delay:g} s, in {found.seconds:.1f} s"
    )
    click.echo(f"{found.threads} threads at most (bound {MOST_THREADS}), {found.megabytes:.0f} MB (bound {MOST_MB})")
    if found.succeeded < agents or found.threads > MOST_THREADS or found.megabytes > MOST_MB:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
