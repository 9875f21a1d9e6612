"""
What a stage costs the database and the worker, and what follows for many workers: the figures of docs/scale.md.

    python -m tests.benchmarks.capacity [--stages 2000] [--json docs/scale.json] [--page]

Workflows of four no-op stages are run on SQLite and on a PostgreSQL server of its own; commits, rows, bytes,
write-ahead log and CPU time are counted, storing and starting included. CPU times are of this machine; the rest are
counts. Then tests.benchmarks.crowds plays up to 1,000 workers with these figures. `--page` writes the page's tables.
"""

from __future__ import annotations

import json
import math
import platform
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg

from stabilize_nb.store.database import Database
from stabilize_nb.store.sqlite import SqliteConnection
from stabilize_nb.testing.fuse import on_commit
from tests.benchmarks.crowds import played
from tests.makers import Bench, chain
from tests.postgres import Server
from tests.postgresql.proxy import Proxy

PAGE = Path("docs/scale.md")
RESULT = PAGE.with_suffix(".json")
LENGTH = 4
BILLION_A_DAY = 1e9 / 86_400
#: What a server is asked for in the end: so many cores, busy to this part.
CORES, HALF = 16, 0.5
#: Sessions that listen, to see what telling them of commits costs the server, and how often they are told.
LISTENERS, TOLD = 40, 1_000
TABLES = ("event", "stage", "task", "arrival", "round", "message", "workflow")
#: Coefficient -> what it is, and how it is written.
ROWS = {
    "commits": ("commits a stage", "{:.2f}"),
    "trips": ("round trips a stage", "{:.1f}"),
    "rows": ("rows that stay, a stage", "{:.1f}"),
    "events": ("of them events", "{:.1f}"),
    "event_bytes": ("bytes of an event's document", "{:.0f}"),
    "bytes": ("bytes on disk a stage, indexes included", "{:,.0f}"),
    "wal_bytes": ("bytes of write-ahead log a stage", "{:,.0f}"),
    "worker_ms": ("CPU of the worker a stage, ms", "{:.2f}"),
    "server_ms": ("CPU of the server a stage, ms", "{:.2f}"),
}


@dataclass
class Meter:
    """Counts of one store while workflows are run on it."""

    commits: int = 0
    wal: Counter[str] = field(default_factory=Counter)

    def watch(self, database: Database) -> None:
        """Count what a SQLite database writes ahead: pages of each commit."""

        writer = database.writer
        assert isinstance(writer, SqliteConnection)

        def written(connection: Any, name: str, pages: int) -> int:
            self.wal["pages"] += pages - self.wal["last"] if pages > self.wal["last"] else pages
            self.wal["last"] = pages
            return writer.committed(connection, name, pages)

        writer.raw.set_wal_hook(written)


def on_sqlite(stages: int, meter: Meter) -> dict[str, float]:
    """Return what a stage costs on SQLite."""
    with tempfile.TemporaryDirectory() as folder, Bench(f"sqlite:///{folder}/runs.db") as bench:
        size = "SELECT (SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size())"
        ((before,),) = bench.sql(size)
        meter.watch(bench.database)
        worker = _run(bench, stages)
        commits = meter.commits
        ((after,),), ((page,),) = bench.sql(size), bench.sql("SELECT page_size FROM pragma_page_size()")
        return {
            "commits": commits / stages, "worker_ms": worker, **_rows(bench, stages),
            "bytes": (after - before) / stages, "wal_bytes": meter.wal["pages"] * (page + 24) / stages,
        }  # fmt: skip


def on_postgresql(stages: int, meter: Meter) -> dict[str, float]:
    """Return what a stage costs on PostgreSQL."""
    with Server() as server:
        figures = _costs(server, stages, meter)
        proxy = Proxy(server.address, lambda _kind, _nth: None)
        address = server.url("trips").replace(f":{server.port}/", f":{proxy.port}/") + "&sslmode=disable"
        with Bench(f"{address}&gssencmode=disable") as bench:
            flows = [chain(LENGTH) for _ in range(100)]
            bench.begin(*flows)
            before = proxy.counts["trip"]
            bench.processor.process_all(timeout=600)
            figures["trips"] = (proxy.counts["trip"] - before) / (100 * LENGTH)
        proxy.close()
        figures["listener_ms"] = _telling(server)
    return figures


def _costs(server: Server, stages: int, meter: Meter) -> dict[str, float]:
    with (
        Bench(server.url(f"costs{time.time_ns():x}")) as bench,
        psycopg.connect(server.address, autocommit=True) as root,
    ):
        schema = bench.database.url.rpartition("=")[2]
        size = (
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::float FROM pg_class AS c"
            f" WHERE relkind = 'r' AND relnamespace = '{schema}'::regnamespace"
        )
        wal = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float"

        def seen() -> list[float]:
            return [root.execute(each).fetchone()[0] for each in (size, wal)]

        commits, cpu, before = meter.commits, _cpu(server), seen()
        worker = _run(bench, stages)
        spent, after = _cpu(server) - cpu, seen()
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()"
        bench.processor.start()
        connections = root.execute(sessions).fetchone()[0]
        bench.processor.stop()
        return {
            "commits": (meter.commits - commits) / stages, "worker_ms": worker, "server_ms": spent * 1000 / stages,
            **_rows(bench, stages), "bytes": (after[0] - before[0]) / stages,
            "wal_bytes": (after[1] - before[1]) / stages, "connections": connections,
        }  # fmt: skip


