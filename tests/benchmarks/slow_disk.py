"""A disk whose sync takes as long as it is told: how dear a durable commit is depends on nothing as much as on that."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import apsw


class SlowDisk(apsw.VFS):
    """The default VFS of this process from now on. `sync`: ms that each sync takes longer than on the disk below."""

    #: Those that were made: apsw gives a VFS up that nobody refers to.
    kept: ClassVar[list[SlowDisk]] = []

    def __init__(self, sync: float) -> None:
        super().__init__("slow", "unix", makedefault=True)
        self.seconds = sync / 1_000
        self.kept.append(self)

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 - a name of apsw
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: SlowDisk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802 - a name of apsw
        time.sleep(self._disk.seconds)
        super().xSync(flags)
