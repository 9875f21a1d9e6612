"""A store with finished and unfinished runs, as a process that was killed has left it, and as one that was closed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from stabilize_nb import Engine, Flow
from stabilize_nb.models.stage import StageExecution

ROOT = Path(__file__).parents[2]
#: Set in the process that is killed: the body of `slow` does not end there.
held: list[bool] = []
FINISHED = 14

study = Flow("study")


@study.stage
def plan(stage: StageExecution) -> dict[str, object]:
    return {"topic": "ice", "notes": ["x" * 60] * 4}


@study.stage(after="plan")
def read(stage: StageExecution) -> str:
    return str(stage.context["topic"])


@study.stage(after="plan")
def count(stage: StageExecution) -> int:
    return 3


@study.stage(after=["read", "count"])
def write(stage: StageExecution) -> str:
    return "done"


asking = Flow("asking")


@asking.stage
def draft(stage: StageExecution) -> str:
    return "a draft"


asking.approval("Send it?", name="gate", after="draft")


@asking.stage(after="gate")
def send(stage: StageExecution) -> str:
    return "sent"


paying = Flow("paying")


@paying.stage
def slow(stage: StageExecution) -> list[str]:
    bought = [stage.step("buy", lambda at=at: f"ticket {at}") for at in range(3)]
    if held:
        time.sleep(60)
    return bought


@paying.stage(after="slow")
def tell(stage: StageExecution) -> str:
    return "told"


FLOWS = (study, asking, paying)


@dataclass(frozen=True)
class Template:
    """A store to be damaged: the folder it is in, its runs, and how many facts its log has."""

    folder: Path
    runs: int
    facts: int

    def copy(self, folder: Path) -> Path:
        """Copy the store and what lies beside it; returns the path of the copy."""
        folder.mkdir()
        for file in self.folder.iterdir():
            shutil.copy(file, folder / file.name)
        return folder / "runs.db"


def engine_on(path: Path) -> Engine:
    """Open an engine that knows the code of all runs."""
    engine = Engine(path, durability="normal")
    for flow in FLOWS:
        engine.define(flow)
    return engine


def left_by_a_killed_process(folder: Path) -> Template:
    """Make a store whose newest pages stand in its WAL."""
    folder.mkdir()
    code = f"from tests.damage.stores import *; fill(Path({str(folder / 'runs.db')!r}))"
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    return _described(folder)


def fill(path: Path) -> None:
    """Work until two runs wait and a third one is in the middle of its stage, then die."""
    held.append(True)
    engine = engine_on(path)
    for _ in range(FINISHED):
        engine.start(study).wait(20)
    engine.start(asking).until_gate(20)
    engine.start(paying)
    while not engine.processor.desk.running or _bought(engine) < 3:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def _bought(engine: Engine) -> int:
    return len(engine.database.call_read(lambda connection: list(connection.raw.execute("SELECT * FROM journal"))))


def closed(template: Template, folder: Path) -> Template:
    """Make the same store without a WAL: everything stands in its file."""
    engine_on(template.copy(folder)).close()
    return _described(folder)


def _described(folder: Path) -> Template:
    copy = folder.with_name(f"{folder.name}-look")
    shutil.copytree(folder, copy)
    with engine_on(copy / "runs.db") as engine:
        runs = len(engine.runs())
        facts = sum(len(engine.run(each).events) for each in engine.runs()["run_id"])
    return Template(folder, runs, facts)
