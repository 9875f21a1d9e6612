"""Records: small immutable values that are made often.

A frozen dataclass sets each field through `object.__setattr__`, which makes a record of eight fields cost three times
as much to make. So here mypy says that nobody assigns to a field, and nothing checks it again while the engine runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make a class a dataclass with slots that is equal and hashed by value and that nobody changes."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def named_record(cls: type[T]) -> type[T]:
    """Do the same as `record`; all fields are given by name."""
    return dataclass(slots=True, unsafe_hash=True, kw_only=True)(cls)


def row_record(cls: type[T]) -> type[T]:
    """Have `_replace` of a named tuple look up only the fields that change; a row of many costs a sixth then."""
    place = {name: at for at, name in enumerate(cls._fields)}  # type: ignore[attr-defined]
    make: Any = tuple.__new__

    def _replace(self: Any, /, **changes: Any) -> Any:
        values = list(self)
        for name, value in changes.items():
            values[place[name]] = value
        return make(cls, values)

    cls._replace = _replace  # type: ignore[attr-defined]
    return cls
