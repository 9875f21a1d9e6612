"""
The event loop on which all coroutine bodies of this process wait; one thread, started when first needed.

What blocks is done in other threads. Two hundred bodies that go on at once have two hundred brief things to do, which
need no thread each: they take turns, and what turns out not to be brief leaves its turn to the next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from stabilize_nb.errors import PreconditionError
from stabilize_nb.store.waiting import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
log = logging.getLogger("stabilize_nb")
#: Turns at once, seconds that one lasts at most, and threads that those may have who had theirs.
TURNS: Final = 2
TURN: Final = 0.25
THREADS: Final = 32
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_turns = asyncio.Semaphore(TURNS)


def run_on_loop(coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
    """Start a coroutine on the loop and return its future."""
    global _loop  # noqa: PLW0603 - one loop a process
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            loop.set_default_executor(ThreadPoolExecutor(THREADS, "stabilize-aside"))
            try:
                threading.Thread(target=_serve, args=(loop,), name="stabilize-async", daemon=True).start()
            except RuntimeError:
                loop.close()
                raise
            _loop = loop
        return asyncio.run_coroutine_threadsafe(coroutine, _loop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop for ever: what tries to end the interpreter in a task inside a body ends that body alone."""
    while True:
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001 - asyncio lets SystemExit and KeyboardInterrupt through
            log.warning("code of a body raised %r on the event loop, which goes on for the others", error)
        else:
            return


def is_on_loop() -> bool:
    """Whether this code runs on the loop."""
    try:
        return asyncio.get_running_loop() is _loop
    except RuntimeError:
        return False


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function in another thread, in the context of the caller, and return its result."""
    if not is_on_loop():
        return await asyncio.to_thread(function)
    async with _turns:
        work = asyncio.ensure_future(asyncio.to_thread(function))
        try:
            await asyncio.wait([work], timeout=TURN)
        except asyncio.CancelledError:
            work.cancel()
            raise
    return await work


def wait_on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """
    Run a coroutine on the loop and return its result to a thread that waits for it; an interrupt cancels it.

    Raises PreconditionError on the loop itself, which would wait for ever.
    """
    if is_on_loop():
        coroutine.close()
        msg = "this would wait on the event loop for the event loop: await the asynchronous form of the call"
        raise PreconditionError(msg)
    reply: Reply[T] = Reply()

    async def work() -> None:
        try:
            value = await coroutine
        except BaseException as error:  # noqa: BLE001 - handed to the caller that waits
            reply.fulfil(partial(_raise, error))
        else:
            reply.fulfil(lambda: value)

    future = run_on_loop(work())
    try:
        return reply.result()
    except BaseException:
        future.cancel()
        raise


def iterate_on_loop(items: AsyncIterator[T]) -> Iterator[T]:
    """Iterate in a thread over what an asynchronous iterator gives on the loop; raises as `wait_on_loop`."""
    if is_on_loop():
        msg = (
            "this would wait on the event loop for the event loop: iterate with 'async for' over the asynchronous form"
        )
        raise PreconditionError(msg)
    box: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    async def work() -> None:
        try:
            async for item in items:
                box.put((item, None))
        except BaseException as error:  # noqa: BLE001 - handed to the caller that waits
            box.put((None, error))
        else:
            box.put((None, StopAsyncIteration()))

    future = run_on_loop(work())
    try:
        while True:
            item, end = box.get()
            if isinstance(end, StopAsyncIteration):
                return
            if end is not None:
                raise end
            yield cast("T", item)
    finally:
        future.cancel()


def _raise(error: BaseException) -> Any:
    raise error


def _forget() -> None:
    """A thread does not pass to a forked child: it makes a loop of its own."""
    global _lock, _loop, _turns
    _lock, _loop, _turns = threading.Lock(), None, asyncio.Semaphore(TURNS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
