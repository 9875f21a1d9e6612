"""`stabilize-nb worker`: a process that runs the stages whose code it imports, until it is told to go."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final

import click

from stabilize_nb.cli.stores import db_url, url_of
from stabilize_nb.engine import Engine
from stabilize_nb.errors import ConfigError
from stabilize_nb.flow import Flow
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.tasks.registry import TaskRegistry

#: Seconds between two looks for a signal: Python hears one only between two waits.
LOOK: Final = 0.5
#: What a module may have besides flows: a function that is given the registry.
REGISTER: Final = "register"


@click.command(short_help="Run stages of a store in this process, until SIGTERM.")
@db_url
@click.option("--import", "modules", multiple=True, required=True, metavar="MODULE", help="Where flows and tasks are.")
@click.option("--only", multiple=True, metavar="QUEUE", help="A queue, or a task, that is taken; all if none is said.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=8, show_default=True, help="Bodies at a time, in threads."
)
@click.option("--grace", default=30.0, show_default=True, help="Seconds that bodies at work have after SIGTERM.")
def worker(
    db_url: str | None, *, modules: tuple[str, ...], only: tuple[str, ...], concurrency: int, grace: float
) -> None:
    """
    Take what is due of all runs of a store and run the stages whose code is here; what others know is left to them.

    A MODULE is imported with this folder on its path. Its flows are taken, its registries (`TaskRegistry`), and a
    function `register(registry)` is called. `--only gpu` takes what says `queue="gpu"`, `--only default` what says
    none. SIGTERM and Ctrl-C begin nothing more and wait for what is at work.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    sys.path.insert(0, str(Path.cwd()))
    told = threading.Event()

    def go(_number: int, _frame: FrameType | None) -> None:
        told.set()

    with Engine(url_of(db_url), workers=concurrency, only=only) as engine:
        known = [name for module in modules for name in _taken(engine, _imported(module))]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, go)
        engine.work()
        click.echo(obeyed_by_none(f"worker {engine.processor.owner} at {engine.database.url}: {', '.join(known)}"))
        while not told.wait(LOOK):
            pass
        click.echo("no more is begun, what is at work ends")
        engine.close(timeout=grace)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ConfigError(f"--import {name}: no such module is in {Path.cwd()} or installed") from None


def _taken(engine: Engine, module: ModuleType) -> list[str]:
    """Make known what a module has, and return the names; raises ConfigError when it has nothing."""
    found = [each for each in vars(module).values() if isinstance(each, Flow | TaskRegistry)]
    names: dict[str, None] = {}
    for each in found:
        if isinstance(each, Flow):
            engine.define(each)
            names[f"flow {each.name}"] = None
            continue
        for task in sorted(each.names()):
            engine.registry.register(task, each.get(task))
            names[f"task {task}"] = None
    if callable(register := getattr(module, REGISTER, None)):
        before = engine.registry.names()
        register(engine.registry)
        names |= dict.fromkeys(f"task {task}" for task in sorted(engine.registry.names() - before))
    if not names:
        raise ConfigError(f"--import {module.__name__}: it has no Flow, TaskRegistry or {REGISTER}(registry)")
    return list(names)
