"""A real sshd on 127.0.0.1, of the current user, with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.tasks.commands import wait_for

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel ERROR
"""


class Sshd:
    """A server that runs in a folder; `context` is how a stage reaches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("host_key", "user_key", "other_key"):
            make_key(folder / name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "config").write_text(CONFIG.format(port=self.port, folder=folder))
        self.known = folder / "known_hosts"
        self.known.write_text(self.line_of(folder / "host_key"))
        self._process: subprocess.Popen[bytes] | None = None

    def line_of(self, key: Path) -> str:
        """Return the line of known_hosts for a host key."""
        return f"[127.0.0.1]:{self.port} {key.with_suffix('.pub').read_text()}"

    @property
    def context(self) -> dict[str, Any]:
        """What a stage says to reach it."""
        return {
            "host": "127.0.0.1", "port": self.port, "user": getpass.getuser(), "known_hosts": str(self.known),
            "key_file": str(self.folder / "user_key"),
        }  # fmt: skip

    def __enter__(self) -> Self:
        assert SSHD is not None, "these tests need the Debian package openssh-server"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(self.folder / "config")])
        wait_for(self._answers)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "sshd did not start"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()


def make_key(path: Path) -> None:
    """Make a pair of keys."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
