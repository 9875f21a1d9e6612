"""
A secret by its name: what stands in inputs and contexts in place of a key, and all that is ever stored of it.

It is the mapping that JSON holds of it, `{"$secret": "NAME"}`, as a type of its own: whatever writes JSON writes it,
and no data of a user or of a server can pass for it, since the door for values (models/values.py) refuses a mapping
with that key.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn, Self

from stabilize_nb.errors import ConfigError

KEY: Final = "$secret"
#: How a reference begins in JSON text.
SIGN: Final = f'"{KEY}"'
_LENGTH: Final = 200


class Secret(dict[str, str]):
    """A reference to a secret; made by `secret`. Equal to another of the same name, and never changed."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__({KEY: name})

    @property
    def name(self) -> str:
        """What the secret is looked up by."""
        return self[KEY]

    def __repr__(self) -> str:
        return f"secret({self.name!r})"

    def __hash__(self) -> int:  # type: ignore[override]
        return hash((KEY, self.name))

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self.name,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: Any) -> Self:
        return self

    def _fixed(self, *_: Any, **__: Any) -> NoReturn:
        msg = f"{self!r} cannot be changed; make another one with secret(...)"
        raise TypeError(msg)

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _fixed


def secret(name: str) -> Any:
    """
    Return the Secret that stands for a value in inputs, contexts, defaults of parameters and `LLMClient(api_key=...)`.

    The value is looked up where a stage that uses it is run, each time anew: in `Engine(secrets=...)`, or else in the
    environment variable `name`. It is never stored, and hidden wherever it would be (docs/security.md).
    Typed as anything, since it stands where text is expected.

    Raises ConfigError for what cannot be a name.

    For example:

        >>> from stabilize_nb import Engine, Flow, secret
        >>> flow = Flow("upload")
        >>> @flow.stage
        ... def sign_in(token=secret("PLACE_TOKEN")):
        ...     return len(token)
        >>> with Engine(":memory:", secrets={"PLACE_TOKEN": "s3cret"}) as engine:
        ...     engine.start(flow).result()
        6
    """
    if not is_name(name):
        msg = (
            f"secret() got {type(name).__name__} that is no name: write the name of the secret, such as "
            'secret("OPENAI_API_KEY"), and not its value'
        )
        raise ConfigError(msg)
    return Secret(name)


def is_name(name: Any) -> bool:
    """Whether a secret can be called so: printable text without spaces at its ends."""
    return type(name) is str and 0 < len(name) <= _LENGTH and name.isprintable() and name == name.strip()


def referred(found: dict[str, Any]) -> Any:
    """Return what a mapping that was read from JSON text stands for."""
    return Secret(found[KEY]) if len(found) == 1 and is_name(found.get(KEY)) else found
