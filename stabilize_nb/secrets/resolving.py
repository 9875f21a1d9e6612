"""Looking secrets up, where a body is called: in what the engine was given, or in the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from stabilize_nb.errors import ConfigError, SecretNotFoundError
from stabilize_nb.models.secret import Secret
from stabilize_nb.secrets.forms import SHORTEST
from stabilize_nb.secrets.hiding import HIDDEN
from stabilize_nb.within import Within

#: Where secrets are looked up: a mapping, or a function from name to value. None: the environment.
Source = Mapping[str, str] | Callable[[str], str | None] | None
log = logging.getLogger("stabilize_nb")


@dataclass(frozen=True, slots=True)
class Desk:
    """Who asks, and where is looked."""

    source: Source = None
    place: str = "this call"

    def value(self, wanted: Secret) -> str:
        """Return the value of a secret, which is hidden from now on; raises SecretNotFoundError."""
        found = self._found(wanted.name)
        if found is None:
            raise SecretNotFoundError(self._missing(wanted.name))
        if not isinstance(found, str):
            msg = f"{self.place}: secret {wanted.name!r} is of type {type(found).__name__}; text is expected"
            raise SecretNotFoundError(msg)
        if not HIDDEN.add(wanted.name, found):
            log.warning("%s has fewer than %d characters, so it is not hidden in other text", wanted, SHORTEST)
        return found

    def _found(self, name: str) -> Any:
        if self.source is None:
            return os.environ.get(name)
        if isinstance(self.source, Mapping):
            return self.source.get(name)
        try:
            return self.source(name)
        except KeyError:
            return None

    def _missing(self, name: str) -> str:
        if self.source is None:
            where, what = "the environment of this process", f"set the environment variable {name}"
        else:
            where, what = "what Engine(secrets=...) was given", "add it there"
        return f"{self.place} needs secret {name!r}, which is not in {where}: {what}, then restart the stage"


_desk: ContextVar[Desk] = ContextVar("stabilize_nb_secrets", default=Desk())  # noqa: B039 - it is frozen


def check_source(source: Any) -> None:
    """Raise ConfigError for what no secret can be looked up in."""
    if source is not None and not isinstance(source, Mapping) and not callable(source):
        msg = (
            f"secrets is of type {type(source).__name__}; a mapping from names to values is expected, or a function "
            "that returns the value for a name"
        )
        raise ConfigError(msg)


def looking_up(source: Source, place: str) -> Within[Desk]:
    """Let secrets be looked up in `source` on behalf of `place`, within this thread or coroutine."""
    return Within(_desk, Desk(source, place))


def resolved(value: Any) -> Any:
    """Return data with the values of the secrets that it refers to; the same object when it refers to none."""
    if isinstance(value, Secret):
        return _desk.get().value(value)
    if isinstance(value, dict):
        return {key: resolved(item) for key, item in value.items()} if _refers(value) else value
    if isinstance(value, list):
        return [resolved(item) for item in value] if _refers(value) else value
    return value


def _refers(value: Any) -> bool:
    if isinstance(value, Secret):
        return True
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_refers, parts))
