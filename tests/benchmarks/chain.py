"""Stages per second of a chain of no-op tasks, beside the same number of bare transactions.

    python -m tests.benchmarks.chain [--repeat 5] [--sizes 10,100,1000,5000] [--sync MS] [--json FILE]

The bare limit is apsw doing one INSERT, one UPDATE and one COMMIT for each stage and nothing else, in the same journal
mode and with the same `synchronous`. Both are run in turn and the median of the pairs' ratios is printed: the seconds
of one machine mean nothing elsewhere. A chain's time is from the order to start until the workflow has ended.
What a durable commit costs is the disk's affair: `--sync 1` has every sync take a ms longer, for both.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import apsw
import click
from rich.console import Console
from rich.table import Table

from tests.benchmarks.slow_disk import SlowDisk
from tests.makers import Bench, chain

#: What the issue asks for: chain time over bare time, and growth per stage from 100 stages to the largest size.
BOUNDS = {"normal": 25.0, "full": 3.0}
FLAT = 1.3


def bare(folder: Path, stages: int, durability: str) -> float:
    """Return the seconds that bare transactions take, one a stage."""
    db = apsw.Connection(str(folder / "bare.db"))
    db.pragma("journal_mode", "WAL")
    db.pragma("synchronous", durability.upper())
    db.execute("CREATE TABLE state (id INTEGER PRIMARY KEY, step INTEGER)")
    db.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, step INTEGER, data TEXT)")
    db.execute("INSERT INTO state VALUES (1, 0)")
    begun = time.perf_counter()
    for step in range(stages):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO log (step, data) VALUES (?, ?)", (step, '{"fact":"StageEnded","status":"SUCCEEDED"}'))
        db.execute("UPDATE state SET step = ? WHERE id = 1", (step,))
        db.execute("COMMIT")
    seconds = time.perf_counter() - begun
    db.close()
    return seconds


def engine(folder: Path, stages: int, durability: str) -> float:
    """Return the seconds that the engine takes for a chain."""
    with Bench(f"sqlite:///{folder}/chain.db", durability=durability) as bench:
        workflow = chain(stages)
        bench.store.store(workflow)
        begun = time.perf_counter()
        bench.orchestrator.start(workflow)
        bench.processor.process_all(timeout=600)
        seconds = time.perf_counter() - begun
        status = bench.store.retrieve(workflow.id).status
        if status.name != "SUCCEEDED":
            msg = f"chain of {stages} ended {status}"
            raise RuntimeError(msg)
    return seconds


def measure(stages: int, durability: str, repeat: int) -> dict[str, float]:
    """Return medians over interleaved pairs: seconds of both, and the ratio of each pair; short runs get more pairs."""
    pairs = []
    for _ in range(max(repeat, min(15, 2_000 // stages))):
        with tempfile.TemporaryDirectory() as folder:
            pairs.append((engine(Path(folder), stages, durability), bare(Path(folder), stages, durability)))
    return {
        "engine": statistics.median(pair[0] for pair in pairs),
        "bare": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
    }


@click.command()
@click.option("--repeat", default=3, show_default=True, help="Interleaved pairs for each line.")
@click.option("--sizes", default="10,100,1000,5000", show_default=True, help="Numbers of stages.")
@click.option("--sync", type=float, default=0.0, help="ms that a sync of the disk takes longer than it does.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(repeat: int, sizes: str, sync: float, target: Path | None) -> None:
    """Measure and print the table."""
    console = Console()
    if sync:
        SlowDisk(sync)
    table = Table("durability", "stages", "stages/s", "µs/stage", "bare tx/s", "chain / bare", "bound")
    figures = []
    for durability, bound in BOUNDS.items():
        for stages in (int(size) for size in sizes.split(",")):
            found = measure(stages, durability, repeat)
            figures.append({"durability": durability, "stages": stages, **found})
            table.add_row(
                durability, str(stages), f"{stages / found['engine']:,.0f}", f"{found['engine'] / stages * 1e6:,.0f}",
                f"{stages / found['bare']:,.0f}", f"{found['ratio']:.1f}", f"≤ {bound:g}" if stages >= 100 else "",
            )  # fmt: skip
    console.print(table)
    for durability in BOUNDS:
        rows = [each for each in figures if each["durability"] == durability and each["stages"] >= 100]
        if len(rows) > 1:
            growth = (rows[-1]["engine"] / rows[-1]["stages"]) / (rows[0]["engine"] / rows[0]["stages"])
            console.print(
                f"{durability}: per stage, {rows[-1]['stages']} stages cost {growth:.2f} times "
                f"what {rows[0]['stages']} cost (bound {FLAT})"
            )
    if target is not None:
        target.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
