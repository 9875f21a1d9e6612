"""Ids: ULIDs for what users and the shell make, hashes for what a decision makes (so it makes the same again)."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading

from ulid import ULID

_lock = threading.Lock()
_serial = itertools.count()
_last = 0
#: Crockford's base 32, the alphabet of ULIDs.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: What 10 bits are in it.
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
#: Where the 13 pairs of a ULID begin, the first one first.
_PLACES = tuple(range(120, -1, -10))


def new_id() -> str:
    """Return a new 26-character ULID; ids of one process sort in the order in which they were made."""
    global _last  # noqa: PLW0603 - the order of ids within a millisecond is the state of this module
    with _lock:
        _last = max(int(ULID()), _last + 1)
        return str(ULID.from_int(_last))


def serial_id() -> str:
    """Return an id that no other call, here or in another process, returns; cheaper than a ULID, in no order."""
    return f"{_prefix}.{next(_serial):x}"


def _renew_prefix() -> None:
    global _lock, _prefix  # noqa: PLW0603 - a forked child must not repeat the ids of its parent
    _lock = threading.Lock()  # another thread may have held it, and is not there any more
    _prefix = new_id()


def derived_id(parent: str, slot: str, number: int) -> str:
    """Return the 26-character id that `parent` gives its `number`-th child in `slot`: a hash, no entropy."""
    digest = hashlib.blake2b(f"{parent}\x1f{slot}\x1f{number}".encode(), digest_size=17).digest()
    bits = int.from_bytes(digest, "big") >> 6
    return "".join([_PAIRS[bits >> place & 1023] for place in _PLACES])


_prefix = new_id()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_prefix)
