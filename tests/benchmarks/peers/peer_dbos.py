"""DBOS. A chain is a workflow that calls its steps, a fan-out one that starts its steps at once."""

from __future__ import annotations

import asyncio
import time

from contract import STEPS, Peer, alike, play, ran, timed, until
from dbos import DBOS, SetWorkflowID


@DBOS.step()
def step(number: int) -> int:
    """Be a step."""
    return ran(number)


@DBOS.step()
async def branch(number: int) -> int:
    """Be a step among others."""
    return ran(number)


@DBOS.workflow()
def chain(size: int) -> int:
    """Call steps one after the other."""
    for at in range(size):
        step(at)
    return size


@DBOS.workflow()
async def fan(size: int) -> int:
    """Call steps at once."""
    await branch(0)
    await asyncio.gather(*(branch(at + 1) for at in range(size)))
    return await branch(size + 1)


@DBOS.workflow()
def gate() -> int:
    """Wait for a message."""
    DBOS.recv("approve", timeout_seconds=60)
    return step(7)


class Dbos(Peer):
    """Its poll for messages on SQLite is set to a millisecond, which is a second otherwise."""

    def open(self) -> None:
        self._made = 0
        if not self.url:
            alike(self.durability)
        DBOS(config={
            "name": "bench", "system_database_url": self.url or f"sqlite:///{self.folder}/dbos.sqlite",
            "log_level": "ERROR", "application_version": "bench", "executor_id": "bench", "enable_otlp": False,
            "notification_listener_polling_interval_sec": 0.001,
        })  # fmt: skip
        DBOS.launch()

    def chain(self, size: int) -> float:
        self._made += 1
        with SetWorkflowID(f"chain{self._made}"):
            return timed(lambda: chain(size))

    def fan(self, size: int) -> float:
        async def work() -> float:
            begun = time.perf_counter()
            await fan(size)
            return time.perf_counter() - begun

        return asyncio.run(work())

    def many(self, size: int) -> float:
        def work() -> None:
            for each in [DBOS.start_workflow(chain, STEPS) for _ in range(size)]:
                each.get_result()

        return timed(work)

    def resume(self, size: int) -> float:
        """Wait: what was left is taken up by itself."""

        def is_done() -> bool:
            return DBOS.get_workflow_status("chain1").status == "SUCCESS"

        return timed(lambda: until(is_done, 0.02))

    def answer(self, rounds: int) -> list[float]:
        return [self._answered() for _ in range(rounds)]

    def _answered(self) -> float:
        handle = DBOS.start_workflow(gate)
        time.sleep(0.1)

        def decide() -> None:
            DBOS.send(handle.get_workflow_id(), "yes", "approve")
            handle.get_result()

        return timed(decide)


if __name__ == "__main__":
    play(Dbos)
