"""Random plans: a graph first, then one feature after the other laid over it, all from one seed.

Each feature is a function that changes a Sketch; `FEATURES` says how often each is used. A feature that finds no place
for itself leaves the sketch as it is, so what a plan contains is asked of the plan (`features`), not of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random

from tests.simulate.plan import Act, Chaos, Flow, Plan, Stage

CONDITIONS = ("true", "true", "false", "pass<2", "pass>=2")
FINAL = ("ok", "soft", "skip", "stop", "fail")


class Sketch:
    """A workflow being drawn: its stages by ref, in order; edges go from earlier to later ones."""

    def __init__(self, random: Random, name: str, size: int) -> None:
        self.random = random
        self.name = name
        self.stages: dict[str, Stage] = {}
        self.acts: list[Act] = []
        self.max_jumps = 10
        for number in range(size):
            ref = f"s{number}"
            self.stages[ref] = Stage(ref, tuple(sorted(self._requisites(number))))

    def _requisites(self, number: int) -> set[str]:
        if not number or self.random.random() < 0.08:
            return set()
        near = range(max(0, number - 4), number)
        wanted = self.random.choice((1, 1, 1, 2, 2, 3))
        return {f"s{at}" for at in self.random.sample(near, min(wanted, len(near)))}

    def pick(self, fits: Callable[[Stage], object] = lambda _: True) -> Stage | None:
        """Return any stage that fits."""
        found = [stage for stage in self.stages.values() if fits(stage)]
        return self.random.choice(found) if found else None

    def change(self, stage: Stage, **fields: object) -> None:
        self.stages[stage.ref] = replace(self.stages[stage.ref], **fields)

    def first(self, stage: Stage, *answers: str) -> None:
        """Let the bodies of a stage answer something before what they answered up to now."""
        self.change(stage, does=(*answers, *self.stages[stage.ref].does))

    def below(self, ref: str) -> list[str]:
        return [stage.ref for stage in self.stages.values() if ref in stage.after]

    def behind(self, ref: str) -> set[str]:
        """Return all that can be reached from a stage."""
        found: set[str] = set()
        for stage in self.stages.values():
            if stage.ref != ref and found.union({ref}) & {*stage.after}:
                found.add(stage.ref)
        return found

    def before(self, ref: str) -> set[str]:
        return {other for other in self.stages if ref in self.behind(other)}

    def act(self, kind: str, ref: str = "") -> None:
        self.acts.append(Act(self.random.randint(1, 12 + 6 * len(self.stages)), kind, self.name, ref))


def _joined(stage: Stage) -> bool:
    return len(stage.after) > 1 and stage.join == "AND"


def _join(kind: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick(_joined)
        if stage is not None:
            threshold = sketch.random.randint(0, len(stage.after)) if kind == "N_OF_M" else 0
            sketch.change(stage, join=kind, threshold=threshold)

    return lay


def _split(kind: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick(lambda each: len(sketch.below(each.ref)) > 1) or sketch.pick(
            lambda each: sketch.below(each.ref)
        )
        if stage is not None:
            below = sketch.below(stage.ref)
            named = [ref for ref in below if sketch.random.random() < 0.85]
            when = tuple((ref, sketch.random.choice(CONDITIONS)) for ref in named)
            default = sketch.random.choice(("", *below))
            sketch.change(stage, split=kind, when=when, default=default)

    return lay


def _answer(*answers: str, times: int = 1) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick()
        if stage is not None:
            sketch.first(stage, *(answers * sketch.random.randint(1, times)))

    return lay


def _last(answer: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick(lambda each: each.does[-1] == "ok")
        if stage is not None:
            sketch.change(stage, does=(*stage.does[:-1], answer))

    return lay


def _set(**fields: object) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick()
        if stage is not None:
            sketch.change(stage, **fields)

    return lay


def _failing(policy: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick()
        if stage is not None:
            answer = sketch.random.choice(("fail", "fail", "stop"))
            does = (answer, *stage.does) if sketch.random.random() < 0.5 else (*stage.does[:-1], answer)
            sketch.change(stage, on_failure=policy, does=does)

    return lay


def _timeout(sketch: Sketch) -> None:
    stage = sketch.pick()
    if stage is not None:
        sketch.first(stage, sketch.random.choice(("wait", "poll", "retry")))
        sketch.change(stage, timeout=sketch.random.choice((1, 300, 900, 3_000)))


def _jump_back(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: each.after)
    if stage is not None:
        target = sketch.random.choice(sorted(sketch.before(stage.ref)))
        sketch.first(stage, *([f"jump:{target}"] * sketch.random.choice((1, 1, 2, 3))))


def _jump_self(sketch: Sketch) -> None:
    stage = sketch.pick()
    if stage is not None:
        sketch.first(stage, f"jump:{stage.ref}")


def _jump_forward(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: sketch.behind(each.ref))
    if stage is not None:
        sketch.first(stage, f"jump:{sketch.random.choice(sorted(sketch.behind(stage.ref)))}")


def _jump_sideways(sketch: Sketch) -> None:
    stage = sketch.pick()
    if stage is None:
        return
    others = sketch.stages.keys() - sketch.behind(stage.ref) - sketch.before(stage.ref) - {stage.ref}
    if others:
        sketch.first(stage, f"jump:{sketch.random.choice(sorted(others))}")


def _jump_limit(sketch: Sketch) -> None:
    sketch.max_jumps = sketch.random.randint(0, 3)
    _jump_back(sketch)


def _act(*kinds: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick()
        if stage is not None:
            sketch.act(sketch.random.choice(kinds), stage.ref)

    return lay


def _signals(sketch: Sketch) -> None:
    stage = sketch.pick()
    if stage is not None:
        sketch.first(stage, *(["wait"] * sketch.random.randint(1, 2)))
        for _ in range(sketch.random.randint(1, 3)):
            sketch.act(sketch.random.choice(("signal", "keep")), stage.ref)


def _pause(sketch: Sketch) -> None:
    sketch.act("pause")
    if sketch.random.random() < 0.5:
        sketch.act("resume")


#: Feature -> how often it is laid over a workflow on average, and how.
FEATURES: dict[str, tuple[float, Callable[[Sketch], None]]] = {
    "or_join": (0.5, _join("OR")),
    "multi_merge": (0.35, _join("MULTI_MERGE")),
    "discriminator": (0.35, _join("DISCRIMINATOR")),
    "n_of_m": (0.35, _join("N_OF_M")),
    "or_split": (0.4, _split("OR")),
    "xor_split": (0.3, _split("XOR")),
    "two_tasks": (0.2, _set(tasks=2)),
    "no_tasks": (0.25, _set(tasks=0)),
    "disabled": (0.25, _set(enabled=False)),
    "soft": (0.25, _last("soft")),
    "skip": (0.15, _last("skip")),
    "stop": (0.15, _last("stop")),
    "fail": (0.08, _last("fail")),
    "wait": (0.4, _answer("wait", times=2)),
    "poll": (0.25, _answer("poll", times=2)),
    "retry": (0.2, _answer("retry", times=3)),
    "fails_softly": (0.1, _failing("continue")),
    "fails_alone": (0.1, _failing("stop")),
    "fails_late": (0.06, _failing("late")),
    "timeout": (0.12, _timeout),
    "jump_back": (0.3, _jump_back),
    "jump_self": (0.08, _jump_self),
    "jump_forward": (0.12, _jump_forward),
    "jump_sideways": (0.08, _jump_sideways),
    "jump_unknown": (0.03, _answer("jump:nowhere")),
    "jump_limit": (0.04, _jump_limit),
    "signals": (0.25, _signals),
    "cancel_stage": (0.15, _act("cancel")),
    "cancel_workflow": (0.05, _act("end")),
    "pause": (0.12, _pause),
}

#: Features that the engine does not have yet.
MISSING = frozenset({"fails_late"})
#: The features that plans are made of unless others are asked for.
ENABLED = frozenset(FEATURES) - MISSING


def make_plan(seed: int, enabled: Iterable[str] = ENABLED) -> Plan:
    """Return the plan of a seed."""
    random = Random(seed)
    sketch = Sketch(random, "w0", _size(random))
    lavish = random.choice((0.5, 1.0, 1.0, 2.0))
    wanted = [name for name in FEATURES if name in set(enabled) for _ in range(_times(random, name, lavish))]
    random.shuffle(wanted)
    for name in wanted:
        FEATURES[name][1](sketch)
    flow = Flow(sketch.name, tuple(sketch.stages.values()), sketch.max_jumps)
    acts = sorted(sketch.acts, key=lambda act: act.at)
    return Plan((flow,), tuple(acts), _chaos(random))


def _times(random: Random, name: str, lavish: float) -> int:
    likely = FEATURES[name][0] * lavish
    return sum(random.random() < likely / 2 for _ in range(2))


def _size(random: Random) -> int:
    return random.choice((2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 12, 14))


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


def features(plan: Plan) -> set[str]:
    """Return what a plan contains, for the table of what was covered."""
    found = {f"order: {act.kind}" for act in plan.acts}
    found |= {f"fault: {name}" for name in ("repeat", "lose", "crash", "abort", "delay") if getattr(plan.chaos, name)}
    found |= {f"commits of {plan.chaos.budget}"}
    if len(plan.flows) > 1:
        found.add("several workflows")
    for flow in plan.flows:
        if flow.child:
            found.add("child workflow")
        for stage in flow.stages:
            found |= set(_features(stage, {other.ref for other in flow.stages}))
    return found


def _features(stage: Stage, refs: set[str]) -> Iterable[str]:
    if len(stage.after) > 1:
        blocking = "blocking " if stage.blocking else ""
        yield f"join: {blocking}{'cancelling ' if stage.cancel_rest else ''}{stage.join}"
    if stage.split != "AND":
        yield f"split: {stage.split}"
    for answer in stage.does:
        kind, _, target = answer.partition(":")
        if kind == "jump":
            later = target in refs and stage.ref != target
            yield "jump: elsewhere" if later else f"jump: {'self' if target == stage.ref else 'unknown'}"
        else:
            yield f"answer: {kind}"
    if stage.tasks != 1:
        yield f"tasks: {stage.tasks}"
    if stage.on_failure:
        yield f"failure: {stage.on_failure}"
    usual = Stage("")
    for name in NAMED:
        if getattr(stage, name) != getattr(usual, name):
            yield name


#: Fields of a stage that are features by themselves.
NAMED = (
    "timeout", "thread_split", "thread_merge", "choice", "mutex", "section", "milestone", "until", "region", "cancels",
    "cancels_regions", "ends", "jump_targets", "parent",
)  # fmt: skip
