"""
One command on another host, over a connection of its own.

The host's shell gets one line that begins a small script of ours, which runs the command. Standard input is the
script's: when it ends, because the time is up, the stage was withdrawn, the connection is lost or this process was
killed, the script ends all processes of the command, as tasks/process.py does here. A process that makes a session of
its own gets away; a network that falls silent is noticed by the host when its sshd looks (ClientAliveInterval).
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError
from stabilize_nb.tasks.masking import NOTHING, Mask
from stabilize_nb.tasks.process import LINGER, Ended, Kept, in_own_thread, until_stopped
from stabilize_nb.tasks.warden import GRACE

if TYPE_CHECKING:
    import paramiko

#: sshd begins each command in a group of its own; 0 is the group of whoever asks.
SCRIPT: Final = f"""exec 3<&0 </dev/null
(trap "" TERM HUP; read -r line; kill -TERM 0; sleep {GRACE:g}; kill -KILL 0) <&3 >/dev/null 2>&1 &
watch=$!
exec 3<&-
"$@"
code=$?
trap "" TERM
exec >/dev/null 2>&1
kill -KILL $watch
kill -TERM 0
exit $code"""
_CHUNK: Final = 65_536


class Refused(Exception):
    """No command was run; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to run something, and as whom. `known_hosts`: None for the user's own; times in seconds."""

    host: str
    port: int
    user: str
    key_file: str | None
    known_hosts: str | None
    is_strict: bool
    connect_timeout: float | None

    @property
    def name(self) -> str:
        """As known_hosts has it."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"  # noqa: PLR2004 - the port of ssh

    @property
    def known(self) -> str:
        """The file of hosts that are known."""
        return self.known_hosts or "~/.ssh/known_hosts"


def line_of(arguments: Sequence[str]) -> str:
    """Return the line for the host's shell."""
    return f"exec /bin/sh -c {shlex.quote(SCRIPT)} sh {shlex.join(arguments)}"


async def run_there(
    target: Target, arguments: Sequence[str], timeout: float | None, cap: int, masked: Mask = NOTHING
) -> Ended:
    """
    Run a command on a host and wait for its end, which comes early when the caller is cancelled.

    Raises Refused where nothing was run, and ConfigError without paramiko.
    """
    session = Session(target, Kept(cap, masked, "stdout"), Kept(cap, masked, "stderr"))
    return await until_stopped(partial(_carried_out, session, line_of(arguments), timeout))


async def _carried_out(session: Session, line: str, timeout: float | None, stop: asyncio.Event) -> Ended:
    async def pass_on() -> None:
        await stop.wait()
        session.stop()

    stopping = asyncio.ensure_future(pass_on())
    try:
        return await in_own_thread(partial(session.run, line, timeout))
    finally:
        stopping.cancel()


class Session:
    """A connection, with the command that it is made for."""

    def __init__(self, target: Target, stdout: Kept, stderr: Kept) -> None:
        self.target = target
        self._stdout = stdout
        self._stderr = stderr
        self._stopped = threading.Event()
        self._channel: paramiko.Channel | None = None

    def stop(self) -> None:
        """End the command; called from another thread."""
        self._stopped.set()
        if self._channel is not None:
            self._channel.shutdown_write()

    def run(self, line: str, timeout: float | None) -> Ended:
        """Connect, run and read until the end."""
        client = connected(self.target)
        try:
            transport = client.get_transport()
            if transport is None:
                raise Refused(f"{self.target.name} closed the connection")
            self._channel = transport.open_session(timeout=self.target.connect_timeout)
            self._channel.exec_command(line)
            with selectors.DefaultSelector() as looker:
                looker.register(self._channel, selectors.EVENT_READ)
                timed_out = self._read(self._channel, looker, timeout)
            code = self._channel.recv_exit_status() if self._channel.exit_status_ready() else -1
        finally:
            client.close()
        self._stdout.flush()
        self._stderr.flush()
        return Ended(
            stdout=self._stdout.data(), stderr=self._stderr.data(), result=b"", code=code, timed_out=timed_out,
            truncated=self._stdout.is_cut or self._stderr.is_cut,
        )  # fmt: skip

    def _read(self, channel: paramiko.Channel, looker: selectors.BaseSelector, timeout: float | None) -> bool:
        """Read until the command has ended, or had to; return whether its time was up."""
        latest = time.monotonic() + timeout if timeout is not None else float("inf")
        is_ending = timed_out = False
        while True:
            left = latest - time.monotonic()
            if not is_ending and (left <= 0 or self._stopped.is_set()):
                is_ending, timed_out = True, left <= 0
                channel.shutdown_write()
                latest = time.monotonic() + 2 * GRACE
            elif left <= 0:
                return timed_out
            if channel.eof_received and not self._take(channel):
                channel.status_event.wait(min(max(left, 0), GRACE))
                return timed_out
            looker.select(min(max(left, 0), LINGER))
            if not self._take(channel) and channel.exit_status_ready():
                return timed_out

    def _take(self, channel: paramiko.Channel) -> bool:
        """Take in what has come; return whether there was anything."""
        found = False
        while channel.recv_ready():
            self._stdout.data_received(channel.recv(_CHUNK))
            found = True
        while channel.recv_stderr_ready():
            self._stderr.data_received(channel.recv_stderr(_CHUNK))
            found = True
        return found


