"""Threads, partial joins, locks, choices, milestones, regions, ends: what the other patterns add."""

from __future__ import annotations

from tests.simulate.draw.basics import join, split
from tests.simulate.draw.sketch import Sketch
from tests.simulate.plan import Stage

PARTIAL = ("DISCRIMINATOR", "N_OF_M")


def partial(sketch: Sketch, field: str) -> None:
    """Let a partial join be blocking or cancelling."""
    if sketch.pick(lambda each: each.join in PARTIAL) is None:
        join(sketch, sketch.random.choice(PARTIAL))
    stage = sketch.pick(lambda each: each.join in PARTIAL)
    if stage is not None:
        sketch.change(stage, **{field: True})


def thread_split(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: sketch.below(each.ref))
    if stage is not None:
        sketch.change(stage, thread_split=sketch.random.choice((2, 2, 3)))


def thread_merge(sketch: Sketch) -> None:
    """Let a stage merge threads, which one above it mostly provides."""
    stage = sketch.pick(lambda each: len(each.after) == 1 or each.join == "MULTI_MERGE")
    if stage is not None:
        sketch.change(stage, thread_merge=sketch.random.choice((2, 2, 3)))
        source = sketch.stages[sketch.random.choice(stage.after)] if stage.after else stage
        if sketch.chance(0.7):
            sketch.change(source, thread_split=sketch.random.choice((2, 3, 4)))


def group(sketch: Sketch, field: str, *values: str) -> None:
    """Give several stages the same value."""
    value = sketch.random.choice(values)
    for ref in sketch.some(sorted(sketch.stages), 2, 2, 3, 4):
        sketch.change(sketch.stages[ref], **{field: value})


def choice(sketch: Sketch) -> None:
    """Let the environment choose among stages, mostly among those below one."""
    stage = sketch.pick(lambda each: len(sketch.below(each.ref)) > 1)
    near = sketch.below(stage.ref) if stage is not None and sketch.chance(0.8) else sorted(sketch.stages)
    name = sketch.random.choice(("c0", "c0", "c1"))
    for ref in sketch.some(near, 2, 2, 3):
        sketch.change(sketch.stages[ref], choice=name)
        if sketch.chance(0.5):
            sketch.first(sketch.stages[ref], "wait")


def section(sketch: Sketch) -> None:
    """Let stages that follow each other hold a lock together, and others want it."""
    stage = sketch.pick(lambda each: "_" not in each.ref and sketch.behind(each.ref))
    if stage is None:
        return
    behind = sorted(ref for ref in sketch.behind(stage.ref) if "_" not in ref)
    name = sketch.random.choice(("one", "two"))
    for ref in [stage.ref, *sketch.some(behind, 1, 1, 2)]:
        sketch.change(sketch.stages[ref], mutex="k0", section=name)
    group(sketch, "mutex", "k0")


def milestone(sketch: Sketch) -> None:
    """Let a stage look at an earlier one, if there is one at a branch beside it, that takes its time."""
    refs = list(sketch.stages)
    at = sketch.random.randrange(len(refs))
    earlier = refs[:at]
    if not earlier:
        return
    beside = [ref for ref in earlier if ref not in sketch.before(refs[at])]
    mark = sketch.random.choice(beside or earlier)
    status = sketch.random.choice(("SUCCEEDED", "SUCCEEDED", "RUNNING", "SUSPENDED", "NOT_STARTED", "SKIPPED"))
    until = sketch.random.choice(("", "", *earlier))
    sketch.change(sketch.stages[refs[at]], milestone=(mark, status), until=until)
    if sketch.chance(0.6):
        sketch.first(sketch.stages[mark], *sketch.random.choice((("wait",), ("poll",), ("poll", "wait"))))


def cancels(sketch: Sketch) -> None:
    stage = sketch.pick()
    if stage is not None:
        sketch.change(stage, cancels=tuple(sorted(sketch.some(sorted(sketch.stages), 1, 1, 2))))


def cancels_region(sketch: Sketch) -> None:
    group(sketch, "region", "R")
    stage = sketch.pick()
    if stage is not None:
        sketch.change(stage, cancels_regions=("R",))


def region(sketch: Sketch) -> None:
    group(sketch, "region", "R")
    sketch.act("region", "R")


def ends(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: each.after)
    if stage is not None:
        sketch.change(stage, ends=sketch.random.choice(("SUCCEEDED", "SUCCEEDED", "CANCELED")))


def jump_targets(sketch: Sketch) -> None:
    """Declare where a stage may jump to, and draw an OR-split and an OR-join that may have to wait for it."""
    stage = sketch.pick()
    others = sorted(sketch.stages.keys() - {stage.ref}) if stage is not None else []
    if stage is None or not others:
        return
    more = sketch.some(others, 1, 1, 2)
    targets = {target for target in jumps_of(stage) if target in sketch.stages}
    sketch.change(stage, jump_targets=tuple(sorted({*targets, *more})))
    if sketch.chance(0.5):
        waits = ["wait"] * sketch.random.randint(0, 1)
        sketch.first(stage, *waits, f"jump:{sketch.random.choice(more)}")
    split(sketch, "OR")
    join(sketch, "OR")


def jumps_of(stage: Stage) -> list[str]:
    """Return where the bodies of a stage jump to."""
    return [text.partition(":")[2] for text in stage.does if text.startswith(("jump:", "loop:"))]
