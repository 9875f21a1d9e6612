"""Smaller plans that still diverge: one thing after the other is taken away while the divergence stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from tests.simulate.plan import Chaos, Flow, Plan, Stage

ORDERS = 12  # seeds of the order that a smaller plan is given to diverge in


def shrink(plan: Plan, kind_of: Callable[[Plan], str], tries: int = 3_000) -> Plan:
    """Return the smallest plan found that diverges in the same way and from which nothing can be taken away."""
    best, kind = plan, kind_of(plan)
    going = True
    while going and tries > 0:
        going = False
        for smaller in _smaller(best):
            tries -= 1
            found = next((each for each in _orders(smaller) if kind_of(each) == kind), None)
            if found is not None:
                best, going = found, True
                break
    return best


def _orders(plan: Plan) -> Iterator[Plan]:
    yield plan
    for seed in range(ORDERS):
        yield replace(plan, chaos=replace(plan.chaos, seed=seed))


def _smaller(plan: Plan) -> Iterator[Plan]:
    for at in range(len(plan.flows)):
        if len(plan.flows) > 1:
            yield _without_flow(plan, plan.flows[at].name)
    for at in range(len(plan.acts)):
        yield replace(plan, acts=plan.acts[:at] + plan.acts[at + 1 :])
    for at, flow in enumerate(plan.flows):
        for changed in _smaller_flows(flow):
            flows = (*plan.flows[:at], changed, *plan.flows[at + 1 :])
            refs = {
                (each.name, ref) for each in flows for stage in each.stages for ref in (stage.ref, stage.region, "")
            }
            yield replace(plan, flows=flows, acts=tuple(act for act in plan.acts if (act.flow, act.ref) in refs))
    usual = Chaos(0)
    for field in fields(Chaos):
        if field.name != "seed" and getattr(plan.chaos, field.name) != getattr(usual, field.name):
            yield replace(plan, chaos=replace(plan.chaos, **{field.name: getattr(usual, field.name)}))


def _without_flow(plan: Plan, name: str) -> Plan:
    flows = tuple(
        replace(flow, stages=tuple(_forget(stage, lambda answer: answer != f"call:{name}") for stage in flow.stages))
        for flow in plan.flows
        if flow.name != name
    )
    return replace(plan, flows=flows, acts=tuple(act for act in plan.acts if act.flow != name))


def _forget(stage: Stage, stays: Callable[[str], bool]) -> Stage:
    return replace(stage, does=tuple(answer for answer in stage.does if stays(answer)) or ("ok",))


def _smaller_flows(flow: Flow) -> Iterator[Flow]:
    if len(flow.stages) > 1:
        for stage in reversed(flow.stages):
            gone = {other.ref for other in flow.stages if other.ref == stage.ref or _is_part(other, stage)}
            left = [other for other in flow.stages if other.ref not in gone]
            for ref in gone:
                left = [_without(other, ref) for other in left]
            if left:
                yield replace(flow, stages=tuple(left))
    for at, stage in enumerate(flow.stages):
        for changed in _smaller_stages(stage):
            yield replace(flow, stages=(*flow.stages[:at], changed, *flow.stages[at + 1 :]))
    if flow.max_jumps != Flow("", ()).max_jumps:
        yield replace(flow, max_jumps=Flow("", ()).max_jumps)


def _is_part(stage: Stage, parent: Stage) -> bool:
    """Whether a stage is an instance, the join or a synthetic stage of another one."""
    return stage.parent == parent.ref or stage.ref.startswith((f"{parent.ref}_instance_", f"{parent.ref}_mi_join"))


def _without(stage: Stage, ref: str) -> Stage:
    """Return a stage that knows nothing of another one any more."""
    after = tuple(other for other in stage.after if other != ref)
    none = Stage("")
    return replace(
        _forget(stage, lambda answer: answer != f"jump:{ref}"), after=after, threshold=min(stage.threshold, len(after)),
        when=tuple(each for each in stage.when if each[0] != ref),
        default="" if stage.default == ref else stage.default,
        milestone=none.milestone if stage.milestone[0] == ref else stage.milestone,
        until="" if stage.until == ref else stage.until, cancels=tuple(each for each in stage.cancels if each != ref),
        jump_targets=tuple(each for each in stage.jump_targets if each != ref),
    )  # fmt: skip


def _smaller_stages(stage: Stage) -> Iterator[Stage]:
    for ref in stage.after if "_" not in stage.ref else ():
        yield replace(stage, after=tuple(other for other in stage.after if other != ref), threshold=0)
    for at in range(len(stage.does) - 1):
        yield replace(stage, does=stage.does[:at] + stage.does[at + 1 :])
    if stage.does != ("ok",):
        yield replace(stage, does=("ok",))
    usual = Stage(stage.ref)
    for field in fields(Stage):
        if field.name not in ("ref", "after", "does", "many", "parent", "owner") and getattr(
            stage, field.name
        ) != getattr(usual, field.name):
            yield replace(stage, **{field.name: getattr(usual, field.name)})
