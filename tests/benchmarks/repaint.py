"""
What a pane sends and computes to repaint the graph of a run of 500 stages: one line of JSON.

    python -m tests.benchmarks.repaint [--stages 500] [--times 30]

The kernel's side alone: bytes of the messages of widgets as JSON, and ms of CPU time for reading the run and painting
the pane after a stage has ended; the program that lays the graph out is in it, and by itself in `layout_ms`. The
picture that stays in the notebook is counted by itself: it is sent at most every two seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import comm
from comm.base_comm import BaseComm
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from stabilize_nb import Engine, Flow

#: Stages of a row of the graph; rows follow one another.
WIDE = 20
NAMES = ("bytes", "ms", "layout_ms")
#: Bytes of messages of widgets, and of pictures.
sent = {"widgets": 0, "pictures": 0}


class Counted(BaseComm):
    """A channel to a page that counts what goes through it."""

    def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any) -> None:
        sent["widgets"] += len(json.dumps(data, default=str)) + sum(len(each) for each in buffers or ())


class Publisher(DisplayPublisher):
    """Counts what cells show."""

    def publish(self, data: Any, *_: Any, **__: Any) -> None:
        sent["pictures"] += len(json.dumps(data))


def grid(stages: int, turn: threading.Semaphore) -> Flow:
    """Make rows of stages, each of which follows the one above it; every body waits for its turn."""

    def body() -> None:
        turn.acquire()

    flow = Flow("grid")
    for at in range(stages):
        flow.stage(name=f"s{at}", after=[f"s{at - WIDE}"] if at >= WIDE else [])(body)
    return flow


def measure(folder: Path, stages: int, times: int) -> dict[str, float]:
    """Let stages end one by one, and read and paint after each."""
    from stabilize_nb.notebook.panes import run_pane
    from stabilize_nb.notebook.panes.afterlife import Pictures
    from stabilize_nb.notebook.panes.snapshot import RunReader
    from stabilize_nb.notebook.views import run_bundle

    run_pane.PICTURE = 1e9  # type: ignore[misc] - pictures are counted by themselves
    turn = threading.Semaphore(stages // 2)
    with Engine(f"sqlite:///{folder}/runs.db") as engine:
        run = engine.start(grid(stages, turn))
        pictures = Pictures()
        pane, read = run_pane.RunPane(run, pictures, "run"), RunReader(run)
        _settle(run, stages // 2)
        pane.paint(read())
        found = []
        for number in range(times):
            turn.release()
            _settle(run, stages // 2 + number + 1)
            found.append(_cost(lambda: pane.paint(read()), "widgets"))
        picture = _cost(lambda: pictures.add(run_bundle(run), "run"), "pictures")
        turn.release(stages)
        run.wait(120)
    return {
        "stages": stages,
        **{name: round(statistics.median(each[place] for each in found), 1) for place, name in enumerate(NAMES)},
        **{f"picture_{name}": round(picture[place], 1) for place, name in enumerate(NAMES)},
    }


def _cost(work: Callable[[], object], what: str) -> tuple[int, float, float]:
    """Return the bytes sent, and the ms of CPU time of this thread and of processes that it started."""
    before, begun, children = sent[what], time.thread_time(), os.times()
    work()
    spent, after = time.thread_time() - begun, os.times()
    layout = after.children_user - children.children_user + after.children_system - children.children_system
    return sent[what] - before, (spent + layout) * 1_000, layout * 1_000


def _settle(run: Any, ended: int) -> None:
    """Wait until so many stages have ended."""
    while sum(stage.status.is_complete for stage in run.workflow.stages) < ended:
        time.sleep(0.01)


@click.command()
@click.option("--stages", default=500, show_default=True, help="Stages of the run.")
@click.option("--times", default=30, show_default=True, help="Repaints that are measured.")
def main(stages: int, times: int) -> None:
    """Measure and print."""
    comm.create_comm = Counted
    shell = InteractiveShell.instance(display_pub_class=Publisher)
    shell.run_line_magic("load_ext", "stabilize_nb")
    with tempfile.TemporaryDirectory() as folder:
        click.echo(json.dumps(measure(Path(folder), stages, times)))


if __name__ == "__main__":
    main()
