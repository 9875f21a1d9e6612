"""Files that an HTTPTask sends and keeps, and how far it is with them."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.tasks.http_order import OrderError

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: Seconds between two signs of progress, and bytes that are written at once.
_OFTEN: Final = 0.2
_BLOCK: Final = 2**20


class Meter:
    """Tells listeners how much of something was moved; `total` in bytes, None when nobody knows."""

    def __init__(self, stage: StageExecution, what: str, total: int | None) -> None:
        self._stage = stage
        self._what = what
        self._total = total
        self._moved = 0
        self._told = time.monotonic()

    def add(self, count: int) -> None:
        """Count bytes, and tell of them now and then, and when they are all there."""
        self._moved += count
        now = time.monotonic()
        if now - self._told >= _OFTEN or self._moved == self._total:
            self.tell()
            self._told = now

    def tell(self) -> None:
        """Tell how far it is."""
        if self._stage.runtime is None:
            return
        fraction = min(1.0, self._moved / self._total) if self._total else None
        of = "" if self._total is None else f" of {_amount(self._total)}"
        self._stage.progress(fraction, f"{self._what} {_amount(self._moved)}{of}")


def _amount(size: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


class Sending(io.FileIO):
    """A file that is sent, and counted while it is read."""

    def __init__(self, path: Path, stage: StageExecution) -> None:
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise OrderError(f"upload_file {str(path)!r} is no regular file")
            super().__init__(path, "rb")
        except FileNotFoundError:
            raise OrderError(f"file not found: upload_file {str(path)!r}") from None
        except (OSError, ValueError) as error:
            raise OrderError(f"upload_file {str(path)!r} cannot be read: {error}") from None
        self._meter = Meter(stage, "sent", found.st_size)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes and count them."""
        piece = super().read(-1 if size is None else size)
        self._meter.add(len(piece))
        return piece


async def gathered(pieces: AsyncIterator[bytes], meter: Meter) -> bytes:
    """Return a whole body."""
    found = bytearray()
    async for piece in pieces:
        found += piece
        meter.add(len(piece))
    return bytes(found)


async def kept(pieces: AsyncIterator[bytes], meter: Meter, target: Path, key: str) -> int:
    """
    Write a body into a file, which appears when it is whole, and return its size in bytes.

    Until then it has another name beside it, which is the same when a stage is run again after a crash.

    Raises OrderError when the file cannot be written.
    """
    part = target.with_name(f".{target.name}.{blake2b(key.encode(), digest_size=6).hexdigest()}.part")
    try:
        file = _created(target, part)
        try:
            with file:
                size = await _written(pieces, meter, file)
            part.replace(target)
            return size
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OrderError(f"download_to {str(target)!r} cannot be written: {error.strerror or error}") from None


def check_target(target: Path) -> None:
    """Raise OrderError for a file that cannot be written, before anything is asked for."""
    if not target.name or target.is_dir():
        raise OrderError(f"download_to {str(target)!r} is a folder; a file is expected")
    if not target.parent.is_dir():
        raise OrderError(f"download_to {str(target)!r} is in a folder that does not exist: make it first")


def _created(target: Path, part: Path) -> Any:
    check_target(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(part, flags, 0o666), "wb", buffering=0)


async def _written(pieces: AsyncIterator[bytes], meter: Meter, file: Any) -> int:
    size, block = 0, bytearray()
    async for piece in pieces:
        block += piece
        size += len(piece)
        if len(block) >= _BLOCK:
            await _done(_write, file, bytes(block))
            block.clear()
        meter.add(len(piece))
    await _done(_write, file, bytes(block))
    await _done(os.fsync, file.fileno())
    return size


async def _done(work: Callable[..., Any], *arguments: Any) -> None:
    """Do something with a file in a thread; who is cancelled waits for its end, since the file is closed then."""
    doing = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


def _write(file: Any, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]
