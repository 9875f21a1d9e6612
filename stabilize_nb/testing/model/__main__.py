"""Run a scripted model as a process of its own, which outlives whoever asks it."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import click

from stabilize_nb.errors import ConfigError
from stabilize_nb.testing.model.answers import script_of
from stabilize_nb.testing.model.server import ScriptedModel


@click.command()
@click.argument("script", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--port", default=0, help="The port to listen at; any that is free when none is given.")
@click.option("--pace", default=0.0, help="Seconds between the words of a streamed answer.")
def main(script: Path, port: int, pace: float) -> None:
    """
    Answer as SCRIPT says until the process is ended, and print the address first.

    SCRIPT is JSON: a list of answers, {"turns": [...]} or {"rules": {pattern: answer}}. The log of calls is at /log.
    """
    try:
        lines = script_of(json.loads(script.read_text(encoding="utf-8")))
    except (ValueError, ConfigError) as error:
        raise click.ClickException(f"{script}: {error}") from error
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _end)
    with ScriptedModel(lines, pace=pace, port=port) as model:
        click.echo(model.url)
        threading.Event().wait()


def _end(*_: Any) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
