"""
The sub-commands with which a person decides at a gate: values are made what the form of the gate asks for.

A gate that this notebook has shown is decided as it was shown: when it asks something else meanwhile, the decision is
refused, and the run that is shown then has the new question.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError

from stabilize_nb.decisions import Decision, answer_to, decisions_in, why_refused
from stabilize_nb.errors import ConfigError
from stabilize_nb.gates import Gate
from stabilize_nb.models.gate import APPROVE, REJECT
from stabilize_nb.models.settling import DONE
from stabilize_nb.notebook.acting import settled
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.gates import SEEN
from stabilize_nb.notebook.order import Order
from stabilize_nb.notebook.words import did_you_mean
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.run import Run


def approve(order: Order) -> Run:
    """Approve at a gate of a run."""
    return _decide(order, APPROVE)


def reject(order: Order) -> Run:
    """Reject at a gate of a run."""
    return _decide(order, REJECT)


def settle(order: Order) -> Run:
    """Say what became of a body whose process died while it ran."""
    if len(order.words) != len(("RUN/STAGE", "CHOICE")):
        raise UsageError(f"a stage and what became of it are needed; usage: {order.usage}")
    run, name = order.run_and_part()
    if name is None:
        raise UsageError(f"the stage is missing; usage: {order.usage}")
    given, choice, who = dict(order.line.given), order.words[1], settings().who
    outputs = given if choice == DONE else None
    reason = "" if choice == DONE else str(given.pop("reason", ""))
    if given and choice != DONE:
        raise UsageError(f"{next(iter(given))}=… is said only of what is done; usage: {order.usage}")
    decision_id = run.settle(name, choice, outputs=outputs, reason=reason, user=who)
    return _answered(run, name, decision_id)


def _decide(order: Order, choice: str) -> Run:
    if len(order.words) > 1:
        raise UsageError(f"{order.words[1]!r} is no field: write name=value; usage: {order.usage}")
    run, name = order.run_and_part() if order.words else (order.run("last"), None)
    waiting = [gate for gate in run.gates if name in {None, gate.name}]
    payload = {"user": settings().who, **order.line.given}
    if len(waiting) != 1:
        (run.approve if choice == APPROVE else run.reject)(name, **payload)
        return settled(run)
    return _decide_at(run, waiting[0], choice, payload)


def _decide_at(run: Run, gate: Gate, choice: str, payload: dict[str, Any]) -> Run:
    _check_names(gate, payload)
    if gate.named and choice == APPROVE:
        choice = str(payload.pop("decision", choice))
    seen = SEEN.get((gate.run_id, gate.stage_id))
    return _answered(run, gate.name, run.decide(seen or gate.name, choice, **payload))


def _answered(run: Run, name: str, decision_id: str) -> Run:
    """Wait until it is known what became of a decision, and say why if it had no effect."""
    settled(run, lambda: answer_to(_decisions(run), decision_id) is not None)
    decisions = [each for each in _decisions(run) if each.gate == name]
    answer = answer_to(decisions, decision_id)
    if answer is not None and answer.refused:
        sys.stdout.write(obeyed_by_none(f"{name}: {why_refused(answer, decisions)}\n"))
    return run


def _check_names(gate: Gate, values: Mapping[str, Any]) -> None:
    """Refuse a field that the form does not have; raises ConfigError."""
    known = {*gate.form, "user", "reason", "note", *(("decision",) if gate.named else ())}
    for name in values:
        if gate.form and name not in known:
            raise ConfigError(
                f"gate {gate.name!r} has no field {name!r}{did_you_mean(name, known)}; it has {', '.join(gate.form)}"
            )


def _decisions(run: Run) -> list[Decision]:
    return decisions_in(run.engine.database, run.id)
