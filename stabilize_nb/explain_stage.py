"""Why one stage stands where it stands, in one sentence: from the rows of a moment, so it also explains the past."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stabilize_nb.core.rows import ADDITIONS, MILESTONE, only_arrival
from stabilize_nb.core.view import ArrivalKey, ClaimKey, PermitKey, StageKey, TaskKey
from stabilize_nb.models.gate import ASKS, asked_in, is_gate
from stabilize_nb.models.limit import LIMIT, limit_in
from stabilize_nb.models.multi_instance import is_instance
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import Token
from stabilize_nb.tasks.prints import plain_name

if TYPE_CHECKING:
    from stabilize_nb.core.rows import ArrivalRow, ClaimRow, StageRow, TaskRow
    from stabilize_nb.models.limit import Limit
    from stabilize_nb.run_state import RunState

S = WorkflowStatus
#: Stages that are named before the rest is counted.
NAMED = 5
_PHASES = {
    "STAGE_BEFORE": "runs what comes before it", "STAGE_AFTER": "runs what comes after it",
    "STAGE_FAILURE": "runs what comes when it failed",
}  # fmt: skip
#: Why a stage was skipped or withdrawn, by the reason in its last fact.
_WHY = {
    "pruned": "no branch led to it",
    "disabled": "it is switched off",
    "milestone": "its milestone was over",
    "not needed": "it was not needed",
    "deferred_choice": "the choice fell on another stage",
    "command": "somebody ordered it",
    "workflow_failed": "the run had failed",
    "workflow_canceled": "the run was cancelled",
    "jump": "a jump went back",
    "join_fired": "the others were enough",
    "mi_threshold": "enough instances had ended",
    "mi_completed": "the activity was completed",
    "mi_canceled": "the activity was withdrawn",
}


def explain_stage(state: RunState, name: str, missing: Collection[str] = ()) -> str:
    """
    Return one sentence: why a stage has not run, what it waits for or works at, or how it ended.

    `missing` are names of tasks whose code is not known in this process. Raises StageNotFoundError.
    """
    row = state.stage(name).row
    return f"stage {row.ref_id!r} {_Reader(state, missing).say(row)}"


class _Reader:
    """Reads the rows of one moment."""

    def __init__(self, state: RunState, missing: Collection[str]) -> None:
        self.state = state
        self.view = state.view
        self.missing = missing

    def say(self, row: StageRow) -> str:
        because = self._because(row)
        match row.status:
            case S.SUCCEEDED:
                return "succeeded"
            case S.FAILED_CONTINUE:
                return f"failed, and the run goes on{_error(row)}"
            case S.TERMINAL | S.STOPPED:
                return f"failed{_error(row)}"
            case S.SKIPPED:
                return f"was skipped{because}"
            case S.CANCELED:
                return f"was cancelled{because}"
            case S.SUSPENDED:
                return self._waits_for_a_signal(row)
            case S.PAUSED:
                return "rests while the run is paused: run.resume() goes on"
            case S.REDIRECT:
                return "asked to jump and is about to be reset"
            case S.RUNNING:
                return self._works(row)
            case S.NOT_STARTED | S.BUFFERED:
                return self._is_to_come(row)

    def _because(self, row: StageRow) -> str:
        """Return why a stage was skipped or withdrawn, from its last fact of that kind."""
        for entry in reversed(self.state.past.entries[: self.state.sequence]):
            if entry.stage_id == row.id and entry.data["fact"] == "StageEnded":
                reason = str(entry.data.get("reason") or "")
                if reason == "pruned":
                    return f": {why(reason)} from {self._named(self._sources(row))}"
                return f": {why(reason)}" if reason else _error(row)
        return ""

    def _waits_for_a_signal(self, row: StageRow) -> str:
        doubt = next((task.error for task in self._tasks(row) if task.is_in_doubt), None)
        if doubt:
            return to_settle(row.ref_id, doubt)
        tasks = [task.implementing_class for task in self._tasks(row) if task.status is S.SUSPENDED]
        if "sub_workflow" in tasks:
            return f"waits for its sub-workflow, the run {row.context.get('_sub_workflow_id')}"
        if is_gate(tasks) or row.context.get(ASKS):
            return f"waits for a decision: {asked_in(row.context).get('message') or 'go on?'}"
        return "waits for a signal"

    def _works(self, row: StageRow) -> str:
        if row.phase:
            return _PHASES[row.phase]
        task = next((task for task in self._tasks(row) if not task.status.is_complete), None)
        if task is None:
            return "has run its tasks and is about to end"
        if task.implementing_class in self.missing:
            return f"waits for code: {plain_name(task.implementing_class)!r} is not defined in this process"
        if (limit := limit_in(row.context)) is not None and self._has_permit(limit, task):
            return f"waits for the limit {row.context[LIMIT]!r} until {_time(task.due or 0)}"
        if task.due is not None and task.is_polling:
            return f"asked to be called again at {_time(task.due)}"
        if task.due is not None and task.error:
            return f"tries again at {_time(task.due)}, attempt {task.attempt} failed: {_last_line(task.error)}"
        if task.started_at is None or task.due is not None:
            return "is about to begin its task"
        return f"runs since {_time(task.started_at)}" + (f", attempt {task.attempt}" if task.attempt > 1 else "")

    def _has_permit(self, limit: Limit, task: TaskRow) -> bool:
        """Whether a task waits for the time of a permit."""
        permits = (row for key, row in self.view.changed.items() if isinstance(key, PermitKey) and row is not None)
        return task.due is not None and any((row.name, row.at) == (limit.name, task.due) for row in permits)

    def _is_to_come(self, row: StageRow) -> str:
        head = self.view.head
        if head.status.is_complete or row.sent:
            return f"did not run: {self._never(row)}"
        if head.status is S.BUFFERED:
            return "has not run: the run waits for a slot"
        if head.started_at is None:
            return "has not run: the run has not started"
        if row.waits:
            return f"waits{self._for_its_turn(row)}"
        if row.spec.parent_stage_id:
            return f"runs when the stage comes to it that it belongs to: {self._named(self._parents(row))}"
        pending, count = self._pending(row)
        if row.fired or not count:
            return "is ready, and the run is paused: run.resume() goes on" if head.paused else "is about to start"
        return self._needs(row, pending, count)

    def _never(self, row: StageRow) -> str:
        broken = [each for each in self._sources(row) if each.status in _BROKEN or (each.sent and not each.fired)]
        if broken:
            return f"it comes after {self._named(broken)}"
        status = self.view.head.status
        return f"the run ended as {status.name}" if status.is_complete else "a branch before it was broken off"

    def _for_its_turn(self, row: StageRow) -> str:
        spec = row.spec
        if row.waits == MILESTONE:
            return f" until {spec.milestone_ref_id!r} is {spec.milestone_status or 'reached'}"
        if row.waits == ADDITIONS:
            return " for further instances, or for the end of adding them"
        claim: ClaimRow | None = self.view.get(ClaimKey(row.waits))
        holder = self._row(claim.holder) if claim is not None else None
        what = f"the lock {spec.mutex_key!r}" if row.waits.startswith("mutex:") else "its turn in the choice"
        return f" for {what}" + (f", which {holder.ref_id!r} has" if holder is not None else "")

    def _needs(self, row: StageRow, pending: Sequence[StageRow], count: int) -> str:
        """Say how many branches or instances have to end, and which have not."""
        named = self._named(pending)
        match row.spec.join_type:
            case _ if not pending:
                return "is about to be decided: everything before it has ended"
            case JoinType.N_OF_M:
                need = max(row.spec.join_threshold, 1)
                return f"waits for {max(need - self._led(row), 1)} more of the {need} branches that it needs: {named}"
            case JoinType.DISCRIMINATOR | JoinType.MULTI_MERGE:
                return f"waits for the first of: {named}" if len(pending) > 1 else f"waits for {named}"
            case _ if count == 1:
                return f"waits for {named}"
            case _:
                return f"waits for {len(pending)} of {count}: {named}"

    # -- rows -------------------------------------------------------------------------------------

    def _pending(self, row: StageRow) -> tuple[list[StageRow], int]:
        """Return what has not delivered its outcome to a stage yet, and how many there are in all."""
        if row.spec.mi_parent and not is_instance(row.context):
            parts = [each for each in self.state.rows if _is_instance_of(each, row.spec.mi_parent)]
            if parts:
                return [each for each in parts if not each.status.is_complete], len(parts)
        delivered = {arrival.via for arrival in self._arrivals(row)}
        sources = self._sources(row)
        return [each for each in sources if each.id not in delivered], len(sources)

    def _led(self, row: StageRow) -> int:
        return sum(arrival.token is Token.LIVE for arrival in self._arrivals(row))

    def _arrivals(self, row: StageRow) -> list[ArrivalRow]:
        base = self._row(row.base_id)
        only = None if base is None else only_arrival(base)
        return ([] if only is None else [only]) + [
            arrival
            for key, arrival in self.view.changed.items()
            if isinstance(key, ArrivalKey) and arrival is not None
            and (key.stage_id, key.generation) == (row.base_id, row.generation)
        ]  # fmt: skip

    def _sources(self, row: StageRow) -> list[StageRow]:
        return [found for source in row.spec.sources if (found := self._row(source)) is not None]

    def _parents(self, row: StageRow) -> list[StageRow]:
        parent = self._row(row.spec.parent_stage_id)
        return [] if parent is None else [parent]

    def _row(self, stage_id: str) -> StageRow | None:
        found: StageRow | None = self.view.get(StageKey(stage_id))
        return found

    def _tasks(self, row: StageRow) -> list[TaskRow]:
        tasks = (self.view.get(TaskKey(row.id, at)) for at in range(len(row.spec.tasks)))
        return [task for task in tasks if task is not None]

    def _named(self, rows: Sequence[StageRow]) -> str:
        words = [f"{row.ref_id!r} ({row.status.name.lower().replace('_', ' ')})" for row in rows[:NAMED]]
        return ", ".join([*words, *([f"{len(rows) - NAMED} more"] if len(rows) > NAMED else [])])


_BROKEN = frozenset({S.TERMINAL, S.CANCELED, S.STOPPED})


def _is_instance_of(row: StageRow, parent_id: str) -> bool:
    return row.spec.mi_parent == parent_id and is_instance(row.context)


def _error(row: StageRow) -> str:
    return f": {_last_line(row.error)}" if row.error else ""


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%H:%M:%S} UTC"


def to_settle(ref_id: str, doubt: str) -> str:
    """Say that a stage waits for somebody who says what became of its body."""
    return (
        f"waits for somebody to say what became of it: {doubt}; run.settle({ref_id!r}, 'retry'), "
        f"run.settle({ref_id!r}, outputs={{...}}) or run.settle({ref_id!r}, 'fail')"
    )


def why(reason: str) -> str:
    """Return the reason of a fact in words; one that is not known says itself."""
    kind, _, region = reason.partition(":")
    if kind == "region" and region:
        return f"the region {region} was withdrawn"
    return _WHY.get(reason, reason)
