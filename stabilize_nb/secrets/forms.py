"""The forms in which a value turns up in text: as it is, escaped, quoted, encoded."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

#: Characters below which a value is not told from other text, and so not hidden.
SHORTEST: Final = 8
#: Characters of one line of a value that is hidden for itself: keys in PEM are often shown line by line.
_LINE: Final = 16


def forms_of(value: str) -> set[str]:
    """Return the texts that give a value away."""
    found = {value, value.strip(), *_lines(value)}
    found |= {form for each in tuple(found) for form in _escaped(each)}
    found |= set(_encoded(value.strip()))
    return {form for form in found if len(form) >= SHORTEST}


def _lines(value: str) -> Iterator[str]:
    lines = (line.strip() for line in value.splitlines())
    return (line for line in lines if len(line) >= _LINE and not line.startswith("-----"))


def _escaped(value: str) -> Iterator[str]:
    for written in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        yield written[1:-1]
        yield json.dumps(written)[3:-3]  # JSON as text within JSON
    yield repr(value)[1:-1]
    yield html.escape(value)
    yield html.escape(value).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    yield value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for url in (quote(value), quote(value, safe=""), quote_plus(value)):
        yield url
        yield _lower_escapes(url)


def _lower_escapes(url: str) -> str:
    first, *rest = url.split("%")
    return "%".join([first, *(each[:2].lower() + each[2:] for each in rest)])


def _encoded(value: str) -> Iterator[str]:
    data = value.encode("utf-8", "surrogatepass")
    yield data.hex()
    yield data.hex().upper()
    yield data.hex(":")
    yield base64.b64encode(data).decode()
    yield base64.urlsafe_b64encode(data).decode()
    for before in range(3):
        yield from _base64(data, before)


def _base64(data: bytes, before: int) -> Iterator[str]:
    """Yield what base64 makes of a value that `before` other bytes (modulo 3) stand before: what is its own alone."""
    text = base64.b64encode(bytes(before) + data).decode()
    own = text[(0, 2, 3)[before] : len(text) - (0, 3, 2)[(before + len(data)) % 3]]
    for each in (own, own.replace("+", "-").replace("/", "_")):
        yield each
        yield quote(each, safe="")
