"""Pictures as JSON data: what a stage returns for a gate to show, and what is stored so that it stays as it was."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stabilize_nb.errors import ConfigError

#: Bytes of a picture that is kept.
LARGEST: Final = 4_000_000
#: What files of each kind begin with, after so many bytes.
_BEGINNINGS: Final[tuple[tuple[str, int, bytes], ...]] = (
    ("png", 0, b"\x89PNG\r\n\x1a\n"), ("jpeg", 0, b"\xff\xd8\xff"), ("gif", 0, b"GIF8"), ("webp", 8, b"WEBP"),
)  # fmt: skip
_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})


def image(picture: Any) -> str:
    """
    Return a picture as a data URI: of bytes, of a file, or of anything that Jupyter shows as PNG.

    `return {"chart": image(figure_bytes)}` in a stage, and `approval(..., show="chart")` shows it.

    Raises ConfigError for what is no PNG, JPEG, GIF or WebP, or is too large.
    """
    data = _bytes_of(picture)
    kind = _kind_of(data)
    if kind is None:
        raise ConfigError("image() got what is no picture; PNG, JPEG, GIF or WebP is expected, as bytes or a file")
    if len(data) > LARGEST:
        raise ConfigError(f"image() got {len(data):,} bytes; a picture that is stored has at most {LARGEST:,}")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _bytes_of(picture: Any) -> bytes:
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if hasattr(picture, "_repr_png_"):
        shown = picture._repr_png_()
        return base64.b64decode(shown) if isinstance(shown, str) else bytes(shown or b"")
    if not isinstance(picture, str | Path):
        raise ConfigError(
            f"image() got a {type(picture).__name__}; bytes, a file, or what Jupyter shows as PNG is expected"
        )
    try:
        with Path(picture).open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"image() cannot read {str(picture)!r}: {error.strerror or error}") from None


def _kind_of(data: bytes) -> str | None:
    return next((kind for kind, at, begin in _BEGINNINGS if data[at : at + len(begin)] == begin), None)


def with_pictures(shown: Any) -> Any:
    """Return what a gate is to show with files of pictures as pictures, so that a decision is about their content."""
    if isinstance(shown, str) and _names_picture(shown):
        return {shown: image(shown)}
    if isinstance(shown, Mapping):
        return {key: _kept(value) for key, value in shown.items()}
    return shown


def _kept(value: Any) -> Any:
    return {value: image(value)} if isinstance(value, str) and _names_picture(value) else value


def _names_picture(text: str) -> bool:
    """Whether text is the name of a file that is there and is a picture of a size that can be kept."""
    if len(text) > 1_000 or "\n" in text or Path(text).suffix.lower() not in _SUFFIXES:  # noqa: PLR2004 - no path is longer
        return False
    try:
        with Path(text).open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError):
        return False
    return _kind_of(data) is not None and len(data) <= LARGEST
