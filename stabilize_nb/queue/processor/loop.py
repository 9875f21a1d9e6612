"""The event loop on which all coroutine bodies of this process wait; one thread, started when first needed."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

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


def _forget() -> None:
    """A thread does not pass to a forked child: it makes a loop of its own."""
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
