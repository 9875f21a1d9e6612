r"""
Large parts of documents, kept once: a document holds a reference, and the text stands in the table `blob`.

A part whose JSON text is longer than `INLINE` goes there under the SHA-256 of that text, so a value that is passed
along fifty stages, and stands in the log too, is in the file once. Smaller parts are left where they are; a mapping of
very many small ones goes as a whole, but for the engine's own keys, which SQL looks at. A reference is a mapping with
the key "\0", which no value of a user can have (models/values.py). Documents that are small cost one comparison.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from stabilize_nb.store.codec import Referring, dumps, loads

#: Characters of JSON text up to which a part stays in its document.
INLINE: Final = 256 * 1024
#: Characters of a part that stand in one row, so that no copy of the whole is made when it is written.
PIECE: Final = 2**20
#: How deep large parts are looked for in a document; what is large below that goes as a whole.
DEPTH: Final = 8
KEY: Final = "\0"
#: How a reference begins in JSON text.
REFERENCE: Final = '{"\\u0000":"'
#: Text that is shorter than INLINE however many of its characters are escaped.
PLAIN: Final = INLINE // 6 - 2
_SMALL: Final = frozenset({type(None), bool, int, float})

#: Returns what a digest stands for.
Get = Callable[[str], Any]
#: Keeps a text for a workflow and returns its digest.
Put = Callable[[str, str], str]


class Shelf:
    """Puts large parts away, each once in a transaction: a value stands in the log and in a row, as one object."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._known: dict[tuple[str, int], tuple[Any, Any]] = {}  # with the value, so that no other gets its id

    def clear(self) -> None:
        """Forget: the transaction is over, or part of it was undone."""
        if self._known:
            self._known = {}

    @property
    def used(self) -> bool:
        """Whether the transaction has put anything away."""
        return bool(self._known)

    def smaller(self, workflow_id: str, value: Any, depth: int = DEPTH) -> Any:
        """Return a document of a workflow with references for its large parts, and for itself if it is still large."""
        if value.__class__ in _SMALL or (value.__class__ is str and len(value) < PLAIN):
            return value
        here = (workflow_id, id(value))
        if here in self._known:
            return self._known[here][1]
        parts = self.parts(workflow_id, value, depth - 1) if depth and value.__class__ is not str else value
        text = dumps(parts)
        if len(text) <= INLINE:
            return parts
        own = {key: part for key, part in parts.items() if key[:1] == "_"} if isinstance(parts, dict) else {}
        if own:
            text = dumps({key: part for key, part in parts.items() if key not in own})
        reference = {KEY: self._put(workflow_id, text), **own}
        self._known[here] = (value, reference)
        return reference

    def parts(self, workflow_id: str, value: Any, depth: int = DEPTH) -> Any:
        """Do the same for the parts of a document, and leave itself where it is."""
        if hasattr(value, "items"):
            return {key: self.smaller(workflow_id, part, depth) for key, part in value.items()}
        return [
            part if part.__class__ in _SMALL else self.smaller(workflow_id, part, depth)
            for part in value
        ]  # fmt: skip


def digest_of(text: str) -> str:
    """Return the name under which a text is kept."""
    digest = hashlib.sha256()
    for piece in pieces(text):
        digest.update(piece)
    return digest.hexdigest()


def pieces(text: str) -> Iterator[bytes]:
    """Cut a text into rows."""
    return (text[at : at + PIECE].encode() for at in range(0, len(text), PIECE))


def put_back(value: Any, get: Get) -> Any:
    """Return a document with what its references stand for; `get` returns it by its digest."""
    if value.__class__ is dict:
        if KEY not in value:
            return {key: put_back(part, get) for key, part in value.items()}
        found = get(value[KEY])
        return found if len(value) == 1 else {**found, **{key: part for key, part in value.items() if key != KEY}}
    return [put_back(part, get) for part in value] if value.__class__ is list else value


def with_blobs(text: str, get: Get) -> str:
    """Return text of a document that knows what the blobs hold to which it refers, if it refers to any."""
    if REFERENCE not in text:
        return text
    whole = Referring(text)
    whole.document = put_back(loads(text), get)
    return whole


def joined(rows: list[bytes], get: Get) -> Any:
    """Return the value whose text stands in these rows, which are given up on the way."""
    data = b"".join(rows)
    rows.clear()
    text = data.decode()
    del data
    return put_back(loads(text), get) if REFERENCE in text else loads(text)
