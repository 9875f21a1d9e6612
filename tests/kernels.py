"""
Real kernels of both ends of the supported range: the one that the tests run in, and ipykernel 6.29.5 beside it.

The older one is a virtual environment that holds its own IPython and ipykernel and finds everything else, this package
too, in the environment of the tests. It is made once in a folder that is kept, in a few seconds.
"""

from __future__ import annotations

import fcntl
import json
import queue
import subprocess
import sys
import sysconfig
import textwrap
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

#: The oldest kernel that is supported, and an IPython of its time.
OLDEST = ("ipykernel==6.29.5", "ipython==8.12.3")
#: The name of its kernel spec; "python3" is the kernel of the environment that the tests run in.
OLDEST_NAME, NEWEST_NAME = "ipykernel-6", "python3"


@dataclass(frozen=True, slots=True)
class OldestKernel:
    """An environment with `OLDEST`. `specs`: the folder with its kernel spec, for JUPYTER_PATH."""

    python: Path
    specs: Path


def oldest_kernel(folder: Path) -> OldestKernel:
    """Return the environment in a folder; it is made when the folder holds none, or one for another Python."""
    home = folder / "environment"
    stamp, wanted = folder / "stamp.json", json.dumps([*OLDEST, sys.version, sys.prefix])
    found = OldestKernel(python=home / "bin" / "python", specs=folder / "share" / "jupyter")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _make(home)
            _write_spec(found)
            stamp.write_text(wanted)
    return found


def _make(home: Path) -> None:
    venv.create(home, clear=True)
    found = subprocess.run(
        [home / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    beside = sysconfig.get_path("purelib")
    Path(found.stdout.strip(), "beside.pth").write_text(f"import site; site.addsitedir({beside!r})\n")
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet", *OLDEST]
    subprocess.run(pip, check=True)


def _write_spec(kernel: OldestKernel) -> None:
    place = kernel.specs / "kernels" / OLDEST_NAME
    place.mkdir(parents=True, exist_ok=True)
    argv = [str(kernel.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "ipykernel 6", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(spec))


@dataclass(frozen=True, slots=True)
class Reply:
    """How a cell ended: `content` of its reply, what it printed and showed as text, and when (monotonic seconds)."""

    content: dict[str, Any]
    text: str
    at: float
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        return self.content["status"] == "ok"

    @property
    def error(self) -> str:
        """The name of the error, empty when there was none."""
        return str(self.content.get("ename", ""))


class Kernel:
    """A kernel process with a client, as a front end has it, but without anything to show widgets with."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def send(self, source: str) -> str:
        """Send a cell and return at once, with the id of the message."""
        return self.client.execute(textwrap.dedent(source), stop_on_error=False)

    def interrupt(self) -> float:
        """Press the stop button and return when (monotonic seconds)."""
        at = time.monotonic()
        self.manager.interrupt_kernel()
        return at

    def until_shown(self, message_id: str, text: str, timeout: float = 60) -> None:
        """Wait until a cell that runs shows something."""
        while True:
            message = self.client.get_iopub_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") == message_id:
                if message["content"].get("data", {}).get("text/plain") == text:
                    return
                assert message["content"].get("execution_state") != "idle", f"the cell ended without showing {text!r}"

    def reply(self, message_id: str, timeout: float = 60) -> Reply:
        """Wait for the end of a cell: its reply, and everything it said until the kernel was idle again."""
        answer = self.client.get_shell_msg(timeout=timeout)
        while answer["parent_header"].get("msg_id") != message_id:
            answer = self.client.get_shell_msg(timeout=timeout)
        at = time.monotonic()
        said, shown = self._said(message_id, timeout)
        return Reply(answer["content"], said, at, shown)

    def reply_within(self, message_id: str, seconds: float) -> Reply | None:
        """Return the end of a cell, or None when it does not come in time."""
        try:
            return self.reply(message_id, seconds)
        except queue.Empty:
            return None

    def _said(self, message_id: str, timeout: float) -> tuple[str, list[dict[str, Any]]]:
        said: list[str] = []
        shown = []
        while True:
            message = self.client.get_iopub_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            match message["msg_type"], message["content"]:
                case "stream", {"text": text}:
                    said.append(text)
                case "error", {"traceback": lines}:
                    said += lines
                case "display_data" | "execute_result", {"data": data}:
                    said.append(data.get("text/plain", ""))
                    shown.append(data)
                case "status", {"execution_state": "idle"}:
                    return "\n".join(said), shown

    def run(self, source: str, timeout: float = 60) -> Reply:
        """Run a cell to its end; the error of one that fails is in the reply."""
        return self.reply(self.send(source), timeout)

    def must(self, source: str, timeout: float = 60) -> Reply:
        """Run a cell that has to end well."""
        reply = self.run(source, timeout)
        assert reply.is_ok, reply.text
        return reply


@contextmanager
def started_kernel(folder: Path, name: str = NEWEST_NAME, specs: Path | None = None) -> Iterator[Kernel]:
    """Start a kernel whose working directory is a folder; its process has ended afterwards."""
    places = [] if specs is None else [str(specs / "kernels")]
    manager = KernelManager(kernel_name=name, kernel_spec_manager=KernelSpecManager(kernel_dirs=places))
    manager.start_kernel(cwd=str(folder))
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
