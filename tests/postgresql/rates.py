"""
How much faster several worker processes are than one, on one server on this machine.

    python -m tests.postgresql.rates [--repeat 3] [--json docs/postgresql-rates.json]

`no-op`: many workflows of stages that do nothing, 2 processes and 1; client and server have the same cores. `naps`: the
same with bodies that sleep, 4 processes and 1. What is printed and kept are medians of repetitions that take turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from stabilize_nb import Engine, Flow
from stabilize_nb.queue.messages import StartWorkflow
from stabilize_nb.store.database import Database
from stabilize_nb.store.store import WorkflowStore
from tests.postgres import Served, shared_server

STAGES = 4
#: Bodies that one process runs at once.
PLACES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Work to be done, and how many processes do it beside one. `nap`: seconds that a body sleeps."""

    name: str
    runs: int
    nap: float
    processes: int


LOADS = (Load(name="no-op", runs=120, nap=0.0, processes=2), Load(name="naps", runs=32, nap=0.3, processes=4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What was seen: stages a second of one process and of several, and how much faster these are."""

    one: float
    several: float
    ratio: float


def flow_of(nap: float) -> Flow:
    """Return a chain of stages."""
    flow = Flow("chain")

    def body() -> int:
        if nap:
            time.sleep(nap)
        return 1

    for place in range(STAGES):
        flow.stage(name=f"s{place}", after=[f"s{place - 1}"] if place else [])(body)
    return flow


@contextmanager
def workers(url: str, nap: float, number: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Have so many processes ready to work."""
    command = [sys.executable, "-m", "tests.postgresql.rates", "--work", url, "--nap", str(nap)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(number)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.communicate()


def measured(url: str, load: Load, number: int) -> float:
    """Return the stages a second of so many processes."""
    flow = flow_of(load.nap)
    with Database.open(url) as database:
        store = WorkflowStore(database)
        for _ in range(load.runs):
            workflow = flow.build()
            store.store(workflow, StartWorkflow(execution_id=workflow.id))
        with workers(url, load.nap, number) as processes:
            begun = time.monotonic()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            while left := len(store.unfinished()):
                time.sleep(0.01 if left < load.runs / 10 else 0.1)
            return load.runs * STAGES / (time.monotonic() - begun)


def work(url: str, nap: float) -> None:
    """Work from the first line of input to its end."""
    with Engine(url, workers=PLACES) as engine:
        engine.define(flow_of(nap))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        engine.processor.start()
        sys.stdin.read()


def compared(server: Served, load: Load, repeat: int) -> Rate:
    """Measure one process and several in turn."""
    seen: dict[int, list[float]] = {1: [], load.processes: []}
    for turn in range(repeat):
        for number, rates in seen.items():
            rates.append(measured(server.url(f"{load.name.replace('-', '')}_{number}_{turn}"), load, number))
    one, several = (statistics.median(rates) for rates in seen.values())
    ratios = [after / before for before, after in zip(*seen.values(), strict=True)]
    return Rate(one=round(one), several=round(several), ratio=round(statistics.median(ratios), 2))


@click.command()
@click.option("--repeat", default=3, show_default=True, help="Repetitions of each.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to keep what was seen.")
@click.option("--work", "url", hidden=True)
@click.option("--nap", default=0.0, hidden=True)
def main(repeat: int, file: Path | None, url: str | None, nap: float) -> None:
    """Compare processes that work at one store."""
    if url is not None:
        work(url, nap)
        return
    found: dict[str, object] = {"on": f"{datetime.now(UTC):%Y-%m-%d}", "cores": os.cpu_count()}
    with shared_server() as server:
        for load in LOADS:
            rate = compared(server, load, repeat)
            said = f"1 process {rate.one:5.0f}/s   {load.processes} processes {rate.several:5.0f}/s"
            click.echo(f"{load.name:6} {said}   {rate.ratio:.2f} times")
            found[load.name] = asdict(load) | asdict(rate)
    if file is not None:
        file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
