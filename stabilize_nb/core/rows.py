"""The rows of one workflow, as decisions see them. All are immutable; only `evolve` makes new ones.

Named tuples and not dataclasses: they are what a database row is, and `_replace` runs in C on the hot path.
Times are ms since the epoch (UTC).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.models.stage import JoinType, SplitType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import EMPTY
from stabilize_nb.queue.messages import Token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stabilize_nb.models.stage import StageExecution

Json = Any


class Head(NamedTuple):
    """The workflow itself. Its row carries the lock under which all decisions of the workflow are made."""

    id: str
    application: str
    name: str
    status: WorkflowStatus
    paused: bool  # no task is begun
    ending: WorkflowStatus | None  # TERMINAL or CANCELED: no stage becomes enabled any more
    cancels: bool  # a CancelStage took effect (rule 5 of patterns.md 2.8)
    late_failure: bool  # a STOPPED stage asked to fail the workflow at its end
    active: int  # stage rows that hold the workflow open
    sequence: int  # number of the last fact
    jumps: int  # jumps carried out
    error: str | None
    context: Mapping[str, Json]
    created_at: int
    started_at: int | None
    ended_at: int | None


class Edge(NamedTuple):
    """An outgoing edge."""

    stage_id: str
    ref_id: str


class StageSpec(NamedTuple):
    """What the author of a stage wrote, and the edges that follow from it; it never changes."""

    ref_id: str
    name: str
    type: str
    requisites: tuple[str, ...]
    join_type: JoinType
    join_threshold: int
    split_type: SplitType
    split_conditions: Mapping[str, str]
    split_default: str | None
    output_reducers: Mapping[str, str]
    tasks: tuple[tuple[str, str], ...]  # (name, implementing class)
    edges: tuple[Edge, ...] = ()  # to the stages that require this one, by their ordinal

    @property
    def fan_in(self) -> int:
        """Number of incoming edges."""
        return len(self.requisites)


class StageRow(NamedTuple):
    """One run of a stage. The first run of a stage is its base row, which also counts for all of them."""

    id: str
    base_id: str  # the stage's first row; its own id for that one
    ref_id: str
    ordinal: int  # position in the workflow as written
    spec: StageSpec
    status: WorkflowStatus
    generation: int  # raised by every reset; fences what was begun before
    activation: int  # 1 for the base row, 2 for `ref#2`, ...
    fired: int  # base row: activations made in this generation
    sent: int  # base row: outcomes given on each outgoing edge in this generation
    depth: int  # longest way from a start, for merging nearer over farther
    softly_failed: bool  # a task ended FAILED_CONTINUE
    triggers: tuple[str, ...]  # ids of the rows whose threads led here
    inherited: Mapping[str, Json]  # key -> [[depth, ref_id, stage id], ...], producers of visible outputs
    context: Mapping[str, Json]
    outputs: Mapping[str, Json]
    error: str | None
    started_at: int | None
    ended_at: int | None


class TaskRow(NamedTuple):
    """One task of one stage row."""

    id: str
    stage_id: str
    position: int
    name: str
    implementing_class: str
    status: WorkflowStatus
    attempt: int  # bodies begun in this generation; fences a lost lease
    retries: int  # transient failures
    polls: int  # times the body asked to be called again; a poll is a logical call of its own
    due: int | None  # when its body is called again, after a poll, a retry or a signal; None while one runs
    signal: Mapping[str, Json] | None  # delivered to the coming attempt: {"name", "data"}
    error: str | None
    first_started_at: int | None
    started_at: int | None
    ended_at: int | None

    @property
    def is_polling(self) -> bool:
        """Whether the body asked to be called again and has not been yet."""
        return self.due is not None and self.signal is None and self.error is None


class RoundRow(NamedTuple):
    """The k-th outcome of every incoming edge of a stage, counted (patterns.md 2.2).

    A stage with one edge has rounds only for what is not an ordinary start: each live outcome fires it.
    """

    stage_id: str
    generation: int
    number: int
    live: int
    dead: int
    halt: int
    settled: bool  # fired, pruned, blocked or absorbed


class ArrivalRow(NamedTuple):
    """One outcome of one edge."""

    stage_id: str
    generation: int
    number: int
    via: str  # first row of the upstream stage
    token: Token
    source: str  # the row whose end gave the outcome
    held: bool  # came while the workflow was ending: kept for a restart, counted in no round


class SignalRow(NamedTuple):
    """A persistent signal that waits for its stage to suspend."""

    id: str
    position: int  # number of the fact that buffered it: oldest first
    stage_id: str
    name: str
    data: Mapping[str, Json]


def spec_to_data(stage: StageExecution) -> dict[str, Json]:
    """Return the definition of a stage as JSON data; defaults are left out."""
    data: dict[str, Json] = {"ref_id": stage.ref_id}
    if stage.name:
        data["name"] = stage.name
    if stage.type:
        data["type"] = stage.type
    if stage.requisite_stage_ref_ids:
        data["requisites"] = sorted(stage.requisite_stage_ref_ids)
    if stage.join_type is not JoinType.AND:
        data["join_type"] = stage.join_type.value
    if stage.join_threshold:
        data["join_threshold"] = stage.join_threshold
    if stage.split_type is not SplitType.AND:
        data["split_type"] = stage.split_type.value
    if stage.split_conditions:
        data["split_conditions"] = dict(stage.split_conditions)
    if stage.split_default:
        data["split_default"] = stage.split_default
    if stage.output_reducers:
        data["output_reducers"] = dict(stage.output_reducers)
    data["tasks"] = [[task.name, task.implementing_class] for task in stage.tasks]
    return data


def spec_from_data(data: Mapping[str, Json]) -> StageSpec:
    """Return the definition that `spec_to_data` wrote."""
    return StageSpec(
        ref_id=data["ref_id"],
        name=data.get("name", ""),
        type=data.get("type", ""),
        requisites=tuple(data.get("requisites", ())),
        join_type=JoinType(data.get("join_type", "AND")),
        join_threshold=data.get("join_threshold", 0),
        split_type=SplitType(data.get("split_type", "AND")),
        split_conditions=data.get("split_conditions", EMPTY),
        split_default=data.get("split_default"),
        output_reducers=data.get("output_reducers", EMPTY),
        tasks=tuple((name, implementing) for name, implementing in data["tasks"]),
        edges=tuple(Edge(stage_id, ref_id) for stage_id, ref_id in data.get("edges", ())),
    )
