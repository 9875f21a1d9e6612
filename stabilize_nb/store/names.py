"""By what runs are found besides their ids: the key that one was started for, and attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import ConfigError, KeyTakenError
from stabilize_nb.models.values import plain
from stabilize_nb.store.codec import loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.store.connection import Connection

#: Characters of a key at most, and of an input that a sentence shows.
LONGEST, SHOWN = 200, 40


def checked_key(key: object) -> str:
    """Return a key as text, "" for none; raises ConfigError for what is none."""
    if key is None or key == "":
        return ""
    if not isinstance(key, str | int) or isinstance(key, bool) or len(str(key)) > LONGEST:
        raise ConfigError(f"key={_short(key)}: text of at most {LONGEST} characters is expected, such as 'order-42'")
    return str(plain(str(key), "key"))


def stored_for_key(connection: Connection, definition: Mapping[str, Any]) -> str | None:
    """
    Return the run that was started before for the key of a definition, or None; then the key is taken for this one.

    Of two transactions that want a key at the same time, one waits for the other. Names of inputs that begin with "_"
    are the engine's, and may differ.

    Raises KeyTakenError for another workflow or other inputs.
    """
    if "key" not in definition or take_key(connection, definition):
        return None
    key = definition["key"]
    row = connection.one("run_of_key", {"key": key})
    if row is None:
        raise KeyTakenError(f"key {key!r} is that of a run which is being deleted just now; start it again")
    run_id, application, name, context = row
    earlier = (application, name, inputs_in(loads(context)))
    wanted = (definition["application"], definition["name"], inputs_in(definition["context"]))
    if earlier != wanted:
        raise KeyTakenError(
            f"key {key!r} is that of run {run_id}, which is {_said(*earlier)}; {_said(*wanted)} cannot be started for "
            "it: give that a key of its own"
        )
    return str(run_id)


def take_key(connection: Connection, definition: Mapping[str, Any]) -> bool:
    """Take the key of a definition for its workflow, unless it is that of another one; return whether it was taken."""
    return bool(connection.changed("take_key", {"key": definition["key"], "workflow_id": definition["id"]}))


def put_attributes(connection: Connection, definition: Mapping[str, Any]) -> None:
    """Write the attributes with which a workflow begins."""
    for name, value in definition.get("attributes", {}).items():
        connection.run("put_attribute", {"workflow_id": definition["id"], "name": name, "value": value})


def inputs_in(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a context holds but for what the engine has put into it."""
    return {name: value for name, value in context.items() if not name.startswith("_")}


def _said(application: str, name: str, inputs: Mapping[str, Any]) -> str:
    flow = name if application in ("", name) else f"{application}/{name}"
    given = ", ".join(f"{name}={_short(value)}" for name, value in inputs.items())
    return f"{flow!r} with {given or 'no inputs'}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
