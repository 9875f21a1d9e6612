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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stabilize_nb.store.database import Database

T = TypeVar("T")
#: A folder in memory, where the system has one: a killed process loses nothing there, and nothing waits for a disk.
MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by tempfile


class ForkError(RuntimeError):
    """What a forked process raised, as text."""


def warm() -> None:
    """Read and import what opening a database needs, and leave no thread behind."""
    Database.open("sqlite:///:memory:").close()
    gc.collect()
    gc.freeze()


def forked(work: Callable[[], Any], timeout: float | None = None) -> Any:
    """
    Return what `work` returns, JSON data, in a process of its own; None when it was killed.

    Raises ForkError for what it raised, TimeoutError when it took longer than `timeout` seconds; it is killed then.
    """
    child = _Child(lambda say: say(json.dumps({"said": work()})))
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(child.pipe, selectors.EVENT_READ)
            while child.pipe in selector.get_map():
                if not selector.select(timeout):
                    os.kill(child.pid, signal.SIGKILL)
                    msg = f"a process has said nothing for {timeout} s and was killed"
                    raise TimeoutError(msg)
                if not child.hear():
                    selector.unregister(child.pipe)
    finally:
        child.bury()
    return next(child.lines(), None)


def fan_out(work: Callable[[T], Any], items: Sequence[T], jobs: int) -> Iterator[Any]:
    """Yield what `work` returns for each item, as it comes, from `jobs` processes; raises ForkError."""

    def share(first: int) -> Callable[[Callable[[str], None]], None]:
        def each(say: Callable[[str], None]) -> None:
            for item in items[first::jobs]:
                say(json.dumps({"said": work(item)}))

        return each

    children = [_Child(share(first)) for first in range(min(jobs, len(items)))]
    try:
        with selectors.DefaultSelector() as selector:
            for child in children:
                selector.register(child.pipe, selectors.EVENT_READ, child)
            while selector.get_map():
                for key, _ in selector.select():
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


class _Child:
    """A forked process that says lines of JSON."""

    def __init__(self, work: Callable[[Callable[[str], None]], None]) -> None:
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
        """Wait for its end; one that is still at work is killed."""
        os.close(self.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _live(work: Callable[[Callable[[str], None]], None], writer: int) -> None:
    """Work in a forked process, and never return to what its parent was about to do."""
    with os.fdopen(writer, "w") as pipe:

        def say(line: str) -> None:
            pipe.write(line + "\n")
            pipe.flush()

        try:
            work(say)
        except BaseException:  # noqa: BLE001 - its parent reports it
            with contextlib.suppress(OSError):
                say(json.dumps({"raised": traceback.format_exc()}))
    os._exit(0)
