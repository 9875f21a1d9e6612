"""
What happened, in the formats of process mining: XES (IEEE 1849-2016) and OCEL 2.0 (JSON).

Both are written event by event. A file of XES has neither classifiers nor attributes of the log itself, and no
namespace, so that it holds by the schema of the IEEE and by the one that was published before it. Attributes of OCEL
are text, as its schema wants it, and declared as what they are.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import quoteattr

from stabilize_nb.events.firings import RunPast, Step
from stabilize_nb.events.frame_rows import Row, rows_of
from stabilize_nb.events.frames import TIME, TYPES, Column
from stabilize_nb.secrets.patterns import masked, masked_value

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TextIO

    import pandas as pd

PROCESS_MINING = (
    Column("case:concept:name", "string", "id of the run"),
    Column("concept:name", "string", "ref_id of the stage"),
    Column("time:timestamp", TIME, "when it was committed"),
    Column("lifecycle:transition", "string", "start, suspend, resume, complete or ate_abort"),
    Column("concept:instance", "string", "which run of the stage"),
    Column("org:resource", "string", "the person who made it; missing when the engine did"),
)


def activities(pasts: Iterable[RunPast]) -> Iterator[tuple[str, str, Step, str]]:
    """Yield run, stage, transition and instance, in order."""
    for past in pasts:
        firings = [*past.taken_over, *past.firings]
        steps = [(firing.stage, step, firing.instance) for firing in firings for step in firing.steps]
        for stage, step, instance in sorted(steps, key=lambda each: each[1].sequence):
            yield past.run_id, stage, step, instance


# -- XES ----------------------------------------------------------------------------------------------

_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849.2016">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
  <extension name="Lifecycle" prefix="lifecycle" uri="http://www.xes-standard.org/lifecycle.xesext"/>
  <extension name="Organizational" prefix="org" uri="http://www.xes-standard.org/org.xesext"/>
  <global scope="trace">
    <string key="concept:name" value=""/>
  </global>
  <global scope="event">
    <string key="concept:name" value=""/>
    <date key="time:timestamp" value="1970-01-01T00:00:00.000+00:00"/>
    <string key="lifecycle:transition" value="complete"/>
    <string key="concept:instance" value=""/>
  </global>
"""
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
#: What XML 1.0 cannot hold, not even escaped.
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_xes(pasts: Iterable[RunPast], path: str | os.PathLike[str]) -> None:
    """Write a trace for each run; a character that XML has no place for becomes U+FFFD."""
    with Path(path).open("w", encoding="utf-8") as file:
        file.write(_HEAD)
        for past in pasts:
            file.write(f"  <trace>\n    {_string('concept:name', past.run_id)}\n")
            file.write(f"    {_string('workflow', past.workflow)}\n")
            for _, stage, step, instance in activities([past]):
                file.writelines(f"    {line}\n" for line in _event(stage, step, instance))
            file.write("  </trace>\n")
        file.write("</log>\n")


def _event(stage: str, step: Step, instance: str) -> Iterator[str]:
    yield "<event>"
    yield f"  {_string('concept:name', stage)}"
    yield f'  <date key="time:timestamp" value="{_moment(step.at)}"/>'
    yield f"  {_string('lifecycle:transition', step.transition)}"
    yield f"  {_string('concept:instance', instance)}"
    if step.by is not None:
        yield f"  {_string('org:resource', step.by)}"
    yield "</event>"


def _string(key: str, value: str) -> str:
    return f"<string key={quoteattr(key)} value={quoteattr(_NO_XML.sub(REPLACEMENT, masked(value)))}/>"


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds")


# -- OCEL ---------------------------------------------------------------------------------------------

_EVENT_ATTRIBUTES: Final = {"seq": "integer", "status": "string", "attempt": "integer"}
_OBJECT_ATTRIBUTES: Final = {"name": "string", "status": "string"}
_OBJECT_TYPES: Final = ("workflow", "stage", "task")
#: What holds from the beginning, by the standard's word for that.
_ALWAYS: Final = "1970-01-01T00:00:00.000+00:00"


