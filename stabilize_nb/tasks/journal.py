"""Durable steps inside one body: what was done once is not done again when the body is run again (C2).

A step is known by the logical call of its task, its name, and its number among the steps of that name in this
attempt. The result is committed before it is returned, unless the worker has lost its claim.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from stabilize_nb.models.values import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class JournalStore(Protocol):
    """Where the results of steps are kept."""

    def recorded(self) -> dict[tuple[str, int], Any]:
        """Return (name, number) -> result for the steps of this logical call that are committed."""

    def record(self, name: str, number: int, value: Any) -> None:
        """Commit a result."""


class Journal:
    """The steps of one attempt of one body."""

    def __init__(self, store: JournalStore, place: str) -> None:
        self._store = store
        self._place = place
        self._known: dict[tuple[str, int], Any] | None = None
        self._counts: Counter[str] = Counter()
        self.replayed = 0

    def _next(self, name: str) -> tuple[tuple[str, int], dict[tuple[str, int], Any]]:
        if self._known is None:
            self._known = self._store.recorded()
        self._counts[name] += 1
        return (name, self._counts[name]), self._known

    def step(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the committed result of the step, or call the function and commit what it returns."""
        key, known = self._next(name)
        if key in known:
            self.replayed += 1
            return known[key]
        return self._keep(key, function(*args, **kwargs))

    async def step_async(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        in_thread: Callable[[Callable[[], Any]], Any],
    ) -> Any:
        """Do the same for a coroutine; storage is used through `in_thread`, which keeps the event loop free."""
        key, known = await in_thread(lambda: self._next(name))
        if key in known:
            self.replayed += 1
            return known[key]
        value = function(*args, **kwargs)
        if hasattr(value, "__await__"):
            value = await value
        return await in_thread(lambda: self._keep(key, value))

    def _keep(self, key: tuple[str, int], value: Any) -> Any:
        name, number = key
        kept = plain(value, f"{self._place} step {name!r} result")
        self._store.record(name, number, kept)
        return kept
