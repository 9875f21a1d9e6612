"""Answers the queries of a View, each with one indexed select (C11), and guesses what a message will ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core import view as q
from stabilize_nb.core.rows import Head, PermitRow, StageRow
from stabilize_nb.models.status import OPEN
from stabilize_nb.queue.messages import (
    Message,
    Outcome,
    OutcomeKind,
    RunTask,
    StageMessage,
    StartStage,
    TaskFinished,
)
from stabilize_nb.store import rows
from stabilize_nb.store.codec import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stabilize_nb.store.connection import Connection

Answers = dict[Any, Any]
#: Joins up to this width have their outcomes read with the first look; wider ones only when they fire.
NARROW = 8


def load_head(connection: Connection, workflow_id: str) -> Head | None:
    """Return the header row of a workflow."""
    return _head(workflow_id, connection.one("head", {"workflow_id": workflow_id}))


def lock_head(connection: Connection, workflow_id: str) -> Head | None:
    """Return the header row of a workflow about which a decision is to be made; nobody else makes one meanwhile."""
    known = connection.remembered(workflow_id)
    return known or _head(workflow_id, connection.one("lock_head", {"workflow_id": workflow_id}))


def _head(workflow_id: str, row: Sequence[Any] | None) -> Head | None:
    try:
        return None if row is None else rows.head(row)
    except rows.UNREADABLE as error:
        raise rows.unreadable(workflow_id, error) from error


class Reader:
    """Reads rows of one workflow inside one transaction; `except_id` is the message that is being processed."""

    def __init__(self, connection: Connection, workflow_id: str, except_id: str) -> None:
        self._db = connection
        self._workflow = workflow_id
        self._except = except_id

    def answer(self, query: q.Query, message: Message) -> Answers:
        """Return the answer to a query, with what the message is known to ask for next."""
        try:
            answers = self._answer(query)
            if isinstance(query, q.StageKey) and answers[query] is not None:
                answers |= self._hint(answers[query], message)
        except rows.UNREADABLE as error:
            raise rows.unreadable(self._workflow, error) from error
        return answers

    def read_ahead(self, messages: Iterable[Message], seen: Mapping[Any, Any]) -> Answers:
        """Return the stages that messages are about, with their tasks; those of `seen` need not be asked for."""
        about = (message.stage_id for message in messages if isinstance(message, StageMessage))
        ids = tuple(id_ for id_ in dict.fromkeys(about) if q.StageKey(id_) not in seen)
        if len(ids) <= 1:
            return {}
        try:
            return self._rows(q.Rows(ids)) | self._tasks(ids)
        except rows.UNREADABLE as error:
            raise rows.unreadable(self._workflow, error) from error

    def foresee(self, message: Message, seen: Mapping[Any, Any]) -> Answers:
        """Return what the decision of a message will most likely ask for late; `seen` need not be asked for."""
        match message:
            case TaskFinished(stage_id=stage_id, position=position, outcome=Outcome(kind=OutcomeKind.DONE)):
                row = seen.get(q.StageKey(stage_id))
                if row is None or len(row.spec.edges) != 1 or position + 1 < len(row.spec.tasks):
                    return {}
                following = row.spec.edges[0].stage_id
                if q.StageKey(following) in seen:
                    return {}
                try:
                    return self._next(following)
                except rows.UNREADABLE as error:
                    raise rows.unreadable(self._workflow, error) from error
            case _:
                return {}

    def _next(self, stage_id: str) -> Answers:
        key = q.StageKey(stage_id)
        answers = self._answer(key)
        row = answers[key]
        return answers if row is None or row.spec.fan_in > 1 else answers | self._first_task(row)

    def _hint(self, row: StageRow, message: Message) -> Answers:
        match message:
            case StartStage(stage_id=row.id) if row.spec.fan_in == 1 and not row.fired:
                return self._first_task(row)
            case StartStage(stage_id=row.id, via=via, number=number) if via is not None:
                answers = self._round(q.RoundKey(row.id, row.generation, number))
                mine = q.ArrivalKey(row.id, row.generation, number, via)
                if row.spec.fan_in > NARROW:
                    return answers | self._arrival(mine)
                arrivals = self._arrivals(q.Arrivals(row.id, row.generation, number))
                return answers | {mine: None} | arrivals | self._first_task(row)
            case StartStage(stage_id=row.id):
                return self._first_task(row)
            case TaskFinished(stage_id=row.id, position=position):
                return self._task(q.TaskKey(row.id, position))
            case RunTask(stage_id=row.id, position=position):
                return self._task(q.TaskKey(row.id, position))
            case _:
                return {}

    def _first_task(self, row: StageRow) -> Answers:
        return self._task(q.TaskKey(row.id, 0)) if row.spec.tasks else {}

    def _answer(self, query: q.Query) -> Answers:
        match query:
            case q.StageKey():
                row = self._db.one("stage", {"stage_id": query.id, "workflow_id": self._workflow})
                return {query: None if row is None else rows.stage(row)}
            case q.TaskKey():
                return self._task(query)
            case q.RoundKey():
                return self._round(query)
            case q.ArrivalKey():
                return self._arrival(query)
            case q.Rows():
                return self._rows(query)
            case q.Arrivals():
                return self._arrivals(query)
            case q.Unfinished():
                return self._unfinished(query)
            case q.Broken() | q.Arrived():
                found = self._stages(query.kind, {"workflow_id": self._workflow})
                return found | {query: tuple(found)}
            case q.Unsettled():
                return self._unsettled(query)
            case q.Held():
                return self._held(query)
            case q.Region():
                return self._region(query)
            case q.Buffered():
                return self._buffered(query)
            case q.ClaimKey() | q.WaiterKey() | q.Line() | q.Claims() | q.PermitKey() | q.LastPermit():
                return self._claims(query)
            case q.Waiting() | q.Members() | q.Jumpers() | q.Everything():
                return self._set(query)
            case _:
                return {query: self._scalar(query)}

    def _scalar(self, query: q.Query) -> Any:
        here = {"workflow_id": self._workflow}
        match query:
            case q.Roots():
                return tuple(row[0] for row in self._db.all("roots", here))
            case q.ByRef(ref_id=ref_id):
                row = self._db.one("stage_id_by_ref", here | {"ref_id": ref_id})
                return None if row is None else row[0]
            case q.MessagesLeft(dead=dead):
                found = self._db.one("messages_left", here | {"except_id": self._except, "dead": int(dead)})
                return bool(found and found[0])
            case _:
                return None

    def _task(self, key: q.TaskKey) -> Answers:
        row = self._db.one("task", {"stage_id": key.stage_id, "position": key.position})
        return {key: None if row is None else rows.task(row)}

    def _round(self, key: q.RoundKey) -> Answers:
        row = self._db.one("round", {"stage_id": key.stage_id, "generation": key.generation, "number": key.number})
        return {key: None if row is None else rows.round_(row)}

    def _arrival(self, key: q.ArrivalKey) -> Answers:
        row = self._db.one(
            "arrival",
            {"stage_id": key.stage_id, "generation": key.generation, "number": key.number, "via": key.via},
        )
        return {key: None if row is None else rows.arrival(row)}

    def _rows(self, query: q.Rows) -> Answers:
        found = self._stages("stages", {"ids": dumps(query.ids), "workflow_id": self._workflow})
        return {q.StageKey(id_): None for id_ in query.ids} | found | {query: tuple(found)}

    def _arrivals(self, query: q.Arrivals) -> Answers:
        here = {"stage_id": query.stage_id, "generation": query.generation, "number": query.number}
        return self._keyed(query, self._db.all("arrivals" if query.number else "all_arrivals", here))

    def _held(self, query: q.Held) -> Answers:
        answers = self._keyed(query, self._db.all("held", {"workflow_id": self._workflow}))
        return answers | self._rows(q.Rows(tuple({key.stage_id for key in answers[query]})))

    def _keyed(self, query: q.Query, found: list[Any]) -> Answers:
        arrivals: Answers = {q.ArrivalKey(*row[:4]): rows.arrival(row) for row in found}
        return arrivals | {query: tuple(arrivals)}

    def _unsettled(self, query: q.Unsettled) -> Answers:
        found = [rows.round_(row) for row in self._db.all("unsettled", {"workflow_id": self._workflow})]
        answers: Answers = {q.RoundKey(*row[:3]): row for row in found}
        answers[query] = tuple(answers)
        return answers | self._rows(q.Rows(tuple({row.stage_id for row in found})))

    def _unfinished(self, query: q.Unfinished) -> Answers:
        found = self._stages("incomplete_stages" if query.all else "open_stages", {"workflow_id": self._workflow})
        answers = found | self._tasks(row.id for row in found.values())
        return answers | {query: tuple(found)}

    def _region(self, query: q.Region) -> Answers:
        ids = [row[0] for row in self._db.all("reachable", {"stage_id": query.stage_id})]
        found = self._stages("stages_and_activations", {"ids": dumps(ids)})
        bases = sorted(
            (row for row in found.values() if row.id == row.base_id),
            key=lambda row: (row.id != query.stage_id, row.ordinal),
        )
        answers = found | self._tasks(row.id for row in found.values() if row.status in OPEN)
        for row in bases:
            answers |= self._arrivals(q.Arrivals(row.id, row.generation, 0))
        return answers | {query: tuple(row.id for row in bases)}

    def _buffered(self, query: q.Buffered) -> Answers:
        name = "buffered_for_stage" if query.stage_id else "buffered"
        found = self._db.all(name, {"workflow_id": self._workflow, "stage_id": query.stage_id})
        answers: Answers = {q.SignalKey(row[0]): rows.signal(row) for row in found}
        return answers | {query: tuple(answers)}

    def _claims(self, query: q.Query) -> Answers:
        self._db.lock_claims()
        match query:
            case q.ClaimKey(name=name):
                row = self._db.one("claim_row", {"name": name})
                return {query: None if row is None else rows.claim(row)}
            case q.WaiterKey(claim=claim, stage_id=stage_id):
                row = self._db.one("waiter", {"claim": claim, "stage_id": stage_id})
                return {query: None if row is None else rows.waiter(row)}
            case q.PermitKey(name=name, number=number):
                row = self._db.one("permit", {"name": name, "number": number})
                return {query: None if row is None else PermitRow(*row)}
            case q.LastPermit(name=name):
                row = self._db.one("last_permit", {"name": name})
                return {query: 0 if row is None else row[0]}
            case q.Line(claim=claim, after=after):
                line = map(rows.waiter, self._db.all("line", {"claim": claim, "after": after}))
                waiters: Answers = {q.WaiterKey(row.claim, row.stage_id): row for row in line}
                return waiters | {query: tuple(waiters)}
            case _:
                found = map(rows.claim, self._db.all("claims", {"workflow_id": self._workflow}))
                claims: Answers = {q.ClaimKey(row.name): row for row in found}
                return claims | {query: tuple(claims)}

    def _set(self, query: q.Query) -> Answers:
        here: dict[str, Any] = {"workflow_id": self._workflow}
        match query:
            case q.Waiting():
                found = self._stages("waiting_stages", here)
            case q.Members(field=field, value=value):
                found = self._stages("members", here | {"field": f"$.{field}", "value": value})
            case q.Jumpers():
                found = self._stages("jumpers", here)
            case _:
                found = self._stages("stages_of_workflow", here)
        return found | {query: tuple(found)}

    def _stages(self, name: str, params: dict[str, Any]) -> Answers:
        return {q.StageKey(row.id): row for row in map(rows.stage, self._db.all(name, params))}

    def _tasks(self, stage_ids: Iterable[str]) -> Answers:
        found = self._db.all("tasks", {"ids": dumps(list(stage_ids))})
        return {q.TaskKey(row.stage_id, row.position): row for row in map(rows.task, found)}
