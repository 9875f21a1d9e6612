"""`stabilize-nb`: the commands by name. A command's module is imported when the command is called."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import click

from stabilize_nb.errors import StabilizeError
from stabilize_nb.models.near import SIMILAR, close

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Name -> module; the command is the function in it that bears the name.
COMMANDS = {
    "approve": "stabilize_nb.cli.runs",
    "cancel": "stabilize_nb.cli.runs",
    "demo": "stabilize_nb.cli.demo",
    "doctor": "stabilize_nb.cli.doctor",
    "export": "stabilize_nb.cli.export",
    "mg-status": "stabilize_nb.cli.schema",
    "mg-up": "stabilize_nb.cli.schema",
    "monitor": "stabilize_nb.cli.monitor",
    "prompt": "stabilize_nb.cli.prompt",
    "prune": "stabilize_nb.cli.prune",
    "reject": "stabilize_nb.cli.runs",
    "retry": "stabilize_nb.cli.runs",
    "runs": "stabilize_nb.cli.runs",
    "schedules": "stabilize_nb.cli.schedules",
    "show": "stabilize_nb.cli.runs",
    "worker": "stabilize_nb.cli.worker",
}


#: What others call commands -> what they are called here.
MEANT = {
    "explain": "show", "inspect": "show", "list": "runs", "logs": "show", "ls": "runs", "migrate": "mg-up",
    "ps": "runs", "status": "show", "top": "monitor",
}  # fmt: skip


class Commands(click.Group):
    """The commands of a table; an error of this package becomes one sentence and exit code 1."""

    def __init__(self, *args: Any, table: Mapping[str, str] = COMMANDS, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        command: click.Command = getattr(importlib.import_module(self.table[cmd_name]), cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; the error for one that there is not names what it may have been."""
        if args[0] not in self.table:
            meant = MEANT.get(args[0])
            like = f"; did you mean {meant!r}?" if meant in self.table else close(args[0], self.table, SIMILAR)
            if like:
                ctx.fail(f"No such command {args[0]!r}{like}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StabilizeError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stabilize-nb")
@click.pass_context
def main(context: click.Context) -> None:
    """Durable workflows that live in a Jupyter kernel."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a symbol shows a question mark
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
