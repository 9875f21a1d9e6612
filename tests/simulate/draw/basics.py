"""Joins, splits, what bodies answer, jumps, and orders from outside."""

from __future__ import annotations

from tests.simulate.draw.sketch import Sketch
from tests.simulate.plan import Stage

CONDITIONS = ("true", "true", "false", "pass<2", "pass>=2")


def join(sketch: Sketch, kind: str) -> None:
    """Let a join be of some kind."""
    stage = sketch.pick(_is_join)
    if stage is not None:
        threshold = sketch.random.randint(0, len(stage.after)) if kind == "N_OF_M" else 0
        sketch.change(stage, join=kind, threshold=threshold)


def _is_join(stage: Stage) -> bool:
    return len(stage.after) > 1 and stage.join == "AND" and not stage.ref.endswith("_mi_join")


def split(sketch: Sketch, kind: str) -> None:
    """Let a stage choose among those below it."""
    single = sketch.pick(lambda each: sketch.below(each.ref) and not each.many)
    stage = sketch.pick(lambda each: len(sketch.below(each.ref)) > 1 and not each.many) or single
    if stage is not None:
        below = sketch.below(stage.ref)
        named = [ref for ref in below if sketch.chance(0.85)]
        when = tuple((ref, sketch.random.choice(CONDITIONS)) for ref in named)
        sketch.change(stage, split=kind, when=when, default=sketch.random.choice(("", *below)))


def answer(sketch: Sketch, text: str, most: int = 1) -> None:
    """Let the first bodies of a stage give some answer."""
    stage = sketch.pick()
    if stage is not None:
        sketch.first(stage, *([text] * sketch.random.randint(1, most)))


def end(sketch: Sketch, text: str) -> None:
    """Let a stage end in some way."""
    stage = sketch.pick(lambda each: each.does[-1] == "ok")
    if stage is not None:
        sketch.change(stage, does=(*stage.does[:-1], text))


def fields(sketch: Sketch, **given: object) -> None:
    """Set fields of a stage."""
    stage = sketch.pick()
    if stage is not None:
        sketch.change(stage, **given)


def fail(sketch: Sketch, policy: str, ref: str = "") -> None:
    """Let a stage fail that says what its failure means, at first or in the end."""
    stage = sketch.stages.get(ref) or sketch.pick()
    if stage is not None:
        text = sketch.random.choice(("fail", "fail", "stop"))
        does = (text, *stage.does) if sketch.chance(0.5) else (*stage.does[:-1], text)
        sketch.change(stage, on_failure=policy, does=does)


def timeout(sketch: Sketch) -> None:
    """Give a stage that takes its time little of it."""
    stage = sketch.pick()
    if stage is not None:
        sketch.first(stage, sketch.random.choice(("wait", "poll", "retry")))
        sketch.change(stage, timeout=sketch.random.choice((1, 300, 900, 3_000)))


def jump_back(sketch: Sketch, kind: str = "jump") -> None:
    """Let a stage jump, or loop, to one before it."""
    stage = sketch.pick(lambda each: each.after)
    if stage is not None:
        target = sketch.random.choice(sorted(sketch.before(stage.ref)))
        sketch.first(stage, *([f"{kind}:{target}"] * sketch.random.choice((1, 1, 2, 3))))


def jump_self(sketch: Sketch) -> None:
    stage = sketch.pick()
    if stage is not None:
        sketch.first(stage, f"jump:{stage.ref}")


def jump_forward(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: sketch.behind(each.ref))
    if stage is not None:
        targets = sorted(ref for ref in sketch.behind(stage.ref) if not ref.startswith(f"{stage.ref}_"))
        sketch.first(stage, f"jump:{sketch.random.choice(targets or [stage.ref])}")


def jump_sideways(sketch: Sketch) -> None:
    stage = sketch.pick()
    if stage is None:
        return
    others = sketch.stages.keys() - sketch.behind(stage.ref) - sketch.before(stage.ref) - {stage.ref}
    if others:
        sketch.first(stage, f"jump:{sketch.random.choice(sorted(others))}")


def jump_limit(sketch: Sketch) -> None:
    """Let a workflow jump as often as it may, or once more."""
    sketch.max_jumps = sketch.random.randint(0, 3)
    jump_back(sketch)


def order(sketch: Sketch, kind: str) -> None:
    """Have an order given that concerns a stage."""
    stage = sketch.pick()
    if stage is not None:
        sketch.act(kind, stage.ref)


def signals(sketch: Sketch) -> None:
    """Signal a stage that waits, early or late, persistently or not."""
    stage = sketch.pick()
    if stage is not None:
        sketch.first(stage, *(["wait"] * sketch.random.randint(1, 2)))
        for _ in range(sketch.random.randint(1, 3)):
            sketch.act(sketch.random.choice(("signal", "keep")), stage.ref)


def pause(sketch: Sketch) -> None:
    sketch.act("pause")
    if sketch.chance(0.5):
        sketch.act("resume")
