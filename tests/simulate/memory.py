"""A store in memory: the rows of every workflow, and the answers to what decisions ask of them (core/view.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from stabilize_nb.core import view as q
from stabilize_nb.core.evolve import evolve, genesis
from stabilize_nb.core.facts import Fact, InstanceAdded, JoinFired, WorkflowCreated
from stabilize_nb.core.rows import Head, StageRow
from stabilize_nb.models.status import OPEN, WorkflowStatus

S = WorkflowStatus
ONE = (q.StageKey, q.TaskKey, q.RoundKey, q.ArrivalKey, q.SignalKey)
SHARED = ("claim", "waiter")
BROKEN = frozenset({S.TERMINAL, S.CANCELED})
WELL = frozenset({S.SUCCEEDED, S.FAILED_CONTINUE, S.SKIPPED})


class Table:
    """
    The rows of one workflow, its log, and the ref_id of every row that ever was, by id.

    Claims and those who wait for them are in `shared`, which all workflows have in common.
    """

    def __init__(self, definition: dict[str, Any], now: int, shared: dict[Any, Any]) -> None:
        definition = json.loads(json.dumps(definition))
        self.shared = shared
        created = WorkflowCreated(definition)
        view = evolve(genesis(definition), created, now)
        self.head: Head = view.head
        self.rows: dict[Any, Any] = dict(view.changed)
        self.log: list[tuple[int, Fact]] = [(now, created)]
        self.names = {row.id: row.ref_id for row in self.stages()}

    def stages(self) -> list[StageRow]:
        rows = [row for key, row in self.rows.items() if key.kind == "stage"]
        return sorted(rows, key=lambda row: (row.ordinal, row.activation))

    def write(self, view: q.View, facts: list[Fact], now: int) -> None:
        """Store what one step changed."""
        self.head = view.head
        self.log.extend((now, fact) for fact in facts)
        for fact in facts:
            match fact:
                case JoinFired() if fact.activation > 1:
                    self.names[fact.row] = f"{self.names[fact.stage]}#{fact.activation}"
                case InstanceAdded():
                    self.names[fact.row] = f"{self.names[fact.stage]}_instance_{fact.index}"
        for key, row in view.changed.items():
            rows = self.shared if key.kind in SHARED else self.rows
            if row is None:
                rows.pop(key, None)
                continue
            rows[key] = row

    def replayed(self) -> q.View:
        """Fold the log from nothing."""
        (at, created), *rest = self.log
        view = evolve(genesis(created.definition), created, at)  # type: ignore[attr-defined]
        for moment, fact in rest:
            evolve(view, fact, moment)
        return view

    def answer(self, query: Any, *, left: bool, prefetch: bool) -> dict[Any, Any]:
        """Answer a query; `left` says whether another message of the workflow counts."""
        match query:
            case _ if isinstance(query, ONE):
                return {query: self.rows.get(query)}
            case q.ClaimKey() | q.WaiterKey():
                return {query: self.shared.get(query)}
            case q.Rows(ids=ids):
                return {q.StageKey(id_): self.rows.get(q.StageKey(id_)) for id_ in ids}
            case q.MessagesLeft():
                return {query: left}
            case q.ByRef(ref_id=ref):
                return {query: next((row.id for row in self._first_rows() if row.ref_id == ref), None)}
            case q.Roots():
                return {
                    query: tuple(
                        row.id for row in self._first_rows() if not (row.spec.requisites or row.spec.parent_stage_id)
                    )
                }
            case q.Region(stage_id=id_):
                return {query: self._region(id_)}
            case q.Line(claim=claim, after=after):
                line = [
                    (row.ticket, key) for key, row in self.shared.items() if key[0] == claim and key.kind == "waiter"
                ]
                keys = tuple(key for ticket, key in sorted(line) if ticket > after)[:2]
                return {query: keys, **{key: self.shared[key] for key in keys}}
            case q.Claims():
                mine = [key for key, row in self.shared.items() if row.workflow_id == self.head.id]
                return {query: tuple(key for key in mine if key.kind == "claim")}
        keys = tuple(self._members(query))
        return {query: keys, **({key: self.rows[key] for key in keys} if prefetch else {})}

    def _first_rows(self) -> list[StageRow]:
        return [row for row in self.stages() if row.id == row.base_id]

    def _region(self, start: str) -> tuple[str, ...]:
        found, todo = {start}, [start]
        while todo:
            spec = self.rows[q.StageKey(todo.pop())].spec
            new = {edge.stage_id for edge in spec.edges} | {child.stage_id for child in spec.children}
            new -= found
            found |= new
            todo.extend(new)
        return (start, *(row.id for row in self._first_rows() if row.id in found and row.id != start))

    def _members(self, query: Any) -> Iterator[Any]:
        kind, belongs = self._condition(query)
        if kind == "stage":
            yield from (q.StageKey(row.id) for row in self.stages() if belongs(row))
            return
        rows = [(key, row) for key, row in self.rows.items() if key.kind == kind and belongs(row)]
        yield from (key for key, _ in sorted(rows, key=lambda item: getattr(item[1], "position", 0)))

    def _condition(self, query: Any) -> tuple[str, Callable[[Any], bool]]:
        match query:
            case q.Unfinished(all=everything):
                return "stage", lambda row: row.status in OPEN or (everything and row.status is S.NOT_STARTED)
            case q.Broken():
                return "stage", lambda row: row.status in BROKEN or (row.status is S.NOT_STARTED and row.fired > 0)
            case q.Waiting():
                return "stage", lambda row: bool(row.waits)
            case q.Members(field=name, value=value):
                return "stage", lambda row: getattr(row.spec, name) == value
            case q.Jumpers():
                return "stage", lambda row: row.id == row.base_id and bool(row.spec.jump_targets)
            case q.Everything():
                return "stage", lambda _row: True
            case q.Arrived():
                return "stage", lambda row: row.status in WELL and not row.spec.edges
            case q.Arrivals(stage_id=id_, generation=generation, number=number):
                return "arrival", lambda row: row[:2] == (id_, generation) and number in (0, row.number)
            case q.Held():
                return "arrival", lambda row: row.held and self._is_present(row)
            case q.Buffered(stage_id=id_):
                return "signal", lambda row: id_ in ("", row.stage_id)
            case q.Unsettled():
                return "round", lambda row: bool(row.live and not row.settled and self._is_untouched(row))
        raise AssertionError(query)

    def _is_present(self, row: Any) -> bool:
        return bool(self.rows[q.StageKey(row.stage_id)].generation == row.generation)

    def _is_untouched(self, row: Any) -> bool:
        base = self.rows[q.StageKey(row.stage_id)]
        return self._is_present(row) and not base.fired and not base.sent
