"""Names that are close to one that is not known: what somebody may have meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

#: How alike two names are (0 to 1) for one to be suggested for the other.
CLOSE = 0.75
#: The same for words, of which there are few.
SIMILAR = 0.6


def listed(name: str, known: Collection[str]) -> str:
    """Return the end of a sentence that names what there is, and what of it is close to `name`."""
    return f"{', '.join(known) or 'none'}{close(name, known)}"


def close(name: str, known: Collection[str], cutoff: float = CLOSE) -> str:
    """Return the end of a sentence that names what is close to `name`; nothing when nothing is."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]!r}?" if found else ""
