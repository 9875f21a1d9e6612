"""Secrets hidden in what a command prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

STARS: Final = b"***"


class Mask:
    """Replaces secrets in bytes, the longest first; of a secret of several lines also each line, since they are logged.

    `longest`: bytes of the longest secret.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {part for secret in secrets for part in (secret, *secret.splitlines()) if part.strip()}
        self._parts = sorted((part.encode("utf-8", "surrogatepass") for part in found), key=len, reverse=True)
        self.longest = len(self._parts[0]) if self._parts else 0

    def __call__(self, data: bytes) -> bytes:
        for part in self._parts:
            data = data.replace(part, STARS)
        return data

    def text(self, text: str) -> str:
        """Return text without secrets."""
        return self(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


NOTHING: Final = Mask(())
