"""The one door for values: what may be stored, and the sentence that says where a value cannot be.

Storable is what JSON holds without loss: None, bool, int within 64 bits, finite float, text without lone
surrogates or NUL, lists, and mappings with text keys. Tuples become lists; numpy's scalars become plain values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from stabilize_nb.errors import ValueNotStorableError

EMPTY: Mapping[str, Any] = MappingProxyType({})
MAX_DEPTH = 200
_INT_LIMIT = 2**63


def plain(value: Any, path: str) -> Any:
    """Return `value` as plain JSON data, a copy that shares nothing mutable with it.

    `path` names the value in errors, such as `stage 'plan' outputs`.

    Raises ValueNotStorableError with the path, the type and what to do.
    """
    return _plain(value, path, 0)


def plain_mapping(value: Any, path: str) -> dict[str, Any]:
    """Return a mapping as plain JSON data; raises ValueNotStorableError for anything else."""
    if not isinstance(value, Mapping):
        msg = f"{path} is a {type(value).__name__}; a mapping with text keys is expected"
        raise ValueNotStorableError(msg)
    return _plain(value, path, 0) if value else {}


def _plain(value: Any, path: str, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value, path)
    if kind is int:
        if -_INT_LIMIT <= value < _INT_LIMIT:
            return value
        raise _refused(path, "an integer beyond 64 bits", "store it as text")
    if kind is float:
        if math.isfinite(value):
            return value
        raise _refused(path, f"the number {value}", "store None or text instead")
    if depth > MAX_DEPTH:
        raise _refused(path, f"nested deeper than {MAX_DEPTH} levels (or contains itself)", "store it flatter")
    if kind in (list, tuple):
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(key, path): _plain(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    scalar = _scalar(value)
    if scalar is not value:
        return _plain(scalar, path, depth + 1)
    advice = "convert it to JSON data (text, number, list, dict)"
    raise _refused(path, f"a {kind.__module__}.{kind.__qualname__}", advice)


def _scalar(value: Any) -> Any:
    """Return the plain value that a numpy scalar stands for; anything else as it is."""
    is_numpy = type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()
    return value.item() if is_numpy else value


def _text(value: str, path: str) -> str:
    if "\0" in value:
        raise _refused(path, "text with a NUL character", "remove it or encode the bytes as base64")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _refused(path, "text with a lone surrogate", "decode it with errors='replace'") from None
    return value


def _key(key: Any, path: str) -> str:
    if type(key) is not str:
        raise _refused(path, f"a mapping with the key {key!r} of type {type(key).__name__}", "use text keys")
    return _text(key, f"{path} key {key!r}")


def _refused(path: str, what: str, advice: str) -> ValueNotStorableError:
    return ValueNotStorableError(f"{path} is {what}, which JSON cannot hold: {advice}")
