"""A flow with one stage more, or another one in its place: always a new flow, the given one stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stabilize_nb.flow import Flow

if TYPE_CHECKING:
    from stabilize_nb.flow_parts import FlowLoop, FlowStage


def copied(flow: Flow) -> Flow:
    """Return a flow whose stages and loops can be changed without changing those of the given one."""
    new = Flow(flow.name, description=flow.description)
    new.version, new.engine = flow.version, flow.engine
    new.stages = {name: _copied(stage) for name, stage in flow.stages.items()}
    for name, loop in flow.loops.items():
        new.loops[name] = loop.copied(new)
    return new


def _copied(stage: FlowStage) -> FlowStage:
    made = copy.copy(stage)
    made.settings = dict(stage.settings)
    return made


def with_stage(flow: Flow, stage: FlowStage, before: Iterable[str] = ()) -> Flow:
    """
    Return a flow with a stage, in the place of the one of its name when there is one.

    Stages and loops `before` which it stands follow it, and no longer directly what it follows itself.
    """
    new, behind = copied(flow), [*before]
    new.check_name(stage)
    if stage.name not in new.stages:
        place = min((at for at, name in enumerate(new.stages) if name in behind), default=len(new.stages))
        items = [*new.stages.items()]
        new.stages = dict([*items[:place], (stage.name, stage), *items[place:]])
    new.stages[stage.name] = stage
    for name in behind:
        node = new.nodes[name]
        kept = [each for each in node.after if each not in stage.after]
        node.after = tuple(dict.fromkeys([*kept, stage.name]))
    return new


def added_edges(before: Flow, after: Flow) -> dict[str, tuple[str, ...]]:
    """Return what stages and loops that are in both follow by `after` now, where that is not what they followed."""
    nodes: dict[str, FlowStage | FlowLoop] = after.nodes
    return {
        name: node.after
        for name, node in nodes.items()
        if name in before.nodes and set(node.after) != set(before.nodes[name].after)
    }
