"""Apache Burr with its SQLite persister: the state is kept after each action. A fan-out is a MapStates action."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

from burr.core import ApplicationBuilder, State, action
from burr.core.parallelism import MapStates
from burr.core.persistence import SQLitePersister
from contract import STEPS, Peer, alike, play, ran, timed

warnings.filterwarnings("ignore")


@action(reads=["v"], writes=["v"])
def step(state: State, number: int) -> State:
    """Be a step."""
    return state.update(v=ran(number))


@action(reads=["number"], writes=["v"])
def branch(state: State) -> State:
    """Be a step among others."""
    return state.update(v=ran(state["number"]))


class Fan(MapStates):
    """Steps beside each other."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def action(self, state: State, inputs: Any) -> Any:
        return branch

    def states(self, state: State, context: Any, inputs: Any) -> Iterator[State]:
        for at in range(self._size):
            yield state.update(number=at + 1)

    def reduce(self, state: State, states: Any) -> State:
        return state.update(v=max(each["v"] for each in states))

    @property
    def reads(self) -> list[str]:
        return ["v"]

    @property
    def writes(self) -> list[str]:
        return ["v"]


class Burr(Peer):
    """An application for each workflow."""

    def open(self) -> None:
        alike(self.durability)
        self._persister = SQLitePersister(str(self.folder / "burr.db"), connect_kwargs={"check_same_thread": False})
        self._persister.initialize()
        self._made = 0

    def chain(self, size: int) -> float:
        made = self._chain(size)
        return timed(lambda: made.run(halt_after=[f"s{size - 1}"]))

    def fan(self, size: int) -> float:
        actions = {"first": step.bind(number=0), "mid": Fan(size), "join": step.bind(number=size + 1)}
        made = (
            self._built(actions, [("first", "mid"), ("mid", "join")]).with_state(v=0).with_entrypoint("first").build()
        )
        return timed(lambda: made.run(halt_after=["join"]))

    def many(self, size: int) -> float:
        return timed(lambda: [self._chain(STEPS).run(halt_after=[f"s{STEPS - 1}"]) for _ in range(size)])

    def resume(self, size: int) -> float:
        made = self._of_steps(size).initialize_from(
            self._persister, resume_at_next_action=True, default_state={"v": 0}, default_entrypoint="s0"
        )
        return timed(lambda: made.build().run(halt_after=[f"s{size - 1}"]))

    def answer(self, rounds: int) -> list[float]:
        return [self._answered() for _ in range(rounds)]

    def _answered(self) -> float:
        made = self._chain(2)
        made.run(halt_before=["s1"])
        time.sleep(0.05)
        return timed(lambda: made.run(halt_after=["s1"]))

    def _chain(self, size: int) -> Any:
        return self._of_steps(size).with_state(v=0).with_entrypoint("s0").build()

    def _of_steps(self, size: int) -> Any:
        actions = {f"s{at}": step.bind(number=at) for at in range(size)}
        return self._built(actions, [(f"s{at}", f"s{at + 1}") for at in range(size - 1)])

    def _built(self, actions: dict[str, Any], edges: list[tuple[str, str]]) -> Any:
        self._made += 1
        builder = ApplicationBuilder().with_actions(**actions).with_transitions(*edges)
        return builder.with_identifiers(app_id=f"app{self._made}").with_state_persister(self._persister)


if __name__ == "__main__":
    play(Burr)
