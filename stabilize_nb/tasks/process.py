"""
One command run by a body: in a session of its own, streamed into the stage's log, and ended with all it has begun.

The processes of a command are one group, whose id is that of the first process. When the time is up, when the result
is no longer wanted, and also when the first process ends by itself, what is left of the group is ended: TERM, and
KILL after GRACE. Only a process that makes a session of its own (`setsid`) gets away; what it prints is not waited for.

The work is a task of the event loop that nobody cancels: a cancelled body tells it to stop and waits, and an engine
that stops waiting leaves it to finish by itself. When the process of the engine dies, tasks/warden.py ends the group.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Final, TypeVar

from stabilize_nb.errors import ConfigError
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.tasks.masking import NOTHING, Mask
from stabilize_nb.tasks.warden import GRACE, LOOK, WARDEN, send

T = TypeVar("T")
#: Seconds in which processes may still print that outlive the first one, and in which killed ones vanish.
LINGER: Final = 0.5
#: Bytes of the longest line that is logged; the log keeps no more of a body anyway.
LINE: Final = 65_536
#: Bytes of a result that comes back by the channel; no store takes a value that is larger (docs/values.md).
RESULT: Final = 64 * 1024 * 1024
_at_work: Final[set[asyncio.Task[Any]]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run: `env` is the whole environment, `timeout` in seconds, `cap` the bytes that are kept of each stream.

    `has_channel`: the process gets the number of a further pipe as its last argument, and may write a result to it.
    `is_logged`: whether what is printed goes to the log. `masked` hides secrets in it.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None = None
    stdin: bytes = b""
    timeout: float | None = None
    cap: int = 10_000_000
    has_channel: bool = False
    is_logged: bool = True
    masked: Mask = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of it. `code` is that of the first process, negative for a signal; `truncated`: more was printed."""

    stdout: bytes
    stderr: bytes
    result: bytes
    code: int
    timed_out: bool
    truncated: bool


