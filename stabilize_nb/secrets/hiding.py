"""
The values of secrets that this process has looked up, taken out of text and data.

Nothing is done while there are none. A value that is a secret as a whole becomes the reference to it, which a later
stage finds resolved again; within other text it becomes `[secret NAME]`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from stabilize_nb.models.secret import Secret
from stabilize_nb.secrets.forms import SHORTEST, forms_of

#: Values that are remembered: whoever makes a new token for every call forgets the oldest of them.
MOST: Final = 1_000


class Hidden:
    """The values of one process with their forms, longest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self.forms: tuple[tuple[str, str], ...] = ()
        self.digits = False

    def add(self, name: str, value: str) -> bool:
        """Hide a value from now on; return whether it is long enough for that."""
        if len(value.strip()) < SHORTEST:
            return False
        if value in self._names:
            return True
        with self._lock:
            names = {**self._names, value: name}
            while len(names) > MOST:
                del names[next(iter(names))]
            self._names = names
            found = {form: f"[secret {of}]" for each, of in names.items() for form in forms_of(each)}
            kept = [(form, mark) for form, mark in found.items() if form not in mark]
            self.forms = tuple(sorted(kept, key=lambda pair: -len(pair[0])))
            self.digits = any(form.replace(".", "").lstrip("-").isdigit() for form, _ in kept)
        return True

    def name_of(self, value: str) -> str | None:
        """Return which secret a value is."""
        return self._names.get(value)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._names, self.forms, self.digits = {}, (), False


#: Of this process.
HIDDEN: Final = Hidden()


def hide(text: str) -> str:
    """Return text without values of secrets."""
    for form, mark in HIDDEN.forms:
        if form in text:
            text = text.replace(form, mark)
    return text


def held_back(text: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a value."""
    longest = 0
    for form, _ in HIDDEN.forms:
        for size in range(min(len(form) - 1, len(text)), longest, -1):
            if text.endswith(form[:size]):
                longest = size
                break
    return longest


def hidden(value: Any) -> Any:
    """Return plain data in which references stand for what is a secret, and marks for what contains one."""
    return _walked(value, refers=True) if HIDDEN.forms else value


def marked(value: Any) -> Any:
    """Return plain data in which marks stand for all values of secrets: text stays text."""
    return _walked(value, refers=False) if HIDDEN.forms else value


def _walked(value: Any, *, refers: bool) -> Any:
    if isinstance(value, str):
        name = HIDDEN.name_of(value) if refers else None
        return hide(value) if name is None else Secret(name)
    if isinstance(value, Mapping):
        if isinstance(value, Secret):
            return value
        return {hide(key): _walked(item, refers=refers) for key, item in value.items()}
    if isinstance(value, list):
        return [_walked(item, refers=refers) for item in value]
    if HIDDEN.digits and type(value) in (int, float):
        text = str(value)
        found = hide(text)
        return value if found == text else found
    return value
