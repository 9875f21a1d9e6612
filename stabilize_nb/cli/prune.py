"""`stabilize-nb prune`: runs that have ended go, and their space with them."""

from __future__ import annotations

import json

import click

from stabilize_nb.cli.doctor import readable
from stabilize_nb.cli.stores import as_json, db_url, url_of
from stabilize_nb.engine import store_path
from stabilize_nb.errors import StoreError
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.store.database import Database
from stabilize_nb.store.retention import prune as prune_store


@click.command(short_help="Delete runs that have ended, and give their space back.")
@click.argument("store", required=False)
@db_url
@click.option("--keep", required=True, help="How many of the newest stay (100), or for how long each stays (30d, 12h).")
@click.option("--status", "statuses", multiple=True, help="Only runs that ended so; may be given several times.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@as_json
def prune(
    store: str | None, db_url: str | None, *, keep: str, statuses: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """
    Delete runs that have ended, with their logs. STORE is a file or URL, as --db-url.

    Runs that have not ended, that have queued messages or dead letters, or whose parent has not ended always stay.
    """
    url = url_of(store or db_url)
    path = store_path(url)
    if path is not None and not path.exists():
        raise StoreError(f"database {path}: there is no such file")
    before = path.stat().st_size if path is not None else 0
    with Database.open(url) as database:
        gone = prune_store(database, int(keep) if keep.isdigit() else keep, statuses or None, dry_run=dry_run)
    if as_json:
        told = [{**run, "status": str(run["status"])} for run in gone]
        click.echo(json.dumps({"dry_run": dry_run, "runs": told}, indent=1))
        return
    for run in gone:
        click.echo(obeyed_by_none(f"{run['id']}  {run['status']:<9}  {run['name']}"))
    if dry_run:
        click.echo(f"{len(gone)} runs would go")
    elif path is None:
        click.echo(f"{len(gone)} runs are gone; PostgreSQL gives their space to new ones")
    else:
        click.echo(
            f"{len(gone)} runs are gone; {path.name} took {readable(before)} and takes {readable(path.stat().st_size)}"
        )
