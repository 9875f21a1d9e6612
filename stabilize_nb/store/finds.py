"""What the pages of a damaged store hold that can be used: rows are known by their shape, wherever they stand."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import apsw

from stabilize_nb.errors import StoreDamagedError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.store.blobs import joined, with_blobs
from stabilize_nb.store.migrate import migrations
from stabilize_nb.store.pages import Pages

Row = dict[str, Any]


@dataclass(slots=True)
class Found:
    """What the pages of a store hold."""

    events: dict[str, dict[int, Row]] = field(default_factory=lambda: defaultdict(dict))
    ends: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # sequence number of the last fact
    headers: dict[str, Row] = field(default_factory=dict)
    messages: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    journal: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    blobs: dict[str, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def ids(self) -> list[str]:
        """The runs, in the order in which their logs begin."""
        known = {*self.events, *self.headers, *self.ends}
        return sorted(known, key=lambda id_: min((row["position"] for row in self.events[id_].values()), default=0))


@cache
def _columns() -> dict[str, tuple[str, ...]]:
    """Return the columns of the tables that are looked for, as they are stored."""
    model = apsw.Connection(":memory:")
    for _name, sql in migrations():
        model.execute(sql)
    tables = ("event", "workflow", "message", "journal")
    return {name: tuple(row[1] for row in model.execute(f"PRAGMA table_info({name})")) for name in tables}


def read(source: str) -> Found:
    """Return what can be read of a store; raises apsw.Error when its file cannot be opened."""
    found = Found()
    with Pages(source) as pages:
        for rowid, values in pages.records():
            if rowid is None:
                _take_keyed(found, values)
            else:
                _take_numbered(found, rowid, values)
    _complete(found)
    return found


def _complete(found: Found) -> None:
    """Have documents know what the blobs hold to which they refer; a row that refers to a blob that is lost is lost."""
    found.events.update({id_: dict(_whole(found, log.items(), "data")) for id_, log in found.events.items()})
    for rows, column in ((found.messages, "payload"), (found.journal, "value")):
        for id_, listed in rows.items():
            rows[id_] = [row for _, row in _whole(found, enumerate(listed), column)]


def _whole(found: Found, rows: Iterable[tuple[int, Row]], column: str) -> Iterator[tuple[int, Row]]:
    for key, row in rows:
        try:
            text = row[column]
            yield key, row if text is None else row | {column: with_blobs(text, lambda digest: _blob(found, digest))}
        except StoreDamagedError:
            continue


def _blob(found: Found, digest: str) -> Any:
    """Return what a blob holds; raises StoreDamagedError when not all of it is there."""
    rows = [data for _, data in sorted(found.blobs[digest].items())]
    if hashlib.sha256(b"".join(rows)).hexdigest() != digest:
        raise StoreDamagedError(f"the large value {digest} is not whole")
    return joined(rows, lambda inner: _blob(found, inner))


def _take_numbered(found: Found, rowid: int, values: tuple[Any, ...]) -> None:
    event, message = (dict(zip(_columns()[name], values, strict=False)) for name in ("event", "message"))
    if len(values) == len(event) == len(_columns()["event"]) and _is_event(event):
        event["position"] = rowid
        found.events[event["workflow_id"]][event["sequence"]] = event
    elif len(values) == len(_columns()["message"]) and _is_message(message):
        message["position"] = rowid
        found.messages[message["workflow_id"]].append(message)


def _take_keyed(found: Found, values: tuple[Any, ...]) -> None:
    columns = _columns()
    match values:
        case (str(workflow_id), int(sequence), int()):  # an entry of the index event_by_sequence
            found.ends[workflow_id] = max(found.ends[workflow_id], sequence)
        case (str(digest), int(part), bytes(data)):
            found.blobs[digest][part] = data
        case (str(), str(), str(), int(), int(), *_) if len(values) == len(columns["journal"]):
            row = dict(zip(columns["journal"], values, strict=True))
            if _is_step(row):
                found.journal[row["stage_id"]].append(row)
        case _ if len(values) == len(columns["workflow"]):
            row = dict(zip(columns["workflow"], values, strict=True))
            if (
                row["status"] in WorkflowStatus.__members__
                and isinstance(row["sequence"], int)
                and isinstance(row["id"], str)
            ):
                found.headers[row["id"]] = row
                found.ends[row["id"]] = max(found.ends[row["id"]], row["sequence"])
        case _:
            pass


def _is_event(row: Row) -> bool:
    texts = (row["workflow_id"], row["type"], row["data"], row["stage_id"] or "")
    numbers = (row["sequence"], row["at"])
    fits = all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
    return fits and row["position"] is None and row["sequence"] > 0 and _is_json(row["data"])


def _is_step(row: Row) -> bool:
    is_settled = isinstance(row["at"], int)
    fits = row["kind"] in ("step", "model", "tool") and isinstance(row["begun_at"], int)
    return fits and ((row["value"] is None) if not is_settled else row["value"] is None or _is_json(row["value"]))


def _is_message(row: Row) -> bool:
    texts = (row["id"], row["workflow_id"], row["kind"], row["payload"])
    return all(isinstance(text, str) for text in texts) and _is_json(row["payload"])


def _is_json(text: Any) -> bool:
    try:
        json.loads(text)
    except (ValueError, TypeError):
        return False
    return True
