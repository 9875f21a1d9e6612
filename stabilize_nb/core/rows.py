"""The rows of one workflow, as decisions see them. All are immutable; only `evolve` makes new ones.

Named tuples and not dataclasses: they are what a database row is, and copying one runs in C on the hot path.
Times are ms since the epoch (UTC).
"""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.models.ids import derived_id
from stabilize_nb.models.multi_instance import MultiInstanceConfig
from stabilize_nb.models.record import row_record
from stabilize_nb.models.settling import RETRY
from stabilize_nb.models.stage import JoinType, SplitType, SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.models.values import EMPTY
from stabilize_nb.queue.messages import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stabilize_nb.models.stage import StageExecution

Json = Any
#: What a run may wait for beside claims. It holds the workflow open for additions, not for a milestone.
MILESTONE = "milestone"
ADDITIONS = "additions"


@row_record
class Head(NamedTuple):
    """The workflow itself. Its row carries the lock under which all decisions of the workflow are made."""

    id: str
    application: str
    name: str
    status: WorkflowStatus
    paused: bool  # no task is begun
    ending: WorkflowStatus | None  # TERMINAL or CANCELED: no stage becomes enabled any more
    cancels: bool  # a CancelStage took effect (rule 5 of patterns.md 2.8)
    late_failures: int  # STOPPED stages that asked to fail the workflow at its end
    active: int  # stage rows that hold the workflow open
    sequence: int  # number of the last fact
    jumps: int  # jumps carried out
    error: str | None
    context: Mapping[str, Json]
    created_at: int
    started_at: int | None
    ended_at: int | None
    lane: str = ""  # of the slots that the workflow needs one of
    limit: int = 0  # how many workflows of the lane may run at once; 0: any number
    keeps_waiting: bool = True  # False: an older one that still waits gives way
    slot: bool = False  # whether it holds a slot

    def with_next_fact(self) -> Head:
        """Return it with one fact more in the log."""
        values: list[Any] = list(self)
        values[_SEQUENCE] += 1
        return tuple.__new__(Head, values)


_SEQUENCE = Head._fields.index("sequence")


class Edge(NamedTuple):
    """An outgoing edge."""

    stage_id: str
    ref_id: str


class Child(NamedTuple):
    """A synthetic stage, seen from its parent."""

    stage_id: str
    owner: str  # name of a SyntheticStageOwner


@row_record
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
    join_blocking: bool = False
    join_cancel_remaining: bool = False
    thread_split: int = 1
    thread_merge: int = 1
    mi_config: Mapping[str, Json] = EMPTY
    deferred_choice_group: str = ""
    milestone_ref_id: str = ""
    milestone_status: str = ""
    milestone_until_ref_id: str = ""
    mutex_key: str = ""
    critical_section: str = ""
    cancel_region: str = ""
    cancels_stages: tuple[str, ...] = ()
    cancels_regions: tuple[str, ...] = ()
    ends_workflow: str = ""
    jump_targets: tuple[str, ...] = ()
    on_crash: str = RETRY  # what happens when the process of a body dies
    parent_stage_id: str = ""  # of a synthetic stage
    synthetic_stage_owner: str = ""
    # What follows from the whole graph:
    edges: tuple[Edge, ...] = ()  # to the stages that require this one, by their ordinal
    sources: tuple[str, ...] = ()  # first rows of the requisites
    children: tuple[Child, ...] = ()  # synthetic stages, by ordinal
    watchers: tuple[str, ...] = ()  # stages whose milestone looks at this one
    mi_join: str = ""  # parent of a multi-instance activity: its join
    mi_parent: str = ""  # instance or join of a multi-instance activity: its parent
    serving: tuple[str, ...] = ()  # of a cancelling join: first rows of the stages from which every way leads to it
    consequences: bool = False  # whether anything but its edges follows from how a run of it goes

    @property
    def fan_in(self) -> int:
        """Number of incoming edges."""
        return len(self.requisites)


@row_record
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
    waits: str = ""  # what a run that is ready waits for: a claim, MILESTONE or ADDITIONS
    phase: str = ""  # which synthetic stages run now: name of a SyntheticStageOwner
    added: int = 0  # multi-instance parent: instances made while the workflow runs
    closed: bool = False  # multi-instance parent: accepts no further instances
    via: str = ""  # base row: whose outcome let it begin, over its only edge; `only_arrival` says it as a row


