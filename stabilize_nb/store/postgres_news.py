"""
What processes tell each other about their commits, by LISTEN and NOTIFY in a session that does nothing else.

A step does not tell it in its own transaction: a server lets only one transaction at a time commit that does. The
thread here tells it right after the commit, and what follows within `PAUSE` all at once. A process that dies in between
tells nothing: whoever finds it dead looks for what it has left, and everybody looks once in `PATIENCE`.
"""

from __future__ import annotations

import os
import selectors
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.store.postgres import PostgresDriver

#: Seconds after which a listener tries again to reach a server that is gone.
AGAIN: Final = 0.5
#: Seconds after which is looked for commits that nobody has told of.
PATIENCE: Final = 5.0
#: Seconds between two times that something is told.
PAUSE: Final = 0.01


class News:
    """The news of one store. `heard`: how often something of others was heard."""

    def __init__(self, driver: PostgresDriver) -> None:
        self.heard = 0
        self._driver = driver
        self._tell_here: Callable[[], None] = lambda: None
        self._left = threading.Event()
        self._owed = False
        self._thread: threading.Thread | None = None
        self._ears, self._mouth = -1, -1

    def begin(self, heard: Callable[[], None]) -> None:
        """Have `heard` called for commits of others, in a thread of its own, until `end`."""
        self._tell_here = heard
        self._left.clear()
        self._ears, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self._thread = threading.Thread(target=self._serve, name="stabilize-listen", daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """Have others told that something was committed."""
        if self._thread is not None and not self._owed:
            self._owed = True
            self._call()

    def end(self) -> None:
        """Tell what is owed, and stop."""
        if self._thread is None:
            return
        self._left.set()
        self._call()
        thread, self._thread = self._thread, None
        thread.join(PATIENCE)
        if not thread.is_alive():
            os.close(self._ears)
            os.close(self._mouth)

    def _call(self) -> None:
        with suppress(BlockingIOError):  # it is full of the same
            os.write(self._mouth, b".")

    def _serve(self) -> None:
        while not self._left.is_set():
            try:
                with self._driver.session({}) as session, selectors.DefaultSelector() as waiting:
                    self._attend(session, waiting)
            except psycopg.Error:
                self._owed = True  # what was being told may not have been
                self._left.wait(AGAIN)

    def _attend(self, session: psycopg.Connection[Any], waiting: selectors.BaseSelector) -> None:
        """Listen and tell until the session ends or nobody needs it any more."""
        session.add_notify_handler(lambda told: self._hear(told.payload))
        session.execute(f"LISTEN {self._driver.channel}")
        self._hear("")  # what was told while nobody listened
        waiting.register(session.fileno(), selectors.EVENT_READ)
        waiting.register(self._ears, selectors.EVENT_READ)
        while self._owed or not self._left.is_set():
            if self._owed:
                self._owed = False
                session.execute(f"NOTIFY {self._driver.channel}, '{self._driver.voice}'", prepare=False)
                self._left.wait(PAUSE)
            ready = [key.fd for key, _ in waiting.select(PATIENCE)]
            if self._ears in ready:
                os.read(self._ears, 1_000)
            if session.fileno() in ready:
                self._listen(session.pgconn)
            if not ready:
                self._tell_here()

    def _listen(self, link: psycopg.pq.abc.PGconn) -> None:
        """Take in what others have told; raises psycopg.Error when the session has ended."""
        link.consume_input()
        while (told := link.notifies()) is not None:
            self._hear(told.extra.decode())

    def _hear(self, voice: str) -> None:
        if voice != self._driver.voice:
            self.heard += 1
            self._tell_here()
