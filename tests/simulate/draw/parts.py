"""Instances, synthetic stages and child workflows: stages that belong to another one."""

from __future__ import annotations

from dataclasses import replace

from tests.simulate.draw.basics import fail
from tests.simulate.draw.sketch import Sketch
from tests.simulate.plan import Many, Stage

INSTANCES = (("ok",), ("ok",), ("wait", "ok"), ("wait", "ok"), ("soft",), ("stop",), ("poll", "ok"))
PARTS = (*[("ok",)] * 4, ("soft",), ("skip",), ("stop",), ("fail",), ("wait", "ok"), ("poll", "ok"))
PHASES = ("STAGE_BEFORE", "STAGE_AFTER", "STAGE_FAILURE")


def instances(sketch: Sketch) -> None:
    """Make a stage the parent of a multi-instance activity; what followed it follows the join now, or not."""
    random = sketch.random
    parent = sketch.pick(lambda each: each.tasks and "_" not in each.ref and not each.many and each.split == "AND")
    if parent is None:
        return
    kind = random.choice(("fixed", "later", "dynamic", "dynamic"))
    count = {"fixed": random.randint(1, 4), "later": 0, "dynamic": random.choice((0, 1, 2, 3))}[kind]
    many = _many(sketch, kind, count)
    is_synced = kind == "later" or sketch.chance(0.85)
    if not is_synced:
        many = replace(many, threshold=0, condition="")
    _write(sketch, replace(parent, many=many), count, is_synced=is_synced)
    for _ in range(random.choice((0, 1, 2, 3)) if kind == "dynamic" else 0):
        sketch.act("add", parent.ref)
    for order, likely in (("close", 0.2), ("complete", 0.2), ("cancel", 0.1)):
        if sketch.chance(likely):
            sketch.act(order, parent.ref)


def _many(sketch: Sketch, kind: str, count: int) -> Many:
    random = sketch.random
    later = tuple(random.choice((0, 1, 2, 3)) for _ in range(random.choice((1, 2)))) if kind == "later" else ()
    threshold = random.choice((0, 0, random.randint(0, max(later, default=count + (kind == "dynamic")))))
    condition = random.choice(("", "completed>=2", "half")) if kind == "dynamic" and not threshold else ""
    return Many(later, kind == "dynamic", threshold, condition, random.choice(INSTANCES))


def _write(sketch: Sketch, parent: Stage, count: int, *, is_synced: bool) -> None:
    many = parent.many or Many()
    made = [Stage(f"{parent.ref}_instance_{index}", (parent.ref,), many.does) for index in range(count)]
    join = f"{parent.ref}_mi_join"
    if is_synced:
        made.append(_join(sketch, join, many, tuple(stage.ref for stage in made) or (parent.ref,)))
    stages: dict[str, Stage] = {}
    for stage in sketch.stages.values():
        stages[stage.ref] = parent if stage.ref == parent.ref else stage
        if stage.ref == parent.ref:
            stages |= {each.ref: each for each in made}
        elif is_synced and parent.ref in stage.after and sketch.chance(0.8):
            stages[stage.ref] = replace(stage, after=tuple(join if ref == parent.ref else ref for ref in stage.after))
    sketch.stages = stages


def _join(sketch: Sketch, ref: str, many: Many, after: tuple[str, ...]) -> Stage:
    cancels = bool(many.threshold or many.condition) and sketch.chance(0.4)
    kind = "N_OF_M" if many.threshold or cancels else "AND"
    tasks = sketch.random.choice((0, 1))
    return Stage(ref, after, tasks=tasks, join=kind, threshold=many.threshold, cancel_rest=cancels)


def synthetic(sketch: Sketch) -> None:
    """Give a stage parts that run before or after its tasks, or when it fails."""
    random = sketch.random
    parent = sketch.pick(lambda each: not each.parent and "_" not in each.ref)
    if parent is None:
        return
    owner = random.choice(PHASES)
    taken = sum(ref.startswith(f"{parent.ref}_part_") for ref in sketch.stages)
    refs = [f"{parent.ref}_part_{taken + at}" for at in range(random.choice((1, 2, 2, 3)))]
    for at, ref in enumerate(refs):
        after = tuple(other for other in refs[:at] if sketch.chance(0.5))
        tasks, enabled = random.choice((0, 1, 1, 1, 2)), sketch.chance(0.9)
        sketch.stages[ref] = Stage(
            ref, after, random.choice(PARTS), tasks, enabled=enabled, parent=parent.ref, owner=owner
        )
    if owner == "STAGE_FAILURE" and sketch.chance(0.7):
        fail(sketch, random.choice(("", "", "continue", "stop")), parent.ref)
    if sketch.chance(0.15):
        sketch.act("cancel", random.choice(refs))


def call(sketch: Sketch, child: str) -> None:
    """Let a stage begin a child workflow first; one that waits for signals would take its end for one."""
    stage = sketch.pick(lambda each: each.tasks and not any(text.startswith(("wait", "call")) for text in each.does))
    if stage is not None:
        sketch.first(stage, f"call:{child}")