@row_record
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

    @property
    def is_in_doubt(self) -> bool:
        """Whether a person is to say what became of its body: one that waits has an error only then, which says why."""
        return self.status is WorkflowStatus.SUSPENDED and self.error is not None


@row_record
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
    position: int = 0  # number of the fact that says so: in which order they came


def only_arrival(base: StageRow) -> ArrivalRow | None:
    """Return the outcome that let a stage begin over its only edge: there is no row of it but the stage's own."""
    if not base.via:
        return None
    return ArrivalRow(base.id, base.generation, 1, base.via, Token.LIVE, base.triggers[0], held=False)


@row_record
class ClaimRow(NamedTuple):
    """Who holds what only so many may hold: a mutex of the store, a choice of a workflow, slots of a configuration."""

    name: str
    workflow_id: str
    holder: str  # stage row, or section of a workflow; "" when nobody holds it
    settled: bool  # a choice: made for good
    taken: int  # slots: how many are held
    tickets: int  # given to those who wait


class WaiterRow(NamedTuple):
    """A run that waits for a claim; the lowest ticket is next."""

    claim: str
    stage_id: str  # "" where the workflow itself waits
    workflow_id: str
    generation: int
    ticket: int
    holder: str  # what will hold the claim


class SignalRow(NamedTuple):
    """A persistent signal that waits for its stage to suspend."""

    id: str
    position: int  # number of the fact that buffered it: oldest first
    stage_id: str
    name: str
    data: Mapping[str, Json]


class PermitRow(NamedTuple):
    """Permission for one body under a limit, which counts from `at` on; all workflows of a store share limits."""

    name: str
    number: int
    at: int


class AttributeRow(NamedTuple):
    """By what a workflow is found: an attribute with its value."""

    name: str
    value: str


_BLANK = StageSpec("", "", "", (), JoinType.AND, 0, SplitType.AND, EMPTY, None, EMPTY, ())


def spec_to_data(stage: StageExecution) -> dict[str, Json]:
    """Return the definition of a stage as JSON data; what is empty is left out."""
    spec = StageSpec(
        ref_id=stage.ref_id, name=stage.name, type=stage.type,
        requisites=tuple(sorted(stage.requisite_stage_ref_ids)), join_type=stage.join_type,
        join_threshold=stage.join_threshold, split_type=stage.split_type, split_conditions=stage.split_conditions,
        split_default=stage.split_default or None, output_reducers=stage.output_reducers,
        tasks=tuple((task.name, task.implementing_class) for task in stage.tasks), join_blocking=stage.join_blocking,
        join_cancel_remaining=stage.join_cancel_remaining, thread_split=stage.thread_split,
        thread_merge=stage.thread_merge,
        mi_config=EMPTY if stage.mi_config is None else dataclasses.asdict(stage.mi_config),
        deferred_choice_group=stage.deferred_choice_group or "", milestone_ref_id=stage.milestone_ref_id or "",
        milestone_status=stage.milestone_status or "", milestone_until_ref_id=stage.milestone_until_ref_id or "",
        mutex_key=stage.mutex_key or "", critical_section=stage.critical_section or "",
        cancel_region=stage.cancel_region or "", cancels_stages=tuple(sorted(stage.cancels_stages)),
        cancels_regions=tuple(sorted(stage.cancels_regions)), ends_workflow=stage.ends_workflow or "",
        jump_targets=tuple(sorted(stage.jump_targets)), on_crash=stage.on_crash,
        parent_stage_id=stage.parent_stage_id or "",
        synthetic_stage_owner=stage.synthetic_stage_owner.value if stage.synthetic_stage_owner else "",
    )  # fmt: skip
    return spec_data(spec)


def spec_data(spec: StageSpec) -> dict[str, Json]:
    """
    Return a definition as the JSON data from which `spec_from_data` makes it; what is empty is left out.

    Requisites come first: so the text of a definition says in its first characters whether it has any.
    """
    first: dict[str, Json] = {"requisites": spec.requisites} if spec.requisites else {}
    data: dict[str, Json] = {**first, "ref_id": spec.ref_id, "tasks": spec.tasks}
    for field, value, blank in zip(StageSpec._fields, spec, _BLANK, strict=True):
        if value is not blank and value != blank:
            data[field] = value.value if isinstance(value, Enum) else value
    return data


