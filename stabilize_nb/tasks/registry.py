"""TaskRegistry: the names under which stages find their code. Nothing is ever imported by a name found in a store."""

from __future__ import annotations

import inspect
import threading
import warnings
from typing import TYPE_CHECKING, Any, cast

from stabilize_nb.errors import ConfigError, TaskNotFoundError
from stabilize_nb.models.near import close
from stabilize_nb.tasks.interface import DEFAULT_QUEUE, CallableTask, Task
from stabilize_nb.tasks.loop import LoopEntryTask, LoopExitTask
from stabilize_nb.tasks.prints import plain_name
from stabilize_nb.tasks.sub_workflow import SubWorkflowTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Found without being registered, unless another task is registered under the name.
BUILT_IN: dict[str, Callable[[], Task]] = {
    "_loop_entry": LoopEntryTask,
    "_loop_exit": LoopExitTask,
    "sub_workflow": SubWorkflowTask,
}
#: Tasks of this package that do something outside of the engine, by the names under which they are usually registered.
#: They are not built in: a database that somebody opens could name them.
SHIPPED = {"http": "HTTPTask", "python": "PythonTask", "shell": "ShellTask", "ssh": "SSHTask"}


class TaskRegistry:
    """Name to task: a class is instantiated for each body, an instance is shared, a function is wrapped."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._makers = dict(BUILT_IN)
        self._sources: dict[str, Any] = {}
        self._latest: dict[str, str] = {}
        self._queues: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def register(self, name: str, task: Any, aliases: Iterable[str] = (), *, queue: str | None = None) -> None:
        """
        Make `task` (a Task class, an instance, or a function) available as `name` and under its aliases.

        `queue`: the label of the workers that take it; if none is said, the `queue` of the task, "default".
        Replacing another task warns; with `strict=True` it raises ConfigError.
        """
        maker = _maker(name, task)
        names = [name, *aliases, *getattr(task, "aliases", ())]
        for each in names:
            self._refuse_overwriting(each, task)
        with self._lock:
            for each in names:
                self._makers[each] = maker
                self._sources[each] = task
                if queue is not None:
                    self._queues[each] = queue
        for listener in list(self._listeners):
            listener()

    def _refuse_overwriting(self, name: str, task: Any) -> None:
        known = self._sources.get(name)
        if known is None or known is task:
            return
        if self.strict:
            msg = f"task {name!r} is registered already as {known!r}; this registry is strict"
            raise ConfigError(msg)
        warnings.warn(f"task {name!r} was registered already and is replaced", stacklevel=3)

    def replace(self, name: str, task: Any) -> None:
        """Register `task`, silently taking the place of another of that name (a notebook cell that is run again)."""
        with self._lock:
            self._makers[name] = _maker(name, task)
            self._sources[name] = task
            self._latest[plain_name(name)] = name
        for listener in list(self._listeners):
            listener()

    def get(self, name: str) -> Task:
        """Return the task to run; raises TaskNotFoundError."""
        maker = self._makers.get(name)
        if maker is None:
            raise TaskNotFoundError(self.unknown(name))
        return maker()

    def latest(self, name: str) -> str | None:
        """Return the name under which the code is registered that `name`, without its print, stands for now."""
        return self._latest.get(plain_name(name))

    def unknown(self, name: str) -> str:
        """Return the sentence for a name that is not registered."""
        if self.latest(name) is not None:
            return f"task {plain_name(name)!r} is registered here with other code"
        names = {plain_name(each): each for each in self._makers}
        hint = close(plain_name(name), names)
        if plain_name(name) in SHIPPED:
            hint = f"; registry.register({name!r}, {SHIPPED[name]}) makes it known"
        known = ", ".join(sorted({*map(plain_name, self._sources)})) or "none"
        return f"no task is registered as {plain_name(name)!r}{hint} (registered: {known})"

    def __contains__(self, name: str) -> bool:
        return name in self._makers

    def is_coroutine(self, name: str) -> bool:
        """Whether the body of a task is a coroutine function: it then needs no thread while it waits."""
        source = self._sources.get(name)
        execute = getattr(source, "execute", None)
        return any(map(inspect.iscoroutinefunction, (source, execute))) or getattr(source, "waits", False) is True

    def queue_of(self, name: str) -> str:
        """Return the label of the workers that take a task."""
        return self._queues.get(name) or str(getattr(self._sources.get(name), "queue", DEFAULT_QUEUE))

    def names(self) -> frozenset[str]:
        """Return every name that `get` finds."""
        return frozenset(self._makers)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after every registration."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Stop calling `listener`."""
        if listener in self._listeners:
            self._listeners.remove(listener)


def _maker(name: str, task: Any) -> Callable[[], Task]:
    if inspect.isclass(task) and callable(getattr(task, "execute", None)):
        return cast("Callable[[], Task]", task)
    if callable(getattr(task, "execute", None)):
        return lambda: task
    if callable(task):
        wrapped = CallableTask(task)
        return lambda: wrapped
    msg = f"task {name!r} is {task!r}; a Task class, an object with execute(stage) or a function is expected"
    raise ConfigError(msg)
