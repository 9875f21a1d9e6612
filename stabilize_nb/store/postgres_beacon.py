"""Lights of processors on a PostgreSQL server: locks that it frees when the session ends which holds them (C8)."""

from __future__ import annotations

import select
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from stabilize_nb.store.beacon import Beacon

if TYPE_CHECKING:
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.store.postgres import PostgresDriver

_lock = threading.Lock()
_beacons: dict[str, SessionBeacon] = {}


def beacon_of(driver: PostgresDriver) -> SessionBeacon:
    """Return the lights of a store, the same ones for all who use it in this process."""
    with _lock:
        return _beacons.setdefault(driver.path, SessionBeacon(driver))


class SessionBeacon(Beacon):
    """Lights as advisory locks of one session of this process, which the server frees when the session ends."""

    def __init__(self, driver: PostgresDriver) -> None:
        self._driver = driver
        self._session: psycopg.Connection[Any] | None = None
        self._lit: set[int] = set()
        self._users = 0
        self._guard = threading.Lock()

    def open(self) -> None:
        """Connect, once a process."""
        with self._guard:
            self._users += 1

    def light(self, slot: int) -> None:
        """Take a lock."""
        with self._guard:
            self._lit.add(slot)
            self._take({slot})

    def douse(self, slot: int) -> None:
        """Give a lock back."""
        with self._guard:
            self._lit.discard(slot)
            if self._session is not None:
                with suppress(psycopg.Error):
                    self._session.execute(f"SELECT pg_advisory_unlock({self._driver.space}, {slot})")

    def close(self) -> None:
        """Disconnect when nobody here needs it any more."""
        with self._guard:
            self._users -= 1
            if not self._users and self._session is not None:
                self._session.close()
                self._session = None

    def keep(self) -> None:
        """Take the locks again when the server was gone."""
        with self._guard:
            if self._session is not None:
                _hear_end_of(self._session)
            if self._lit and (self._session is None or self._session.closed):
                self._take(set())

    def _take(self, slots: set[int]) -> None:
        """Lock slots; all of them in a new session."""
        try:
            if self._session is None or self._session.closed:
                self._session, slots = self._driver.session({}), self._lit
            for slot in slots:
                self._session.execute(f"SELECT pg_advisory_lock({self._driver.space}, {slot})")
        except psycopg.Error as error:
            raise self._driver.said(error) from error

    def is_lit(self, connection: Connection, slot: int, host: str) -> bool:
        """Whether some session holds a lock."""
        row = connection.one("beacon_is_lit", {"space": self._driver.place, "slot": slot})
        return bool(row and row[0])


def _hear_end_of(session: psycopg.Connection[Any]) -> None:
    """Have a session that the server has ended know it, without asking the server."""
    with suppress(psycopg.Error):
        while select.select([session.fileno()], [], [], 0)[0]:
            session.pgconn.consume_input()
