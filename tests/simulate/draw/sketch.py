"""A workflow being drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.simulate.plan import Act, Flow, Stage


class Sketch:
    """The stages of a workflow by ref, in order: edges go from earlier to later ones."""

    def __init__(self, random: Random, name: str, size: int) -> None:
        self.random = random
        self.name = name
        self.stages: dict[str, Stage] = {}
        self.acts: list[Act] = []
        self.max_jumps = Flow("", ()).max_jumps
        for number in range(size):
            ref = f"s{number}"
            self.stages[ref] = Stage(ref, tuple(sorted(self._requisites(number))))

    def _requisites(self, number: int) -> set[str]:
        if not number or self.random.random() < 0.08:
            return set()
        near = range(max(0, number - 4), number)
        wanted = self.random.choice((1, 1, 1, 2, 2, 3))
        return {f"s{at}" for at in self.random.sample(near, min(wanted, len(near)))}

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, fits: Callable[[Stage], object] = lambda _: True) -> Stage | None:
        """Return any stage that fits."""
        found = [stage for stage in self.stages.values() if fits(stage)]
        return self.random.choice(found) if found else None

    def some(self, refs: list[str], *numbers: int) -> list[str]:
        """Return so many of some refs, or all of them."""
        return self.random.sample(refs, min(len(refs), self.random.choice(numbers)))

    def change(self, stage: Stage, **fields: object) -> None:
        self.stages[stage.ref] = replace(self.stages[stage.ref], **fields)

    def first(self, stage: Stage, *answers: str) -> None:
        """Let the bodies of a stage answer something before what they answered up to now."""
        self.change(stage, does=(*answers, *self.stages[stage.ref].does))

    def act(self, kind: str, ref: str = "") -> None:
        """Have an order given from outside at some time."""
        self.acts.append(Act(self.random.randint(1, 12 + 6 * len(self.stages)), kind, self.name, ref))

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

    def flow(self, *, child: bool = False) -> Flow:
        return Flow(self.name, tuple(self.stages.values()), self.max_jumps, child)
