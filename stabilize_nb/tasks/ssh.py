"""SSHTask: a stage that runs a command on another host."""

from __future__ import annotations

import getpass
import re
from typing import Any, Final

from stabilize_nb.tasks.command import CommandTask, ended_with, failed
from stabilize_nb.tasks.options import Options
from stabilize_nb.tasks.process import Ended, text_of
from stabilize_nb.tasks.result import TaskResult
from stabilize_nb.tasks.ssh_session import Refused, Target, run_there
from stabilize_nb.tasks.templates import in_arguments, in_shell

#: Options of the task; `{host}` in a command is left alone.
KEYS: Final = frozenset({
    "host", "command", "user", "port", "key_file", "known_hosts", "timeout", "connect_timeout", "strict_host_key",
    "secrets", "continue_on_failure", "restart_on_failure",
})  # fmt: skip
DEFAULT_TIMEOUT: Final = 60
DEFAULT_CONNECT_TIMEOUT: Final = 10
DEFAULT_CAP: Final = 10_000_000
_HOST: Final = re.compile(r"[\w.:%-]+")
_USER: Final = re.compile(r"[^\s:@/]+")


class SSHTask(CommandTask):
    """Runs `command` on `host`: text for its /bin/sh, or a list of arguments; `{key}` as for ShellTask.

    Options: `user` (who runs this), `port` (22), `key_file` (else the agent's keys and those of ~/.ssh), `timeout`
    (60 s), `connect_timeout` (10 s), `strict_host_key` (True: a host is refused that `known_hosts`, ~/.ssh/known_hosts,
    does not have), `secrets`, `continue_on_failure`, `restart_on_failure`. Outputs: stdout, stderr, exit_code, host,
    user. It needs the extra `tasks`. docs/tasks.md has the whole.
    """

    keys = KEYS
    fillable = ("host",)

    def __str__(self) -> str:
        """The command and its host."""
        return f"{self.options['host']}: {super().__str__()}" if "host" in self.options else super().__str__()

    async def carried_out(self, options: Options) -> TaskResult:
        """Run the command and look at its code."""
        target, arguments = _target(options), _arguments(options)
        timeout = options.seconds("timeout", DEFAULT_TIMEOUT)
        try:
            ended = await run_there(target, arguments, timeout, DEFAULT_CAP, options.mask())
        except Refused as error:
            return failed(options, f"{options.place}: {error}", {"host": target.host, "user": target.user})
        outputs = _outputs(ended, target)
        if ended.timed_out:
            return failed(
                options, f"{options.place}: the command timed out on {target.name} after {timeout:g} s", outputs
            )
        if ended.code != 0:
            how = ended_with(ended.code, outputs["stderr"]) if ended.code > 0 else "has lost its connection"
            return failed(options, f"{options.place}: the command on {target.name} {how}", outputs)
        return TaskResult.success(outputs)


def _target(options: Options) -> Target:
    host, user = options.text("host"), options.text("user") or getpass.getuser()
    if host is None or not _HOST.fullmatch(host):
        raise options.wrong("host", "the name or the address of a host is expected")
    if not _USER.fullmatch(user):
        raise options.wrong("user", "the name of a user is expected")
    return Target(
        host=host, user=user, port=options.whole("port", 22, 1, 65_535), key_file=options.path("key_file"),
        known_hosts=options.path("known_hosts"), is_strict=options.flag("strict_host_key", default=True),
        connect_timeout=options.seconds("connect_timeout", DEFAULT_CONNECT_TIMEOUT),
    )  # fmt: skip


def _arguments(options: Options) -> list[str]:
    command = options.command()
    if isinstance(command, list):
        return in_arguments(command, options.context, KEYS)
    text, variables = in_shell(command, options.context, KEYS)
    given = [f"{name}={value}" for name, value in variables.items()]
    return [*(["env", *given] if given else []), "/bin/sh", "-c", text]


def _outputs(ended: Ended, target: Target) -> dict[str, Any]:
    return {
        "stdout": text_of(ended.stdout).strip(), "stderr": text_of(ended.stderr).strip(), "exit_code": ended.code,
        "host": target.host, "user": target.user,
    }  # fmt: skip
