"""
The rules of the exchange formats, written from the published texts, which their owners allow nobody to copy.

XES: IEEE 1849-2016, clause 5 and its schema. OCEL: "OCEL (Object-Centric Event Log) 2.0 Specification", section 8.
docs/decisions.md says how the files were tried with the schemas themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema

_NAME = re.compile(r"[A-Za-z_:][\w:.\-]*")
_DATE = re.compile(r"-?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?")
#: Kind of an attribute -> what its value is.
_VALUES = {"string": "", "id": "", "date": _DATE, "int": r"[+-]?\d+", "float": r"\S+", "boolean": "true|false|0|1"}
#: What a log has in it, in this order.
_ORDER = ["extension", "global", "classifier", *_VALUES, "trace"]
_LIFECYCLE = {
    *("schedule", "assign", "withdraw", "reassign", "start", "suspend", "resume", "pi_abort", "ate_abort", "complete"),
    *("autoskip", "manualskip"),
}


def faults_of_xes(path: Path) -> Iterator[str]:
    """Yield what a file has that the schema of XES, or an extension that it names, does not allow."""
    log = ET.parse(path).getroot()
    if log.tag != "log" or set(log.attrib) - {"xes.version", "xes.features"} or not log.get("xes.version"):
        yield f"the document is a {log.tag} with {log.attrib}"
    places = [_ORDER.index(child.tag) if child.tag in _ORDER else -1 for child in log]
    if -1 in places or places != sorted(places):
        yield "a log has something in it that it may not have, or not there"
    for extension in log.iterfind("extension"):
        if set(extension.attrib) != {"name", "prefix", "uri"}:
            yield f"extension {extension.attrib}"
    for each in log.iterfind("global"):
        yield from _attributes(each, {"scope"})
    for trace in log.iterfind("trace"):
        events = [child.tag == "event" for child in trace]
        if events != sorted(events):
            yield "a trace has an attribute after its events"
        yield from _attributes(trace, set(), "event")
        for event in trace.iterfind("event"):
            yield from _attributes(event, set())
            yield from _missing(log, event)


def _attributes(element: ET.Element, own: set[str], *others: str) -> Iterator[str]:
    if set(element.attrib) != own or (element.text or "").strip():
        yield f"{element.tag} with {element.attrib} and {element.text!r}"
    for child in element:
        if child.tag in others:
            continue
        key, value = child.get("key", ""), child.get("value")
        if child.tag not in _VALUES or set(child.attrib) != {"key", "value"} or not _NAME.fullmatch(key):
            yield f"{element.tag} has {child.tag} {child.attrib}"
        elif _VALUES[child.tag] and not re.fullmatch(_VALUES[child.tag], value or ""):
            yield f"{key} is {value}"


def _missing(log: ET.Element, event: ET.Element) -> Iterator[str]:
    """Yield what is declared for all events and not there, and what the extensions do not know."""
    here = {child.get("key"): child for child in event}
    prefixes = {each.get("prefix") for each in log.iterfind("extension")}
    for each in log.iterfind("global[@scope='event']/*"):
        if each.get("key") not in here or here[each.get("key")].tag != each.tag:
            yield f"an event lacks {each.get('key')}"
    for key in here:
        if ":" in key and key.partition(":")[0] not in prefixes:
            yield f"{key} is of no extension"
    if here["lifecycle:transition"].get("value") not in _LIFECYCLE:
        yield f"transition {here['lifecycle:transition'].get('value')}"


# -- OCEL ---------------------------------------------------------------------------------------------


def _list(required: str, **properties: Any) -> dict[str, Any]:
    """Describe an array of objects."""
    kinds = {name: {"type": "string"} if kind is None else kind for name, kind in properties.items()}
    return {"type": "array", "items": {"type": "object", "properties": kinds, "required": required.split()}}


_TIME = {"type": "string", "format": "date-time"}
_TYPES = _list("name attributes", name=None, attributes=_list("name type", name=None, type=None))
_LINKS = _list("objectId qualifier", objectId=None, qualifier=None)
_OCEL = {
    "type": "object",
    "required": ["eventTypes", "objectTypes", "events", "objects"],
    "properties": {
        "eventTypes": _TYPES,
        "objectTypes": _TYPES,
        "events": _list(
            "id type time", id=None, type=None, time=_TIME, relationships=_LINKS,
            attributes=_list("name value", name=None, value=None),
        ),
        "objects": _list(
            "id type", id=None, type=None, relationships=_LINKS,
            attributes=_list("name value time", name=None, value=None, time=_TIME),
        ),
    },
}  # fmt: skip
_KINDS = {"string", "time", "integer", "float", "boolean"}


def faults_of_ocel(path: Path) -> Iterator[str]:
    """Yield what a file has that the specification of OCEL does not allow, in its shape or in what refers to what."""
    log = json.loads(path.read_text(encoding="utf-8"))
    yield from (error.message for error in jsonschema.Draft202012Validator(_OCEL).iter_errors(log))
    objects = {each["id"] for each in log["objects"]}
    for entries, kinds in (("events", "eventTypes"), ("objects", "objectTypes")):
        declared = {kind["name"]: {each["name"]: each["type"] for each in kind["attributes"]} for kind in log[kinds]}
        if len(declared) != len(log[kinds]) or len({each["id"] for each in log[entries]}) != len(log[entries]):
            yield f"two of {kinds} or {entries} have one name"
        for entry in log[entries]:
            for attribute in entry["attributes"]:
                kind = declared[entry["type"]].get(attribute["name"])
                if kind not in _KINDS or (kind == "integer" and not re.fullmatch(r"-?\d+", attribute["value"])):
                    yield f"{entry['id']} has {attribute} of kind {kind}"
            for time in (each["time"] for each in [entry, *entry["attributes"]] if "time" in each):
                if datetime.fromisoformat(time).utcoffset() is None:
                    yield f"{entry['id']}: {time} has no zone"
            for link in entry["relationships"]:
                if link["objectId"] not in objects:
                    yield f"{entry['id']} refers to {link['objectId']}, which is not there"
