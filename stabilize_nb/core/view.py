"""The rows that one step has seen, and which of them it has changed.

A decision reads through `View.get`, which returns a loaded row or raises NotLoaded with the query; the shell
answers the query with one indexed select, gives the answer to `View.add` and proceeds. Queries are values.

The contract of an answer, the same for every shell:

- `View.add` takes a mapping. It must hold the asked query itself; `Rows` is the one exception, see there.
- A query for one row (StageKey, TaskKey, RoundKey, ArrivalKey, SignalKey, ClaimKey, WaiterKey) is answered by
  the row, or by None when there is no such row.
- A query for a set of rows (Arrivals, Held, Buffered, Unfinished, Broken, Unsettled, Arrived, Line, Claims,
  Waiting, Members, Jumpers, Everything) is answered by a tuple of row
  keys, never by rows: the rows are read through the view (`View.members`), so a row that this step has changed
  is seen as changed. The answer says what is stored, without the changes of the step.
- A query about the graph (Roots, ByRef, Region) is answered by ids of first rows (those
  with `activation` 1). The graph never changes, so these answers may be kept as long as the workflow is.
- The mapping may hold more: any row key with its row, any query with its answer. That saves round trips and
  changes no result, since rows already seen stay as they were seen. "With:" names what is worth adding.
- "Workflow" means the one whose head the view has; ids are unique over all workflows. Claims and those who wait
  for them belong to the store.
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
    """One task row; None when its stage row has no such position."""

    stage_id: str
    position: int
    kind: Literal["task"] = "task"


class RoundKey(NamedTuple):
    """The counters of one round of one generation; None before its first outcome."""

    stage_id: str
    generation: int
    number: int
    kind: Literal["round"] = "round"


class ArrivalKey(NamedTuple):
    """The `number`-th outcome of the edge from `via` in a generation; None while the edge is pending."""

    stage_id: str
    generation: int
    number: int
    via: str
    kind: Literal["arrival"] = "arrival"


class SignalKey(NamedTuple):
    """One buffered signal; None when it was used up or never there."""

    id: str
    kind: Literal["signal"] = "signal"


class ClaimKey(NamedTuple):
    """One claim of the store, whichever workflow holds it; None when nobody ever wanted it or all is given back."""

    name: str
    kind: Literal["claim"] = "claim"


class WaiterKey(NamedTuple):
    """Who waits for a claim; None when it does not (any more). `stage_id` is "" + a workflow's id for the workflow."""

    claim: str
    stage_id: str
    kind: Literal["waiter"] = "waiter"


class PermitKey(NamedTuple):
    """One permit of a limit of the store; None when there is none, or it is in nobody's way any more."""

    name: str
    number: int
    kind: Literal["permit"] = "permit"


class LastPermit(NamedTuple):
    """The number of the last permit of a limit; 0 when there was none. With: its PermitKey row."""

    name: str
    kind: Literal["last_permit"] = "last_permit"


class AttributeKey(NamedTuple):
    """One attribute of the workflow. It is only written: no decision asks for it."""

    name: str
    kind: Literal["attribute"] = "attribute"


RowKey = StageKey | TaskKey | RoundKey | ArrivalKey | SignalKey | ClaimKey | WaiterKey | PermitKey | AttributeKey


class Rows(NamedTuple):
    """Several stage rows at once: the mapping must hold StageKey(id) for every id, or None.

    Nothing looks for the key Rows itself, so the mapping need not hold it.
    """

    ids: tuple[str, ...]
    kind: Literal["rows"] = "rows"


class Roots(NamedTuple):
    """The stages without requisites that are not synthetic: a tuple of ids of first rows, by ordinal."""

    kind: Literal["roots"] = "roots"


class ByRef(NamedTuple):
    """The id of the first row with a ref_id, or None; `ref#2` names no first row."""

    ref_id: str
    kind: Literal["by_ref"] = "by_ref"


class Region(NamedTuple):
    """The stages reachable from one, by edges and to synthetic stages: ids of first rows, itself first, by ordinal.

    With: the StageKey rows of the region, also those of further activations (`base_id` in the region), the
    TaskKeys of those that are open, and for each first row Arrivals(id, its generation, 0) and the
    ArrivalKey rows.
    """

    stage_id: str
    kind: Literal["region"] = "region"


class Arrivals(NamedTuple):
    """ArrivalKeys of one round of one generation of a stage; with `number` 0 those of all its rounds.

    In any order. With: the ArrivalKey rows.
    """

    stage_id: str
    generation: int
    number: int
    kind: Literal["arrivals"] = "arrivals"


class Held(NamedTuple):
    """ArrivalKeys of all outcomes that are marked `held` and belong to their stage's present generation.

    In any order. With: the ArrivalKey rows, and the StageKey rows of their stages.
    """

    kind: Literal["held"] = "held"


