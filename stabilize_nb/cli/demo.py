"""`stabilize-nb demo`: a real study, killed and continued as often as you like."""

from __future__ import annotations

import getpass
import importlib.util
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markdown import Markdown
from rich.panel import Panel
from rich.text import Text

from stabilize_nb.cli.live import Watch
from stabilize_nb.cli.penguins import flow
from stabilize_nb.cli.terminal import Terminal
from stabilize_nb.engine import Engine
from stabilize_nb.errors import StageNotReadyError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.tasks.interface import Task

if TYPE_CHECKING:
    from rich.console import Console

    from stabilize_nb.gates import Gate
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.run import Run

#: Samples of the second look, and the confidence they are good for; the first look draws an eighth.
SAMPLES, WANTED = 4_000, 0.985
EFFECTS = "STABILIZE_NB_DEMO_EFFECTS"
INTERRUPTED = 130


@click.command(short_help="Study penguins; killed at any moment, it goes on where it was.")
@click.option("--yes", is_flag=True, help="Approve the report without asking.")
@click.option("--fresh", is_flag=True, help="Drop an unfinished run and start a new one.")
@click.option(
    "--store", type=click.Path(dir_okay=False, path_type=Path), default=Path(".stabilize/demo.db"), show_default=True,
    help="Database that keeps the run.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), default=Path("penguins.md"), show_default=True,
    help="Markdown file to write.",
)  # fmt: skip
@click.option("--samples", type=click.IntRange(min=400), default=SAMPLES, hidden=True)
def demo(*, yes: bool, fresh: bool, store: Path, report: Path, samples: int) -> None:
    """
    Study the Palmer penguins: three analysts, a quorum of two, a review, your approval, a report.

    Kill it at any moment, with Ctrl-C or kill -9, and give the same command again: it goes on where it was.
    """
    if importlib.util.find_spec("palmerpenguins") is None:
        msg = "the demo needs the data set palmerpenguins; install it with: pip install 'stabilize-nb[lab]'"
        raise click.ClickException(msg)
    store.parent.mkdir(parents=True, exist_ok=True)
    report.parent.mkdir(parents=True, exist_ok=True)
    console = Terminal()
    engine = Engine(store)
    define(engine)
    if fresh:
        drop(engine, console)
    run, earlier = begin(engine, console, report, samples)
    try:
        with Watch(run, console, earlier=earlier) as watch:
            decide(watch, yes=yes)
    except KeyboardInterrupt:
        say_kept(run, console, store)
        sys.exit(INTERRUPTED)  # bodies at work are left to the end of the process: they go on from their last step
    succeeded = conclude(run, console)
    engine.close()
    sys.exit(0 if succeeded else 1)


def define(engine: Engine) -> None:
    """Make the flow's code known; with the environment variable each body is counted in the file it names."""
    engine.define(flow)
    path = os.environ.get(EFFECTS)
    if path:
        for stage in flow.stages.values():
            if not stage.is_gate:
                name = flow.task_name(stage)
                engine.registry.replace(name, Counted(engine.registry.get(name), path))


class Counted(Task):
    """A task that leaves one line in a file when its body begins and one when it has come to its end."""

    def __init__(self, task: Task, path: str) -> None:
        self._task = task
        self._path = path

    def execute(self, stage: StageExecution) -> Any:
        """Count, run the body, count."""
        self._count("start", stage)
        result = self._task.execute(stage)
        self._count("end", stage)
        return result

    def _count(self, what: str, stage: StageExecution) -> None:
        line = f"{what} {stage.ref_id} {stage.generation} {os.getpid()} {time.time():.3f}\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def drop(engine: Engine, console: Console) -> None:
    """Cancel the unfinished runs of the store."""
    for run in engine.unfinished():
        run.cancel(reason="stabilize-nb demo --fresh")
        run.wait(timeout=30)
        console.print(f"dropped run {run.id}")


def begin(engine: Engine, console: Console, report: Path, samples: int) -> tuple[Run, list[str]]:
    """Return the run to watch, and the stages of it that were done before: the unfinished one, or a new one."""
    unfinished = engine.unfinished()
    if not unfinished:
        run = engine.start(
            flow.build(
                quick=max(1, samples // 8), thorough=samples, wanted=1 - (1 - WANTED) * math.sqrt(SAMPLES / samples),
                path=str(report.resolve()),
            )
        )  # fmt: skip
        console.print(f"started run {run.id}")
        return run, []
    run = unfinished[-1]
    stages = run.workflow.stages
    done = [stage.ref_id for stage in stages if stage.status.is_complete]
    begun = [stage.ref_id for stage in stages if stage.status is WorkflowStatus.RUNNING]
    console.print(
        f"resumed run {run.id}: {len(done)} of {len(stages)} stages were already done"
        + (f": {', '.join(done)}" if done else "")
        + (f"; begun, and going on from their last committed step: {', '.join(begun)}" if begun else ""),
        soft_wrap=True,
    )
    engine.resume(run.id)
    return run, done


def decide(watch: Watch, *, yes: bool) -> None:
    """Show the run to its end, asking for each decision on the way."""
    decided: list[str] = []
    while (gate := watch.follow(decided)) is not None:
        watch.hide()
        try:
            if yes:
                watch.run.approve(gate.name, user=f"{user_name()} (--yes)")
            else:
                ask(watch.run, gate, watch.console)
        except StageNotReadyError:
            watch.console.print(f"{gate.name} was decided elsewhere meanwhile")
        decided.append(gate.stage_id)
        watch.show()


def ask(run: Run, gate: Gate, console: Console) -> None:
    """Show exactly what is to be approved, and deliver the answer."""
    if not sys.stdin.isatty():
        msg = f"run {run.id} waits: {gate.question} Answer in a terminal, or give --yes; until then the run is kept"
        raise click.ClickException(obeyed_by_none(msg))
    console.print(Panel(Markdown(str(gate.show), hyperlinks=False), title=Text(gate.question)))
    try:
        approved = click.confirm("Approve? (Ctrl-C: decide later)", default=None)
        reason = "" if approved else click.prompt("Why not?", default="", show_default=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    if approved:
        run.approve(gate.name, user=user_name())
    else:
        run.reject(gate.name, user=user_name(), reason=reason)


def user_name() -> str:
    """Return the name under which decisions are recorded."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "somebody"


def say_kept(run: Run, console: Console, store: Path) -> None:
    """Say that nothing is lost, and how to go on."""
    stages = run.workflow.stages
    done = sum(stage.status.is_complete for stage in stages)
    again = shlex.join(["stabilize-nb", *(argument for argument in sys.argv[1:] if argument != "--fresh")])
    console.print(
        f"\nrun {run.id} is kept in {store} ({done} of {len(stages)} stages done); go on with: {again}", soft_wrap=True
    )


def conclude(run: Run, console: Console) -> bool:
    """Say what came of the run and return whether it succeeded."""
    if run.status is not WorkflowStatus.SUCCEEDED:
        console.print(f"run {run.id} {'; '.join(run.explain())}")
        return False
    path = Path(run.inputs["path"])
    console.print(f"report: {path}\n")
    console.print(Markdown(path.read_text(encoding="utf-8"), hyperlinks=False))
    return True
