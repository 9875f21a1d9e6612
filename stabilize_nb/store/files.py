"""What a database file looks like before SQLite opens it: what cannot be a store is refused with a sentence.

SQLite would create files beside it, roll a foreign journal back into it, or wait for a pipe. Only the head of a file is
read here, so this costs the same for every size. A database is read through the VFS: closing a plain descriptor of it
would give back the locks of every connection in this process. Format: https://sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import apsw

from stabilize_nb.errors import SchemaError, StoreDamagedError, StoreError

#: "StNb" in ASCII: says that a file is a store of this package.
APPLICATION_ID = 0x53744E62
MAGIC = b"SQLite format 3\0"
#: How a WAL begins; the lowest bit of the fourth byte says in which order its checksums take bytes.
WAL_MAGIC = b"\x37\x7f\x06"
_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
#: Records of a journal that are looked through for the first page.
_RECORDS = 10_000


class Header(NamedTuple):
    """What the first 100 bytes of a database say. `pages` is 0 where they do not say it.

    `identity` is a number that every store gets when it is made (the upper half of what SQLite calls user_version).
    """

    page_size: int
    changes: int
    pages: int
    free_trunk: int
    free_pages: int
    application: int
    identity: int


def header_of(start: bytes) -> Header | None:
    """Return what the head of a database file says; None when it is none."""
    if len(start) < 100 or not start.startswith(MAGIC):
        return None
    size = int.from_bytes(start[16:18], "big")
    size = 65_536 if size == 1 else size
    if size < 512 or size & (size - 1):
        return None
    changes, pages, trunk, free = struct.unpack(">4I", start[24:40])
    version, _vacuum, application = struct.unpack(">3I", start[60:72])
    (valid_for,) = struct.unpack(">I", start[92:96])
    return Header(size, changes, pages if changes == valid_for else 0, trunk, free, application, version >> 16)


def has_content(path: str) -> bool:
    """Whether a file is there and not empty."""
    try:
        return Path(path).stat().st_size > 0
    except OSError:
        return False


def make_private(path: str) -> None:
    """Make a file that is not there yet, so that nobody else may read it; SQLite gives what lies beside it its mode."""
    with suppress(OSError):  # it is there, or opening it says why it cannot be
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def open_plainly(path: str) -> apsw.VFSFile:
    """Open a database file for reading, without a connection."""
    return apsw.VFSFile("", path, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])


def advice(path: str) -> str:
    """Return where more is said about a file."""
    return f"`stabilize-nb doctor {path}` says more"


def refuse_unusable(path: str) -> None:
    """
    Refuse a file that cannot be a store; one that is not there, or is empty, is none yet.

    Raises StoreError for what can be no file of ours or may not be written, StoreDamagedError for what is no whole
    database, SchemaError for one of another program.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return  # opening says what is wrong with the folder
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no plain file"
        raise StoreError(f"database {path}: it is {kind}; name a file, such as {path}/runs.db ({advice(path)})")
    refuse_damaged_head(path)
    folder = str(Path(path).parent)
    for place, what in ((path, "it"), (folder, f"its folder {folder}")):
        if not os.access(place, os.W_OK):
            raise StoreError(f"database {path}: {what} may not be written; change its mode or copy it ({advice(path)})")


