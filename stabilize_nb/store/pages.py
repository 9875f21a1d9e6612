"""The rows of a damaged database, read from its pages without SQLite.

SQLite gives up at the first page that cannot be right. Here every page stands for itself: a leaf that can be read
gives its rows, whatever has become of the pages above it, and a row that cannot be read costs only itself. What a WAL
holds of a page is taken in place of the page, frame by frame, as far as it was committed. Pages that are free are left
out, so that nothing comes back that was deleted. Format: https://sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from stabilize_nb.store.files import WAL_MAGIC, header_of, is_sound_frame, open_plainly

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the databases of this package have when nobody says otherwise.
PAGE_SIZE = 4_096
_INTERIOR_INDEX, _LEAF_INDEX, _LEAF_TABLE = 2, 10, 13


class Record(NamedTuple):
    """A row of a table, or of a table without row ids or an index, for which `rowid` is None."""

    rowid: int | None
    values: tuple[Any, ...]


class Unreadable(Exception):
    """Bytes that are no row."""


class Pages:
    """The pages of a database file as last committed; close it again."""

    def __init__(self, path: str) -> None:
        self._file = open_plainly(path)
        start = self._file.xRead(100, 0)
        header = header_of(start)
        self.size = header.page_size if header else PAGE_SIZE
        self._usable = self.size - (start[20] if header else 0)
        self._newest, committed = _wal_pages(Path(f"{path}-wal"), self.size)
        self.count = committed or -(-self._file.xFileSize() // self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.xClose()

    def page(self, number: int) -> bytes:
        """Return a page, counted from 1; one that was cut off is filled up with zeros."""
        newest = self._newest.get(number)
        if newest is not None:
            return newest
        return bytes(self._file.xRead(self.size, (number - 1) * self.size)).ljust(self.size, b"\0")

    def records(self) -> Iterator[Record]:
        """Yield every row of every table and index that can be read, in no order."""
        free = self._free()
        for number in range(1, self.count + 1):
            if number not in free:
                yield from self._records_of(number)

    def _free(self) -> set[int]:
        """Return the pages of the free list, as far as it can be followed."""
        header = header_of(self.page(1)[:100])
        found: set[int] = set()
        trunk = header.free_trunk if header else 0
        while 0 < trunk <= self.count and trunk not in found:
            found.add(trunk)
            page = self.page(trunk)
            trunk, leaves = struct.unpack(">2I", page[:8])
            if leaves > self.size // 4 - 2:
                break
            found.update(struct.unpack(f">{leaves}I", page[8 : 8 + 4 * leaves]))
        return found

    def _records_of(self, number: int) -> Iterator[Record]:
        page = self.page(number)
        start = 100 if number == 1 else 0
        kind = page[start]
        if kind not in (_INTERIOR_INDEX, _LEAF_INDEX, _LEAF_TABLE):
            return
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        first = start + (12 if kind == _INTERIOR_INDEX else 8)
        for at in range(first, min(first + 2 * cells, self.size - 1), 2):
            try:
                yield self._cell(page, kind, int.from_bytes(page[at : at + 2], "big"))
            except (Unreadable, IndexError, struct.error, UnicodeDecodeError):
                continue

    def _cell(self, page: bytes, kind: int, at: int) -> Record:
        if kind == _INTERIOR_INDEX:
            at += 4
        length, at = _varint(page, at)
        rowid = None
        if kind == _LEAF_TABLE:
            rowid, at = _varint(page, at)
        return Record(rowid, _values(self._payload(page, kind, at, length)))

    def _payload(self, page: bytes, kind: int, at: int, length: int) -> bytes:
        """Return the bytes of a row, those in overflow pages too."""
        if length > self.count * self.size:
            raise Unreadable
        usable = self._usable
        most = usable - 35 if kind == _LEAF_TABLE else (usable - 12) * 64 // 255 - 23
        if length <= most:
            return page[at : at + length]
        least = (usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (usable - 4)
        here = here if here <= most else least
        parts, left = [page[at : at + here]], length - here
        following = int.from_bytes(page[at + here : at + here + 4], "big")
        while left > 0:
            if not 0 < following <= self.count:
                raise Unreadable
            more = self.page(following)
            following = int.from_bytes(more[:4], "big")
            parts.append(more[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for offset in range(8):
        byte = data[at + offset]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + offset + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64 if value >> 63 else 0), at + 9


def _values(payload: bytes) -> tuple[Any, ...]:
    """Return the columns of a record; what does not add up is none."""
    end, at = _varint(payload, 0)
    body = end
    values = []
    while at < end:
        kind, at = _varint(payload, at)
        value, body = _value(payload, kind, body)
        values.append(value)
    if at != end or body != len(payload):
        raise Unreadable
    return tuple(values)


_WIDTHS = (0, 1, 2, 3, 4, 6, 8)


def _value(payload: bytes, kind: int, at: int) -> tuple[Any, int]:
    if kind >= 12:
        end = at + (kind - 12) // 2
        part = payload[at:end]
        return (part.decode() if kind % 2 else part), end
    match kind:
        case 0:
            return None, at
        case 8 | 9:
            return kind - 8, at
        case 7:
            return struct.unpack(">d", payload[at : at + 8])[0], at + 8
        case 10 | 11:
            raise Unreadable
        case _:
            end = at + _WIDTHS[kind]
            return int.from_bytes(payload[at:end], "big", signed=True), end


def _wal_pages(path: Path, size: int) -> tuple[dict[int, bytes], int]:
    """
    Return the newest committed content of the pages in a WAL, and how many pages the database has then (0: not known).

    A damaged frame costs one page, and not everything behind it, as it does in SQLite.
    """
    data = path.read_bytes() if path.exists() else b""
    if len(data) < 32 + 24 + size:
        return {}, 0
    salts = data[16:24] if data.startswith(WAL_MAGIC) else data[40:48]
    pages: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    count = 0
    for at in range(32, len(data) - 24 - size + 1, 24 + size):
        if data[at + 8 : at + 16] != salts or not is_sound_frame(data, at, size):
            continue  # damaged, or left by an earlier round of the WAL
        number, commit = struct.unpack(">2I", data[at : at + 8])
        pending[number] = data[at + 24 : at + 24 + size]
        if commit:
            pages |= pending
            pending.clear()
            count = commit
    return pages, count
