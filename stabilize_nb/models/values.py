"""
The one door for values: what may be stored, and the sentence that says where a value cannot be.

Storable is what JSON holds without loss: None, bool, int within 64 bits, finite float, text without lone surrogates or
NUL, lists, and mappings with text keys. Converted is only what is equal to the original afterwards: any mapping becomes
a dict, numpy's scalars and subclasses of text and numbers (`StrEnum`, `IntEnum`, `numpy.float64`) become plain values.
Tuples become lists, the one exception, as everybody knows them from JSON. A reference to a secret stays one, and
nothing else can pass for one. Whatever else comes is refused with the
conversion to write (models/advice.py). No code of the value's own class is run but the items of a mapping.

What becomes what, as users read it: docs/values.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from stabilize_nb.errors import ValueNotStorableError, ValueTooLargeError
from stabilize_nb.models.advice import NUMPY, advice_for, type_name
from stabilize_nb.models.secret import KEY as SECRET
from stabilize_nb.models.secret import Secret

EMPTY: Mapping[str, Any] = MappingProxyType({})
#: Lists and mappings inside each other, at most; the mapping that outputs or a context are is not counted.
MAX_DEPTH: Final = 200
#: Characters that a value may take as JSON text, at most; escapes are not counted.
MAX_SIZE: Final = 64 * 2**20
#: Lists and mappings that a value may consist of. One that shares parts with itself may have far more than it seems.
MAX_PARTS: Final = 1_000_000
_INT_LIMIT: Final = 2**63
#: Parts at either end of a path that are written, and characters of a key.
_PARTS: Final = 8
_NAME: Final = 80
#: Where a value stands: what it is part of, and its key or index there.
Place = tuple[Any, Any]


def plain(value: Any, path: str) -> Any:
    """
    Return `value` as plain JSON data, a copy that shares nothing mutable with it.

    `path` names the value in errors, such as `stage 'plan' outputs`.

    Raises ValueNotStorableError with the path, the type and what to do; ValueTooLargeError for more than 64 MiB.
    """
    return _Door(path).let(value, MAX_DEPTH)


def plain_mapping(value: Any, path: str) -> dict[str, Any]:
    """Return a mapping as plain JSON data; raises ValueNotStorableError for anything else."""
    if type(value) is dict and not value:
        return {}
    _check_mapping(value, path)
    found: dict[str, Any] = _Door(path).let(value, MAX_DEPTH + 1)
    return found


def as_dict(value: Mapping[str, Any] | None, path: str) -> dict[str, Any]:
    """Return what was given for a mapping as a dict, its values as they are; raises for anything but None."""
    if value is None:
        return {}
    _check_mapping(value, path)
    return dict(_items(value, (None, path)))


def _check_mapping(value: Any, path: str) -> None:
    if not issubclass(type(value), Mapping):
        name = type_name(type(value))
        raise ValueNotStorableError(f"{path} is of type {name}; a mapping with text keys is expected")


def _items(value: Any, place: Place) -> list[tuple[Any, Any]]:
    if type(value) is dict:
        return list(value.items())
    try:
        return [(key, item) for key, item in value.items()]
    except Exception as error:  # noqa: BLE001 - the code of somebody's mapping
        what = f"of type {type_name(type(value))}, whose items cannot be read ({type(error).__name__})"
        raise _refused(place, what, "store a dict") from None


class _Door:
    """One value on its way in; counts what has come through, so that parts shared a million times end too."""

    __slots__ = ("parts", "path", "room")

    def __init__(self, path: str) -> None:
        self.path = path
        self.room = MAX_SIZE
        self.parts = 0

    def let(self, value: Any, depth: int) -> Any:
        try:
            return self._plain(value, (None, self.path), depth)
        except RecursionError:
            raise _refused((None, self.path), "nested too deep for this place", "store it flatter") from None

    def _plain(self, value: Any, place: Place, depth: int) -> Any:
        """`depth`: how many more lists and mappings may be inside each other."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._text(value, place)
        if kind is int:
            if -_INT_LIMIT <= value < _INT_LIMIT:
                return value
            raise _refused(place, "an integer beyond 64 bits", "store str(value)")
        if kind is float:
            if math.isfinite(value):
                return value
            raise _refused(place, f"the number {value}", "store None or text instead")
        if kind is list or (issubclass(kind, list | tuple) and not hasattr(kind, "_fields")):
            return self._list(value, kind, place, depth)
        if kind is Secret:
            return value
        if issubclass(kind, Mapping):
            return self._dict(value, place, depth)
        return self._plain(self._scalar(value, kind, place), place, depth)

    def _list(self, value: Any, kind: type, place: Place, depth: int) -> list[Any]:
        items = (list if issubclass(kind, list) else tuple).__iter__(value)
        self._enter(list.__len__(value) if issubclass(kind, list) else tuple.__len__(value), place, depth)
        return [self._plain(item, (place, index), depth - 1) for index, item in enumerate(items)]

    def _dict(self, value: Any, place: Place, depth: int) -> dict[str, Any]:
        items = _items(value, place)
        self._enter(len(items), place, depth)
        found = {self._key(key, place): self._plain(item, (place, key), depth - 1) for key, item in items}
        if len(found) < len(items):
            raise _refused(place, "a mapping in which two keys are the same text", "use different keys")
        if SECRET in found:
            raise _no_secret(place)
        return found

    def _enter(self, count: int, place: Place, depth: int) -> None:
        if depth <= 0:
            raise _refused(place, f"nested deeper than {MAX_DEPTH} levels (or contains itself)", "store it flatter")
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise self._too_large(place, f"consists of more than {MAX_PARTS:,} lists and mappings")
        self._take(2 * count + 2, place)

    def _take(self, size: int, place: Place) -> None:
        self.room -= size
        if self.room < 0:
            raise self._too_large(place, f"takes more than {MAX_SIZE // 2**20} MiB as JSON text")

    def _text(self, value: str, place: Place, what: str = "text") -> str:
        if "\0" in value:
            raise _refused(place, f"{what} with a NUL character", "remove it or encode the bytes as base64")
        size = len(value)
        if not value.isascii():
            try:
                size = len(value.encode())
            except UnicodeEncodeError:
                advice = "decode it with errors='replace'"
                raise _refused(place, f"{what} with a lone surrogate", advice) from None
        self._take(size + 2, place)
        return value

    def _key(self, key: Any, place: Place) -> str:
        kind = type(key)
        if kind is not str:
            if not issubclass(kind, str):
                what = f"a mapping with a key of type {type_name(kind)}{_shown(key)}"
                raise _refused(place, what, "use text keys, such as str(key)")
            key = str.__str__(key)
        return self._text(key, place, "a mapping that has a key")

    def _scalar(self, value: Any, kind: type, place: Place) -> Any:
        """Return the plain value that is equal to a scalar of another class."""
        for base, made in _SCALARS:
            if issubclass(kind, base):
                return made(value)
        item = _item(value) if type_name(kind).startswith(NUMPY) else None
        if type(item) in (bool, int, float):
            return item
        raise _refused(place, f"of type {type_name(kind)}", advice_for(kind))

    def _too_large(self, place: Place, what: str) -> ValueTooLargeError:
        advice = "store it in a file, and here the path of the file"
        return ValueTooLargeError(f"{self.path} {what} (reached at {_written(place)}): {advice}")


