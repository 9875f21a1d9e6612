"""JSON text for what the engine stores. User values have gone through models/values.py before they come here."""

from __future__ import annotations

import json
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import StoreDamagedError
from stabilize_nb.models.secret import SIGN, referred
from stabilize_nb.models.values import EMPTY
from stabilize_nb.secrets.hiding import HIDDEN, hide, marked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Made once: JSONEncoder.encode makes one for every call, which costs more than encoding a small value.
_encode = c_make_encoder(None, dict, encode_basestring, None, ":", ",", False, False, False)


def dumps(value: Any) -> str:
    """Return plain data as JSON text, in which no value of a secret stands."""
    text = "".join(_encode(value, 0))
    return text if not HIDDEN.forms or hide(text) == text else "".join(_encode(marked(value), 0))


class Referring(str):
    """Text of a document that refers to blobs, with its data as they are when what the blobs hold is put back."""

    __slots__ = ("document",)

    document: Any


def loads(text: str) -> Any:
    """Return the data of JSON text; raises StoreDamagedError when the text is damaged."""
    if isinstance(text, Referring):
        return text.document
    try:
        return json.loads(text, object_hook=referred if text.__class__ is str and SIGN in text else None)
    except (ValueError, RecursionError) as error:
        msg = f"the database holds text that is not JSON ({error}): {text[:60]!r}; run `stabilize-nb doctor` on it"
        raise StoreDamagedError(msg) from error


def loads_all(texts: Sequence[str]) -> list[Any]:
    """Return the data of many texts at once, which is much quicker than one by one."""
    try:
        values = loads(f"[{','.join(texts)}]")
    except TypeError as error:
        msg = f"the database holds bytes where JSON text is expected ({error}); run `stabilize-nb doctor` on it"
        raise StoreDamagedError(msg) from error
    if len(values) != len(texts):
        return [loads(text) for text in texts]  # one of them is no text of one value: it says so
    return [loads(text) if isinstance(text, Referring) else value for text, value in zip(texts, values, strict=True)]


def mapping(text: str) -> Mapping[str, Any]:
    """Return the mapping of JSON text."""
    return EMPTY if text == "{}" else loads(text)
