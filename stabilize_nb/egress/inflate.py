"""Compressed answers, unpacked a little at a time, so that a small answer that unpacks to a huge one is found early."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

#: What servers are told that answers may be packed as; anything else that they send is refused.
ACCEPTED: Final = "gzip, deflate"
PIECE: Final = 65_536
_GZIP: Final = 31  # what zlib calls the formats
_ZLIB: Final = 15
_RAW: Final = -15
_LOW_BITS: Final = 0x0F
_DEFLATED: Final = 8


class UnpackError(ValueError):
    """An answer is not packed as it says."""


class Unpacking:
    """Unpacks one answer; `encoding` is its Content-Encoding."""

    def __init__(self, encoding: str) -> None:
        self._name = encoding.strip().lower()
        self._format = None if self._name == "deflate" else _GZIP
        self._unpacker: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what more of the answer unpacks to, in pieces; raises UnpackError for what was not asked for."""
        if self._name in {"", "identity"}:
            yield data
            return
        if self._name not in {"gzip", "x-gzip", "deflate"}:
            raise UnpackError(f"the answer is packed as {self._name[:40]!r}; {ACCEPTED} was asked for")
        while data:
            if self._unpacker is None or (self._unpacker.eof and self._format == _GZIP):
                self._unpacker = zlib.decompressobj(self._format_of(data))
            try:
                piece = self._unpacker.decompress(data, PIECE)
            except zlib.error as error:
                raise UnpackError(f"the answer is not packed as it says: {error}") from None
            data = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            if piece:
                yield piece
            if self._unpacker.eof and self._format != _GZIP:
                return

    def end(self) -> None:
        """Say that nothing more comes; raises UnpackError when something is missing."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise UnpackError("the packed answer breaks off")

    def _format_of(self, data: bytes) -> int:
        """Return the format; what is called deflate comes with the frame of zlib or, against the standard, without."""
        if self._format is None:
            self._format = _ZLIB if data[0] & _LOW_BITS == _DEFLATED else _RAW
        return self._format
