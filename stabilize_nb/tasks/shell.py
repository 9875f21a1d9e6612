"""ShellTask: a stage that runs a command of this machine."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any, Final

from stabilize_nb.tasks.command import CommandTask, ended_with, failed
from stabilize_nb.tasks.options import Options
from stabilize_nb.tasks.process import Ended, Order, run, text_of
from stabilize_nb.tasks.result import TaskResult
from stabilize_nb.tasks.templates import as_text, in_arguments, in_shell

#: Options of the task; `{timeout}` in a command is left alone.
KEYS: Final = frozenset({
    "command", "timeout", "cwd", "env", "inherit_env", "shell", "stdin", "max_output_size", "expected_codes", "secrets",
    "binary", "continue_on_failure", "restart_on_failure",
})  # fmt: skip
#: Shells that read `"$name"` as meant here.
SHELLS: Final = ("ash", "bash", "dash", "ksh", "mksh", "sh", "zsh")
DEFAULT_TIMEOUT: Final = 60
DEFAULT_CAP: Final = 10_000_000
_MOST: Final = 1_000_000_000


class ShellTask(CommandTask):
    """Runs `command`: text for a shell, or a list of arguments; `{key}` in it is a value of the context.

    Options: `timeout` (60 s), `cwd`, `env`, `inherit_env`, `shell` (True, or the path of one), `stdin`,
    `max_output_size` (10 MB of each stream), `expected_codes` ([0]), `secrets` (keys whose values are masked),
    `binary`, `continue_on_failure`, `restart_on_failure`. Outputs: stdout, stderr, returncode, truncated, and with
    `binary` stdout_b64. What it prints is in the stage's log as it comes. docs/tasks.md has the whole.

    For example:

        >>> from stabilize_nb import Engine, Flow, ShellTask
        >>> flow = Flow("lines")
        >>> echo = flow.task(ShellTask(command=["echo", "{name}"]), "echo")
        >>> with Engine(":memory:") as engine:
        ...     said = engine.start(flow, name="a & b").result()
        a & b
        >>> said["stdout"]
        'a & b'
    """

    keys = KEYS
    fillable = ("cwd", "env", "stdin")

    async def carried_out(self, options: Options) -> TaskResult:
        """Run the command and look at its code."""
        order = _order(options)
        expected = _codes(options)
        ended = await run(order)
        outputs = _outputs(ended, is_binary=not order.is_logged)
        if ended.timed_out:
            return failed(options, f"{options.place}: the command timed out after {order.timeout:g} s", outputs)
        if ended.code not in expected:
            why = f"{options.place}: the command {ended_with(ended.code, outputs['stderr'])}"
            return failed(options, why, outputs)
        return TaskResult.success(outputs)


def _order(options: Options) -> Order:
    argv, variables = _argv(options)
    stdin = options.get("stdin")
    return Order(
        argv=argv, env={**options.environment(), **variables}, cwd=options.folder(),
        stdin=b"" if stdin is None else as_text("stdin", stdin).encode(),
        timeout=options.seconds("timeout", DEFAULT_TIMEOUT),
        cap=options.whole("max_output_size", DEFAULT_CAP, 0, _MOST),
        is_logged=not options.flag("binary"), masked=options.mask(),
    )  # fmt: skip


def _argv(options: Options) -> tuple[list[str], dict[str, str]]:
    command = options.command()
    if isinstance(command, list):
        return in_arguments(command, options.context, KEYS), {}
    text, variables = in_shell(command, options.context, KEYS)
    return [_shell(options), "-c", text], variables


def _shell(options: Options) -> str:
    shell = options.get("shell", True)
    if shell is True:
        return "/bin/sh"
    if shell is False:
        raise options.wrong("shell", "a command without a shell is a list, such as ['ls', '-l']")
    path = Path(options.text("shell") or "")
    if not path.is_absolute() or path.name not in SHELLS or not os.access(path, os.X_OK):
        raise options.wrong("shell", f"the whole path of a shell that is there is expected: {', '.join(SHELLS)}")
    return str(path)


def _codes(options: Options) -> list[int]:
    codes = options.get("expected_codes", [0])
    if not isinstance(codes, list) or not codes or not all(type(code) is int for code in codes):
        raise options.wrong("expected_codes", "a list of whole numbers is expected")
    return codes


def _outputs(ended: Ended, *, is_binary: bool) -> dict[str, Any]:
    data = {"stdout_b64": base64.b64encode(ended.stdout).decode()} if is_binary else {}
    return {
        "stdout": "" if is_binary else text_of(ended.stdout).strip(), "stderr": text_of(ended.stderr).strip(),
        "returncode": ended.code, "truncated": ended.truncated, **data,
    }  # fmt: skip
