"""
The world outside an engine as far as a crash sweep sees it, and how one state of it differs from another.

A thing is a file of the working folder, an effect that was marked, what a probe returned, or the result of a stage.
Each is measured by a print of its content and by its size: lines of text, rows of a SQLite database, times of a mark.
Things that differ between two runs that nobody disturbed (a time, a random number) are compared by size alone, and
under a name without numbers, since the name may be random too.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

#: Thing -> (print of its content, size).
World = dict[str, tuple[str, int]]
Harm = Literal["repeated", "lost"]

_SQLITE = b"SQLite format 3\0"
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_RANDOM = re.compile(r"[0-9a-f]{8,}(-[0-9a-f]{4,})*|\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    What a run came to.

    `begun`: how often each body was. `wrong`: why it did not succeed. `counts`: moments of each kind that it reached.
    `authors`: thing -> bodies that have changed it.
    """

    begun: Mapping[str, int]
    world: World
    wrong: str
    counts: Mapping[str, int]
    authors: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is otherwise than it should be, and whether there is too much of it or too little."""

    thing: str
    harm: Harm
    told: str


def look(folder: Path) -> World:
    """Return the files of a folder."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.endswith(_BESIDE_SQLITE))
    return {file.relative_to(folder).as_posix(): _measured(file) for file in files}


def _measured(file: Path) -> tuple[str, int]:
    content = file.read_bytes()
    if content.startswith(_SQLITE):
        with closing(sqlite3.connect(file)) as connection:
            rows = sorted(connection.iterdump())
        return digest("\n".join(rows)), len(rows)
    return digest(content.decode("latin-1")), content.count(b"\n") + (not content.endswith(b"\n") and bool(content))


def marked(notes: Iterable[Mapping[str, Any]]) -> World:
    """Return the effects that bodies have marked; one key counts once."""
    marks = [note for note in notes if "effect" in note]
    keyed = {(note["effect"], note["key"]) for note in marks if note["key"] is not None}
    counts = Counter(note["effect"] for note in marks if note["key"] is None) + Counter(name for name, _ in keyed)
    return {f"effect {name!r}": (str(count), count) for name, count in counts.items()}


def value(thing: str, told: Any) -> World:
    """Return one value as a thing; its size is that of a collection, else 1."""
    size = len(told) if isinstance(told, list | tuple | set | frozenset | dict) else int(told is not None)
    return {thing: (digest(json.dumps(told, sort_keys=True, default=repr)), size)}


def digest(text: str) -> str:
    """Return the print of a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def differences(found: World, once: World, again: World) -> list[Difference]:
    """Return how a world differs from that of two runs that nobody disturbed."""
    steady = {thing for thing, measure in once.items() if again.get(thing) == measure}
    return [*_steady(found, once, steady), *_sizes(found, once, again, steady)]


def _steady(found: World, once: World, steady: set[str]) -> Iterator[Difference]:
    for thing in sorted(steady):
        content, size = once[thing]
        here, much = found.get(thing, ("", 0))
        if here != content:
            harm: Harm = "lost" if much < size else "repeated"
            yield Difference(thing, harm, f"{thing}: {_told(thing, much, size)}")


def _told(thing: str, much: int, size: int) -> str:
    """Say in what a thing differs."""
    if much == 0:
        return "missing"
    if much == size:
        return "other content"
    unit = "times" if thing.startswith("effect ") else "entries" if thing.startswith(("result", "what")) else "lines"
    return f"{much} {unit} instead of {size}"


def _sizes(found: World, once: World, again: World, steady: set[str]) -> Iterator[Difference]:
    """Compare what is not steady: how many things of a name there are, and how large they are together."""
    here, first, second = (_sums(world, steady) for world in (found, once, again))
    for name in sorted(here.keys() | first.keys()):
        if first.get(name) != second.get(name):
            continue  # not even its size is steady: nothing can be said
        number, size = here.get(name, (0, 0))
        expected, meant = first.get(name, (0, 0))
        if (number, size) != (expected, meant):
            harm: Harm = "repeated" if (number, size) > (expected, meant) else "lost"
            told = f"{number} of them instead of {expected}" if number != expected else _told(name, size, meant)
            yield Difference(name, harm, f"{name}: {told}")


def _sums(world: World, steady: set[str]) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for thing, (_, size) in world.items():
        if thing not in steady:
            count, total = sums.get(name := _RANDOM.sub("*", thing), (0, 0))
            sums[name] = count + 1, total + size
    return sums
