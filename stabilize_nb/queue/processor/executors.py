"""
The executors of a processor: where bodies of some or of all queues are run instead of in its own threads.

A body that is there keeps its place among the processor's bodies, and no thread. A process that dies takes the bodies
with it that it ran; they are begun again, with a cause that says so. A pool of processes breaks as a whole when one of
its processes dies, and nobody knows for whose sake: it is made anew, and each body that was in it is then run in a pool
of its own, so that one which kills its process harms no other twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stabilize_nb.errors import ConfigError, ProcessLostError
from stabilize_nb.queue.processor.loop import in_thread
from stabilize_nb.queue.processor.remote import Reply, carry_out, packed, unpacked

if TYPE_CHECKING:
    from functools import partial

    from stabilize_nb.queue.processor.body import Running

#: An executor, or a function that makes one.
Source = Executor | Callable[[], Executor]
#: The same for all bodies, or by queue; bodies of other queues are run in threads.
Sources = Source | Mapping[str, Source] | None
#: What makes a pool of processes like another one.
LIKE: Final = ("max_workers", "mp_context", "initializer", "initargs", "max_tasks_per_child")
#: Stands for every queue.
ALL: Final = ""


class Sent(NamedTuple):
    """A body that an executor has."""

    future: Future[bytes]
    executor: Executor


class Pool:
    """One executor, made anew where that can be done when it breaks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._executor = source if isinstance(source, Executor) else None
        self._made: list[Executor] = []  # here, and so ended here
        self._doubtful: set[str] = set()  # bodies that were in a pool which broke
        self._lock = threading.Lock()

    async def run(self, sent: Sent, running: Running) -> Reply:
        """Wait for what comes of a body; raises ProcessLostError when its process died."""
        key = running.idempotency_key
        try:
            reply = await asyncio.wrap_future(sent.future)
        except asyncio.CancelledError:
            if running.cancelled or running.abandoned or not sent.future.cancelled():
                raise
            raise _lost(sent.executor, "it was cancelled there") from None
        except Exception as error:
            if isinstance(error, BrokenExecutor):
                _end_processes(sent.executor)
                with self._lock:
                    self._doubtful.add(key)
                    self._make_anew(sent.executor)
            raise _lost(sent.executor, f"{type(error).__name__}: {error}") from error
        with self._lock:
            self._doubtful.discard(key)
        return await in_thread(lambda: unpacked(reply, running.place))

    def send(self, call: bytes, key: str) -> Sent:
        """Give a body to the executor; raises ProcessLostError when that takes nothing."""
        with self._lock:
            try:
                try:
                    return self._send(call, alone=key in self._doubtful)
                except BrokenExecutor:
                    self._make_anew(self._executor)
                    return self._send(call, alone=False)
            except Exception as error:
                raise _lost(self._executor, f"{type(error).__name__}: {error}") from error

    def _send(self, call: bytes, *, alone: bool) -> Sent:
        if self._executor is None:
            self._executor = self._kept(self._source())  # type: ignore[operator]  # it is no executor
        own = self._another(1) if alone else None
        executor = own or self._executor
        sent = Sent(executor.submit(carry_out, call), executor)
        if getattr(executor, "_broken", False):  # meanwhile, so it may never say what became of this
            _end_processes(executor)
            raise BrokenExecutor("one of its processes died")
        if own is not None:
            own.shutdown(wait=False)  # when it has done that
        return sent

    def _make_anew(self, broken: Executor | None) -> None:
        if broken is self._executor:
            self._executor = self._another(None) or broken

    def _another(self, workers: int | None) -> Executor | None:
        """Make another executor like the first; None when nobody knows how."""
        old = self._source
        if not isinstance(old, Executor):
            return self._kept(old())
        if type(old) is not ProcessPoolExecutor:
            return None
        manner = {word: getattr(old, f"_{word}") for word in LIKE}
        return self._kept(ProcessPoolExecutor(**{**manner, **({"max_workers": workers} if workers else {})}))

    def _kept(self, made: Executor) -> Executor:
        self._made.append(made)
        return made

    def close(self) -> None:
        """End the executors that were made here."""
        with self._lock:
            for each in self._made:
                each.shutdown(wait=False, cancel_futures=True)
            self._made.clear()


def _end_processes(broken: Executor) -> None:
    """
    End what is left of a pool that broke.

    CPython ends the processes that it knows of and then waits for all: for one that was just being begun without end.
    """
    for process in list((getattr(broken, "_processes", None) or {}).values()):
        process.kill()


class Executors:
    """The pools of one processor, by queue."""

    def __init__(self, sources: Sources) -> None:
        self._pools = {queue: Pool(source) for queue, source in _by_queue(sources).items()}

    def of(self, queue: str) -> Pool | None:
        """Return where bodies of a queue are run; None: in threads."""
        return self._pools.get(queue) or self._pools.get(ALL)

    def close(self) -> None:
        """End what was made here; an executor that was given is its owner's."""
        for pool in self._pools.values():
            pool.close()


def call_of(call: partial[Any], running: Running) -> bytes:
    """Return a call of a body as what is sent."""
    return packed(call, running.place, f"{running.idempotency_key}:{running.body.task.attempt}")


def check_sources(sources: Sources) -> None:
    """Raise ConfigError for what is no executor."""
    for source in _by_queue(sources).values():
        if hasattr(source, "get_executor"):
            raise ConfigError(f"executor is {source!r}; what its get_executor() returns is expected")
        if not isinstance(source, Executor) and not callable(source):
            raise ConfigError(
                f"executor is {source!r}; a concurrent.futures.Executor is expected, a function that makes one, or a "
                "mapping from queues to these"
            )


def _by_queue(sources: Sources) -> Mapping[str, Source]:
    if isinstance(sources, Mapping):
        return sources
    return {} if sources is None else {ALL: sources}


def _lost(executor: Executor | None, why: str) -> ProcessLostError:
    return ProcessLostError(f"the process of {type(executor).__name__} that ran it died, or cannot be reached: {why}")
