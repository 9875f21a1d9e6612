"""What tasks that run commands have in common: how they wait, and what becomes of a command's end."""

from __future__ import annotations

import math
import shlex
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import ConfigError, TransientError
from stabilize_nb.tasks.interface import Task
from stabilize_nb.tasks.options import Options
from stabilize_nb.tasks.result import TaskResult
from stabilize_nb.tasks.templates import places, whole_places

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: Characters of what a command said last that stand in an error.
_LAST = 200


class CommandTask(Task):
    """A task that runs a command. It needs no worker while it waits, and a stage that is withdrawn ends its command.

    Options that are given here hold for every stage, which cannot say otherwise; its context says the rest.
    """

    waits = True
    timeout = math.inf  # the option `timeout` counts
    #: Its options, and those in which a value may stand at the place of the whole text.
    keys: frozenset[str] = frozenset()
    fillable: tuple[str, ...] = ()

    def __init__(self, **options: Any) -> None:
        for name in options.keys() - self.keys:
            known = ", ".join(sorted(self.keys))
            raise ConfigError(f"{type(self).__name__} has no option {name!r}; known are {known}")
        self.options = options

    def __str__(self) -> str:
        """The command, where the task says it itself."""
        command = self.options.get("command")
        return shlex.join(command) if isinstance(command, list) else command or super().__str__()

    @property
    def places(self) -> list[str]:
        """Names of values that its options take from the context; in a flow, stages and inputs."""
        found = places(self.options.get("command"))
        found += [name for key in self.fillable for name in whole_places(self.options.get(key))]
        return [name for name in dict.fromkeys(found) if name not in self.keys]

    async def execute(self, stage: StageExecution) -> TaskResult:
        """Run the command; what is wrong with its options fails the stage."""
        try:
            return await self.carried_out(Options(stage, self.options))
        except ConfigError as error:
            return TaskResult.terminal(str(error))

    async def carried_out(self, options: Options) -> TaskResult:
        """Run the command."""
        raise NotImplementedError


def failed(options: Options, why: str, outputs: Mapping[str, Any]) -> TaskResult:
    """
    Return the result of a command that failed: the stage fails, and has what was printed in its context.

    `continue_on_failure`: what follows goes on. `restart_on_failure`: raises TransientError, so it is tried again.
    """
    if options.flag("restart_on_failure"):
        raise TransientError(why, context_update=outputs)
    if options.flag("continue_on_failure"):
        return TaskResult.failed_continue(why, outputs)
    return TaskResult.terminal(why, outputs)


def ended_with(code: int, stderr: str) -> str:
    """Return how a command ended, and what it said last, as the end of a sentence."""
    last = stderr.strip().rpartition("\n")[2].strip()[:_LAST]
    return f"{_how(code)}: {last}" if last else _how(code)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
