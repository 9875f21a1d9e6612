"""
A procedure written once for threads and coroutines: a generator that says what is to be done next.

It says what to do with the store, and what the body does. A body in a thread does both itself; a coroutine leaves the
store to another thread and awaits what is awaitable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple


class Store(NamedTuple):
    """Something to do with the store."""

    work: Callable[[], Any]


class Work(NamedTuple):
    """Something that the body does; may return an awaitable."""

    work: Callable[[], Any]


class Pause(NamedTuple):
    """Seconds to wait; a coroutine holds no thread meanwhile."""

    seconds: float


Steps = Generator[Store | Work | Pause, Any, Any]


def carried_out(steps: Steps) -> Any:
    """Do what steps say, in this thread, and return what they come to."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            todo = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        answer, error = None, None
        try:
            if isinstance(todo, Pause):
                time.sleep(todo.seconds)
            else:
                answer = todo.work()
        except BaseException as raised:  # noqa: BLE001 - the steps have to hear of it
            error = raised


async def carried_out_async(steps: Steps, in_thread: Callable[[Callable[[], Any]], Any]) -> Any:
    """Do the same for a coroutine; storage is used through `in_thread`, which keeps the event loop free."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            todo = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        answer, error = None, None
        try:
            if isinstance(todo, Pause):
                await asyncio.sleep(todo.seconds)
            elif isinstance(todo, Store):
                answer = await in_thread(todo.work)
            else:
                answer = todo.work()
                if hasattr(answer, "__await__"):
                    answer = await answer
        except BaseException as raised:  # noqa: BLE001 - the steps have to hear of it
            error = raised