class Buffered(NamedTuple):
    """SignalKeys of the signals buffered for a stage row, by `position`; for the id "" those of all rows.

    With: the SignalKey rows.
    """

    stage_id: str
    kind: Literal["buffered"] = "buffered"


class Unfinished(NamedTuple):
    """StageKeys of the rows whose status is in OPEN; with `all` those that are NOT_STARTED too. By ordinal.

    With: the StageKey rows and their TaskKeys.
    """

    all: bool
    kind: Literal["unfinished"] = "unfinished"


class Broken(NamedTuple):
    """StageKeys of the rows that are TERMINAL, CANCELED, or fired and NOT_STARTED, by ordinal.

    With: the StageKey rows.
    """

    kind: Literal["broken"] = "broken"


class Unsettled(NamedTuple):
    """RoundKeys of the rounds that hold a live outcome and are not settled, of stages that have done nothing.

    Only rounds of the stage's present generation; nothing: `fired` and `sent` of the first row are both 0. In
    any order. With: the RoundKey rows, and the StageKey rows of their stages.
    """

    kind: Literal["unsettled"] = "unsettled"


class Arrived(NamedTuple):
    """StageKeys of the rows (all activations) of stages without outgoing edges that are not broken off.

    That is: status SUCCEEDED, FAILED_CONTINUE or SKIPPED. In any order. With: the StageKey rows.
    """

    kind: Literal["arrived"] = "arrived"


class Line(NamedTuple):
    """WaiterKeys of those who wait for a claim and have a ticket above `after`: the first few, by ticket.

    From every workflow of the store. An answer that is not empty holds at least the lowest. With: the WaiterKey rows.
    """

    claim: str
    after: int
    kind: Literal["line"] = "line"


class Claims(NamedTuple):
    """ClaimKeys of the claims that the workflow holds, in any order. With: the ClaimKey rows."""

    kind: Literal["claims"] = "claims"


class Waiting(NamedTuple):
    """StageKeys of the rows whose `waits` is not empty, by ordinal. With: the StageKey rows."""

    kind: Literal["waiting"] = "waiting"


class Members(NamedTuple):
    """StageKeys of the rows, all activations, whose spec has `value` in `field`, by ordinal.

    With: the StageKey rows.
    """

    field: str
    value: str
    kind: Literal["members"] = "members"


class Jumpers(NamedTuple):
    """StageKeys of the first rows whose spec has jump targets, by ordinal. With: the StageKey rows."""

    kind: Literal["jumpers"] = "jumpers"


class Everything(NamedTuple):
    """StageKeys of all rows of the workflow, by ordinal. With: the StageKey rows."""

    kind: Literal["everything"] = "everything"


class MessagesLeft(NamedTuple):
    """Whether the workflow has another message that counts (`COUNTS`): True or False.

    Delayed and leased ones are among them, and with `dead` the dead letters, which may be put back; acknowledged ones
    are not, nor is the one that this step acknowledges.
    """

    dead: bool = True
    kind: Literal["messages_left"] = "messages_left"


Query = (
    RowKey
    | Rows
    | Roots
    | ByRef
    | Region
    | Arrivals
    | Held
    | Buffered
    | Unfinished
    | Broken
    | Unsettled
    | Arrived
    | Line
    | LastPermit
    | Claims
    | Waiting
    | Members
    | Jumpers
    | Everything
    | MessagesLeft
)


class NotLoaded(Exception):
    """A decision asked for something its view has not seen."""

    def __init__(self, query: Query) -> None:
        super().__init__(query)
        self.query = query


class View:
    """Rows as loaded, with the changes of one step over them.

    `changed` holds what a shell has to write: a row replaces the stored one or is new, None deletes it. Every
    kind of row can be replaced, an outcome when it was held; a task row may be replaced or deleted without
    having been loaded. A row that goes and one that comes can have the same `ref_id`: delete first.

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

    def stage(self, stage_id: str) -> Any:
        """Return what `get` returns for StageKey, as quickly as can be: it is asked for most."""
        key = (stage_id, "stage")  # equal to the StageKey
        if key in self.changed:
            return self.changed[key]
        return self.loaded[key] if key in self.loaded else self.get(StageKey(stage_id))

    def task(self, stage_id: str, position: int) -> Any:
        """Return what `get` returns for TaskKey."""
        key = (stage_id, position, "task")
        if key in self.changed:
            return self.changed[key]
        return self.loaded[key] if key in self.loaded else self.get(TaskKey(stage_id, position))

    def known(self, keys: Iterable[RowKey]) -> dict[RowKey, Any]:
        """Return those of some rows that the view has seen."""
        return {
            key: self.changed[key] if key in self.changed else self.loaded[key]
            for key in keys
            if key in self.changed or key in self.loaded
        }

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