def write_ocel(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write each row as an event, then the objects they are about: whatever is known of them by then."""
    objects = _Objects()
    # A lone surrogate is no text that a file can hold.
    with Path(path).open("w", encoding="utf-8", errors="replace") as file:
        file.write('{"eventTypes":')
        _dump([_type(kind, _EVENT_ATTRIBUTES) for kind in TYPES], file)
        file.write(',"objectTypes":')
        _dump([_type(kind, _OBJECT_ATTRIBUTES) for kind in _OBJECT_TYPES], file)
        file.write(',"events":')
        _dump_each((_ocel_event(row, objects) for row in rows_of(frame, lambda _: True)), file)
        file.write(',"objects":')
        _dump_each(objects.all(), file)
        file.write("}\n")


def _type(name: str, attributes: Mapping[str, str]) -> dict[str, Any]:
    return {"name": name, "attributes": [{"name": key, "type": kind} for key, kind in attributes.items()]}


def _dump(value: Any, file: TextIO) -> None:
    file.write(json.dumps(masked_value(value), ensure_ascii=False, separators=(",", ":")))


def _dump_each(values: Iterable[Any], file: TextIO) -> None:
    file.write("[")
    for number, value in enumerate(values):
        file.write(",\n" if number else "\n")
        _dump(value, file)
    file.write("]")


def _ocel_event(row: Row, objects: _Objects) -> dict[str, Any]:
    values = {"seq": row.sequence, "status": row.status, "attempt": row.attempt}
    return {
        "id": f"{row.run_id}/{row.sequence}",
        "type": row.type,
        "time": _moment(row.at),
        "attributes": [{"name": name, "value": str(value)} for name, value in values.items() if value is not None],
        "relationships": [_relation(id_, qualifier) for qualifier, id_ in objects.learn(row).items()],
    }


def _relation(id_: str, qualifier: str) -> dict[str, str]:
    return {"objectId": id_, "qualifier": qualifier}


class _Objects:
    """The objects that events are about. An id begins with the type, so no two are the same."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Any]] = {}
        self._links: dict[tuple[str, str, str], None] = {}

    def learn(self, row: Row) -> dict[str, str]:
        """Take in what an event says, and return the ids of what it is about by type."""
        about = {"workflow": self._object("workflow", row.run_id)}
        self._name(about["workflow"], row.workflow)
        if row.stage_id is not None and row.stage is not None:
            about["stage"] = self._object("stage", row.stage_id)
            self._name(about["stage"], row.stage)
            self._link(about["stage"], about["workflow"], "part of")
        if "stage" in about and row.task is not None:
            about["task"] = self._object("task", f"{row.stage_id}:{row.data.get('position', 0)}")
            self._name(about["task"], row.task)
            self._link(about["task"], about["stage"], "part of")
        if row.status is not None:
            kind = row.type.partition(".")[0]
            self._set(about.get(kind) or about.get("stage") or about["workflow"], "status", row.status, _moment(row.at))
        self._kin(row, about)
        return about

    def _kin(self, row: Row, about: Mapping[str, str]) -> None:
        if row.type == "workflow.forked" and "run" in row.data:
            self._link(about["workflow"], f"workflow:{row.data['run']}", "forked from")
        if row.type == "child.started" and "child" in row.data:
            self._link(f"workflow:{row.data['child']}", about["workflow"], "child of")

    def _object(self, kind: str, id_: str) -> str:
        name = f"{kind}:{id_}"
        self._objects.setdefault(name, {"id": name, "type": kind, "attributes": [], "relationships": []})
        return name

    def _name(self, id_: str, name: str | None) -> None:
        attributes = self._objects[id_]["attributes"]
        if name is not None and not any(each["name"] == "name" for each in attributes):
            self._set(id_, "name", name, _ALWAYS)

    def _set(self, id_: str, name: str, value: str, time: str) -> None:
        self._objects[id_]["attributes"].append({"name": name, "value": value, "time": time})

    def _link(self, tail: str, head: str, qualifier: str) -> None:
        self._links[tail, head, qualifier] = None

    def all(self) -> Iterator[dict[str, Any]]:
        """Yield the objects; of their relationships those to objects that are here."""
        for tail, head, qualifier in self._links:
            if tail in self._objects and head in self._objects:
                self._objects[tail]["relationships"].append(_relation(head, qualifier))
        yield from self._objects.values()