def _run(bench: Bench, stages: int) -> float:
    """Run chains with so many stages together; return ms of CPU time of this process for each."""
    flows = [chain(LENGTH) for _ in range(stages // LENGTH)]
    begun = time.process_time()
    bench.begin(*flows)
    bench.processor.process_all(timeout=600)
    spent = time.process_time() - begun
    assert not bench.store.unfinished()
    return spent * 1000 / stages


def _rows(bench: Bench, stages: int) -> dict[str, float]:
    counts = {table: bench.sql(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    ((length,),) = bench.sql("SELECT sum(length(data)) FROM event")
    return {
        "rows": sum(counts.values()) / stages, "events": counts["event"] / stages,
        "event_bytes": float(length) / counts["event"],
    }  # fmt: skip


def _cpu(server: Server) -> float:
    """Return the seconds of CPU time that a server has taken, with sessions that have ended."""
    assert server._process is not None
    root = psutil.Process(server._process.pid)
    own = root.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for each in root.children(recursive=True):
        times = each.cpu_times()
        total += times.user + times.system
    return total


def _telling(server: Server) -> float:
    """Return ms of CPU time of a server for telling one listener something."""
    with ExitStack() as ends:
        sessions = [ends.enter_context(psycopg.connect(server.address, autocommit=True)) for _ in range(LISTENERS + 1)]

        def tell() -> float:
            before = _cpu(server)
            for _ in range(TOLD):
                sessions[0].execute("NOTIFY told, '12345.abcdef0123456789'")
            return _cpu(server) - before

        alone = tell()
        for each in sessions[1:]:
            each.execute("LISTEN told")
        return max(0.0, tell() - alone) * 1000 / TOLD / LISTENERS


def page(report: dict[str, Any]) -> str:
    """Return the page with the tables of a report."""
    text = PAGE.read_text()
    for name, table in (("costs", _costs_table(report)), ("crowds", _crowds_table(report))):
        begin, end = f"<!-- {name}: python -m tests.benchmarks.capacity --page -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        text = before + begin + table + end + rest.partition(end)[2]
    return text


def _costs_table(report: dict[str, Any]) -> str:
    stores = report["costs"]
    lines = ["| | SQLite | PostgreSQL |", "| --- | ---: | ---: |"]
    for name, (told, form) in ROWS.items():
        cells = (
            form.format(stores[store][name]) if name in stores[store] else "–" for store in ("sqlite", "postgresql")
        )
        lines.append(f"| {told} | {' | '.join(cells)} |")
    server = stores["postgresql"]
    told = (
        f"{server['connections']:.0f} connections a worker process; {server['listener_ms'] * 1000:.0f} µs of the server"
    )
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines += [
        "",
        f"{told} to tell one listener of commits.",
        "",
        f"{report['stages']:,} no-op stages on {report['on']} ({versions}).",
    ]
    return "\n".join(lines) + "\n"


def _crowds_table(report: dict[str, Any]) -> str:
    lines = [
        "| workers | body | server | shards | stages a second | server busy | waiting for the next body, p99 |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {crowd['workers']:,} | {crowd['body']:g} s | {crowd['cores']} cores | {crowd['shards']} |"
        f" {crowd['rate']:,.0f} | {crowd['busy']:.0%} | {crowd['p99']:.2f} s |"
        for crowd in report["crowds"]
    ]
    bears = HALF * CORES * 1000 / report["costs"]["postgresql"]["server_ms"]
    shards = math.ceil(BILLION_A_DAY / bears)
    day = f"A billion stages a day are {BILLION_A_DAY:,.0f} a second: {shards} servers of {CORES} cores"
    lines += ["", f"{day}, half busy, with {bears:,.0f} stages a second each."]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--stages", default=2_000, show_default=True, help="Stages that are run on each database.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where the figures are kept.")
@click.option(
    "--page", "write_page", is_flag=True, help="Write the tables of the page from the kept figures; measure nothing."
)
def main(stages: int, file: Path | None, write_page: bool) -> None:
    """Measure, play, and print."""
    if write_page:
        PAGE.write_text(page(json.loads(RESULT.read_text())))
        return
    meter = Meter()

    def count(_connection: Any) -> None:
        meter.commits += 1

    import_module("stabilize_nb.store.postgres")  # its commits are counted too
    on_commit(after=count)
    costs = {"sqlite": on_sqlite(stages, meter), "postgresql": on_postgresql(stages, meter)}
    report = {
        "on": time.strftime("%Y-%m-%d"), "stages": stages, "versions": {"python": platform.python_version()},
        "costs": {name: {each: round(figure, 4) for each, figure in found.items()} for name, found in costs.items()},
    }  # fmt: skip
    report["crowds"] = played(report["costs"]["postgresql"])
    print(_costs_table(report), _crowds_table(report), sep="\n")
    if file:
        file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
