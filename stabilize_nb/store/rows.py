"""Database row <-> core row, both ways, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.rows import (
    ArrivalRow,
    ClaimRow,
    Head,
    RoundRow,
    SignalRow,
    StageRow,
    StageSpec,
    TaskRow,
    WaiterRow,
    spec_data,
    spec_from_data,
)
from stabilize_nb.errors import StoreDamagedError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import Token
from stabilize_nb.store.codec import dumps, loads, mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: Makes the text of a document.
    Text = Callable[[Any], str]

_STATUS = {status.name: status for status in WorkflowStatus}
_TOKEN = {token.name: token for token in Token}


#: What comes of reading a row that is not as it was written.
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)


def unreadable(workflow_id: str, error: Exception) -> StoreDamagedError:
    """Return the sentence for rows of a workflow that are not as they were written."""
    cause = f"{type(error).__name__}: {error}"
    return StoreDamagedError(
        f"the rows of workflow {workflow_id} are not as they were written ({cause}): the database is damaged; "
        "`stabilize-nb doctor` on its file says what can be saved"
    )


#: Definitions that were read or written last, by their text: one of many fields is made once.
_specs: dict[str, tuple[str, StageSpec]] = {}
#: Characters from which a definition is found by its end.
_LONG = 4_096
_SPECS = 4_096


def _spec(text: str) -> StageSpec:
    known = _specs.get(_key(text))
    return known[1] if known is not None and known[0] == text else _keep(text, spec_from_data(loads(text)))


def _keep(text: str, spec: StageSpec) -> StageSpec:
    if len(_specs) >= _SPECS:
        _specs.clear()
    _specs[_key(text)] = text, spec
    return spec


def _key(text: str) -> str:
    """Return by what a definition is found: a stage with thousands of edges has a text that takes long to hash."""
    return text if len(text) < _LONG else f"{len(text)} {text[-_LONG:]}"


def head(row: Sequence[Any]) -> Head:
    """Columns of the query `head`."""
    (
        id_,
        application,
        name,
        status,
        paused,
        ending,
        cancels,
        late,
        active,
        sequence,
        jumps,
        error,
        context,
        created_at,
        started_at,
        ended_at,
        lane,
        slots,
        keeps_waiting,
        slot,
    ) = row
    return Head(
        id_, application, name, _STATUS[status], bool(paused), _STATUS[ending] if ending else None, bool(cancels),
        late, active, sequence, jumps, error, mapping(context), created_at, started_at, ended_at, lane, slots,
        bool(keeps_waiting), bool(slot),
    )  # fmt: skip


def head_params(row: Head) -> dict[str, Any]:
    """Parameters of `update_head`."""
    return {
        "id": row.id, "status": str(row.status), "paused": int(row.paused),
        "ending": row.ending.name if row.ending else None, "cancels": int(row.cancels),
        "slot": int(row.slot), "late_failures": row.late_failures, "active": row.active, "sequence": row.sequence,
        "jumps": row.jumps,
        "error": row.error, "started_at": row.started_at, "ended_at": row.ended_at,
    }  # fmt: skip


def stage(row: Sequence[Any]) -> StageRow:
    """Columns of the query `stage`."""
    (id_, base, ref, ordinal, spec, status, generation, activation, fired, sent, depth, softly, triggers, inherited,
     context, outputs, error, started, ended, waits, phase, added, closed, via) = row  # fmt: skip
    return StageRow(
        id_, base, ref, ordinal, _spec(spec), _STATUS[status], generation, activation, fired, sent, depth, bool(softly),
        tuple(triggers.split()), mapping(inherited), mapping(context), mapping(outputs), error, started, ended,
        waits, phase, added, bool(closed), via,
    )  # fmt: skip


def stage_state(row: StageRow) -> dict[str, Any]:
    """Parameters of `move_stage`."""
    return {
        "id": row.id, "status": str(row.status), "generation": row.generation, "fired": row.fired, "sent": row.sent,
        "depth": row.depth, "softly_failed": int(row.softly_failed), "error": row.error,
        "started_at": row.started_at, "ended_at": row.ended_at, "waits": row.waits, "phase": row.phase,
        "added": row.added, "closed": int(row.closed), "via": row.via,
    }  # fmt: skip


def spec_text(spec: StageSpec) -> str:
    """Return a definition as it is stored."""
    text = dumps(spec_data(spec))
    _keep(text, spec)
    return text


def same_documents(row: StageRow, other: StageRow) -> bool:
    """Whether a row differs from another at most in what `move_stage` writes."""
    return (
        row.context is other.context
        and row.outputs is other.outputs
        and row.inherited is other.inherited
        and row.triggers is other.triggers
    )


def stage_params(row: StageRow, text: Text) -> dict[str, Any]:
    """Parameters of `update_stage`."""
    return {
        **stage_state(row), "triggers": " ".join(row.triggers),
        "inherited": dumps(row.inherited) if row.inherited else "{}",
        "context": text(row.context), "outputs": text(row.outputs),
    }  # fmt: skip


def new_stage_params(row: StageRow, workflow_id: str, text: Text) -> dict[str, Any]:
    """Parameters of `insert_stage`."""
    return {
        **stage_params(row, text), "workflow_id": workflow_id, "base_id": row.base_id, "ref_id": row.ref_id,
        "ordinal": row.ordinal, "spec": spec_text(row.spec), "activation": row.activation,
    }  # fmt: skip


def task(row: Sequence[Any]) -> TaskRow:
    """Columns of the query `task`."""
    (
        id_,
        stage_id,
        position,
        name,
        implementing,
        status,
        attempt,
        retries,
        polls,
        due,
        signal,
        error,
        *times,
    ) = row
    return TaskRow(
        id_, stage_id, position, name, implementing, _STATUS[status], attempt, retries, polls, due,
        loads(signal) if signal else None, error, *times,
    )  # fmt: skip


def task_state(row: TaskRow, text: Text) -> dict[str, Any]:
    """Parameters of `update_task`."""
    return {
        "stage_id": row.stage_id, "position": row.position, "status": str(row.status), "attempt": row.attempt,
        "retries": row.retries, "polls": row.polls, "due": row.due,
        "signal": text(row.signal) if row.signal is not None else None, "error": row.error,
        "first_started_at": row.first_started_at, "started_at": row.started_at, "ended_at": row.ended_at,
    }  # fmt: skip


def task_params(row: TaskRow, text: Text) -> dict[str, Any]:
    """Parameters of `put_task`."""
    return {**task_state(row, text), "id": row.id, "name": row.name, "implementing_class": row.implementing_class}


def round_(row: Sequence[Any]) -> RoundRow:
    """Columns of the query `round`."""
    return RoundRow(row[0], row[1], row[2], row[3], row[4], row[5], settled=bool(row[6]))


def arrival(row: Sequence[Any]) -> ArrivalRow:
    """Columns of the query `arrival`."""
    return ArrivalRow(row[0], row[1], row[2], row[3], _TOKEN[row[4]], row[5], bool(row[6]), row[7])


def signal(row: Sequence[Any]) -> SignalRow:
    """Columns of the query `buffered`."""
    return SignalRow(row[0], row[1], row[2], row[3], mapping(row[4]))


def claim(row: Sequence[Any]) -> ClaimRow:
    """Columns of the query `claim_row`."""
    return ClaimRow(row[0], row[1], row[2], bool(row[3]), row[4], row[5])


def waiter(row: Sequence[Any]) -> WaiterRow:
    """Columns of the query `waiter`."""
    return WaiterRow(*row)
