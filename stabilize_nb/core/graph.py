"""What follows for each stage from the graph as a whole; computed once, when a workflow is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.core.rows import Child, Edge, StageSpec, spec_from_data
from stabilize_nb.models.multi_instance import PARENT_REF_ID, instance_ref, join_ref, parent_of_join
from stabilize_nb.models.settling import RETRY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Fields that make something follow from a run beside its outcomes.
_CONSEQUENCES = (
    "mutex_key",
    "deferred_choice_group",
    "watchers",
    "children",
    "parent_stage_id",
    "mi_config",
    "cancels_stages",
    "cancels_regions",
    "ends_workflow",
    "jump_targets",
)


def connected(stages: Sequence[Mapping[str, Any]]) -> list[StageSpec]:
    """Return the specs of stages, given as {"id", "spec", "context"}, with what the others mean for each."""
    specs = [spec_from_data(stage["spec"]) for stage in stages]
    ids = {spec.ref_id: stage["id"] for stage, spec in zip(stages, specs, strict=True)}
    edges: dict[str, list[Edge]] = {}
    children: dict[str, list[Child]] = {}
    watchers: dict[str, list[str]] = {}
    for stage, spec in zip(stages, specs, strict=True):
        for ref_id in spec.requisites:
            edges.setdefault(ref_id, []).append(Edge(stage["id"], spec.ref_id))
        for ref_id in {spec.milestone_ref_id, spec.milestone_until_ref_id} - {""}:
            watchers.setdefault(ref_id, []).append(stage["id"])
        if spec.parent_stage_id:
            children.setdefault(spec.parent_stage_id, []).append(Child(stage["id"], spec.synthetic_stage_owner))
    activities = {spec.ref_id for spec in specs if spec.mi_config}
    sources = {stage["id"]: [ids[ref] for ref in spec.requisites] for stage, spec in zip(stages, specs, strict=True)}
    fan_out = {ids[ref_id]: len(each) for ref_id, each in edges.items()}
    return [
        _with_consequences(
            spec._replace(
                edges=tuple(edges.get(spec.ref_id, ())),
                sources=tuple(sources[stage["id"]]),
                serving=serving(stage["id"], sources, fan_out) if spec.join_cancel_remaining else (),
                children=tuple(children.get(stage["id"], ())),
                watchers=tuple(watchers.get(spec.ref_id, ())),
                mi_join=ids.get(join_ref(spec.ref_id), "") if spec.mi_config else "",
                mi_parent=_activity(stage, spec, activities, ids),
            )
        )
        for stage, spec in zip(stages, specs, strict=True)
    ]


def serving(join: str, sources: Mapping[str, Sequence[str]], fan_out: Mapping[str, int]) -> tuple[str, ...]:
    """Return the stages from which every way leads to a join, nearest first: none but the join needs them (WCP-29)."""
    astray: dict[str, int] = {}  # edges of a stage that are not known to lead to the join
    found = [join]
    for below in found:
        for stage in sources[below]:
            astray[stage] = astray.get(stage, fan_out[stage]) - 1
            if not astray[stage]:
                found.append(stage)
    return tuple(found[1:])


def _with_consequences(spec: StageSpec) -> StageSpec:
    return spec._replace(consequences=any(getattr(spec, field) for field in _CONSEQUENCES))


def _activity(stage: Mapping[str, Any], spec: StageSpec, activities: set[str], ids: Mapping[str, str]) -> str:
    """Return the id of the parent of the multi-instance activity that a stage is an instance or the join of."""
    parent = stage.get("context", {}).get(PARENT_REF_ID)
    if parent in activities:
        return ids[parent]
    parent = parent_of_join(spec.ref_id)
    return ids[parent] if parent in activities else ""


def instance_spec(parent: StageSpec, parent_id: str, join: Edge | None, index: int) -> StageSpec:
    """Return the spec of an instance that is made while the workflow runs (WCP-14, WCP-15)."""
    template = parent.mi_config["instance"]
    prefix = template.get("name") or parent.name or parent.ref_id
    return spec_from_data(
        {
            "ref_id": instance_ref(parent.ref_id, index),
            "name": f"{prefix} {index}",
            "type": template.get("type", ""),
            "requisites": [parent.ref_id],
            "tasks": template.get("tasks", []),
            "mutex_key": template.get("mutex_key", ""),
            "critical_section": template.get("critical_section", ""),
            "cancel_region": template.get("cancel_region", ""),
            "on_crash": template.get("on_crash", RETRY),
        }
    )._replace(
        edges=() if join is None else (join,),
        sources=(parent_id,),
        mi_parent=parent_id,
        consequences=bool(template.get("mutex_key")),
    )
