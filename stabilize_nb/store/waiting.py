"""How threads that may be interrupted wait for the engine.

Only the main thread is ever interrupted (Ctrl-C, a notebook's stop button), and an interrupt can strike inside any
Python function, also between taking a lock and giving it back. So a caller's thread never takes a lock that an engine
thread needs: it waits on a raw lock of its own, which the engine only ever releases.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")
#: Seconds that whoever waited for the end of a run waits for it to be shown.
SETTLE = 1.0


class Ticket:
    """Waits for one thing to happen."""

    __slots__ = ("_lock", "about")

    def __init__(self, about: str = "") -> None:
        self.about = about
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, at most `timeout` seconds, and return whether it happened. May be interrupted."""
        return self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))

    def done(self) -> None:
        """It happened; called once, by the engine."""
        self._lock.release()


class Reply(Ticket, Generic[T]):
    """Waits for the result of work that another thread does."""

    __slots__ = ("_error", "_value")

    def __init__(self) -> None:
        super().__init__()
        self._value: T | None = None
        self._error: BaseException | None = None

    def fulfil(self, work: Callable[[], T]) -> None:
        """Do the work in this thread and let the waiter have its result or error."""
        try:
            self._value = work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller that waits
            self._error = error
        self.done()

    def fail(self, error: BaseException) -> None:
        """Let the waiter have an error."""
        self._error = error
        self.done()

    def result(self) -> T:
        """Wait and return the result, or raise the error."""
        self.wait()
        if self._error is not None:
            raise self._error
        return cast("T", self._value)


class Changes:
    """Tells threads of this process that something was committed."""

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()
        self._listeners: list[Callable[[], None]] = []

    def ticket(self, about: str = "") -> Ticket:
        """
        Return a ticket that is done at the next change: take it, look at the state, then wait.

        `about`: the workflow to which the change may matter; not at each of its steps, of which there are many.
        """
        ticket = Ticket(about)
        self._tickets.append(ticket)
        return ticket

    def give_back(self, ticket: Ticket) -> bool:
        """Forget a ticket; return whether it was not done yet."""
        try:
            self._tickets.remove(ticket)
        except ValueError:
            return False
        return True

    def notify(self, origin: object = None, about: Collection[str] | None = None) -> None:
        """
        Say that something has changed; the listener `origin`, which knows already, is left out.

        `about`: the only workflows to whose waiters this matters.
        """
        for ticket in list(self._tickets):
            if (about is None or not ticket.about or ticket.about in about) and self.give_back(ticket):
                ticket.done()
        for listener in list(self._listeners):
            if listener != origin:
                listener()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change, in the thread that made it."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Stop calling `listener`."""
        if listener in self._listeners:
            self._listeners.remove(listener)


class Onlooker(Protocol):
    """Whoever shows runs in this process, as threads that wait for a run know it."""

    def look(self) -> None:
        """Somebody waits, and has looked once more."""

    def settle(self, timeout: float) -> None:
        """Show what has been committed so far; return when that is done, at most after `timeout` seconds."""


#: Those who want to know that somebody waits.
ONLOOKERS: list[Onlooker] = []


def look() -> None:
    """Tell onlookers that somebody waits, and has looked once more."""
    for onlooker in ONLOOKERS:
        onlooker.look()


def settle() -> None:
    """Have everything shown before whoever waited goes on: a batch run saves its outputs right after its last cell."""
    for onlooker in ONLOOKERS:
        onlooker.settle(SETTLE)
