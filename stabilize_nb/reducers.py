"""How a join combines one output of its branches: built-in reducers and those that users register."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.values import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Reducer = Callable[[list[Any]], Any]


def collect(values: list[Any]) -> Any:
    """All values as a list, one a branch, in the order of the branches."""
    return list(values)


def extend(values: list[Any]) -> Any:
    """The lists of all branches, one after the other; a value that is no list counts as one item."""
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def merge(values: list[Any]) -> Any:
    """The mappings of all branches as one; later branches win."""
    return reduce(lambda merged, value: {**merged, **value}, values, {})


_REDUCERS: dict[str, Reducer] = {
    "collect": collect,
    "append": collect,
    "extend": extend,
    "sum": sum,
    "max": max,
    "min": min,
    "merge": merge,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}


def register_reducer(name: str, function: Reducer) -> None:
    """
    Make `function` available as a reducer: it gets the branches' values in order and returns one value.

    For example:

        >>> from stabilize_nb import Engine, Flow, register_reducer
        >>> register_reducer("longest", lambda values: max(values, key=len))
        >>> flow = Flow("poll")
        >>> for name, answer in [("anna", "yes"), ("ben", "perhaps")]:
        ...     stage = flow.stage(lambda said=answer: {"said": said}, name=name)
        >>> @flow.stage(after=["anna", "ben"], reduce={"said": "longest"})
        ... def sum_up(said):
        ...     return said
        >>> with Engine(":memory:") as engine:
        ...     engine.start(flow).result()
        'perhaps'
    """
    _REDUCERS[name] = function


def known_reducers() -> list[str]:
    """Return the names that `output_reducers` may use."""
    return sorted(_REDUCERS)


def check_reducer(name: str) -> None:
    """Raise ConfigError when no reducer has this name."""
    if name not in _REDUCERS:
        msg = f"unknown reducer {name!r}; known are {', '.join(known_reducers())}; register_reducer adds one"
        raise ConfigError(msg)


def apply_output_reducers(reducers: Mapping[str, str], outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Combine the branches' `outputs` key by key as `reducers` says; keys that no branch has are left out.

    Raises ConfigError for an unknown reducer, ValueNotStorableError for a result that JSON cannot hold.
    """
    combined: dict[str, Any] = {}
    for key, name in reducers.items():
        check_reducer(name)
        values = [branch[key] for branch in outputs if key in branch]
        if values:
            combined[key] = plain(_REDUCERS[name](values), f"what reducer {name!r} makes of {key!r}")
    return combined
