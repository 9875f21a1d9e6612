"""What a plan contains, for the table of what was covered."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulate.plan import Flow, Plan, Stage

FAULTS = ("repeat", "lose", "crash", "abort", "delay")
#: Fields of a stage that are features by themselves.
NAMED = {
    "timeout": "timeout", "thread_split": "thread split", "thread_merge": "thread merge", "choice": "deferred choice",
    "mutex": "lock", "section": "critical section", "milestone": "milestone", "until": "milestone until",
    "region": "region", "cancels": "cancels stages", "cancels_regions": "cancels regions", "ends": "ends workflow",
    "jump_targets": "declared jumps",
}  # fmt: skip


def faults(plan: Plan) -> set[str]:
    """Return what may go wrong in a plan."""
    return {name for name in FAULTS if getattr(plan.chaos, name)}


def features(plan: Plan) -> set[str]:
    """Return what a plan contains, whatever goes wrong."""
    found = {f"order: {act.kind}" for act in plan.acts}
    if sum(not flow.child for flow in plan.flows) > 1:
        found.add("several workflows")
    for flow in plan.flows:
        if flow.max_jumps != Flow("", ()).max_jumps:
            found.add("jump: limit")
        for stage in flow.stages:
            found.update(_features(stage, {other.ref for other in flow.stages}))
    return found


def _features(stage: Stage, refs: set[str]) -> Iterator[str]:
    if len(stage.after) > 1:
        yield f"join: {'blocking ' * stage.blocking}{'cancelling ' * stage.cancel_rest}{stage.join}"
    if stage.split != "AND":
        yield f"split: {stage.split}"
    yield from (_answer(stage, text, refs) for text in stage.does)
    if stage.tasks != 1:
        yield f"tasks: {stage.tasks}"
    if not stage.enabled:
        yield "disabled"
    if stage.on_failure:
        yield f"failure: {stage.on_failure}"
    if stage.many is not None:
        yield f"instances: {'dynamic' if stage.many.dynamic else 'counted' if stage.many.later else 'fixed'}"
    if stage.owner:
        yield f"synthetic: {stage.owner}"
    usual = Stage("")
    yield from (name for field, name in NAMED.items() if getattr(stage, field) != getattr(usual, field))


def _answer(stage: Stage, text: str, refs: set[str]) -> str:
    kind, _, target = text.partition(":")
    if kind != "jump":
        return f"answer: {kind}"
    if target not in refs:
        return "jump: unknown"
    return "jump: self" if target == stage.ref else "jump: elsewhere"
