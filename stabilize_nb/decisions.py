"""Deciding at a gate, and what became of a decision: the log says who decided what, when, and what was shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError
from stabilize_nb.events.frames import DECISIONS as COLUMNS
from stabilize_nb.events.frames import frame_of
from stabilize_nb.models.forms import completed, fitted
from stabilize_nb.models.gate import APPROVE, DEADLINE, DECISIONS, REJECT, Refusal, signal_for
from stabilize_nb.models.ids import new_id
from stabilize_nb.models.near import close
from stabilize_nb.models.settling import DONE, OUTPUTS, SETTLE
from stabilize_nb.models.values import EMPTY, plain_mapping
from stabilize_nb.queue.messages import SignalStage
from stabilize_nb.store.codec import loads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from stabilize_nb.gates import Gate
    from stabilize_nb.store.database import Database

#: How a decision is told.
_TOLD: Final[Mapping[str, str]] = {APPROVE: "approved", REJECT: "rejected", DEADLINE: "not decided in time"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision as the log has it. `at`: ms since the epoch (UTC). `refused`: why it had no effect, "" if it had.

    `choice`: "approve", "reject", another one that the gate offers, "deadline" for a gate that failed by itself, or
    "retry", "done" or "fail" where it was settled what became of a body.
    `fingerprint`: of what the gate showed when it was decided; of a refused one what its maker had seen.
    """

    run_id: str
    gate: str
    stage_id: str
    choice: str
    user: str
    at: int
    sequence: int
    data: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    fingerprint: str = ""
    decision_id: str = ""
    refused: str = ""

    @property
    def told(self) -> str:
        """What was decided, as a word: "approved", "rejected", or the choice."""
        return _TOLD.get(self.choice, f"decided: {self.choice}")


def decisions_in(database: Database, run_id: str, stage_id: str | None = None) -> list[Decision]:
    """Return the decisions at the gates of a run, or at one, in the order in which they came; also what was settled."""
    here = {"workflow_id": run_id, "stage_id": stage_id}
    rows = database.call_read(lambda connection: connection.all("decisions", here))
    return [_decision(run_id, row) for row in rows if loads(row[4]).get("name", SETTLE) in {*DECISIONS, SETTLE}]


def decisions_frame(decisions: Sequence[Decision]) -> pd.DataFrame:
    """Frame of decisions, one row each, in the order given; columns: `events.frames.DECISIONS`."""
    return frame_of(
        COLUMNS,
        (
            (
                each.sequence, each.at, each.gate, each.choice, each.user or None, each.refused or None,
                dict(each.data), each.fingerprint or None, each.decision_id or None, each.stage_id,
            )
            for each in decisions
        ),
    )  # fmt: skip


def _decision(run_id: str, row: Sequence[Any]) -> Decision:
    sequence, at, stage_id, ref_id, text = row
    fact = loads(text)
    data = fact["data"]
    choice = str(data.get("decision") or fact.get("name", SETTLE))
    return Decision(
        run_id=run_id, gate=ref_id or "", stage_id=stage_id, choice=choice,
        user=str(data.get("user") or ""), at=at, sequence=sequence, data=data,
        fingerprint=fact.get("fingerprint", ""), decision_id=fact.get("decision_id", ""),
        refused=fact.get("reason", ""),
    )  # fmt: skip


def answer_to(decisions: Sequence[Decision], decision_id: str) -> Decision | None:
    """Return what became of a decision; None while nothing has."""
    return next((each for each in decisions if each.decision_id == decision_id), None)


def last_of(decisions: Sequence[Decision]) -> Decision | None:
    """Return the newest decision that had an effect."""
    return next((each for each in reversed(decisions) if not each.refused), None)


def who_and_when(decision: Decision) -> str:
    """Say what was decided, by whom and when (local time)."""
    at = datetime.fromtimestamp(decision.at / 1_000, UTC).astimezone()
    who = "by the deadline" if decision.user == DEADLINE else f"by {decision.user or 'somebody who gave no name'}"
    return f"{decision.told} {who} at {at:%Y-%m-%d %H:%M:%S}"


def why_refused(refused: Decision, decisions: Sequence[Decision]) -> str:
    """Say why a decision had no effect, and who was first."""
    before = last_of([each for each in decisions if each.sequence < refused.sequence])
    match refused.refused:
        case Refusal.CHANGED:
            return "nothing was decided: what this gate asks has changed since you looked; look again, then decide"
        case Refusal.CHOICE:
            return f"nothing was decided: this gate does not offer {refused.choice!r}"
        case _ if before is not None:
            return f"your decision came second: {who_and_when(before)}"
        case _:
            return "nothing was decided: this gate does not wait any more"


def order(gate: Gate, choice: str, data: Mapping[str, Any], *, bound: bool, persistent: bool = False) -> SignalStage:
    """
    Return the message that decides at a gate that waits; `bound`: only as long as it asks what it asks here.

    Raises ConfigError for a choice that is not on offer, for a value that does not fit its field, and for an approval
    that lacks a field which has to be filled in.
    """
    place = f"stage {gate.name!r}" if gate.doubt else f"gate {gate.name!r}"
    if choice not in gate.choices:
        raise ConfigError(f"{place} does not offer {choice!r}; choose one of {', '.join(map(repr, gate.choices))}")
    fields = [field.name for field in gate.fields]
    for name in data:
        if name not in fields and (like := close(name, [each for each in fields if each not in data])):
            raise ConfigError(f"{place} has no field {name!r}{like}")
    given = fitted(gate.form, data, place)
    if gate.doubt and choice != DONE and given.get(OUTPUTS):
        raise ConfigError(f"{place} gets outputs only when its body is said to be done, not with {choice!r}")
    if choice != REJECT:
        given = completed(gate.form, given, place)
    if gate.named:
        given = {**given, "decision": choice}
    return SignalStage(
        execution_id=gate.run_id, stage_id=gate.stage_id, persistent=persistent,
        signal_name=SETTLE if gate.doubt else signal_for(choice),
        signal_data=plain_mapping(given, f"decision at {place}"), generation=gate.generation if bound else None,
        fingerprint=gate.fingerprint if bound else "", decision_id=new_id(),
    )  # fmt: skip
