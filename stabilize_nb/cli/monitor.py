"""`stabilize-nb monitor`: what goes on in a store, painted again and again in a terminal."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click
from rich.live import Live

from stabilize_nb.cli.dashboard import Frame, dashboard
from stabilize_nb.cli.stores import db_url, opened
from stabilize_nb.cli.terminal import Terminal
from stabilize_nb.errors import StoreUnavailableError
from stabilize_nb.overview import SHOWN, Overview, overview

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

try:
    import termios
    import tty

    HAS_KEYS = True
except ImportError:  # pragma: no cover - Windows: only Ctrl-C ends it
    HAS_KEYS = False

#: Seconds between two looks at the keyboard and at the size of the terminal.
STEP: Final = 0.25
#: A look may take this share of the time between two.
SHARE: Final = 0.2


@click.command(short_help="Watch runs, workers and the queue of a store in the terminal.")
@db_url
@click.option("--app", "application", metavar="NAME", help="Only runs of this application.")
@click.option("--status", type=click.Choice([*SHOWN]), default="all", show_default=True, help="Which runs are listed.")
@click.option(
    "--refresh", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Print one frame and end; so does output into a file or a pipe.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and end.")
def monitor(
    db_url: str | None, *, application: str | None, status: str, refresh: float, once: bool, as_json: bool
) -> None:
    """
    Show runs, bodies at work, the queue, workers and dead letters of a store, until q or Ctrl-C. It only reads.

    `--status running` lists runs that have not ended, `failed` those that failed, `recent` also those that ended within
    the last hour, `all` also older ones.
    """
    console = Terminal()
    with opened(db_url) as engine:
        place = engine.database.url

        def look() -> Overview:
            return overview(engine.database, application=application, shown=status)

        if as_json:
            click.echo(json.dumps(document(place, look()), indent=1))
        elif once or not console.is_terminal:
            frame = Frame(place=place, note="", width=console.width)
            console.print(dashboard(look(), frame))
        else:
            with suppress(KeyboardInterrupt):
                _watch(console, place, look, refresh)


def document(place: str, seen: Overview) -> dict[str, Any]:
    """Return what was seen as JSON has it; times are ms since the epoch (UTC)."""
    runs = [{**asdict(run), "status": run.status.name, "open": _by_name(run.open)} for run in seen.runs]
    return {"store": place, **asdict(seen), "counts": _by_name(seen.counts), "runs": runs}


def _by_name(statuses: Mapping[Any, Any]) -> dict[str, Any]:
    return {status.name: value for status, value in statuses.items()}


def _watch(console: Console, place: str, look: Callable[[], Overview], refresh: float) -> None:
    """Paint until q; a server that is gone is waited for, below what was seen last."""
    seen, trouble = look(), ""
    note = f"every {refresh:g} s, q ends"
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            try:
                seen, trouble = look(), ""
            except StoreUnavailableError as error:
                trouble = str(error)
            looked, size = time.monotonic(), None
            until = looked + max(refresh, (looked - began) / SHARE)
            while time.monotonic() < until:
                if size != console.size:
                    size = console.size
                    frame = Frame(place=place, note=note, width=size.width, height=size.height, trouble=trouble)
                    live.update(dashboard(seen, frame), refresh=True)
                if pressed(min(STEP, refresh)) in ("q", "Q"):
                    return


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key so many seconds; without a keyboard it only waits."""
    if not (HAS_KEYS and sys.stdin.isatty()):
        yield _no_key
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key(seconds: float) -> str:
    there, _, _ = select.select([sys.stdin], [], [], seconds)
    return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if there else ""


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""
