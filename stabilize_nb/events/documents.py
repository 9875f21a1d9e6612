"""A column of JSON documents that are read when they are looked at.

A frame of 100,000 facts would take most of its time, and most of its memory, to make a dict of each; few of them are
ever looked at. So the column keeps the text that the log holds, which pandas takes, filters and joins as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype, take
from pandas.api.indexers import check_array_indexer
from pandas.api.types import is_list_like

from stabilize_nb.store.codec import dumps, loads, loads_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: What the frame of events says of a fact in columns of their own.
IN_COLUMNS = frozenset({"fact", "stage", "attempt", "status"})


@register_extension_dtype
class DocumentDtype(ExtensionDtype):  # type: ignore[misc,unused-ignore]
    """Type of a column of documents: dicts, kept as JSON text."""

    name = "document"
    type = dict
    kind = "O"
    na_value = pd.NA

    @classmethod
    def construct_array_type(cls) -> Any:
        return Documents


class Documents(ExtensionArray):  # type: ignore[misc,unused-ignore]
    """Documents as JSON text; an element is a fresh dict, or NA. One that is a fact lacks what `IN_COLUMNS` says.

    `texts`: array of text, shape (n,), dtype object; None or NaN is missing.
    """

    def __init__(self, texts: np.ndarray[Any, Any]) -> None:
        self._texts = texts

    @classmethod
    def _from_sequence(cls, scalars: Sequence[Any], *, dtype: Any = None, copy: bool = False) -> Self:  # noqa: ARG003
        if isinstance(scalars, cls):
            return scalars.copy() if copy else scalars
        return cls(np.fromiter(map(_text, scalars), object, len(scalars)))

    @classmethod
    def _from_scalars(cls, scalars: Any, *, dtype: Any) -> Self:  # noqa: ARG003
        raise TypeError("what is computed of documents is a column like any other")

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[Self]) -> Self:
        return cls(np.concatenate([each._texts for each in to_concat]))  # noqa: SLF001 - of the same class

    @property
    def dtype(self) -> DocumentDtype:
        return DocumentDtype()

    @property
    def nbytes(self) -> int:
        return int(self._texts.nbytes) + sum(map(len, self._texts[~self.isna()]))

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, item: Any) -> Any:
        item = check_array_indexer(self, item)
        found = self._texts[item]
        if isinstance(found, np.ndarray):
            return type(self)(found)
        return _shown(loads(found)) if isinstance(found, str) else pd.NA

    def __setitem__(self, key: Any, value: Any) -> None:
        one = isinstance(value, dict) or not is_list_like(value)
        self._texts[check_array_indexer(self, key)] = _text(value) if one else list(map(_text, value))

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        there = ~self.isna()
        shown = np.full(len(self), pd.NA, dtype=object)
        shown[there] = np.fromiter(map(_shown, loads_all(self._texts[there])), dtype=object)
        return shown

    def __eq__(self, other: object) -> Any:
        if isinstance(other, pd.Series | pd.Index | pd.DataFrame):
            return NotImplemented
        others: Any = [other] * len(self) if isinstance(other, dict) else other
        if not hasattr(others, "__len__") or len(others) != len(self):
            msg = f"{len(self)} documents are compared with a dict or as many of them, not with {other!r}"
            raise ValueError(msg)
        return np.array([mine is not pd.NA and mine == each for mine, each in zip(self, others, strict=True)], bool)

    __hash__ = None  # type: ignore[assignment]

    def isna(self) -> np.ndarray[Any, Any]:
        return pd.isna(self._texts)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        taken = take(self._texts, np.asarray(indices), allow_fill=allow_fill)
        return type(self)(np.asarray(taken, object))

    def copy(self) -> Self:
        return type(self)(self._texts.copy())


def _text(value: Any) -> str | None:
    if isinstance(value, dict):
        return dumps(value)
    if is_list_like(value) or not pd.isna(value):
        raise TypeError(f"a column of documents takes dicts, not {value!r}")
    return None


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    if "fact" not in document:
        return document
    return {key: value for key, value in document.items() if key not in IN_COLUMNS}
