"""
Ends the processes of commands when the process of the engine is gone, however it went.

The warden is a small process, begun with the first command of an engine's process. It is told by a pipe which groups
of processes are at work. When the pipe ends, because the engine's process has ended or was killed, it ends those that
are left: a command does not go on unattended, and beside itself when its stage is run again. This file is its program.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

#: Seconds between TERM and KILL, and between two looks at what is left.
GRACE: Final = 2.0
LOOK: Final = 0.02


def send(group: int, number: int) -> bool:
    """Send a signal to a group of processes; return whether there is one (0: only look)."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Warden:
    """The engine's end of the pipe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Be there before a command is, so that it is watched at once."""
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__],
                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, bufsize=0,
                    start_new_session=True,
                )  # fmt: skip
                atexit.register(self.close)

    def watch(self, group: int) -> None:
        """Have a group ended when this process is gone."""
        self._tell(group)

    def release(self, group: int) -> None:
        """Leave a group alone: it has ended."""
        self._tell(-group)

    def _tell(self, number: int) -> None:
        with self._lock, suppress(BrokenPipeError):  # somebody killed the warden: the command runs all the same
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(b"%d\n" % number)

    def close(self) -> None:
        """End what is watched, and the warden."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(2 * GRACE)

    def forget(self) -> None:
        """Leave the warden to the parent: a forked child begins its own."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.returncode = 0  # of no child of this process
            atexit.unregister(self.close)
        self.__init__()  # type: ignore[misc]  # as new


WARDEN: Final = Warden()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WARDEN.forget)


def end(groups: Iterable[int]) -> None:
    """End groups of processes and wait for it: TERM, and KILL after GRACE."""
    left = [group for group in groups if send(group, signal.SIGTERM)]
    latest = time.monotonic() + GRACE
    while left and time.monotonic() < latest:
        time.sleep(LOOK)
        left = [group for group in left if send(group, 0)]
    for group in left:
        send(group, signal.SIGKILL)


def _main() -> None:
    watched: set[int] = set()
    for line in sys.stdin:
        number = int(line)
        if number > 0:
            watched.add(number)
        else:
            watched.discard(-number)
    end(watched)


if __name__ == "__main__":
    _main()