def connected(target: Target) -> paramiko.SSHClient:
    """Connect to a host that is known, or raise Refused."""
    ssh = _paramiko()
    client: paramiko.SSHClient = ssh.SSHClient()
    try:
        _learn_hosts(client, target)
        client.set_missing_host_key_policy(_policy(ssh, target))
        client.connect(
            target.host, target.port, target.user, key_filename=target.key_file,
            allow_agent=target.key_file is None, look_for_keys=target.key_file is None,
            timeout=target.connect_timeout, banner_timeout=target.connect_timeout, auth_timeout=target.connect_timeout,
        )  # fmt: skip
    except BaseException as error:
        client.close()
        if isinstance(error, Refused) or not isinstance(error, ssh.SSHException | OSError | ValueError):
            raise
        raise Refused(_why(ssh, target, error)) from error
    return client


def _paramiko() -> Any:
    try:
        import paramiko  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = "SSHTask needs the package paramiko, which is not installed: pip install 'stabilize-nb[tasks]'"
        raise ConfigError(msg) from error
    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it would print is in the stage's error
    return paramiko


def _learn_hosts(client: paramiko.SSHClient, target: Target) -> None:
    file = Path(target.known).expanduser()
    if file.exists():
        client.load_system_host_keys(str(file))
    elif target.known_hosts is not None:
        raise Refused(f"there is no file {target.known_hosts} of known hosts")


def _policy(ssh: Any, target: Target) -> Any:
    """Return what is done with a host that is not known."""

    class Policy(ssh.MissingHostKeyPolicy):  # type: ignore[misc]  # of an extra
        """Refuses it, unless the stage says otherwise; a key that is not the known one is refused in any case."""

        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            if target.is_strict:
                raise Refused(
                    f"host {target.name} is not known: its key is {_print(key)}, and {target.known} has none of it; "
                    "ask who runs the host whether that is right, and accept the key by: "
                    f"ssh-keyscan -p {target.port} {target.host} >> {target.known}"
                )

    return Policy()


def _print(key: Any) -> str:
    return f"{key.get_name()} {key.fingerprint}"


def _why(ssh: Any, target: Target, error: BaseException) -> str:
    if isinstance(error, ssh.BadHostKeyException):
        return (
            f"the key of host {target.name} is not the one that {target.known} has: it is {_print(error.key)} and was "
            f"{_print(error.expected_key)}, so somebody may stand between; if the host was set up anew, take the "
            f"old key out by: ssh-keygen -f {target.known} -R '{target.name}'"
        )
    if isinstance(error, ssh.AuthenticationException):
        by = f"the key {target.key_file}" if target.key_file else "the keys of its agent and of ~/.ssh"
        return f"host {target.name} does not let in {target.user!r} by {by}: {error}"
    return f"host {target.name} cannot be reached: {str(error) or type(error).__name__}"