def refuse_damaged_head(path: str) -> None:
    """Refuse a file that does not begin like a whole store, or beside which lies what belongs to another one."""
    try:
        file = open_plainly(path)
    except apsw.Error as error:
        raise StoreError(f"database {path}: it may not be read ({error}; {advice(path)})") from error
    start = file.xRead(100, 0)
    file.xClose()
    wal, journal = has_content(f"{path}-wal"), has_content(f"{path}-journal")
    size = Path(path).stat().st_size
    if not size:
        if wal:
            raise _damaged(path, f"it is empty, but {path}-wal holds what was written last: it has been cut off")
        return
    header = header_of(start)
    if header is None:
        seen = "zeros" if not any(start) else repr(start[:16])
        raise _damaged(path, f"it is not a SQLite database: it begins with {seen}")
    has_tables = header.pages > 1 and not journal
    if header.application != APPLICATION_ID and (header.application or has_tables):
        msg = f"database {path}: it is of another program (application_id {header.application:#x}); choose another file"
        raise SchemaError(f"{msg} ({advice(path)})")
    if not wal and not journal and size < header.pages * header.page_size:
        there = size // header.page_size
        raise _damaged(path, f"it has been cut off: {there} of {header.pages} pages are there")
    if wal and not _continues(f"{path}-wal", header):
        raise _damaged(path, f"{path}-wal beside it belongs to another database, or to an older copy; move it away")
    if journal and not _precedes(f"{path}-journal", header):
        raise _damaged(
            path, f"{path}-journal beside it belongs to another database and would overwrite it; move it away"
        )


def _damaged(path: str, what: str) -> StoreDamagedError:
    return StoreDamagedError(f"database {path}: {what} (`stabilize-nb doctor {path}` says what can be saved)")


def _continues(wal: str, header: Header) -> bool:
    """Whether the newest first page in a WAL is one that the database will have: of the same store, and not older."""
    content = Path(wal).read_bytes()
    if (
        len(content) < 32
        or not content.startswith(WAL_MAGIC)
        or _checksum(content[:24], (0, 0), content) != content[24:32]
    ):
        return True  # SQLite takes it for none
    if struct.unpack(">I", content[8:12])[0] != header.page_size:
        return False
    newest = header_of(_first_page(content, header.page_size))
    if newest is None:
        return True
    same = newest.identity == header.identity or not header.identity
    return same and newest.changes >= header.changes


def _first_page(wal: bytes, size: int) -> bytes:
    """Return the newest first page in a WAL that is as it was written."""
    salts = wal[16:24]
    for at in reversed(range(32, len(wal) - 24 - size + 1, 24 + size)):
        if wal[at : at + 4] == b"\0\0\0\1" and wal[at + 8 : at + 16] == salts and is_sound_frame(wal, at, size):
            return wal[at + 24 : at + 24 + size]
    return b""


def is_sound_frame(wal: bytes, at: int, size: int) -> bool:
    """Whether a frame of a WAL is as it was written, going by the checksum that the frame before it bears."""
    before = wal[24:32] if at == 32 else wal[at - size - 8 : at - size]
    first, second = struct.unpack(">2I", before)
    return _checksum(wal[at : at + 8] + wal[at + 24 : at + 24 + size], (first, second), wal) == wal[at + 16 : at + 24]


def _checksum(data: bytes, before: tuple[int, int], wal: bytes) -> bytes:
    """Return the checksum of a piece of a WAL that follows on the checksum `before`."""
    order = ">" if wal[3] & 1 else "<"
    first, second = before
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for word in words:
        first = (first + word + second) & 0xFFFFFFFF
        second = (second + next(words) + first) & 0xFFFFFFFF
    return struct.pack(">2I", first, second)


def _precedes(journal: str, header: Header) -> bool:
    """Whether the first page in a journal is the first page of the database as it was, or as it is still."""
    with Path(journal).open("rb") as file:
        start = file.read(28)
        if len(start) < 28 or not start.startswith(_JOURNAL_MAGIC):
            return True  # SQLite takes it for none
        count, _nonce, pages, sector, page_size = struct.unpack(">5I", start[8:28])
        if page_size != header.page_size:
            return False
        file.seek(sector)
        for _ in range(min(count, _RECORDS)):
            record = file.read(page_size + 8)
            if len(record) < page_size + 8:
                return True
            if record.startswith(b"\0\0\0\1"):
                page = header_of(record[4:104])
                made = page is not None and not page.identity and pages <= 1  # the store is just being made
                same = page is not None and page.identity == header.identity
                return page is not None and (same or made) and header.changes - page.changes in (0, 1)
    return True