def spec_from_data(data: Mapping[str, Json]) -> StageSpec:
    """Return the definition that `spec_data` wrote."""
    fields = dict(data)
    for name, kind in _KINDS.items():
        if name in fields:
            fields[name] = kind(fields[name])
    return _BLANK._replace(**fields)


def written(spec: StageSpec) -> dict[str, Any]:
    """Return what the author of a stage wrote, by the names of StageExecution's fields; but for ref_id and tasks."""
    config = dict(spec.mi_config)
    owner = spec.synthetic_stage_owner
    return {
        "type": spec.type, "name": spec.name, "requisite_stage_ref_ids": set(spec.requisites),
        "join_type": spec.join_type, "join_threshold": spec.join_threshold, "split_type": spec.split_type,
        "split_conditions": dict(spec.split_conditions), "split_default": spec.split_default,
        "join_blocking": spec.join_blocking, "join_cancel_remaining": spec.join_cancel_remaining,
        "thread_split": spec.thread_split, "thread_merge": spec.thread_merge,
        "mi_config": MultiInstanceConfig(**config) if config else None,
        "deferred_choice_group": spec.deferred_choice_group or None, "milestone_ref_id": spec.milestone_ref_id or None,
        "milestone_status": spec.milestone_status or None,
        "milestone_until_ref_id": spec.milestone_until_ref_id or None, "mutex_key": spec.mutex_key or None,
        "critical_section": spec.critical_section or None, "cancel_region": spec.cancel_region or None,
        "cancels_stages": set(spec.cancels_stages), "cancels_regions": set(spec.cancels_regions),
        "ends_workflow": spec.ends_workflow or None, "jump_targets": set(spec.jump_targets),
        "output_reducers": dict(spec.output_reducers), "on_crash": spec.on_crash,
        "parent_stage_id": spec.parent_stage_id or None,
        "synthetic_stage_owner": SyntheticStageOwner(owner) if owner else None,
    }  # fmt: skip


def tasks_of(spec: StageSpec) -> tuple[tuple[str, str], ...]:
    """Return name and code of the tasks of a definition, and of those of instances it is the parent of."""
    instance = spec.mi_config.get("instance") if spec.mi_config else None
    return (*spec.tasks, *map(tuple, (instance or {}).get("tasks", ())))


def with_codes(spec: StageSpec, codes: Mapping[str, str]) -> StageSpec:
    """Return a definition whose tasks, and those of instances it is the parent of, run other code."""
    tasks = tuple((name, codes.get(code, code)) for name, code in spec.tasks)
    instance = spec.mi_config.get("instance") if spec.mi_config else None
    if not instance or "tasks" not in instance:
        return spec._replace(tasks=tasks)
    inside = [[name, codes.get(code, code)] for name, code in instance["tasks"]]
    return spec._replace(tasks=tasks, mi_config={**spec.mi_config, "instance": {**instance, "tasks": inside}})


#: How a field is made of its JSON data, where the data is not the value.
_KINDS: dict[str, Callable[[Any], Any]] = {
    "requisites": tuple,
    "join_type": JoinType,
    "split_type": SplitType,
    "tasks": lambda tasks: tuple((name, implementing) for name, implementing in tasks),
    "cancels_stages": tuple,
    "cancels_regions": tuple,
    "jump_targets": tuple,
    "edges": lambda edges: tuple(Edge(*edge) for edge in edges),
    "sources": tuple,
    "children": lambda children: tuple(Child(*child) for child in children),
    "watchers": tuple,
    "serving": tuple,
}


def activation_id(base: StageRow, activation: int) -> str:
    """Return the id of the row of a stage's `activation`-th run in its present generation."""
    if activation == 1:
        return base.id
    return derived_id(base.id, f"activation:{base.generation}", activation)


def is_over(row: StageRow) -> bool:
    """
    Whether a row will not run any more: complete, or blocked by a branch that was broken off.

    A stage that was blocked in one round and fired in a later one is ready, and not over.
    """
    blocked = row.status is WorkflowStatus.NOT_STARTED and row.sent > 0 and not row.fired
    return blocked or row.status.is_complete


def is_pruned(row: StageRow) -> bool:
    """Whether a row was skipped because no thread could reach it; one that was passed by has a depth."""
    return row.status is WorkflowStatus.SKIPPED and bool(row.spec.requisites) and not row.depth