def _no_secret(place: Place) -> ValueNotStorableError:
    advice = "write secret(...) where one is meant, or use another key"
    return ValueNotStorableError(f"{_written(place)} has the key {SECRET!r}, which stands for a secret: {advice}")


def _refused(place: Place, what: str, advice: str) -> ValueNotStorableError:
    return ValueNotStorableError(f"{_written(place)} is {what}, which JSON cannot hold: {advice}")


#: The class of a scalar -> what makes a plain value of it without asking its own class.
_SCALARS: Final = ((str, str.__str__), (int, int.__int__), (float, float.__float__))


def _item(value: Any) -> Any:
    """Return what a numpy scalar or an array of no dimension holds; None for other arrays."""
    try:
        return value.item() if value.shape == () else None
    except Exception:  # noqa: BLE001 - a class that only says that it is one of numpy
        return None


def _written(place: Place) -> str:
    """Return a place as a path: `inputs.a[0]['b c']`."""
    parts: list[str] = []
    while place[0] is not None:
        place, key = place
        if type(key) is int:
            parts.append(f"[{key}]")
        else:
            name = str.__str__(key)
            parts.append(f".{name}" if name.isidentifier() and len(name) <= _NAME else f"[{name[:_NAME]!r}]")
    parts.reverse()
    parts[_PARTS:-_PARTS] = ["…"] if len(parts) > 2 * _PARTS else parts[_PARTS:-_PARTS]
    return str(place[1]) + "".join(parts)


def _shown(key: Any) -> str:
    """Return a key of a plain kind as text; the repr of others is their own code."""
    return f" ({key!r})" if type(key) in (int, float, bool, bytes, type(None)) else ""
