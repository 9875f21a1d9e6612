"""
Cells that wait for a run which waits for a person: they go on only where that person can be heard.

Nobody is there in a batch run, and kernels before ipykernel 7.4 hear a click only when no cell runs. There a cell ends
with a line that says what to do; it never hangs. What waits for code ends it everywhere: the cell with the code cannot
be run while this one waits.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from stabilize_nb.errors import ConfigError, StabilizeError, WaitingForApproval, WaitingForCode, WaitingForRedrive
from stabilize_nb.notebook.frontend import AUTO_APPROVE, approves_by_itself, clicks_while_awaiting, is_attended
from stabilize_nb.waiting import AGAIN, WATCH, stuck_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from stabilize_nb.run import Run

#: Who decisions are recorded as that AUTO_APPROVE makes.
NOBODY: Final = AUTO_APPROVE
#: Seconds after which a cell that was interrupted has ended.
SOON: Final = 0.05


class NobodyToDecide(WaitingForApproval):
    """A run waits for a decision in a notebook that nobody watches."""

    def __init__(self, run_id: str, gates: tuple[str, ...], why: str = "") -> None:
        super().__init__(run_id, gates)
        names = ", ".join(map(repr, gates))
        said = f"run {run_id} waits for a decision at {names}, and this notebook is run without anybody to decide"
        how = f"decide before the cell that waits, by run.approve({gates[0]!r}), or set {AUTO_APPROVE}=1"
        self.args = (f"{said} ({AUTO_APPROVE} does not do: {why}): {how}" if why else f"{said}: {how}",)


class DecideBetweenCells(WaitingForApproval):
    """A run waits for a decision that this kernel hears only when no cell runs."""

    def __init__(self, run_id: str, gates: tuple[str, ...]) -> None:
        super().__init__(run_id, gates)
        names = ", ".join(map(repr, gates))
        said = f"run {run_id} waits for a decision at {names}: click, then run the next cell"
        self.args = (f"{said} (this kernel hears no clicks while a cell awaits; ipykernel 7.4 and later do)",)


def register() -> None:
    """Look after cells that wait."""
    WATCH.look = look
    WATCH.heard = listen


def unregister() -> None:
    """Undo `register`."""
    WATCH.look = None
    WATCH.heard = None


def look(run: Run, awaits: bool) -> None:
    """Decide, or end a cell that waits for a run in vain; `awaits`: whether the kernel is free meanwhile."""
    stuck = stuck_at(run)
    match stuck:
        case WaitingForCode() | WaitingForRedrive():
            raise stuck
        case WaitingForApproval() if not is_attended():
            _decide(run, stuck)
        case WaitingForApproval() if awaits and not clicks_while_awaiting():
            raise DecideBetweenCells(run.id, stuck.gates)
        case _:
            return


def listen(again: Callable[[], None]) -> None:
    """Have an interrupt within two seconds heard also when no cell runs: a kernel ignores it then."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    loop.call_later(SOON, _listen, loop, again)


def _listen(loop: asyncio.AbstractEventLoop, again: Callable[[], None]) -> None:
    before, until = signal.getsignal(signal.SIGINT), time.monotonic() + AGAIN
    if before is not signal.SIG_IGN:
        return  # a cell runs: it hears the interrupt itself

    def hear(_number: int, _frame: FrameType | None) -> None:
        if time.monotonic() < until:
            again()
            sys.stdout.write("nothing more is begun, what is at work ends as usual: %workflow resume goes on\n")

    def unlisten() -> None:
        if signal.getsignal(signal.SIGINT) is hear:
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hear)
    loop.call_later(AGAIN, unlisten)


def _decide(run: Run, stuck: WaitingForApproval) -> None:
    if not approves_by_itself():
        raise NobodyToDecide(run.id, stuck.gates)
    for gate in run.gates:
        try:
            run.approve(gate, user=NOBODY)
        except ConfigError as error:
            raise NobodyToDecide(run.id, stuck.gates, str(error)) from None
        except StabilizeError:
            continue  # somebody else was quicker
