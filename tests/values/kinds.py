"""Values that people hand in or tasks return, and what becomes of each: plain data, or the words of its refusal."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import fractions
import io
import json
import math
import pathlib
import threading
import types
import uuid
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pydantic


@dataclasses.dataclass(frozen=True)
class Kind:
    """A value made anew by `make`. `stored`: what comes back; `refused`: what the error says of its type or fault."""

    name: str
    make: Callable[[], Any]
    stored: Any = None
    refused: str = ""
    advice: str = ""


class Colour(enum.Enum):
    RED = "red"


class Mood(enum.StrEnum):
    GOOD = "good"


class Level(enum.IntEnum):
    HIGH = 3


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Bird:
    name: str


class Place(pydantic.BaseModel):
    city: str


class Loud(str):
    """Text that answers for itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Metres(float):
    __slots__ = ()


class Count(int):
    __slots__ = ()


class Listed(list):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield 0


class Bad:
    """Raises whatever is asked of it."""

    @property
    def __class__(self) -> type:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__

    def __bool__(self) -> bool:
        raise RuntimeError

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError


class Liar:
    """Says that it is text."""

    @property
    def __class__(self) -> type:
        return str


class Broken(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise OSError

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def circle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = [value]
    return value


def laughs() -> list[Any]:
    """Seventy lists, and 2**70 when each is copied."""
    value: list[Any] = []
    for _ in range(70):
        value = [value, value]
    return value


async def later() -> None:
    """Be waited for."""


def pending() -> types.CoroutineType[Any, Any, Any]:
    """Return a coroutine that nobody waits for, and that says nothing about it."""
    made = later()
    made.close()
    return made


def opened() -> io.TextIOWrapper:
    with pathlib.Path(__file__).open(encoding="utf-8") as file:
        return file


def record() -> Any:
    return np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")])[0]


LONG = "ä" * 300_000
RECORDS = [{"n": at, "name": f"bird {at}"} for at in range(500)]
LIMIT = 2**63

KINDS = [
    # Stored as they are.
    Kind("none", lambda: None, None),
    Kind("true", lambda: True, True),
    Kind("zero", lambda: 0, 0),
    Kind("largest integer", lambda: LIMIT - 1, LIMIT - 1),
    Kind("smallest integer", lambda: -LIMIT, -LIMIT),
    Kind("minus zero", lambda: -0.0, -0.0),
    Kind("float", lambda: 0.1, 0.1),
    Kind("smallest float", lambda: 5e-324, 5e-324),
    Kind("largest float", lambda: 1.7976931348623157e308, 1.7976931348623157e308),
    Kind("empty text", lambda: "", ""),
    Kind("text", lambda: 'Grüße, 鳥 🐧\n\t"\\/', 'Grüße, 鳥 🐧\n\t"\\/'),
    Kind("control characters", lambda: "\x01\x1b[31m\x7f\u2028\ufeff\uffff", "\x01\x1b[31m\x7f\u2028\ufeff\uffff"),
    Kind("text that is JSON", lambda: '{"a": [1]}', '{"a": [1]}'),
    Kind("huge text", lambda: LONG, LONG),
    Kind("empty list", list, []),
    Kind("empty dict", dict, {}),
    Kind("empty key", lambda: {"": {"": 1}}, {"": {"": 1}}),
    Kind("engine's key", lambda: {"$blob": 1, "_signal_name": 2}, {"$blob": 1, "_signal_name": 2}),
    Kind("records", lambda: RECORDS, RECORDS),
    Kind("two hundred levels", lambda: nested(200), nested(200)),
    # Become plain, and are equal to what they were.
    Kind("tuple", lambda: (1, (2,), ()), [1, [2], []]),
    Kind("StrEnum", lambda: Mood.GOOD, "good"),
    Kind("IntEnum", lambda: Level.HIGH, 3),
    Kind("IntFlag", lambda: Access.READ | Access.WRITE, 3),
    Kind("subclass of text", lambda: Loud("quiet"), "quiet"),
    Kind("subclass of int", lambda: Count(7), 7),
    Kind("subclass of float", lambda: Metres(1.5), 1.5),
    Kind("subclass of list", lambda: Listed([1, 2]), [1, 2]),
    Kind("key of a subclass", lambda: {Mood.GOOD: 1, Loud("a"): 2}, {"good": 1, "a": 2}),
    Kind("OrderedDict", lambda: OrderedDict(b=1, a=(2,)), {"b": 1, "a": [2]}),
    Kind("defaultdict", lambda: defaultdict(list, a=[1]), {"a": [1]}),
    Kind("Counter", lambda: Counter("aab"), {"a": 2, "b": 1}),
    Kind("UserDict", lambda: UserDict(a=1), {"a": 1}),
    Kind("mapping proxy", lambda: types.MappingProxyType({"a": 1}), {"a": 1}),
    Kind("numpy.int64", lambda: np.int64(5), 5),
    Kind("numpy.float64", lambda: np.float64(0.5), 0.5),
    Kind("numpy.float32", lambda: np.float32(0.1), float(np.float32(0.1))),
    Kind("numpy.bool", lambda: np.bool_(True), True),
    Kind("numpy.str", lambda: np.str_("a"), "a"),
    Kind("numpy array of no dimension", lambda: np.array(3), 3),
    # Refused.
    Kind("nan", lambda: math.nan, refused="the number nan", advice="None"),
    Kind("infinity", lambda: math.inf, refused="the number inf"),
    Kind("minus infinity", lambda: -math.inf, refused="the number -inf"),
    Kind("2**63", lambda: LIMIT, refused="an integer beyond 64 bits", advice="str(value)"),
    Kind("2**70", lambda: -(2**70), refused="an integer beyond 64 bits"),
    Kind("numpy.uint64", lambda: np.uint64(2**64 - 1), refused="an integer beyond 64 bits"),
    Kind("numpy.nan", lambda: np.float32("nan"), refused="the number nan"),
    Kind("NUL", lambda: "a\0b", refused="text with a NUL character", advice="base64"),
    Kind("lone surrogate", lambda: "\ud83d", refused="text with a lone surrogate", advice="replace"),
    Kind("key with NUL", lambda: {"\0": 1}, refused="a key with a NUL character"),
    Kind("key with surrogate", lambda: {"\udc00": 1}, refused="a key with a lone surrogate"),
    Kind("integer key", lambda: {1: "a"}, refused="a key of type int (1)", advice="text keys"),
    Kind("None as key", lambda: {None: 1}, refused="a key of type NoneType (None)"),
    Kind("tuple as key", lambda: {(1, 2): 1}, refused="a key of type tuple"),
    Kind("bad key", lambda: {Bad(): 1}, refused="Bad"),
    Kind("bytes", lambda: b"\xff", refused="bytes", advice="base64"),
    Kind("bytearray", lambda: bytearray(b"a"), refused="bytearray", advice="base64"),
    Kind("memoryview", lambda: memoryview(b"a"), refused="memoryview", advice="base64"),
    Kind("set", lambda: {1, 2}, refused="set", advice="sorted(value)"),
    Kind("frozenset", frozenset, refused="frozenset", advice="sorted(value)"),
    Kind("deque", lambda: deque([1]), refused="collections.deque"),
    Kind("Decimal", lambda: decimal.Decimal("0.1"), refused="decimal.Decimal", advice="str(value)"),
    Kind("Fraction", lambda: fractions.Fraction(1, 3), refused="fractions.Fraction", advice="str(value)"),
    Kind("complex", lambda: 1j, refused="complex", advice="value.real"),
    Kind("datetime", lambda: datetime(2026, 1, 2), refused="datetime.datetime", advice="isoformat()"),  # noqa: DTZ001
    Kind("datetime of a zone", lambda: datetime.now(UTC), refused="datetime.datetime", advice="isoformat()"),
    Kind("date", lambda: date(2026, 1, 2), refused="datetime.date", advice="isoformat()"),
    Kind("time", lambda: time(1, 2), refused="datetime.time", advice="isoformat()"),
    Kind("timedelta", lambda: timedelta(1), refused="datetime.timedelta", advice="total_seconds()"),
    Kind("UUID", lambda: uuid.UUID(int=1), refused="uuid.UUID", advice="str(value)"),
    Kind("Path", lambda: pathlib.Path("a"), refused="pathlib.PosixPath", advice="str(value)"),
    Kind("Enum", lambda: Colour.RED, refused="Colour", advice="value.value"),
    Kind("dataclass", lambda: Bird("a"), refused="Bird", advice="dataclasses.asdict"),
    Kind("NamedTuple", lambda: Point(1, 2), refused="Point", advice="_asdict()"),
    Kind("pydantic model", lambda: Place(city="Oslo"), refused="Place", advice="model_dump(mode='json')"),
    Kind("SecretStr", lambda: pydantic.SecretStr("hush"), refused="pydantic.SecretStr", advice="name of the secret"),
    Kind("numpy array", lambda: np.array([1, 2]), refused="numpy.ndarray", advice="tolist()"),
    Kind("numpy.complex64", lambda: np.complex64(1), refused="numpy.complex64", advice="value.real"),
    Kind("numpy.longdouble", lambda: np.longdouble(1), refused="numpy.longdouble", advice="float(value)"),
    Kind("numpy.datetime64", lambda: np.datetime64("2026-01-02"), refused="numpy.datetime64", advice="str(value)"),
    Kind("numpy record", record, refused="numpy.void"),
    Kind("Timestamp", lambda: pd.Timestamp("2026-01-02"), refused="pandas.Timestamp", advice="isoformat()"),
    Kind("NaT", lambda: pd.NaT, refused="pandas.NaTType", advice="None"),
    Kind("NA", lambda: pd.NA, refused="pandas.NAType", advice="None"),
    Kind("Series", lambda: pd.Series([1]), refused="pandas.Series", advice="to_list()"),
    Kind("DataFrame", lambda: pd.DataFrame({"a": [1]}), refused="pandas.DataFrame", advice="to_dict('records')"),
    Kind("Index", lambda: pd.Index([1]), refused="pandas.Index", advice="to_list()"),
    Kind("generator", lambda: (each for each in [1]), refused="generator", advice="list(value)"),
    Kind("iterator", lambda: iter([1]), refused="list_iterator", advice="list(value)"),
    Kind("range", lambda: range(3), refused="range", advice="list(value)"),
    Kind("dict view", {"a": 1}.keys, refused="dict_keys"),
    Kind("lambda", lambda: lambda: None, refused="function", advice="what it returns"),
    Kind("built-in function", lambda: len, refused="builtin_function_or_method", advice="what it returns"),
    Kind("method", lambda: Bird("a").__repr__, refused="method", advice="what it returns"),
    Kind("class", lambda: Bird, refused="type", advice="name of the class"),
    Kind("module", lambda: json, refused="module", advice="name of the module"),
    Kind("file", opened, refused="_io.TextIOWrapper", advice="path of the file"),
    Kind("lock", threading.Lock, refused="_thread.lock", advice="where it is used"),
    Kind("exception", lambda: ValueError("no"), refused="ValueError", advice="str(error)"),
    Kind("coroutine", pending, refused="coroutine", advice="await"),
    Kind("object", object, refused="object", advice="JSON data"),
    Kind("Ellipsis", lambda: ..., refused="ellipsis"),
    Kind("raises whatever is asked", Bad, refused="Bad"),
    Kind("says it is text", Liar, refused="Liar"),
    Kind("mapping that cannot be read", Broken, refused="Broken, whose items cannot be read (OSError)"),
    Kind("contains itself", circle, refused="nested deeper than 200 levels (or contains itself)"),
    Kind("201 levels", lambda: nested(201), refused="nested deeper than 200 levels"),
    Kind("10,000 levels", lambda: nested(10_000), refused="nested deeper than 200 levels"),
    Kind("bad value deep inside", lambda: {"a b": [{"c": {1}}]}, refused="['a b'][0].c is of type set"),
]  # fmt: skip
