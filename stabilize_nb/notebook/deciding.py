"""The sub-commands with which a person decides at a gate: values are made what the form of the gate asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from IPython.core.error import UsageError

from stabilize_nb.errors import ConfigError
from stabilize_nb.gates import Gate
from stabilize_nb.notebook.acting import settled
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.order import Order
from stabilize_nb.notebook.words import did_you_mean
from stabilize_nb.run import Run


def approve(order: Order) -> Run:
    """Approve at a gate of a run."""
    return _decide(order, Run.approve)


def reject(order: Order) -> Run:
    """Reject at a gate of a run."""
    return _decide(order, Run.reject)


def _decide(order: Order, decide: Callable[..., None]) -> Run:
    if len(order.words) > 1:
        raise UsageError(f"{order.words[1]!r} is no field: write name=value; usage: {order.usage}")
    run, name = order.run_and_part() if order.words else (order.run("last"), None)
    gates = [gate for gate in run.gates if name in {None, gate.name}]
    payload = _filled(gates[0], order.line.given) if len(gates) == 1 else dict(order.line.given)
    decide(run, name, **{"user": settings().who, **payload})
    return settled(run, lambda: not gates or gates[0].stage_id not in {gate.stage_id for gate in run.gates})


def _filled(gate: Gate, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given as the form of the gate wants it; raises ConfigError for what does not fit."""
    known = {*gate.form, "user", "reason"}
    for name in values:
        if gate.form and name not in known:
            raise ConfigError(
                f"gate {gate.name!r} has no field {name!r}{did_you_mean(name, known)}; it has {', '.join(gate.form)}"
            )
    return {name: _fitting(gate, name, value) for name, value in values.items()}


def _fitting(gate: Gate, name: str, value: Any) -> Any:
    kind = gate.form.get(name)
    if isinstance(kind, list):
        match = next((choice for choice in kind if choice == value or str(choice) == str(value)), None)
        if match is None:
            choices = ", ".join(map(str, kind))
            raise ConfigError(f"field {name!r} of gate {gate.name!r} cannot be {value!r}; choose one of {choices}")
        return match
    make = _MAKERS.get(str(kind))
    if make is None:
        return value
    try:
        return make(value)
    except (TypeError, ValueError):
        raise ConfigError(f"field {name!r} of gate {gate.name!r} is a {kind}, not {value!r}") from None


def _truth(value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return words[str(value).lower()] if str(value).lower() in words else bool(int(value))


_MAKERS: Final[Mapping[str, Callable[[Any], Any]]] = {"str": str, "int": int, "float": float, "bool": _truth}
