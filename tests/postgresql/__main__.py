"""
What a PostgreSQL server, its sessions and workers may suffer, and whether anything was lost, stuck, wrong or doubled.

    python -m tests.postgresql [PART ...] [--long] [--jobs 2] [--json docs/postgresql.json]

The parts are named in tests/postgresql/parts.py. With `--json` a part is written when it is done, and one that the file
has is left out. `STABILIZE_NB_PG_URL` names another server than our own, but for the part that restarts one.
"""

from __future__ import annotations

import json
import logging
import platform
import sys
import time
from pathlib import Path
from typing import Any

import click
import psycopg

from stabilize_nb.testing.forks import warm
from tests.postgresql.parts import LONG, SHORT
from tests.stores import Schemas, in_postgres


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(LONG)))
@click.option("--long", is_flag=True, help="All there is; about an hour on two cores. Otherwise a little of each part.")
@click.option("--jobs", default=2, show_default=True, help="Scenarios at a time.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where the results are kept.")
def main(names: tuple[str, ...], long: bool, jobs: int, file: Path | None) -> None:
    """Try the parts named, or all; the exit code is 1 when something was wrong."""
    logging.getLogger("stabilize_nb").setLevel(logging.CRITICAL)  # stores are gone all the time here
    parts = LONG if long else SHORT
    with in_postgres() as schemas:
        warm()
        report = _report(file, schemas)
        for name in names or parts:
            if name in report["parts"]:
                continue
            report["parts"][name] = found = {"on": time.strftime("%Y-%m-%d"), **parts[name](schemas, jobs)}
            print(name, {key: value for key, value in found.items() if key not in ("wrong", "shapes")}, flush=True)
            for line in found["wrong"][:5]:
                print("   ", line[:1500], flush=True)
            if file:
                file.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(any(part["wrong"] for part in report["parts"].values()))


def _report(file: Path | None, schemas: Schemas) -> dict[str, Any]:
    """Return what a file has already, or an empty report."""
    if file and file.exists():
        kept: dict[str, Any] = json.loads(file.read_text())
        return kept
    with psycopg.connect(schemas.server.address) as session:
        server = session.info.server_version // 10_000
    versions = {"python": platform.python_version(), "postgresql": str(server), "psycopg": psycopg.__version__}
    return {"versions": versions, "parts": {}}


if __name__ == "__main__":
    main()
