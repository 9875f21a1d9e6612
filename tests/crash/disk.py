"""
A disk that fails: a VFS of SQLite under every file of a process, whose n-th operation goes wrong.

Kinds of operations: write, sync, truncate, delete. What goes wrong: the process is killed before the operation, the
operation fails ("error"), there is no space ("full"; writes only), or the power goes ("power"): the process dies, and
of what was written since the last sync of a file, sector by sector, only some is on the disk.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

KINDS = ("write", "sync", "truncate", "delete")
SECTOR = 512


@dataclass(frozen=True)
class Fault:
    """What happens at the `nth` operation of a kind; `seed`: of what the disk keeps when power is lost."""

    what: str
    kind: str
    nth: int
    seed: int = 0
    durability: str = "full"


class Disk(apsw.VFS):
    """The default VFS of this process from now on; counts operations."""

    def __init__(self, fault: Fault | None) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self.fault = fault
        self.counts: Counter[str] = Counter()
        self.unsynced: dict[str, _Unsynced] = {}  # by path: what one connection has written another one may sync
        self.failed = 0

    def xOpen(self, name: Any, flags: list[int]) -> _File:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _File(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.reached("delete")
        super().xDelete(filename, syncdir)

    def reached(self, kind: str) -> None:
        """Count an operation; fail, or die, when it is the one."""
        self.counts[kind] += 1
        fault = self.fault
        if fault is None or fault.kind != kind or fault.nth != self.counts[kind]:
            return
        match fault.what:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "power":
                self._lose_power(random.Random(fault.seed))
            case "full":
                self.failed += 1
                raise apsw.FullError("no space left on device")
            case _:
                self.failed += 1
                raise apsw.IOError("the disk did not do it")

    def _lose_power(self, chance: random.Random) -> None:
        for path, unsynced in self.unsynced.items():
            unsynced.lose(path, chance)
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class _Unsynced:
    """What was written to a file since its last sync, by whichever handle."""

    before: dict[int, bytes] = field(default_factory=dict)  # what stood in a sector at the last sync
    size: int | None = None  # how long the file was then; None: nothing has changed since
    handles: int = 0

    def lose(self, path: str, chance: random.Random) -> None:
        """Have the disk hold what it held at the last sync, but for some of what was written since."""
        if self.size is None:
            return
        with Path(path).open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            is_undone = end < self.size and chance.random() < 0.5  # a file was shortened, or it was not
            for sector, content in self.before.items():
                if is_undone if sector * SECTOR >= end else chance.random() < 0.5:
                    file.seek(sector * SECTOR)
                    file.write(content)
            if end > self.size and chance.random() < 0.7:
                file.truncate(chance.randint(self.size, end) if chance.random() < 0.5 else self.size)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str | None, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = path
        self._unsynced: _Unsynced | None = None
        if path is not None and disk.fault is not None and disk.fault.what == "power":
            self._unsynced = disk.unsynced.setdefault(path, _Unsynced())
            self._unsynced.handles += 1

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.reached("write")
        self._remember(offset, len(data))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.reached("sync")
        super().xSync(flags)
        if self._unsynced is not None:
            self._unsynced.before.clear()
            self._unsynced.size = None

    def xTruncate(self, newsize: int) -> None:
        self._disk.reached("truncate")
        self._remember(newsize, max(0, self.xFileSize() - newsize))
        super().xTruncate(newsize)

    def xClose(self) -> None:
        if self._path is not None and self._unsynced is not None:
            self._unsynced.handles -= 1
            if not self._unsynced.handles:
                self._disk.unsynced.pop(self._path, None)
            self._unsynced = None
        super().xClose()

    def _remember(self, offset: int, length: int) -> None:
        unsynced = self._unsynced
        if unsynced is None:
            return
        size = self.xFileSize()
        if unsynced.size is None:
            unsynced.size = size
        for sector in range(offset // SECTOR, -(-(offset + length) // SECTOR)):
            start = sector * SECTOR
            if sector not in unsynced.before and start < unsynced.size:
                unsynced.before[sector] = self.xRead(min(SECTOR, unsynced.size - start), start)
