"""
The form of a gate: what a person fills in, and how what was typed becomes the value that stages get.

A form is JSON data: field -> "str", "int", "float", "bool", "date" or "json", with "?" behind what may stay empty, or a
list of values to choose from. A date is kept as ISO text ("2026-11-22"), which is what JSON has; `date.fromisoformat`
reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from stabilize_nb.errors import ConfigError

#: What a field may be, and what people call it.
KINDS: Final[Mapping[str, str]] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "yes or no",
    "date": "a date such as 2026-11-22",
    "json": 'values by name as JSON, such as {"id": 7}',
}


class Unfit(ValueError):
    """What was typed is not what a field takes; the text is the end of a sentence about the field."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field; `kind` is a key of KINDS or "choice". One that is not `needed` may stay empty."""

    name: str
    kind: str
    choices: tuple[Any, ...] = ()
    needed: bool = True

    def fit(self, value: Any) -> Any:
        """Return what was typed as the type of the field; raises Unfit."""
        if self.kind == "choice":
            return self._chosen(value)
        try:
            return _MAKERS[self.kind](value)
        except (TypeError, ValueError, OverflowError, KeyError):
            raise Unfit(f"takes {KINDS[self.kind]}, not {value!r}") from None

    def _chosen(self, value: Any) -> Any:
        same = [each for each in self.choices if each == value and type(each) is type(value)]
        like = [each for each in self.choices if str(each) == str(value)]
        if not (same or like):
            raise Unfit(f"cannot be {value!r}; choose one of {', '.join(map(str, self.choices))}")
        return (same or like)[0]

    def is_empty(self, value: Any) -> bool:
        """Whether nothing was filled in; text may be empty, and a yes-or-no has always a value."""
        return value is None or (value == "" and self.kind != "str")


def fields_of(form: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return the fields of a form; a kind that is not known takes text."""
    return tuple(_field(str(name), kind) for name, kind in form.items())


def _field(name: str, kind: Any) -> Field:
    if isinstance(kind, list | tuple):
        return Field(name, "choice", tuple(kind))
    text = str(kind)
    word = text.removesuffix("?")
    return Field(name, word if word in KINDS else "str", needed=word == text)


def form_data(place: str, form: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a form as JSON data: types by their names, `int | None` as "int?", lists of choices as lists.

    Raises ConfigError for a field that is neither.
    """
    return {str(name): _kind(place, str(name), kind) for name, kind in form.items()}


def _kind(place: str, name: str, kind: Any) -> Any:
    if isinstance(kind, list | tuple) and kind:
        return list(kind)
    word = kind if isinstance(kind, str) else _word(kind)
    if word is None or word.removesuffix("?") not in KINDS:
        known = ", ".join(KINDS)
        raise ConfigError(f"{place}: form field {name!r} is {kind!r}; write one of {known} or a list of choices")
    return word


def _word(kind: Any) -> str | None:
    if isinstance(kind, type):
        return kind.__name__
    parts = [part for part in get_args(kind) if part is not NoneType]
    is_optional = get_origin(kind) in {Union, UnionType} and len(parts) == 1 and isinstance(parts[0], type)
    return f"{parts[0].__name__}?" if is_optional else None


def fitted(form: Mapping[str, Any], values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return values, those of the form as their fields want them; raises ConfigError that names `place`."""
    fields = {field.name: field for field in fields_of(form)}
    return {name: _fit(fields.get(name), value, place) for name, value in values.items()}


def _fit(field: Field | None, value: Any, place: str) -> Any:
    if field is None or (value is None and not field.needed):
        return value
    try:
        return field.fit(value)
    except Unfit as wrong:
        raise ConfigError(f"field {field.name!r} of {place} {wrong}") from None


def missing(fields: Iterable[Field], values: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields that an approval needs and that are empty."""
    return [field.name for field in fields if field.needed and field.is_empty(values.get(field.name))]


def completed(form: Mapping[str, Any], values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return what an approval says: text left out is empty, a yes-or-no is no; raises ConfigError for other fields."""
    fields = fields_of(form)
    blank = {field.name: _BLANK[field.kind] for field in fields if field.needed and field.kind in _BLANK}
    given = {**blank, **values}
    if empty := missing(fields, given):
        kinds = {field.name: KINDS.get(field.kind) or "one of the choices" for field in fields}
        wanted = ", ".join(f"{name!r} ({kinds[name]})" for name in empty)
        how = ", ".join(f"{name}=..." for name in empty)
        raise ConfigError(f"{place} needs {wanted}: give it with the approval, as in approve({how})")
    return given


def _int(value: Any) -> int:
    number = float(value) if isinstance(value, float) else int(str(value).strip().replace("_", "x"))
    if number != int(number) or isinstance(value, bool) or not -(2**63) <= number < 2**63:
        raise ValueError
    return int(number)


def _float(value: Any) -> float:
    number = float(str(value).strip().replace("_", "x"))
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number


def _bool(value: Any) -> bool:
    return _TRUTHS[str(value).strip().lower()]


#: What a field is that was left alone.
_BLANK: Final[Mapping[str, Any]] = {"str": "", "bool": False}
_TRUTHS: Final[Mapping[str, bool]] = {
    "true": True, "yes": True, "y": True, "1": True, "on": True,
    "false": False, "no": False, "n": False, "0": False, "off": False,
}  # fmt: skip


def _date(value: Any) -> str:
    if isinstance(value, datetime):
        value = value.date()
    return value.isoformat() if isinstance(value, date) else date.fromisoformat(str(value).strip()).isoformat()


def _json(value: Any) -> dict[str, Any]:
    found = dict(value) if isinstance(value, Mapping) else json.loads(value)
    if not isinstance(found, dict):
        raise TypeError
    return found


_MAKERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "str": str, "int": _int, "float": _float, "bool": _bool, "date": _date, "json": _json,
}  # fmt: skip
