"""
Processes that are meant to die: forks of this one, each with a question and a pipe for its answer.

A fork begins with everything imported and costs a few milliseconds. It has only the thread that forked, so whoever
forks many times should have no others, nor an open database: `warm` does what a fork would otherwise do each time.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import tempfile
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stabilize_nb.errors import StabilizeError
from stabilize_nb.store.database import Database

T = TypeVar("T")
#: Says JSON data to whoever has forked this process.
Say = Callable[[Any], None]
#: What a process does.
Work = Callable[[Say], None]
#: A folder in memory, where the system has one: a killed process loses nothing there, and nothing waits for a disk.
MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by tempfile
_NUMBER = 4  # bytes that the number of an item takes


class ForkError(StabilizeError):
    """What a forked process raised, as text."""


def warm() -> None:
    """Read and import what opening a database needs, a new one and one that is there, and leave no thread behind."""
    with scratch() as folder:
        for _ in range(2):
            Database.open(f"sqlite:///{folder}/warm.db").close()
    gc.collect()
    gc.freeze()


def forked(work: Callable[[], Any]) -> Any:
    """Return what `work` returns, JSON data, in a process of its own; None when it was killed. Raises ForkError."""
    return next(fan_out(lambda _: work(), [None], 1), None)


def fan_out(work: Callable[[T], Any], items: Sequence[T], jobs: int) -> Iterator[Any]:
    """Yield what `work` returns for each item, as it comes, from `jobs` processes; raises ForkError."""
    with tempfile.TemporaryFile() as numbers:  # forks read from one place in it: whoever is free takes the next item
        numbers.write(b"".join(number.to_bytes(_NUMBER, "big") for number in range(len(items))))
        numbers.seek(0)
        place = numbers.fileno()

        def share(say: Say) -> None:
            while number := os.read(place, _NUMBER):
                say(work(items[int.from_bytes(number, "big")]))

        yield from told_by([Child(share) for _ in range(min(jobs, len(items)))])


def told_by(children: Sequence[Child], silence: float | None = None) -> Generator[Any, None, None]:
    """
    Yield what processes say until all have ended.

    Raises ForkError for what one of them raised, TimeoutError after `silence` seconds in which none said anything.
    """
    try:
        with selectors.DefaultSelector() as selector:
            for child in children:
                selector.register(child.pipe, selectors.EVENT_READ, child)
            while selector.get_map():
                ready = selector.select(silence)
                if not ready:
                    msg = f"the processes have said nothing for {silence} s"
                    raise TimeoutError(msg)
                for key, _ in ready:
                    if not key.data.hear():
                        selector.unregister(key.fileobj)
                    yield from key.data.lines()
    finally:
        for child in children:
            child.bury()


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder, in memory if possible."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="stabilize-", dir=place)


class Child:
    """A forked process; `work` is given the function by which it says JSON data, a line each."""

    def __init__(self, work: Work) -> None:
        self.pipe, writer = os.pipe()
        self._heard = b""
        self.pid = os.fork()
        if self.pid == 0:
            _live(work, writer)
        os.close(writer)

    def hear(self) -> bool:
        """Take what was said; return whether more may come."""
        said = os.read(self.pipe, 1 << 16)
        self._heard += said
        return bool(said)

    def lines(self) -> Iterator[Any]:
        """Yield what was said in whole lines; raises ForkError."""
        *whole, self._heard = self._heard.split(b"\n")
        for line in whole:
            answer = json.loads(line)
            if "raised" in answer:
                raise ForkError(answer["raised"])
            yield answer["said"]

    def bury(self) -> None:
        """Wait for its end; one that is still at work is killed, and its session if it has one of its own."""
        os.close(self.pipe)
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _live(work: Work, writer: int) -> None:
    """Work in a forked process, and never return to what its parent was about to do."""
    with os.fdopen(writer, "w") as pipe:

        def say(answer: Any, kind: str = "said") -> None:
            pipe.write(json.dumps({kind: answer}) + "\n")
            pipe.flush()

        try:
            work(say)
        except BaseException:  # noqa: BLE001 - its parent reports it
            with contextlib.suppress(OSError):
                say(traceback.format_exc(), "raised")
    os._exit(0)
