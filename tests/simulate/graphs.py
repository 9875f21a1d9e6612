"""The plan of a seed: which features are laid over which graph, and what then may not stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, NamedTuple

from tests.simulate.draw import basics, parts, patterns
from tests.simulate.draw.sketch import Sketch
from tests.simulate.plan import Chaos, Plan, Stage


class Feature(NamedTuple):
    """How often a feature is laid over a workflow, on average, and how."""

    often: float
    lay: Callable[..., None]
    args: tuple[Any, ...] = ()


FEATURES: dict[str, Feature] = {
    "or_join": Feature(0.5, basics.join, ("OR",)),
    "multi_merge": Feature(0.35, basics.join, ("MULTI_MERGE",)),
    "discriminator": Feature(0.35, basics.join, ("DISCRIMINATOR",)),
    "n_of_m": Feature(0.35, basics.join, ("N_OF_M",)),
    "or_split": Feature(0.4, basics.split, ("OR",)),
    "xor_split": Feature(0.3, basics.split, ("XOR",)),
    "two_tasks": Feature(0.2, lambda sketch: basics.fields(sketch, tasks=2)),
    "no_tasks": Feature(0.25, lambda sketch: basics.fields(sketch, tasks=0)),
    "disabled": Feature(0.25, lambda sketch: basics.fields(sketch, enabled=False)),
    "soft": Feature(0.25, basics.end, ("soft",)),
    "skip": Feature(0.15, basics.end, ("skip",)),
    "stop": Feature(0.15, basics.end, ("stop",)),
    "fail": Feature(0.08, basics.end, ("fail",)),
    "wait": Feature(0.4, basics.answer, ("wait", 2)),
    "poll": Feature(0.25, basics.answer, ("poll", 2)),
    "retry": Feature(0.2, basics.answer, ("retry", 3)),
    "fails_softly": Feature(0.1, basics.fail, ("continue",)),
    "fails_alone": Feature(0.1, basics.fail, ("stop",)),
    "fails_late": Feature(0.06, basics.fail, ("late",)),
    "timeout": Feature(0.12, basics.timeout),
    "jump_back": Feature(0.3, basics.jump_back),
    "jump_self": Feature(0.08, basics.jump_self),
    "jump_forward": Feature(0.12, basics.jump_forward),
    "jump_sideways": Feature(0.08, basics.jump_sideways),
    "jump_unknown": Feature(0.03, basics.answer, ("jump:nowhere",)),
    "jump_limit": Feature(0.04, basics.jump_limit),
    "loop": Feature(0.08, basics.jump_back, ("loop",)),
    "signals": Feature(0.25, basics.signals),
    "cancel_stage": Feature(0.15, basics.order, ("cancel",)),
    "cancel_workflow": Feature(0.05, basics.order, ("end",)),
    "pause": Feature(0.12, basics.pause),
    "thread_split": Feature(0.15, patterns.thread_split),
    "thread_merge": Feature(0.12, patterns.thread_merge),
    "join_blocking": Feature(0.12, patterns.partial, ("blocking",)),
    "join_cancel_remaining": Feature(0.15, patterns.partial, ("cancel_rest",)),
    "mutex": Feature(0.25, patterns.group, ("mutex", "k0", "k0", "k1")),
    "section": Feature(0.12, patterns.section),
    "deferred_choice": Feature(0.25, patterns.choice),
    "milestone": Feature(0.25, patterns.milestone),
    "cancel_region": Feature(0.12, patterns.region),
    "cancels_stages": Feature(0.1, patterns.cancels),
    "cancels_regions": Feature(0.1, patterns.cancels_region),
    "ends_workflow": Feature(0.08, patterns.ends),
    "jump_targets": Feature(0.12, patterns.jump_targets),
    "instances": Feature(0.2, parts.instances),
    "synthetic": Feature(0.3, parts.synthetic),
}

#: The features that plans are made of unless others are asked for.
ENABLED = frozenset({*FEATURES, "child"})
#: Features that are not combined with instances and synthetic stages: their parent is run by one thread only.
THREADS = frozenset({"multi_merge", "thread_split", "thread_merge"})
#: Features that a child workflow does not have: who calls it may hold the lock.
ALONE = frozenset({"mutex", "section"})
#: Features with which no order of messages changes how a workflow ends.
CALM = frozenset(
    {
        "or_join", "or_split", "xor_split", "two_tasks", "no_tasks", "disabled", "soft", "skip", "stop", "wait", "poll",
        "retry", "fails_softly", "fails_alone", "fails_late", "signals", "pause", "mutex", "section",
    }
)  # fmt: skip
#: How many stages a workflow has, by the number of workflows.
SIZES = {1: (2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 12, 14), 2: (2, 3, 4, 5, 6), 3: (2, 2, 3, 4)}


def make_plan(seed: int, enabled: Iterable[str] = ENABLED) -> Plan:
    """Return the plan of a seed."""
    random = Random(seed)
    wanted = {*enabled} & CALM if random.random() < 0.15 else {*enabled}
    number = random.choice((1, 1, 1, 2, 3))
    sketches = [_sketch(random, f"w{at}", random.choice(SIZES[number]), wanted) for at in range(number)]
    children = _children(random, sketches, wanted) if "child" in wanted and random.random() < 0.2 else []
    flows = [*(each.flow() for each in sketches), *(each.flow(child=True) for each in children)]
    acts = sorted((act for each in sketches for act in each.acts), key=lambda act: act.at)
    return Plan(tuple(flows), tuple(acts), _chaos(random))


def _children(random: Random, callers: list[Sketch], enabled: set[str]) -> list[Sketch]:
    """Draw child workflows, and let stages call them; one child may call the other."""
    children = [_sketch(random, f"c{at}", random.choice((1, 2, 2, 3, 4)), enabled - ALONE) for at in range(2)]
    if random.random() < 0.3:
        parts.call(children[0], children[1].name)
    for _ in range(random.choice((1, 1, 2))):
        parts.call(random.choice(callers), random.choice(children).name)
    return children


def _sketch(random: Random, name: str, size: int, enabled: set[str]) -> Sketch:
    sketch = Sketch(random, name, size)
    lavish = random.choice((0.5, 1.0, 1.0, 2.0))
    wanted = [each for each in FEATURES if each in enabled for _ in range(_times(random, each, lavish))]
    random.shuffle(wanted)
    if {"instances", "synthetic"} & {*wanted}:
        wanted = [each for each in wanted if each not in THREADS]
        wanted.sort(key=lambda each: (each != "instances", each == "synthetic"))
    for each in wanted:
        FEATURES[each].lay(sketch, *FEATURES[each].args)
    mend(sketch)
    return sketch


def _times(random: Random, name: str, lavish: float) -> int:
    return sum(random.random() < FEATURES[name].often * lavish / 2 for _ in range(2))


def _chaos(random: Random) -> Chaos:
    return Chaos(
        seed=random.getrandbits(32),
        budget=random.choice((1, 1, 2, 32)),
        slots=random.choice((0, 1, 4)),
        prefetch=random.random() < 0.5,
        delay=random.choice((0, 0, 5, 800)),
        repeat=random.choice((0.0, 0.1, 0.4)),
        lose=random.choice((0.0, 0.1, 0.3)),
        crash=random.choice((0.0, 0.0, 0.02)),
        abort=random.choice((0.0, 0.05)),
    )


# -- what may not stay ---------------------------------------------------------------------------------


def mend(sketch: Sketch) -> None:
    """Take away what no workflow may have, and what makes stages wait for each other in a circle."""
    for ref in sketch.stages:
        if sketch.stages[ref].jump_targets and _waits_in_circle(sketch):
            sketch.change(sketch.stages[ref], jump_targets=())
    for ref in sketch.stages:
        if _is_needed_inside(sketch, sketch.stages[ref]):
            sketch.change(sketch.stages[ref], mutex="", section="")
    has_sections = any(stage.section for stage in sketch.stages.values())
    for stage in [*sketch.stages.values()]:
        if has_sections or (len(stage.after) != 1 and stage.join != "MULTI_MERGE"):
            sketch.change(stage, thread_merge=1)
        if stage.join not in patterns.PARTIAL:
            sketch.change(sketch.stages[stage.ref], blocking=False, cancel_rest=False)


def _is_needed_inside(sketch: Sketch, stage: Stage) -> bool:
    """Whether a section of the same lock has to wait for a stage while it holds the lock."""
    others = [each for each in sketch.stages.values() if each.section and each.section != stage.section]
    return bool(stage.mutex) and any(
        stage.ref in _needs(sketch, other.ref) for other in others if other.mutex == stage.mutex
    )


def _waits_in_circle(sketch: Sketch) -> bool:
    return any(ref in _needs(sketch, ref) for ref in sketch.stages)


def _needs(sketch: Sketch, ref: str) -> set[str]:
    """Return all stages that one may have to wait for: by edges, milestones and declared jumps."""
    found: set[str] = set()
    todo = [ref]
    while todo:
        stage = sketch.stages[todo.pop()]
        above = {*stage.after, stage.milestone[0]} - {""}
        if stage.join == "OR":
            above |= {each.ref for each in sketch.stages.values() if each.jump_targets} - sketch.behind(stage.ref)
        todo += above - found
        found |= above
    return found
