"""
What bodies do while somebody watches: when they begin, and what they are about to change outside the engine.

Python tells of a file that is opened for writing, of a connection and of a process before it happens (PEP 578), and
`effect` marks what it cannot tell. Each is a moment at which a process can die in the middle of a body.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stabilize_nb.flow_relays import CallTask, EachTask, GatherTask, LoopBegin, LoopEnd, RelayTask
from stabilize_nb.hitl import ApprovalTask
from stabilize_nb.tasks.interface import NoOpTask, WaitTask
from stabilize_nb.tasks.loop import LoopEntryTask, LoopExitTask
from stabilize_nb.tasks.sub_workflow import SubWorkflowTask
from stabilize_nb.within import Within

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.tasks.interface import Task
    from stabilize_nb.tasks.registry import TaskRegistry

#: Tasks of the engine itself, which change nothing outside of it.
_OWN = frozenset({
    ApprovalTask, CallTask, EachTask, GatherTask, LoopBegin, LoopEnd, LoopEntryTask, LoopExitTask, NoOpTask, RelayTask,
    SubWorkflowTask, WaitTask,
})  # fmt: skip
#: What Python tells of beside `open`.
_CHANGES = frozenset({
    "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.system", "os.truncate",
    "socket.connect", "socket.sendmsg", "socket.sendto", "sqlite3.connect", "subprocess.Popen",
})  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Numbers of the instances and of the later runs of a stage.
_NUMBER = re.compile(r"(_instance_\d+)?(#\d+)?$")

_body: ContextVar[str | None] = ContextVar("stabilize_nb_body", default=None)
_watcher: Watcher | None = None


def effect(name: str, *, key: str | None = None) -> None:
    """
    Say that a body has just done something that `crash_sweep` cannot see: sent a mail, charged a card.

    `key`: what the other side tells repetitions by, such as `stage.idempotency_key`; marks of one key count once. When
    no sweep is on, nothing happens.
    """
    if _watcher is not None:
        _watcher.marked(name, key)


class Watcher:
    """Notes in the file `notes` what bodies do.

    `reached` is called before each change and at the end of a body, and may not return. `after` is called with the name
    of a body that has ended.
    """

    def __init__(self, notes: Path, reached: Callable[[], None], after: Callable[[str], None]) -> None:
        self._notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._reached = reached
        self._after = after
        self._dressed: set[type] = set()

    def watch(self, registry: TaskRegistry) -> None:
        """Watch every body from now on; this process is a fork, and ends with it."""
        global _watcher  # noqa: PLW0603 - one watcher a process
        _watcher = self
        get = registry.get

        def watched(name: str) -> Task:
            task = get(name)
            if type(task) not in _OWN:
                self._dress(type(task))
            return task

        registry.get = watched  # type: ignore[method-assign]
        sys.addaudithook(self._hear)

    def marked(self, name: str, key: str | None) -> None:
        """Note an effect, in two moments: before it is noted, and after."""
        self._reached()
        self._note({"effect": name, "key": key, "task": _body.get() or ""})
        self._reached()

    def _dress(self, kind: type) -> None:
        """Have the bodies of a class of tasks tell when they begin."""
        if kind in self._dressed:
            return
        self._dressed.add(kind)
        execute = kind.execute  # type: ignore[attr-defined]

        @functools.wraps(execute)
        def told(task: Task, stage: StageExecution) -> Any:
            if _body.get() is not None:  # a task that calls another one
                return execute(task, stage)
            name = name_of(stage)
            self._note({"begin": name})
            with self._inside(name):
                result = execute(task, stage)
            return self._awaited(name, result) if hasattr(result, "__await__") else result

        kind.execute = told  # type: ignore[attr-defined]

    async def _awaited(self, name: str, result: Awaitable[Any]) -> Any:
        with self._inside(name):
            return await result

    @contextmanager
    def _inside(self, name: str) -> Iterator[None]:
        try:
            with Within(_body, name):
                yield
        finally:
            self._after(name)
            self._reached()

    def _note(self, line: Mapping[str, Any]) -> None:
        os.write(self._notes, (json.dumps(line) + "\n").encode())

    def _hear(self, event: str, told: tuple[Any, ...]) -> None:
        if (event in _CHANGES or (event == "open" and _is_writing(*told[1:3]))) and _body.get() is not None:
            self._reached()


def _is_writing(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return not {"w", "a", "x", "+"}.isdisjoint(mode)
    return isinstance(flags, int) and bool(flags & _WRITING)


def name_of(stage: StageExecution) -> str:
    """Return the name of a body: that of its stage, and of its task where the stage has several."""
    task = next((task for task in stage.tasks if task.id), None)
    ref = _NUMBER.sub("", stage.ref_id)
    return f"{ref}.{task.name}" if task is not None and len(stage.tasks) > 1 else ref
