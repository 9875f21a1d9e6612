"""This package. A chain has one worker, what goes on beside each other as many as a processor has by default."""

from __future__ import annotations

import random
import time

from contract import PATIENCE, STEPS, Peer, play, ran, timed, until

from stabilize_nb import Engine, Flow, StageExecution, TaskResult
from stabilize_nb.models.workflow import Workflow
from tests.makers import Bench, stage, workflow


def step(at: StageExecution) -> TaskResult:
    """Be a step: say which, and put out something."""
    return TaskResult.success(outputs={at.context["key"]: ran(at.context["i"])})


def one(ref: str, number: int, *after: str, key: str = "v") -> StageExecution:
    """Make a stage."""
    return stage(ref, *after, task="step", context={"i": number, "key": key})


def chain(size: int) -> Workflow:
    """Make stages in a row."""
    return workflow(*(one(f"s{at}", at, *([f"s{at - 1}"] if at else [])) for at in range(size)))


def fan(size: int) -> Workflow:
    """Make stages beside each other, one before and one after them; what they put out has names of its own."""
    branches = [one(f"m{at}", at + 1, "first", key=f"v{at}") for at in range(size)]
    return workflow(one("first", 0), *branches, one("join", size + 1, *(f"m{at}" for at in range(size))))


class Ours(Peer):
    """`many` is timed from the first workflow that is stored; variant "stored": from when all of them are."""

    def open(self) -> None:
        self.url = self.url or f"sqlite:///{self.folder}/runs.db"
        self.bench = Bench(self.url, durability=self.durability, tasks={"step": step})

    def chain(self, size: int) -> float:
        return self._run(chain(size))

    def fan(self, size: int) -> float:
        return self._run(fan(size), workers=self._workers)

    def many(self, size: int) -> float:
        return self._run(*(chain(STEPS) for _ in range(size)), workers=self._workers)

    @property
    def _workers(self) -> int:
        return self.bench.processor.config.max_workers

    def _run(self, *flows: Workflow, workers: int = 1) -> float:
        storing = timed(lambda: self.bench.begin(*flows))
        working = timed(lambda: self.bench.processor.process_all(timeout=PATIENCE, workers=workers))
        if self.bench.store.unfinished():
            raise RuntimeError("a workflow did not end")
        return working if self.variant == "stored" else storing + working

    def resume(self, size: int) -> float:
        self.bench.processor.start()
        return timed(lambda: until(lambda: not self.bench.store.unfinished(), 0.02))

    def answer(self, rounds: int) -> list[float]:
        flow = Flow("gate")
        flow.approval("Go on?", name="gate")
        flow.stage(name="after", after=["gate"])(lambda: ran(7))
        chance = random.Random(0)
        with Engine(self.url, durability=self.durability) as engine:
            return [self._answered(engine, flow, chance) for _ in range(rounds)]

    def _answered(self, engine: Engine, flow: Flow, chance: random.Random) -> float:
        run = engine.start(flow)
        run.until_gate(PATIENCE)
        time.sleep(chance.uniform(0.02, 0.12))  # whatever looks at times looks at all of them
        begun = time.perf_counter()
        run.approve("gate")
        run.wait(PATIENCE)
        return time.perf_counter() - begun


if __name__ == "__main__":
    play(Ours)
