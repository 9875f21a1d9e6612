"""Which rows of a workflow share a box in its picture, and which boxes follow each other.

All runs of a stage (`ref`, `ref#2`, ...) are one box. So are all instances of a multi-instance activity; one whose
instances are not made yet has a box all the same. Synthetic stages stand inside the box of their parent. Nothing is
taken for granted here: what was never checked is drawn as far as it makes sense.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stabilize_nb.models.multi_instance import PARENT_REF_ID, MultiInstanceConfig, instance_ref, is_instance, join_ref
from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.topology import ACTIVATION_SUFFIX
from stabilize_nb.notebook.signs import loop_of

#: Stages by ref_id, each with all its runs.
Runs = Mapping[str, Sequence[StageExecution]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The rows of one box, without those of the synthetic stages inside it, which are `parts`, by ref_id.

    `activity` is set when the rows are instances: the parent of them. There may be none of them yet.
    """

    ref: str
    runs: list[StageExecution] = field(default_factory=list)
    parts: dict[str, list[StageExecution]] = field(default_factory=dict)
    activity: StageExecution | None = None

    @property
    def config(self) -> MultiInstanceConfig | None:
        """The settings of the activity, when the rows are instances."""
        return None if self.activity is None else self.activity.mi_config


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """All boxes by ref, in the order in which their stages were defined, and the box of each stage."""

    stages: Runs
    groups: Mapping[str, Group]
    box: Mapping[str, str]

    def stage(self, ref: str) -> StageExecution:
        """Return the definition of a stage; instances that are to come have none yet."""
        return self.stages[ref][0] if ref in self.stages else StageExecution(ref_id=ref)

    def edges(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Return each pair of boxes that follow each other, with the stages that it is drawn for."""
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for tail, head in [*self._written(), *self._around_instances()]:
            pair = self.box[tail], self.box[head]
            if pair[0] != pair[1]:
                found.setdefault(pair, (tail, head))
        return found

    def _written(self) -> Iterator[tuple[str, str]]:
        for head in self.stages:
            stage = self.stage(head)
            is_part = head in self.groups[self.box[head]].parts
            for tail in () if is_part else sorted(requisites(stage) & self.stages.keys()):
                if not (self.is_join_of(tail, head) or self._is_plumbing(tail, stage)):
                    yield tail, head

    def _around_instances(self) -> Iterator[tuple[str, str]]:
        for ref, group in self.groups.items():
            if group.activity is not None:
                yield base(group.activity.ref_id), ref
                if join_ref_of(group.activity) in self.stages:
                    yield ref, join_ref_of(group.activity)

    def is_join_of(self, parent: str, ref: str) -> bool:
        """Whether a stage is the join of the activity whose parent is `parent`."""
        stage = self.stage(parent)
        return stage.mi_config is not None and ref == join_ref_of(stage)

    @staticmethod
    def _is_plumbing(tail: str, stage: StageExecution) -> bool:
        """Whether an edge only tells the exit of a loop about its entry: the body is always passed."""
        loop = loop_of(stage)
        return loop is not None and bool(loop.get("until")) and loop.get("entry") == tail


def base(ref: str) -> str:
    """Return the ref_id of a stage, whichever of its runs is named."""
    return ACTIVATION_SUFFIX.sub("", ref)


def requisites(stage: StageExecution) -> set[str]:
    """Return the ref_ids of the stages that a stage follows."""
    return {base(ref) for ref in stage.requisite_stage_ref_ids}


def join_ref_of(parent: StageExecution) -> str:
    """Return the ref_id of the join of an activity."""
    return join_ref(base(parent.ref_id))


def group(stages: Sequence[StageExecution]) -> Grouping:
    """Say which rows share a box."""
    runs: dict[str, list[StageExecution]] = {}
    for stage in stages:
        runs.setdefault(base(stage.ref_id), []).append(stage)
    for rows in runs.values():
        rows.sort(key=lambda row: row.activation)
    box: dict[str, str] = {}
    groups: dict[str, Group] = {}
    first: dict[str, str] = {}
    for ref, top in _tops(runs):
        activity = _activity(runs[top][0], runs)
        box[ref] = top if activity is None else first.setdefault(base(activity.ref_id), top)
        here = groups.setdefault(box[ref], Group(ref=box[ref], activity=activity))
        if ref == top:
            here.runs.extend(runs[ref])
        else:
            here.parts[ref] = runs[ref]
    for name, parent in _to_come(runs, first):
        groups[name] = Group(ref=name, activity=parent)
        box[name] = name
    return Grouping(stages=runs, groups=groups, box=box)


def _tops(runs: Runs) -> Iterator[tuple[str, str]]:
    """Yield each stage with the stage that it is inside of; parents may be missing, or go round in a circle."""
    refs = {row.id: ref for ref, rows in runs.items() for row in rows}
    for ref in runs:
        way = [ref]
        while (above := refs.get(runs[way[-1]][0].parent_stage_id or "")) is not None and above not in way:
            way.append(above)
        yield ref, ref if above is not None else way[-1]


def _activity(stage: StageExecution, runs: Runs) -> StageExecution | None:
    """Return the parent of the activity that a stage is an instance of."""
    ref = stage.context.get(PARENT_REF_ID)
    if not isinstance(ref, str) or not is_instance(stage.context) or ref not in runs:
        return None
    parent = runs[ref][0]
    return parent if parent is not stage and parent.mi_config is not None else None


def _to_come(runs: Runs, made: Mapping[str, str]) -> Iterator[tuple[str, StageExecution]]:
    """Yield a name and the parent for each activity that has no instances (yet)."""
    for ref, rows in runs.items():
        name = instance_ref(ref, 0)
        if rows[0].mi_config is not None and ref not in made and name not in runs:
            yield name, rows[0]
