"""The event loop on which all coroutine bodies of this process wait; one thread, started when first needed."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

from stabilize_nb.errors import PreconditionError
from stabilize_nb.store.waiting import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run_on_loop(coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
    """Start a coroutine on the loop and return its future."""
    global _loop  # noqa: PLW0603 - one loop a process
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="stabilize-async", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, _loop)


def is_on_loop() -> bool:
    """Whether this code runs on the loop."""
    try:
        return asyncio.get_running_loop() is _loop
    except RuntimeError:
        return False


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
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
