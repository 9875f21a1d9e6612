"""
Measure everything, print tables of medians, and keep the figures: docs/performance.md is made of them.

    python -m tests.benchmarks [PART ...] [--quick] [--rounds 5] [--minutes M] [--peers FOLDER] [--json FILE]

Parts: chain, fan, many, recovery, answers, events, import, load_ext, idle, repaint, counts; all of them unless some are
named. FOLDER has the environments of other engines, which `python -m tests.benchmarks.peers FOLDER` makes. A file that
is there already keeps the parts that are not measured anew. `--page` writes the page's tables and measures nothing.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import click
import psycopg
from rich.console import Console

from tests.benchmarks import face, work
from tests.benchmarks.bounds import Report
from tests.benchmarks.page import PAGE, RESULT, page, show
from tests.benchmarks.rounds import Place
from tests.postgres import Server

STEPS = ("chain", "fan", "many")
PARTS = (*STEPS, "recovery", "answers", "events", "import", "load_ext", "idle", "repaint", "counts")


def measured(place: Place, parts: set[str], rounds: int, *, quick: bool) -> Report:
    """Return what was measured, by part; chains, fans and many workflows are one, since they are compared."""
    idle_s = 5 if quick else 60
    works: dict[str, Callable[[], Any]] = {
        "steps": lambda: work.steps(place, parts & {*STEPS}, rounds, quick=quick),
        "recovery": lambda: work.recovery(place, rounds),
        "answers": lambda: work.answers(place, rounds, 10 if quick else work.ANSWERS),
        "events": lambda: face.events(place, 100_000 if quick else 1_000_000, 1 if quick else 3),
        "import": lambda: face.imports(place, 5 if quick else 15),
        "load_ext": lambda: face.extension(place, 5 if quick else 15),
        "idle": lambda: face.idle(place, idle_s),
        "repaint": lambda: face.repaint(place, 500, 5 if quick else 30),
        "counts": lambda: face.counts(place),
    }
    wanted = {"steps" if part in STEPS else part for part in parts}
    report: Report = {}
    for part, do in works.items():
        if part in wanted:
            before = os.getloadavg()[0]
            rows = do()
            report[part] = {"rows": rows, "load": [round(before, 1), round(os.getloadavg()[0], 1)]}
    if "idle" in report:
        report["idle"]["seconds"] = idle_s
    return report


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--quick", is_flag=True, help="Small sizes and few rounds: whether it works, no figures.")
@click.option("--rounds", type=int, help="Rounds of chains, fans and the like: 5, or 2 if quick.")
@click.option("--minutes", default=1e9, help="No round of a part is begun later than this.")
@click.option("--peers", type=click.Path(path_type=Path), help="Where environments of other engines are.")
@click.option("--postgres/--no-postgres", default=True, help="Whether PostgreSQL is measured too.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where the figures are kept.")
@click.option("--page", "write_page", is_flag=True, help="Write the page's tables from the kept figures.")
def main(
    parts: tuple[str, ...], *, quick: bool, rounds: int | None, minutes: float, peers: Path | None, postgres: bool,
    file: Path | None, write_page: bool,
) -> None:  # fmt: skip
    """Measure, print, keep."""
    if write_page:
        PAGE.write_text(page(json.loads((file or RESULT).read_text())))
        return
    console = Console(stderr=True)
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        server = ends.enter_context(Server(fsync="on")) if postgres else None
        place = Place(folder, peers, server, lambda line: console.print(line, style="dim", highlight=False), minutes)
        found = measured(place, {*(parts or PARTS)}, rounds or (2 if quick else 5), quick=quick)
        versions = {
            "Python": platform.python_version(), "SQLite": apsw.sqlite_lib_version(),
            "SQLite of the others": sqlite3.sqlite_version, **_version(server),
        }  # fmt: skip
    kept = json.loads(file.read_text()) if file and file.exists() else {}
    report = {**kept, "on": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "versions": versions, **found}
    show(report, Console())
    if file:
        file.write_text(json.dumps(report, indent=1) + "\n")


def _version(server: Server | None) -> dict[str, str]:
    if server is None:
        return {}
    with psycopg.connect(server.address) as session:
        return {"PostgreSQL": str(session.info.parameter_status("server_version"))}


if __name__ == "__main__":
    main()
