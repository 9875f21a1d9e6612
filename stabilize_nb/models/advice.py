"""What to write instead of a value that JSON cannot hold: the conversion, by the class of the value.

Classes are known by their names, so that none of their packages is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

NUMPY: Final = "numpy."
_BYTES = "store base64.b64encode(value).decode(), or value.decode() if it is text"
_SET = "store sorted(value) or list(value)"
_TIME = "store value.isoformat()"
_FUNCTION = "call it and store what it returns"
_ITEMS = "store list(value)"
_COROUTINE = "await it and store the result"
_SECRET = "store the name of the secret, and read the secret where it is used"
_LOCK = "make it where it is used"

#: Name of a class -> what to do with a value of it; a class stands for those derived from it.
ADVICE: Final[Mapping[str, str]] = {
    "bytes": _BYTES, "bytearray": _BYTES, "memoryview": _BYTES,
    "set": _SET, "frozenset": _SET, "range": _ITEMS,
    "complex": "store [value.real, value.imag]",
    "decimal.Decimal": "store str(value), or float(value) where rounding does not matter",
    "fractions.Fraction": "store str(value), or float(value) where rounding does not matter",
    "pandas.NaTType": "store None", "pandas.NAType": "store None",
    "datetime.datetime": _TIME, "datetime.date": _TIME, "datetime.time": _TIME,
    "datetime.timedelta": "store value.total_seconds()",
    "uuid.UUID": "store str(value)", "pathlib.PurePath": "store str(value)",
    "enum.Enum": "store value.value or value.name",
    "pydantic.SecretStr": _SECRET, "pydantic.SecretBytes": _SECRET,
    "pydantic.BaseModel": "store value.model_dump(mode='json')",
    "numpy.ndarray": "store value.tolist(), or the path of a file",
    "numpy.datetime64": "store str(value)", "numpy.timedelta64": "store str(value)",
    "numpy.complexfloating": "store [float(value.real), float(value.imag)]",
    "numpy.floating": "store float(value)", "numpy.void": "store value.tolist()",
    "pandas.DataFrame": "store df.to_dict('records'), or the path of a file",
    "pandas.Series": "store series.to_dict() or series.to_list()",
    "pandas.Index": "store index.to_list()",
    "polars.DataFrame": "store df.to_dicts(), or the path of a file",
    "torch.Tensor": "store value.tolist(), or the path of a file",
    "_io._IOBase": "store the path of the file, or what you read from it",
    "function": _FUNCTION, "builtin_function_or_method": _FUNCTION, "method": _FUNCTION,
    "functools.partial": _FUNCTION,
    "type": "store the name of the class", "module": "store the name of the module",
    "coroutine": _COROUTINE, "_asyncio.Future": _COROUTINE, "async_generator": "store [item async for item in value]",
    "_thread.lock": _LOCK, "_thread.RLock": _LOCK, "threading.Condition": _LOCK, "threading.Event": _LOCK,
    "BaseException": "store str(error)",
}  # fmt: skip
#: Name of an attribute that such classes have -> what to do.
MARKED: Final[Mapping[str, str]] = {
    "_fields": "store value._asdict(), or list(value)",
    "__dataclass_fields__": "store dataclasses.asdict(value)",
    "__attrs_attrs__": "store attrs.asdict(value)",
}
#: Packages whose classes are known by the name of the package, wherever inside it they are.
_KNOWN = frozenset({"numpy", "pandas", "pydantic", "pathlib", "polars", "torch"})


def type_name(kind: type) -> str:
    """Return the name of a class as one would write it: `set`, `pandas.DataFrame`, `__main__.Point`."""
    module, name = (_attribute(kind, each) for each in ("__module__", "__qualname__"))
    package = module.partition(".")[0]
    if module == "builtins":
        return name
    return f"{package if package in _KNOWN else module}.{name}"


def _attribute(kind: type, name: str) -> str:
    """Return an attribute of a class that is text, fit to stand in a sentence."""
    value = type.__getattribute__(kind, name)
    text = value if type(value) is str else "?"
    return text if text.isprintable() else ascii(text)[1:-1]


def advice_for(kind: type) -> str:
    """Return what to do with a value of a class that cannot be stored."""
    for base in kind.__mro__:
        if advice := ADVICE.get(type_name(base), ""):
            return advice
    for mark, advice in MARKED.items():
        if any(mark in vars(base) for base in kind.__mro__):
            return advice
    if issubclass(kind, Iterator):
        return _ITEMS
    return "convert it to JSON data (text, number, list, dict)"
