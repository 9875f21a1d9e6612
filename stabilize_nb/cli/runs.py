"""`stabilize-nb runs`, `show`, `approve`, `reject`, `cancel` and `retry`: runs seen and ordered from a shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table
from rich.text import Text

from stabilize_nb.cli.stores import as_json, complete_run, db_url, opened, run_of
from stabilize_nb.cli.terminal import Terminal
from stabilize_nb.errors import ConfigError
from stabilize_nb.results import where_it_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stabilize_nb.run import Run

#: Seconds for which an order is waited for; it is kept when nobody carries it out by then.
PATIENCE: Final = 5.0
#: Runs with an attribute that are looked through for unfinished ones.
MOST: Final = 10_000
user = click.option("--user", default="", help="Who decides; it is in the log.")
fields = click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")


@click.command(short_help="List runs, newest first.")
@db_url
@click.option("--unfinished", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", default=20, show_default=True, help="At most so many.")
@click.option("--where", multiple=True, metavar="NAME=VALUE", help="Only those with this attribute; may be repeated.")
@as_json
def runs(db_url: str | None, *, unfinished: bool, limit: int, where: Sequence[str], as_json: bool) -> None:
    """List runs, newest first."""
    wanted = dict(map(_attribute, where))
    with opened(db_url) as engine:
        if unfinished:
            those = {header["id"] for header in engine.store.list(where=wanted, limit=MOST)} if wanted else None
            headers = [each for each in engine.store.unfinished()[::-1] if those is None or each["id"] in those][:limit]
        else:
            headers = engine.store.list(limit=limit, where=wanted)
    if as_json:
        click.echo(json.dumps([{**header, "status": str(header["status"])} for header in headers], indent=1))
        return
    table = Table("run", "name", "status", "error", box=None, pad_edge=False)
    for header in headers:
        table.add_row(header["id"], header["name"], str(header["status"]), _line(header["error"] or ""))
    _print(table) if headers else click.echo("no runs")


@click.command(short_help="Show a run: its stages, what it waits for, its gates.")
@click.argument("run", shell_complete=complete_run)
@db_url
@as_json
def show(run: str, db_url: str | None, *, as_json: bool) -> None:
    """Show a run. RUN is an id, the end of one, or `last`."""
    with opened(db_url) as engine:
        found = run_of(engine, run)
        flow, said, gates = found.workflow, found.explain(), found.gates
    if as_json:
        stages = [{"ref_id": each.ref_id, "status": each.status.name, "outputs": each.outputs} for each in flow.stages]
        asked = [{"gate": gate.name, "question": gate.question, "choices": list(gate.choices)} for gate in gates]
        about = {"id": flow.id, "name": flow.name, "status": flow.status.name, "error": flow.error, "explain": said}
        click.echo(json.dumps({**about, "stages": stages, "gates": asked}, indent=1))
        return
    table = Table("stage", "status", "outputs", box=None, pad_edge=False)
    for each in flow.stages:
        table.add_row(each.ref_id, each.status.name, _line(json.dumps(each.outputs, ensure_ascii=False)))
    _print(Text.assemble((flow.name, "bold"), f"  {flow.id}  {flow.status.name}"), table, *said)
    _print(*filter(None, map(where_it_failed, flow.stages)))
    for gate in gates:
        how = f"stabilize-nb approve {flow.id}/{gate.name}"
        _print(Text.assemble((gate.name, "bold"), f": {gate.question}  ({how})"))


@click.command(short_help="Approve a gate: RUN/GATE, or RUN with only one.")
@click.argument("gate", shell_complete=complete_run)
@fields
@db_url
@user
@click.option("--choice", default="approve", show_default=True, help="Another one of the choices that the gate offers.")
@as_json
def approve(gate: str, fields: Sequence[str], db_url: str | None, user: str, choice: str, *, as_json: bool) -> None:
    """Approve a gate, with the fields of its form. Values are JSON, or text when they are none."""
    _decide(gate, choice, db_url, user, fields, as_json=as_json)


@click.command(short_help="Reject a gate: RUN/GATE, or RUN with only one.")
@click.argument("gate", shell_complete=complete_run)
@fields
@db_url
@user
@as_json
def reject(gate: str, fields: Sequence[str], db_url: str | None, user: str, *, as_json: bool) -> None:
    """Reject a gate."""
    _decide(gate, "reject", db_url, user, fields, as_json=as_json)


@click.command(short_help="Withdraw a run, or one of its stages: RUN or RUN/STAGE.")
@click.argument("run", shell_complete=complete_run)
@db_url
@user
@click.option("--reason", default="", help="Why; it is in the log.")
@as_json
def cancel(run: str, db_url: str | None, user: str, reason: str, *, as_json: bool) -> None:
    """Withdraw what is not complete of a run, or one stage."""
    run_id, _, stage = run.partition("/")
    _order(run_id, db_url, lambda found: found.cancel(stage or None, user=user, reason=reason), as_json=as_json)


@click.command(short_help="Run what failed again, or a stage and what follows: RUN or RUN/STAGE.")
@click.argument("run", shell_complete=complete_run)
@db_url
@as_json
def retry(run: str, db_url: str | None, *, as_json: bool) -> None:
    """Run a stage and what follows it again; without a stage what failed. Workers that know the code do it."""
    run_id, _, stage = run.partition("/")
    _order(run_id, db_url, lambda found: found.retry(stage or None), as_json=as_json)


def _decide(what: str, choice: str, url: str | None, who: str, given: Sequence[str], *, as_json: bool) -> None:
    run_id, _, name = what.partition("/")
    payload = {**dict(map(_field, given)), **({"user": who} if who else {})}

    def order(found: Run) -> None:
        waiting = [gate for gate in found.gates if not name or gate.name == name]
        found.decide(waiting[0] if len(waiting) == 1 else name or _only(found), choice, **payload)

    _order(run_id, url, order, as_json=as_json)


def _only(run: Run) -> str:
    names = [gate.name for gate in run.gates]
    what = f"it has {', '.join(names)}: name one, as in RUN/{names[0]}" if names else "nothing waits for a decision"
    raise ConfigError(f"run {run.id}: {what}")


def _attribute(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign:
        raise ConfigError(f"--where {given!r}: NAME=VALUE is expected")
    return name, value


def _field(given: str) -> tuple[str, Any]:
    name, sign, value = given.partition("=")
    if not sign:
        raise ConfigError(f"{given!r}: FIELD=VALUE is expected")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _order(run: str, url: str | None, order: Callable[[Run], None], *, as_json: bool) -> None:
    """Give an order, wait a little until it is carried out, and say how the run stands."""
    with opened(url) as engine:
        found = run_of(engine, run)
        before = len(found.events)
        order(found)
        ticket = engine.database.changes.ticket()
        if len(found.events) == before:
            ticket.wait(PATIENCE)
        said, status = found.explain(), found.status.name
    if as_json:
        click.echo(json.dumps({"id": found.id, "status": status, "explain": said}, indent=1))
    else:
        _print(f"{found.id}: {'; '.join(said) or 'ordered'}")


def _line(text: str, most: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"


def _print(*parts: Any) -> None:
    console = Terminal(soft_wrap=True)
    for part in parts:
        console.print(part)
