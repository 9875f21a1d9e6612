"""`stabilize-nb mg-up` and `mg-status`: bring a store to the schema of this version, and say which it has."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click
from rich.table import Table

from stabilize_nb.cli.stores import as_json, db_url, url_of
from stabilize_nb.cli.terminal import Terminal
from stabilize_nb.store.database import applied_migrations, migrate_store


@click.command("mg-up", short_help="Bring a store to the schema of this version.")
@db_url
def mg_up(db_url: str | None) -> None:
    """Apply what is missing, all or nothing; a store that is new is made. Opening one by an engine does the same."""
    applied = migrate_store(url_of(db_url))
    for name in applied:
        click.echo(f"Applying: {name}")
    click.echo(f"Applied {len(applied)} migration(s)" if applied else "All migrations already applied")


@click.command("mg-status", short_help="Say which migrations a store has had.")
@db_url
@as_json
def mg_status(db_url: str | None, *, as_json: bool) -> None:
    """Show each migration as applied, pending, or MISMATCH when it was another one that was applied under its name."""
    found = applied_migrations(url_of(db_url))
    if as_json:
        told = [{"migration": name, "status": status, "applied_at": at} for name, status, at in found]
        click.echo(json.dumps(told, indent=1))
        return
    table = Table("Status", "Migration", "Applied At", box=None, pad_edge=False)
    for name, status, at in found:
        when = "" if at is None else datetime.fromtimestamp(at / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(status, name, when)
    Terminal(soft_wrap=True).print(table)
