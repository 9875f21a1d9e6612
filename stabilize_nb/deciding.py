"""Decisions from Python: `run.approve`, `run.reject` and `run.decide`, and the list of all that waits for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stabilize_nb.decisions import decisions_in, last_of, order, who_and_when
from stabilize_nb.errors import ConfigError, StageNotReadyError
from stabilize_nb.gates import Gate, gate_of, takes_decision
from stabilize_nb.models.gate import APPROVE
from stabilize_nb.models.settling import DONE, OUTPUTS, SETTLEMENTS

if TYPE_CHECKING:
    from stabilize_nb.engine import Engine
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.queue.messages import SignalStage
    from stabilize_nb.run import Run


class Inbox(list[Gate]):
    """The gates that waited when it was asked for, oldest first; a notebook shows those that wait now."""

    def __init__(self, engine: Engine, gates: Iterable[Gate]) -> None:
        super().__init__(gates)
        self.engine = engine

    def _ipython_display_(self) -> None:
        # IPython calls these; nothing below the notebook may import it. Raises NotImplementedError where there are no
        # live panes: IPython asks for the bundle then.
        import_module("stabilize_nb.notebook.inbox").show(self.engine)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = import_module("stabilize_nb.notebook.inbox").inbox_bundle(self.engine)
        return bundle


def decide(run: Run, gate: Gate | str | None, choice: str, payload: Mapping[str, Any]) -> SignalStage:
    """
    Return the message that decides at a gate of a run.

    A Gate: the decision counts only as long as the gate asks what it asks there. A name: also before the gate waits.
    None: the only one that waits now.

    Raises StageNotReadyError when there is no such gate or it was decided, ConfigError for what the gate does not take.
    """
    found = gate if isinstance(gate, Gate) else _only(run) if gate is None else _named(run, gate)
    data = dict(payload)
    if found.named and choice == APPROVE:
        choice = str(data.pop("decision", choice))
    return order(found, choice, data, bound=isinstance(gate, Gate), persistent=isinstance(gate, str))


def settle(
    run: Run, name: str, choice: str | None, outputs: Mapping[str, Any] | None, data: Mapping[str, Any]
) -> SignalStage:
    """
    Return the message that says what became of a body whose process died while it ran.

    Raises StageNotReadyError when nothing is to be settled there, ConfigError for a choice that there is not.
    """
    stage = run._stage(name)  # noqa: SLF001 - its own module
    if choice is None and outputs is None:
        words = ", ".join(map(repr, SETTLEMENTS))
        raise ConfigError(f"it is not said what became of stage {name!r}: write one of {words}, or give outputs=")
    gate = gate_of(run.id, run.name, stage)
    if not gate.doubt:
        done = _was_decided(run, stage) if stage.status.is_complete else f"is {stage.status}"
        raise StageNotReadyError(f"stage {name!r} of run {run.id} has nothing to settle: it {done}")
    given = {} if outputs is None else {OUTPUTS: outputs}
    return order(gate, choice or DONE, {**given, **{word: said for word, said in data.items() if said}}, bound=False)


def _only(run: Run) -> Gate:
    waiting = run.gates
    if len(waiting) == 1:
        return waiting[0]
    names = ", ".join(repr(each.name) for each in waiting)
    if waiting:
        raise StageNotReadyError(f"run {run.id} waits for decisions at {names}: name the gate that is meant")
    if run.status.is_complete:
        raise StageNotReadyError(f"run {run.id} waits for no decision: it ended {run.status}")
    raise StageNotReadyError(
        f"run {run.id} waits for no decision yet: wait for it with run.until_gate(), or name the gate, and what is "
        "decided is kept until it asks"
    )


def _named(run: Run, name: str) -> Gate:
    """Return a gate that waits or will wait."""
    stage = run._stage(name)  # noqa: SLF001 - its own module
    if not takes_decision(stage):
        gates = ", ".join(repr(each.ref_id) for each in run.workflow.stages if takes_decision(each)) or "none"
        raise StageNotReadyError(f"stage {name!r} of run {run.id} asks nobody for a decision; its gates are: {gates}")
    if stage.status.is_complete:
        raise StageNotReadyError(f"gate {name!r} of run {run.id} {_was_decided(run, stage)}")
    return gate_of(run.id, run.name, stage)


def _was_decided(run: Run, stage: StageExecution) -> str:
    decision = last_of(decisions_in(run.engine.database, run.id, stage.id))
    before = f": {who_and_when(decision)}" if decision is not None else f": it is {stage.status}"
    return f"was decided already{before}"
