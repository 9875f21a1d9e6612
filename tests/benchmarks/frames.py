"""Seconds to load the log of a run into a frame, beside a bare SELECT of the same rows, and the memory that it takes.

    python -m tests.benchmarks.frames [--events 100000] [--repeat 5] [--json FILE]

A real run is made, and its log is told again and again, with later numbers, until the run has so many facts. The bare
limit is apsw reading number, time, type, stage and document of each into tuples, through a connection of its own. Both
are run in turn and the median of the pairs' ratios is printed: the seconds of one machine mean nothing elsewhere.
Memory is the high-water mark of a fresh process that opens the store and makes the frame.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import apsw
import click
from rich.console import Console
from rich.table import Table

from stabilize_nb.events.log_frame import events_frame
from stabilize_nb.store.database import Database
from tests.events.scenes import tasks
from tests.makers import Bench, stage, workflow

#: What the issue asks for: frame time over bare time up to this many facts, and memory up to that many.
RATIO, SMALL = 3.0, 100_000
GIGABYTES, LARGE = 1.5, 1_000_000
BARE = "SELECT sequence, at, type, stage_id, data FROM event WHERE workflow_id = ? ORDER BY sequence"
AGAIN = """
    WITH RECURSIVE round (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM round WHERE number * :facts < :wanted)
    INSERT INTO event (workflow_id, sequence, type, at, stage_id, data)
    SELECT workflow_id, sequence + number * :facts, type, at + number * 60000, stage_id, data
    FROM round CROSS JOIN event WHERE workflow_id = :run AND sequence > 1 AND sequence + number * :facts <= :wanted
    ORDER BY number, sequence
"""
FRESH = """
import resource, sys
from stabilize_nb.events.log_frame import events_frame
from stabilize_nb.store.database import Database
frame = events_frame(Database.open(sys.argv[1]), sys.argv[2])
print(len(frame), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
"""


def make(path: Path, events: int) -> str:
    """Make a store in which a run has so many facts, and return the id of the run."""
    given = {"give": {"draft": "what an agent has written, " * 4, "score": 0.85, "sources": ["a", "b", "c"]}}
    stages = [stage(f"s{at}", *([f"s{at - 1}"] if at else []), task="give", context=given) for at in range(40)]
    with Bench(f"sqlite:///{path}", durability="normal", tasks=tasks()) as bench:
        flow = bench.run(workflow(*stages, name="long"))
        ((facts,),) = bench.sql("SELECT max(sequence) FROM event WHERE workflow_id = ?", flow.id)
        params = {"facts": facts - 1, "wanted": events, "run": flow.id}
        bench.database.write(lambda connection: connection.raw.execute(AGAIN, params))
        ((made, kinds, size),) = bench.sql("SELECT count(*), count(DISTINCT type), avg(length(data)) FROM event")
    if made != events:
        msg = f"the run has {made} facts and not {events}"
        raise RuntimeError(msg)
    click.echo(f"{made:,} facts of {kinds} types; a document has {size:.0f} characters")
    return flow.id


def seconds(work: object) -> float:
    """Return what a call takes; what it returns is given up before the next one."""
    gc.collect()
    begun = time.perf_counter()
    kept = work()
    taken = time.perf_counter() - begun
    del kept
    return taken


def measure(path: Path, run_id: str, repeat: int) -> dict[str, float]:
    """Return medians over interleaved pairs: seconds of both, and the ratio of each pair."""
    with closing(apsw.Connection(str(path))) as raw, Database.open(f"sqlite:///{path}") as database:
        events_frame(database, "nobody")  # loads pandas
        pairs = [
            (
                seconds(lambda: events_frame(database, run_id)),
                seconds(lambda: raw.execute(BARE, (run_id,)).fetchall()),
            )
            for _ in range(repeat)
        ]
    return {
        "frame": statistics.median(pair[0] for pair in pairs),
        "bare": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
    }


def memory(path: Path, run_id: str) -> float:
    """Return the GB that a fresh process takes at most to make the frame; it begins with what this one has taken."""
    command = [sys.executable, "-c", FRESH, f"sqlite:///{path}", run_id]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[1])


@click.command()
@click.option("--events", default=SMALL, show_default=True, help="Facts of the run.")
@click.option("--repeat", default=5, show_default=True, help="Interleaved pairs.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(events: int, repeat: int, target: Path | None) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        run_id = make(path, events)
        found = {"events": events, "GB": memory(path, run_id), **measure(path, run_id, repeat)}
    table = Table("facts", "frame", "bare SELECT", "frame / bare", "bound", "peak memory", "bound")
    table.add_row(
        f"{events:,}", f"{found['frame']:.2f} s", f"{found['bare']:.2f} s", f"{found['ratio']:.2f}",
        f"≤ {RATIO:g}" if events <= SMALL else "", f"{found['GB']:.2f} GB",
        f"≤ {GIGABYTES:g}" if events <= LARGE else "",
    )  # fmt: skip
    Console().print(table)
    if target is not None:
        target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
