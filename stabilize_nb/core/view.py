"""The rows that one step has seen, and which of them it has changed.

A decision reads through `View.get`, which returns a loaded row or raises NotLoaded with the query; the shell
answers the query with one indexed select and asks again. Queries are values. Set queries return keys: the rows
themselves are read through the view, so a row that the same step has changed is seen as changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stabilize_nb.core.rows import Head


class StageKey(NamedTuple):
    """One stage row; None when the workflow has no such row."""

    id: str
    kind: Literal["stage"] = "stage"


class TaskKey(NamedTuple):
    """One task row."""

    stage_id: str
    position: int
    kind: Literal["task"] = "task"


class RoundKey(NamedTuple):
    """The counters of one round; None before its first outcome."""

    stage_id: str
    generation: int
    number: int
    kind: Literal["round"] = "round"


class ArrivalKey(NamedTuple):
    """One outcome of one edge; None while the edge is pending."""

    stage_id: str
    generation: int
    number: int
    via: str
    kind: Literal["arrival"] = "arrival"


class SignalKey(NamedTuple):
    """One buffered signal."""

    id: str
    kind: Literal["signal"] = "signal"


RowKey = StageKey | TaskKey | RoundKey | ArrivalKey | SignalKey


class Rows(NamedTuple):
    """Several stage rows at once."""

    ids: tuple[str, ...]
    kind: Literal["rows"] = "rows"


class Downstream(NamedTuple):
    """The outgoing edges of a stage, in the order of the workflow: a tuple of Edge."""

    stage_id: str
    kind: Literal["downstream"] = "downstream"


class Roots(NamedTuple):
    """Ids of the stages without requisites, in the order of the workflow."""

    kind: Literal["roots"] = "roots"


class ByRef(NamedTuple):
    """Id of the stage with a ref_id, or None."""

    ref_id: str
    kind: Literal["by_ref"] = "by_ref"


class Arrivals(NamedTuple):
    """Keys of the outcomes of one round."""

    stage_id: str
    generation: int
    number: int
    kind: Literal["arrivals"] = "arrivals"


class Buffered(NamedTuple):
    """Keys of the signals buffered for a stage (for the workflow when empty), oldest first."""

    stage_id: str
    kind: Literal["buffered"] = "buffered"


class Unfinished(NamedTuple):
    """Keys of the stage rows that hold the workflow open, and with `all` of those never started too; with their tasks."""

    all: bool
    kind: Literal["unfinished"] = "unfinished"


class Region(NamedTuple):
    """Ids of the stages reachable from one, itself first; loads their rows, further activations, tasks and outcomes."""

    stage_id: str
    kind: Literal["region"] = "region"


class MessagesLeft(NamedTuple):
    """Whether other messages are queued that can move the workflow."""

    kind: Literal["messages_left"] = "messages_left"


class Stuck(NamedTuple):
    """Ref_ids of stages that hold a live outcome which no round can consume any more."""

    kind: Literal["stuck"] = "stuck"


class Arrived(NamedTuple):
    """Whether a stage without outgoing edges has ended well."""

    kind: Literal["arrived"] = "arrived"


Query = (
    RowKey | Rows | Downstream | Roots | ByRef | Arrivals | Buffered | Unfinished | Region | MessagesLeft | Stuck | Arrived
)


class NotLoaded(Exception):  # noqa: N818 - not an error: the way a decision asks for a row
    """A decision asked for something its view has not seen."""

    def __init__(self, query: Query) -> None:
        super().__init__(query)
        self.query = query


class View:
    """Rows as loaded, with the changes of one step over them.

    `complete` says that nothing is missing: what is not there does not exist (replay).
    """

    __slots__ = ("changed", "complete", "head", "loaded")

    def __init__(
        self,
        head: Head,
        loaded: dict[Any, Any] | None = None,
        changed: dict[Any, Any] | None = None,
        *,
        complete: bool = False,
    ) -> None:
        self.head = head
        self.loaded: dict[Any, Any] = {} if loaded is None else loaded
        self.changed: dict[Any, Any] = {} if changed is None else changed
        self.complete = complete

    def fork(self) -> View:
        """Return a view with the same rows whose changes do not reach this one."""
        return View(self.head, self.loaded, dict(self.changed), complete=self.complete)

    def get(self, query: Query) -> Any:
        """Return the row or answer; raises NotLoaded when the view has not seen it."""
        if query in self.changed:
            return self.changed[query]
        try:
            return self.loaded[query]
        except KeyError:
            if self.complete:
                return None
            raise NotLoaded(query) from None

    def put(self, key: RowKey, row: Any) -> None:
        """Change a row (None: it is gone). Only `evolve` calls this."""
        self.changed[key] = row

    def members(self, query: Query, kind: str, belongs: Callable[[Any], bool]) -> list[Any]:
        """Return the rows of a set query as they are now: those loaded for it and those changed since."""
        keys = dict.fromkeys(self.get(query) or ())
        keys.update((key, None) for key in self.changed if key.kind == kind)
        rows = (self.get(key) for key in keys)
        return [row for row in rows if row is not None and belongs(row)]

    def add(self, answers: Mapping[Any, Any]) -> None:
        """Take in what the shell has loaded; rows already seen stay as they were seen."""
        for query, answer in answers.items():
            self.loaded.setdefault(query, answer)

    def missing(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return those stage ids that the view has not seen."""
        if self.complete:
            return ()
        return tuple(
            id_ for id_ in dict.fromkeys(ids) if StageKey(id_) not in self.changed and StageKey(id_) not in self.loaded
        )