class Kept(asyncio.Protocol):
    """The first bytes of a stream, which go to the log line by line as they come."""

    def __init__(self, cap: int, masked: Mask = NOTHING, log: str = "") -> None:
        self.is_over = asyncio.Event()
        self._cap = cap
        self._masked = masked
        self._log = log
        self._data = bytearray()
        self._line = b""

    def data_received(self, data: bytes) -> None:
        """Take in what was printed."""
        room = self._cap + self._masked.longest + 1 - len(self._data)  # so that no part of a secret stands at the end
        self._data += data[: max(0, room)]
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if end:
            self._line += data[:end]
            self.flush()
        self._line += data[end : end + LINE + 1 - len(self._line)]

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody can print to it any more."""
        self.flush()
        self.is_over.set()

    def flush(self) -> None:
        """Log the last line, which may have no end."""
        if self._log and self._line:
            is_long = len(self._line) > LINE
            text = f"(a line of more than {LINE} bytes)\n" if is_long else text_of(self._masked(self._line))
            _relay(self._log, text)
        self._line = b""

    @property
    def is_cut(self) -> bool:
        """Whether there was more than is kept."""
        return len(self._data) > self._cap

    def data(self) -> bytes:
        """Return what was kept, without secrets."""
        return self._masked(bytes(self._data))[: self._cap]


def _relay(name: str, text: str) -> None:
    """Print what the command printed; the stream that an engine puts in place tells it from prints of a body."""
    stream = getattr(sys, name)
    if hasattr(stream, "relay"):
        stream.relay(text)
    else:
        stream.write(obeyed_by_none(text))


def text_of(data: bytes) -> str:
    """Return what was printed as text that a store takes."""
    return data.decode("utf-8", "replace").replace("\0", "\\0")


async def run(order: Order) -> Ended:
    """
    Run a command and wait for its end, which comes early when the caller is cancelled.

    Raises ConfigError when it cannot be started.
    """
    if os.name != "posix":
        msg = "commands are run in process groups, which this system does not have; use a POSIX system such as Linux"
        raise ConfigError(msg)
    return await until_stopped(lambda stop: _carried_out(order, stop))


async def until_stopped(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Wait for work that is told to stop when the caller is cancelled, and ends by itself also when nobody waits."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(stop))
    _at_work.add(task)
    task.add_done_callback(_is_over)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        raise


def _is_over(task: asyncio.Task[Any]) -> None:
    _at_work.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: nobody may be waiting for it


async def _carried_out(order: Order, stop: asyncio.Event) -> Ended:
    stdout = Kept(order.cap, order.masked, "stdout" if order.is_logged else "")
    stderr = Kept(order.cap, order.masked, "stderr")
    result = Kept(RESULT)
    process, pipes = await _begun(order, stdout, stderr, result)
    ended = asyncio.ensure_future(in_own_thread(process.wait))
    stopped = asyncio.ensure_future(stop.wait())
    read = asyncio.ensure_future(_read(stdout, stderr, result))
    try:
        done, _ = await asyncio.wait([ended, stopped], timeout=order.timeout, return_when=asyncio.FIRST_COMPLETED)
        if ended in done:
            await asyncio.wait([read], timeout=LINGER)
        await _end_group(process.pid)
        await asyncio.wait([read], timeout=LINGER)
        code = await ended
    finally:
        WARDEN.release(process.pid)
        stopped.cancel()
        read.cancel()
        for pipe in pipes:
            pipe.close()
    stdout.flush()
    stderr.flush()
    return Ended(
        stdout=stdout.data(), stderr=stderr.data(), result=result.data(), code=code, timed_out=not done,
        truncated=stdout.is_cut or stderr.is_cut,
    )  # fmt: skip


async def _begun(
    order: Order, stdout: Kept, stderr: Kept, result: Kept
) -> tuple[subprocess.Popen[bytes], list[asyncio.BaseTransport]]:
    """Start the process, with its pipes read."""
    process, channel = await asyncio.to_thread(_started, order)  # the loop is not held up while a process is made
    loop = asyncio.get_running_loop()
    pipes: list[asyncio.BaseTransport] = []
    for source, kept in ((process.stdout, stdout), (process.stderr, stderr), (channel, result)):
        pipe, _ = await loop.connect_read_pipe(partial(_same, kept), source)
        pipes.append(pipe)
    if process.stdin is not None:
        feed, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        feed.write(order.stdin)
        feed.write_eof()
        pipes.append(feed)
    return process, pipes


def _started(order: Order) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start the process; return it and the channel by which a result comes."""
    WARDEN.begin()
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [*order.argv, str(writing)] if order.has_channel else order.argv,
            stdin=subprocess.PIPE if order.stdin else subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0,
            stderr=subprocess.PIPE, cwd=order.cwd, env=order.env, start_new_session=True,
            pass_fds=[writing] if order.has_channel else [],
        )  # fmt: skip
    except (OSError, ValueError) as error:
        os.close(reading)
        raise ConfigError(f"{order.argv[0]!r} cannot be started: {error}") from error
    finally:
        os.close(writing)
    WARDEN.watch(process.pid)
    return process, os.fdopen(reading, "rb", 0)


def _same(kept: Kept) -> Kept:
    return kept


async def _read(*streams: Kept) -> None:
    for kept in streams:
        await kept.is_over.wait()


async def _end_group(group: int) -> None:
    """End what is left of a group of processes."""
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, LINGER)):
        if not send(group, number):
            return
        latest = time.monotonic() + patience
        while send(group, 0) and time.monotonic() < latest:  # noqa: ASYNC110 - nothing says when a group is gone
            await asyncio.sleep(LOOK)


async def in_own_thread(function: Callable[[], T]) -> T:
    """Call what blocks for long in a thread of its own, which ends with the process; in the context of the caller."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            value = context.run(function)
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            loop.call_soon_threadsafe(_set, future, None, error)
        else:
            loop.call_soon_threadsafe(_set, future, value, None)

    threading.Thread(target=work, name="stabilize-command", daemon=True).start()
    return await future


def _set(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
