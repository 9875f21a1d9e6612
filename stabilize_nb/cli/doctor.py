"""`stabilize-nb doctor`: what is wrong with a store, in plain lines, and what can be saved of it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from stabilize_nb.checkup import Checkup, examine, examine_server
from stabilize_nb.cli.stores import db_url, url_of
from stabilize_nb.cli.terminal import Terminal
from stabilize_nb.engine import store_path
from stabilize_nb.errors import ConfigError
from stabilize_nb.salvage import salvage
from stabilize_nb.store.driver import POSTGRES

if TYPE_CHECKING:
    from stabilize_nb.salvage import SalvageReport

HEALTHY, FINDINGS, CLOSED = 0, 1, 2


@click.command(short_help="Say what is wrong with a store, and save what can be saved.")
@click.argument("store", required=False)
@db_url
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--salvage", "target", type=click.Path(path_type=Path), help="Write what can be read into a new store.")
def doctor(store: str | None, db_url: str | None, *, as_json: bool, target: Path | None) -> None:
    """
    Look through a store: its pages, its schema, and what its runs wait for. It is only read.

    STORE is a file or URL, as --db-url. Pages of a PostgreSQL server are its own affair (pg_amcheck). The exit code is
    0 for a healthy store, 1 when something was found, 2 for one that cannot be opened. With --salvage it is 0 when no
    fact is known to be lost, else 1.
    """
    url = url_of(store or db_url)
    place = store_path(url)
    if place is None and not url.startswith(POSTGRES):
        raise ConfigError("a store in memory is seen by its own process alone")
    path = str(place)
    if target is not None:
        if place is None:
            raise ConfigError("--salvage is for files of SQLite; a server is restored from a backup")
        report = salvage(path, str(target.absolute()))
        click.echo(json.dumps(asdict(report), indent=1)) if as_json else show_salvage(report)
        sys.exit(FINDINGS if report.lost else HEALTHY)
    found = examine_server(url) if place is None else examine(path)
    click.echo(json.dumps(asdict(found), indent=1)) if as_json else show(found)
    sys.exit(HEALTHY if found.is_healthy else FINDINGS if found.opens else CLOSED)


def show(found: Checkup) -> None:
    """Print what was found."""
    console = Terminal(soft_wrap=True)
    count = len(found.findings)
    verdict = "healthy" if not count else "1 finding" if count == 1 else f"{count} findings"
    state = verdict if found.opens else "cannot be opened"
    console.print(Text.assemble(f"{found.path}: ", (state, "bold")))
    for finding in found.findings:
        console.print(Text.assemble("  ", (finding.kind, "bold"), f"  {finding.what}"))
    if any(finding.kind in ("file", "pages") for finding in found.findings) and found.size:
        console.print(f"  stabilize-nb doctor {found.path} --salvage NEW.db  writes what can be read")
    if not found.sizes:
        return
    console.print(f"{found.ended} runs have ended, {found.unfinished} have not; {found.workers} processes work at it")
    for line in found.waits:
        console.print(f"  {line}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("table")
    table.add_column("size", justify="right")
    for name, taken in found.sizes:
        table.add_row(name, readable(taken))
    table.add_row("all" if found.wal is None else "file", readable(found.size), style="bold")
    for name, part in (("free in it", found.free), ("WAL", found.wal)):
        if part is not None:
            table.add_row(name, readable(part))
    console.print(table)


def show_salvage(report: SalvageReport) -> None:
    """Print what was saved."""
    console = Terminal(soft_wrap=True)
    console.print(str(report))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("run", "name", "facts", "lost", "becomes"):
        table.add_column(title, justify="right" if title in ("facts", "lost") else "left")
    for run in report.runs:
        table.add_row(run.run_id, run.name, str(run.read), str(run.lost), run.becomes)
    console.print(table)


def readable(size: int) -> str:
    """Return bytes as people say them."""
    for unit, width in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if size >= width:
            return f"{size / width:.1f} {unit}"
    return f"{size} B"
