"""Work that tests send to other processes. It is a module, so its functions cross by their names."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from stabilize_nb import Flow, StageExecution, Task, TaskResult, TransientError
from stabilize_nb.flow_tasks import jump

heavy = Flow("heavy")


class OddError(Exception):
    """An error that does not survive being sent."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class Squaring(Task):
    """A task that is a class."""

    def execute(self, stage: StageExecution) -> TaskResult:
        """Square."""
        number = stage.context["number"]
        return TaskResult.success(outputs={"square": number * number, "pid": os.getpid()})


@heavy.stage
def numbers(count: int) -> dict[str, Any]:
    """List what is to be worked at."""
    return {"items": list(range(count))}


@heavy.stage(each="items")
def crunch(item: int, folder: str = "", victims: int = 0) -> dict[str, Any]:
    """Compute something; the first `victims` of them kill their process when they are begun first."""
    if item < victims:
        mark = Path(folder) / f"{item}"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return {"value": sum(number * number for number in range(item * 1_000)) % 97, "pid": os.getpid()}


@heavy.stage
def total(crunch: list[dict[str, Any]]) -> dict[str, Any]:
    """Add it up."""
    return {"sum": sum(each["value"] for each in crunch), "pids": sorted({each["pid"] for each in crunch})}


def right(count: int) -> int:
    """Return what `total` is to give."""
    return sum(sum(number * number for number in range(item * 1_000)) % 97 for item in range(count))


def prints() -> str:
    """Print to both streams."""
    sys.stdout.write("one\n")
    sys.stderr.write("two\n")
    return "printed"


def fails() -> None:
    """Raise an error whose cause may pass."""
    try:
        raise ConnectionError("the line is cut")
    except ConnectionError as error:
        raise OddError("a", "b") from error


def breaks() -> None:
    """Raise for good."""
    raise ValueError("broken for good")


def odd() -> Any:
    """Return what cannot be sent back."""
    return (each for each in "ab")


def journals(stage: StageExecution) -> Any:
    """Ask for what only the engine's process has."""
    return stage.step("half", int)


def tells(stage: StageExecution) -> str:
    """Say how far it is, and who it is."""
    stage.progress(0.5, "half", part=1)
    return stage.idempotency_key


def hangs() -> None:
    """Take too long."""
    time.sleep(1.5)


def again(turn: int = 0) -> dict[str, int]:
    """Jump back once."""
    if turn == 0:
        jump("again", turn=1)
    return {"turns": turn}


def flaky(folder: str) -> str:
    """Fail once."""
    mark = Path(folder) / "flaky"
    if not mark.exists():
        mark.touch()
        raise TransientError("not yet", code=3)
    return "at last"
