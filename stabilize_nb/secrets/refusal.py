"""A workflow whose data hold a key as plain text is not started: it would stand in the database for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stabilize_nb.errors import ConfigError
from stabilize_nb.secrets.patterns import kind_in, masked


def refuse_plain(definition: Mapping[str, Any]) -> None:
    """
    Look through the inputs, contexts and trigger of a workflow as it is to be stored.

    Raises ConfigError that says where keys stand and what to do, and not which they are.
    """
    name = definition["name"]
    found = [
        *_keys(definition["context"], "inputs"),
        *_keys(definition["trigger"], "trigger"),
        *(
            each
            for stage in definition["stages"]
            for each in _keys(stage.get("context", {}), f"stage {stage['spec']['ref_id']!r} context")
        ),
    ]
    if found:
        places = "; ".join(f"{place} ({what})" for place, what in found)
        raise ConfigError(
            f"workflow {masked(name)!r} is not started, for keys stand in it as plain text and would be stored so: "
            f'{places}. Write secret("NAME") in place of each, which is looked up where it is used, in the environment '
            "if nothing else is said, or start it with allow_plain_secrets=True"
        )


def _keys(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        what = kind_in(value)
        if what is not None:
            yield place, what
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _keys(key, f"a key of {place}")
            yield from _keys(item, f"{place}.{masked(key)}")
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _keys(item, f"{place}[{at}]")
