"""Random plans: a graph first, then one feature after the other laid over it, all from one seed.

Each feature is a function that changes a Sketch; `FEATURES` says how often each is used. A feature that finds no place
for itself leaves the sketch as it is, so what a plan contains is asked of the plan (`features`), not of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random

from tests.simulate.plan import Act, Chaos, Flow, Many, Plan, Stage

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
    return len(stage.after) > 1 and stage.join == "AND" and not stage.ref.endswith("_mi_join")


def _join(kind: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick(_joined)
        if stage is not None:
            threshold = sketch.random.randint(0, len(stage.after)) if kind == "N_OF_M" else 0
            sketch.change(stage, join=kind, threshold=threshold)

    return lay


def _split(kind: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        single = sketch.pick(lambda each: sketch.below(each.ref) and not each.many)
        stage = sketch.pick(lambda each: len(sketch.below(each.ref)) > 1 and not each.many) or single
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
        targets = sorted(ref for ref in sketch.behind(stage.ref) if not ref.startswith(f"{stage.ref}_"))
        sketch.first(stage, f"jump:{sketch.random.choice(targets or [stage.ref])}")


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


def _partial(field: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        stage = sketch.pick(lambda each: each.join in ("DISCRIMINATOR", "N_OF_M"))
        if stage is None:
            _join(sketch.random.choice(("DISCRIMINATOR", "N_OF_M")))(sketch)
            stage = sketch.pick(lambda each: each.join in ("DISCRIMINATOR", "N_OF_M"))
        if stage is not None:
            sketch.change(stage, **{field: True})

    return lay


def _thread_split(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: sketch.below(each.ref))
    if stage is not None:
        sketch.change(stage, thread_split=sketch.random.choice((2, 2, 3)))


def _thread_merge(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: len(each.after) == 1 or each.join == "MULTI_MERGE")
    if stage is not None:
        sketch.change(stage, thread_merge=sketch.random.choice((2, 2, 3)))
        source = sketch.stages[sketch.random.choice(stage.after)] if stage.after else stage
        if sketch.random.random() < 0.7:
            sketch.change(source, thread_split=sketch.random.choice((2, 3, 4)))


def _group(field: str, *values: str) -> Callable[[Sketch], None]:
    def lay(sketch: Sketch) -> None:
        value = sketch.random.choice(values)
        size = min(len(sketch.stages), sketch.random.choice((2, 2, 3, 4)))
        for ref in sketch.random.sample(sorted(sketch.stages), size):
            sketch.change(sketch.stages[ref], **{field: value})

    return lay


def _choice(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: len(sketch.below(each.ref)) > 1)
    near = sketch.below(stage.ref) if stage is not None and sketch.random.random() < 0.8 else sorted(sketch.stages)
    group = sketch.random.choice(("c0", "c0", "c1"))
    for ref in sketch.random.sample(near, min(len(near), sketch.random.choice((2, 2, 3)))):
        sketch.change(sketch.stages[ref], choice=group)
        if sketch.random.random() < 0.5:
            sketch.first(sketch.stages[ref], "wait")


def _section(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: "_" not in each.ref and sketch.behind(each.ref))
    if stage is None:
        return
    behind = sorted(ref for ref in sketch.behind(stage.ref) if "_" not in ref)
    members = [stage.ref, *sketch.random.sample(behind, min(len(behind), sketch.random.choice((1, 1, 2))))]
    name = sketch.random.choice(("one", "two"))
    for ref in members:
        sketch.change(sketch.stages[ref], mutex="k0", section=name)
    _group("mutex", "k0")(sketch)


def _milestone(sketch: Sketch) -> None:
    refs = list(sketch.stages)
    at = sketch.random.randrange(len(refs))
    if not at:
        return
    mark = sketch.random.choice(refs[:at])
    status = sketch.random.choice(("SUCCEEDED", "SUCCEEDED", "RUNNING", "SUSPENDED", "NOT_STARTED", "SKIPPED"))
    until = sketch.random.choice(("", "", *refs[:at]))
    sketch.change(sketch.stages[refs[at]], milestone=(mark, status), until=until)
    if status in ("RUNNING", "SUSPENDED") and sketch.random.random() < 0.7:
        sketch.first(sketch.stages[mark], "wait" if status == "SUSPENDED" else sketch.random.choice(("wait", "poll")))


def _cancels(sketch: Sketch) -> None:
    stage = sketch.pick()
    if stage is not None:
        size = min(len(sketch.stages), sketch.random.choice((1, 1, 2)))
        sketch.change(stage, cancels=tuple(sorted(sketch.random.sample(sorted(sketch.stages), size))))


def _cancels_region(sketch: Sketch) -> None:
    _group("region", "R")(sketch)
    stage = sketch.pick()
    if stage is not None:
        sketch.change(stage, cancels_regions=("R",))


def _region(sketch: Sketch) -> None:
    _group("region", "R")(sketch)
    sketch.act("region", "R")


def _ends(sketch: Sketch) -> None:
    stage = sketch.pick(lambda each: each.after)
    if stage is not None:
        sketch.change(stage, ends=sketch.random.choice(("SUCCEEDED", "SUCCEEDED", "CANCELED")))


def _jump_targets(sketch: Sketch) -> None:
    """Declare where a stage may jump to, half the time with an OR-split and -join that have to wait for it."""
    stage = sketch.pick()
    if stage is not None:
        targets = [target for target in jumps_of(stage) if target in sketch.stages]
        others = sorted(sketch.stages.keys() - {stage.ref})
        more = sketch.random.sample(others, min(len(others), sketch.random.choice((1, 1, 2))))
        sketch.change(stage, jump_targets=tuple(sorted({*targets, *more})))
        if sketch.random.random() < 0.5:
            sketch.first(
                stage, *(["wait"] * sketch.random.randint(0, 1)), f"jump:{sketch.random.choice(more)}" if more else "ok"
            )
        _split("OR")(sketch)
        _join("OR")(sketch)


def _instances(sketch: Sketch) -> None:
    """Make a stage the parent of a multi-instance activity; what followed it follows the join now, or not."""
    random = sketch.random
    parent = sketch.pick(lambda each: each.tasks and "_" not in each.ref and not each.many and each.split == "AND")
    if parent is None:
        return
    kind = random.choice(("fixed", "later", "dynamic", "dynamic"))
    count = {"fixed": random.randint(1, 4), "later": 0, "dynamic": random.choice((0, 1, 2, 3))}[kind]
    later = tuple(random.choice((0, 1, 2, 3)) for _ in range(random.choice((1, 2)))) if kind == "later" else ()
    most = max(later, default=count + (kind == "dynamic"))
    threshold = random.choice((0, 0, random.randint(0, most)))
    condition = random.choice(("", "completed>=2", "all")) if kind == "dynamic" and not threshold else ""
    does = random.choice((("ok",), ("ok",), ("wait", "ok"), ("wait", "ok"), ("soft",), ("stop",), ("poll", "ok")))
    many = Many(later, kind == "dynamic", threshold, condition, does)
    is_synced = kind == "later" or random.random() < 0.85
    _write_activity(
        sketch, replace(parent, many=many if is_synced else replace(many, threshold=0, condition="")), count, is_synced
    )
    if kind == "dynamic":
        for _ in range(random.choice((0, 1, 2, 3))):
            sketch.act("add", parent.ref)
    for order, likely in (("close", 0.2), ("complete", 0.2), ("cancel", 0.1)):
        if random.random() < likely:
            sketch.act(order, parent.ref)


def _write_activity(sketch: Sketch, parent: Stage, count: int, is_synced: bool) -> None:
    random, many = sketch.random, parent.many or Many()
    made = [Stage(f"{parent.ref}_instance_{index}", (parent.ref,), many.does) for index in range(count)]
    join = f"{parent.ref}_mi_join"
    if is_synced:
        cancels = bool(many.threshold or many.condition) and random.random() < 0.4
        kind = "N_OF_M" if many.threshold or cancels else "AND"
        after = tuple(stage.ref for stage in made) or (parent.ref,)
        made.append(
            Stage(join, after, tasks=random.choice((0, 1)), join=kind, threshold=many.threshold, cancel_rest=cancels)
        )
    stages: dict[str, Stage] = {}
    for stage in sketch.stages.values():
        stages[stage.ref] = parent if stage.ref == parent.ref else stage
        if stage.ref == parent.ref:
            stages |= {each.ref: each for each in made}
        elif is_synced and parent.ref in stage.after and random.random() < 0.8 and parent.split == "AND":
            stages[stage.ref] = replace(stage, after=tuple(join if ref == parent.ref else ref for ref in stage.after))
    sketch.stages = stages


def jumps_of(stage: Stage) -> list[str]:
    """Return where the bodies of a stage jump to."""
    return [answer.partition(":")[2] for answer in stage.does if answer.startswith("jump:")]


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
    "thread_split": (0.15, _thread_split),
    "thread_merge": (0.12, _thread_merge),
    "join_blocking": (0.12, _partial("blocking")),
    "join_cancel_remaining": (0.15, _partial("cancel_rest")),
    "mutex": (0.25, _group("mutex", "k0", "k0", "k1")),
    "section": (0.12, _section),
    "deferred_choice": (0.25, _choice),
    "milestone": (0.25, _milestone),
    "cancel_region": (0.12, _region),
    "cancels_stages": (0.1, _cancels),
    "cancels_regions": (0.1, _cancels_region),
    "ends_workflow": (0.08, _ends),
    "jump_targets": (0.12, _jump_targets),
    "instances": (0.2, _instances),
}

#: Features that the engine does not have yet.
MISSING = frozenset({"instances", "section", "jump_targets"})
#: The features that plans are made of unless others are asked for.
ENABLED = frozenset({*FEATURES, "child"}) - MISSING


def make_plan(seed: int, enabled: Iterable[str] = ENABLED) -> Plan:
    """Return the plan of a seed."""
    random = Random(seed)
    number = random.choice((1, 1, 1, 2, 3))
    sketches = [_sketch(random, f"w{at}", random.choice(SIZES[number]), set(enabled)) for at in range(number)]
    children = _children(random, sketches, set(enabled)) if "child" in enabled and random.random() < 0.2 else []
    flows = [Flow(each.name, tuple(each.stages.values()), each.max_jumps) for each in sketches]
    flows += [Flow(each.name, tuple(each.stages.values()), each.max_jumps, child=True) for each in children]
    acts = sorted((act for each in sketches for act in each.acts), key=lambda act: act.at)
    return Plan(tuple(flows), tuple(acts), _chaos(random))


def _children(random: Random, callers: list[Sketch], enabled: set[str]) -> list[Sketch]:
    """Draw child workflows, and let stages call them; one child may call the other."""
    children = [_sketch(random, f"c{at}", random.choice((1, 2, 2, 3, 4)), enabled - ALONE) for at in range(2)]
    if random.random() < 0.3:
        _call(children[0], children[1].name)
    for _ in range(random.choice((1, 1, 2))):
        _call(random.choice(callers), random.choice(children).name)
    for child in children:
        child.acts.clear()
    return children


def _call(sketch: Sketch, child: str) -> None:
    stage = sketch.pick(
        lambda each: each.tasks and not any(answer.startswith(("wait", "call")) for answer in each.does)
    )
    if stage is not None:
        sketch.first(stage, f"call:{child}")


#: Features that are not combined with instances, of which the parent is run by one thread only.
THREADS = frozenset({"multi_merge", "thread_split", "thread_merge"})
#: Features that a child workflow does not have: who calls it may hold the lock.
ALONE = frozenset({"mutex", "section"})


#: How many stages a workflow has, by the number of workflows.
SIZES = {1: (2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 12, 14), 2: (2, 3, 4, 5, 6), 3: (2, 2, 3, 4)}


def _sketch(random: Random, name: str, size: int, enabled: set[str]) -> Sketch:
    sketch = Sketch(random, name, size)
    lavish = random.choice((0.5, 1.0, 1.0, 2.0))
    wanted = [each for each in FEATURES if each in enabled for _ in range(_times(random, each, lavish))]
    random.shuffle(wanted)
    if "instances" in wanted:
        wanted = ["instances", *(each for each in wanted if each not in THREADS)]
    for each in wanted:
        FEATURES[each][1](sketch)
    mend(sketch)
    return sketch


def mend(sketch: Sketch) -> None:
    """Take away what makes stages wait for each other in a circle: such a workflow rightly never ends."""
    for stage in list(sketch.stages.values()):
        if stage.jump_targets and _waits_in_circle(sketch, stage):
            sketch.change(stage, jump_targets=())
    for stage in list(sketch.stages.values()):
        others = [each for each in sketch.stages.values() if each.section and each.section != stage.section]
        if stage.mutex and any(
            stage.ref in _needs(sketch, other.ref) for other in others if other.mutex == stage.mutex
        ):
            sketch.change(stage, mutex="", section="")
    for stage in list(sketch.stages.values()):
        if stage.thread_merge > 1 and len(stage.after) != 1 and stage.join != "MULTI_MERGE":
            sketch.change(stage, thread_merge=1)
        if any(each.section for each in sketch.stages.values()):
            sketch.change(sketch.stages[stage.ref], thread_merge=1)
        if stage.join not in ("DISCRIMINATOR", "N_OF_M"):
            sketch.change(sketch.stages[stage.ref], blocking=False, cancel_rest=False)


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


def _waits_in_circle(sketch: Sketch, stage: Stage) -> bool:
    return any(ref in _needs(sketch, ref) for ref in sketch.stages)


def _times(random: Random, name: str, lavish: float) -> int:
    likely = FEATURES[name][0] * lavish
    return sum(random.random() < likely / 2 for _ in range(2))


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
    "cancels_regions", "ends", "jump_targets", "parent", "many",
)  # fmt: skip
