"""
`stabilize` from PyPI, which this package's reference API is like; `process_all` in this thread, write-ahead log.

It always has `synchronous = NORMAL`. Variant "mended": without its one accident, a filter whose bits are all counted
after every message; as shipped nearly all of its time goes there.
"""

from __future__ import annotations

import os
import time
from typing import Any

from contract import PATIENCE, STEPS, Peer, play, ran, timed, until

os.environ["STABILIZE_SQLITE_JOURNAL_MODE"] = "WAL"

import stabilize


class Step(stabilize.Task):
    """A step."""

    def execute(self, stage: Any) -> Any:
        return stabilize.TaskResult.success(outputs={stage.context["key"]: ran(stage.context["i"])})


def one(ref: str, number: int, *after: str, kind: str = "step", key: str = "v") -> Any:
    """Make a stage."""
    task = stabilize.TaskExecution.create(name="t", implementing_class=kind, stage_start=True, stage_end=True)
    return stabilize.StageExecution(
        ref_id=ref, type=kind, name=ref, context={"i": number, "key": key}, requisite_stage_ref_ids=set(after),
        tasks=[task],
    )  # fmt: skip


def workflow(stages: list[Any]) -> Any:
    """Make a workflow."""
    return stabilize.Workflow.create(application="bench", name="bench", stages=stages)


class Stabilize(Peer):
    """Its parts, put together as its own documentation does."""

    def open(self) -> None:
        url = f"sqlite:///{self.folder}/stabilize.db"
        if self.variant == "mended":
            from stabilize.queue.dedup import BloomDeduplicator

            BloomDeduplicator.fill_ratio = property(lambda _self: 0.0)
        self.store = stabilize.SqliteWorkflowStore(url, create_tables=True)
        self.queue = stabilize.SqliteQueue(url)
        self.queue._create_table()
        registry = stabilize.TaskRegistry()
        registry.register("step", Step)
        registry.register("approval", stabilize.ApprovalTask)
        self.processor = stabilize.QueueProcessor(self.queue, store=self.store, task_registry=registry)
        self.orchestrator = stabilize.Orchestrator(self.queue, store=self.store)

    def chain(self, size: int) -> float:
        return self._run([self._chain(size)])

    def fan(self, size: int) -> float:
        branches = [one(f"m{at}", at + 1, "first", key=f"v{at}") for at in range(size)]
        last = one("join", size + 1, *(f"m{at}" for at in range(size)))
        return self._run([workflow([one("first", 0), *branches, last])])

    def many(self, size: int) -> float:
        return self._run([self._chain(STEPS) for _ in range(size)])

    def answer(self, rounds: int) -> list[float]:
        self.processor.start()
        return [self._answered() for _ in range(rounds)]

    def _answered(self) -> float:
        flow = workflow([one("gate", 0, kind="approval"), one("after", 7, "gate")])
        self._begin(flow)
        until(lambda: self._gate(flow).status.name == "SUSPENDED", 0.005)
        time.sleep(0.05)

        def decide() -> None:
            stabilize.approve(self.queue, flow.id, self._gate(flow).id, {"user": "bench"})
            until(lambda: self._is_done(flow))

        return timed(decide)

    def _gate(self, flow: Any) -> Any:
        return next(each for each in self.store.retrieve(flow.id).stages if each.ref_id == "gate")

    def _chain(self, size: int) -> Any:
        return workflow([one(f"s{at}", at, *([f"s{at - 1}"] if at else [])) for at in range(size)])

    def _begin(self, flow: Any) -> None:
        self.store.store(flow)
        self.orchestrator.start(flow)

    def _is_done(self, flow: Any) -> bool:
        return self.store.retrieve(flow.id).status.name == "SUCCEEDED"

    def _run(self, flows: list[Any]) -> float:
        def work() -> None:
            for flow in flows:
                self._begin(flow)
            self.processor.process_all(timeout=PATIENCE)

        seconds = timed(work)
        if not all(map(self._is_done, flows)):
            raise RuntimeError("a workflow did not end")
        return seconds


if __name__ == "__main__":
    play(Stabilize)
