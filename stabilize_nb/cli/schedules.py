"""`stabilize-nb schedules`: what is started again and again, seen, paused, resumed and deleted from a shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem
from rich.table import Column, Table

from stabilize_nb.cli.stores import as_json, db_url, offered, opened
from stabilize_nb.cli.terminal import Terminal
from stabilize_nb.schedules import SCHEDULES, schedule_rows

if TYPE_CHECKING:
    from stabilize_nb.engine import Engine
    from stabilize_nb.store.schedules import ScheduleRow

ORDERS: Final = ("pause", "resume", "delete")


def _keys(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the schedules whose key begins so."""

    def found(engine: Engine) -> list[CompletionItem]:
        rows = schedule_rows(engine)
        return [CompletionItem(row.key, help=row.plan.words) for row in rows if row.key.startswith(begun)]

    return offered(context, found)


@click.command(short_help="List schedules; pause, resume or delete one.")
@click.argument("order", required=False, type=click.Choice(ORDERS))
@click.argument("key", required=False, shell_complete=_keys)
@db_url
@as_json
def schedules(order: str | None, key: str | None, db_url: str | None, *, as_json: bool) -> None:
    """List schedules by key, after carrying out an order: `pause KEY`, `resume KEY`, `delete KEY`."""
    if order is not None and key is None:
        raise click.UsageError(f"which schedule? Write `schedules {order} KEY`")
    with opened(db_url) as engine:
        if order is not None and key is not None:
            getattr(engine.scheduled(key), order)()
        rows = schedule_rows(engine)
    if as_json:
        names = [column.name for column in SCHEDULES]
        click.echo(json.dumps([dict(zip(names, row.told, strict=True)) for row in rows], indent=1))
        return
    table = Table("key", "workflow", "when", Column("next due", no_wrap=True), box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.key, row.workflow, row.plan.words, _next(row))
    failed = [f"{row.key}: {row.error}" for row in rows if row.error]
    terminal = Terminal(soft_wrap=True)
    for part in (table, *failed) if rows else ("no schedules",):
        terminal.print(part)


def _next(row: ScheduleRow) -> str:
    if row.paused:
        return "paused"
    return "never" if row.next_due is None else row.plan.local(row.next_due)
