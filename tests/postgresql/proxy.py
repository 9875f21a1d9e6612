"""
A proxy between a process and a PostgreSQL server that counts statements and cuts sessions at one of them.

It reads the messages of the client (Query, Parse, Bind, Execute, Sync), so it sees each statement, also of a pipeline,
before the server does, whatever the library makes of it. It knows the session's process at the server.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum

import psycopg

#: Seconds for which a COMMIT is held back that reaches the server after its client was cut off.
LATE = 0.05
_COMMIT = re.compile(rb"\bCOMMIT\b")
_LENGTH = struct.Struct("!I")
#: What the client waits after: Query and Sync.
_ENDS = b"QS"
_READY = b"Z\0\0\0\5"


class Way(Enum):
    """What befalls a session at a statement."""

    BEFORE = "cut before COMMIT reached the server"
    AFTER = "cut after COMMIT reached the server"
    LATE = "cut, and COMMIT reached the server after the client had seen that"
    ANSWER = "cut when the server had answered COMMIT"
    ENDED = "pg_terminate_backend before a statement"


class Proxy:
    """
    Passes sessions on to the server at an address, from a port of this machine.

    `counts` has "statement", "commit" and "trip". `reached(kind, nth)` is asked at each of the first two, and says what
    befalls the session.
    """

    def __init__(self, address: str, reached: Callable[[str, int], Way | None]) -> None:
        self.address = address
        self.reached = reached
        self.counts: Counter[str] = Counter()
        self.struck = 0
        self.lock = threading.Lock()
        with psycopg.connect(address) as session:
            self.place = (session.info.host, session.info.port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._serve, name="proxy", daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                session = Session(self, client)
                threading.Thread(target=session.serve, name="proxy-session", daemon=True).start()

    def close(self) -> None:
        """Take no more sessions; those that are there live on."""
        self._door.close()


class Session:
    """A client, its session at the server, and what it has prepared."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = socket.create_connection(proxy.place)
        for each in (client, self._server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._backend = 0
        self._begun = False
        self._kept = b""  # of the client, not yet a whole message
        self._greeting: bytes | None = b""  # of the server, until it has named its process
        self._prepared: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}
        self._way: Way | None = None
        self._last: list[bytes] = []  # what is sent with the COMMIT at which the session is cut

    def serve(self) -> None:
        """Pass on what both sides say until one has gone."""
        with (
            contextlib.closing(self._client),
            contextlib.closing(self._server),
            contextlib.suppress(OSError),
            selectors.DefaultSelector() as selector,
        ):
            selector.register(self._client, selectors.EVENT_READ, self._from_client)
            selector.register(self._server, selectors.EVENT_READ, self._from_server)
            while all(key.data() for key, _ in selector.select()):
                pass

    def _from_server(self) -> bool:
        data = self._server.recv(1 << 16)
        if self._greeting is not None:
            self._greeting += data
            self._backend = _process_in(self._greeting)
            self._greeting = None if self._backend else self._greeting
        self._client.sendall(data)
        return bool(data)

    def _from_client(self) -> bool:
        data = self._client.recv(1 << 16)
        self._kept += data
        ready: list[bytes] = []
        while (message := self._message()) is not None:
            if self._way is not None:
                self._last.append(message)
            elif (said := self._said(message)) is not None and (way := self._befalls(said)) is not None:
                self._server.sendall(b"".join(ready))
                ready = []
                if way is Way.ENDED:
                    self._end_backend()
                    ready.append(message)
                else:
                    self._way, self._last = way, [message]
            else:
                ready.append(message)
            if self._way is not None and (self._way is Way.BEFORE or message[:1] in _ENDS):
                self._cut()
                return False
        self._server.sendall(b"".join(ready))
        return bool(data)

    def _message(self) -> bytes | None:
        """Take a whole message of the client."""
        tag = 1 if self._begun else 0  # the first one has none
        if len(self._kept) < tag + 4:
            return None
        size = tag + int(_LENGTH.unpack_from(self._kept, tag)[0])
        if len(self._kept) < size:
            return None
        message, self._kept = self._kept[:size], self._kept[size:]
        return message

    def _said(self, message: bytes) -> bytes | None:
        """Return the text of the statement that a message has run, if it does."""
        if not self._begun:
            self._begun = True
            return None
        if message[:1] in _ENDS:
            self._proxy.counts["trip"] += 1
        body = message[5:]
        match message[:1]:
            case b"Q":
                return body
            case b"P":
                name, text, _ = body.split(b"\0", 2)
                self._prepared[name] = text
            case b"B":
                portal, name, _ = body.split(b"\0", 2)
                self._portals[portal] = self._prepared.get(name, b"")
            case b"E":
                return self._portals.get(body.split(b"\0", 1)[0], b"")
        return None

    def _befalls(self, said: bytes) -> Way | None:
        kinds = ["statement", *(["commit"] if _COMMIT.search(said) else [])]
        with self._proxy.lock:
            for kind in kinds:
                self._proxy.counts[kind] += 1
                if (way := self._proxy.reached(kind, self._proxy.counts[kind])) is not None:
                    self._proxy.struck += 1
                    return way
        return None

    def _end_backend(self) -> None:
        with psycopg.connect(self._proxy.address, autocommit=True) as root:
            root.execute("SELECT pg_terminate_backend(%s)", [self._backend])
            there = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
            while root.execute(there, [self._backend]).fetchone():
                time.sleep(0.001)

    def _cut(self) -> None:
        """Cut the session at a COMMIT."""
        if self._way is Way.LATE:
            self._client.close()
            time.sleep(LATE)
        if self._way is not Way.BEFORE:
            self._server.sendall(b"".join(self._last))
        if self._way is Way.AFTER:
            self._client.close()
        if self._way is not Way.BEFORE:
            self._await_answer()

    def _await_answer(self) -> None:
        answer = b""
        while _READY not in answer and (data := self._server.recv(1 << 16)):
            answer += data


def _process_in(greeting: bytes) -> int:
    """Return the process of the server from BackendKeyData, 0 as long as it is not there."""
    at = 0
    while len(greeting) >= at + 9:
        if greeting[at : at + 1] == b"K":
            return int(_LENGTH.unpack_from(greeting, at + 5)[0])
        at += 1 + int(_LENGTH.unpack_from(greeting, at + 1)[0])
    return 0
