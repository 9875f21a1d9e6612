"""LangGraph with its checkpointers, `durability="sync"`: each step is stored before the next one begins."""

from __future__ import annotations

import operator
import sqlite3
import time
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from contract import STEPS, Peer, alike, play, ran, timed
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt


class State(TypedDict):
    """What steps pass on; branches add to it."""

    v: Annotated[int, operator.add]


def step(number: int) -> Callable[[State], State]:
    """Make a step."""
    return lambda _state: {"v": ran(number)}


class LangGraph(Peer):
    """A thread of its own for each workflow."""

    def open(self) -> None:
        self._thread = 0
        if self.url:
            import psycopg
            from langgraph.checkpoint.postgres import PostgresSaver

            session = psycopg.connect(self.url, autocommit=True, prepare_threshold=0, row_factory=psycopg.rows.dict_row)
            self._saver: Any = PostgresSaver(session)
        else:
            from langgraph.checkpoint.sqlite import SqliteSaver

            alike(self.durability)
            self._saver = SqliteSaver(sqlite3.connect(self.folder / "graph.db", check_same_thread=False))
        self._saver.setup()

    def chain(self, size: int) -> float:
        graph = self._chain(size)
        return timed(lambda: self._invoke(graph, {"v": 0}, size))

    def fan(self, size: int) -> float:
        graph = StateGraph(State)
        names = [f"m{at}" for at in range(size)]
        graph.add_node("first", step(0))
        graph.add_node("join", step(size + 1))
        graph.add_edge(START, "first")
        for at, name in enumerate(names):
            graph.add_node(name, step(at + 1))
            graph.add_edge("first", name)
        graph.add_edge(names, "join")
        graph.add_edge("join", END)
        made = graph.compile(checkpointer=self._saver)
        return timed(lambda: self._invoke(made, {"v": 0}, size))

    def many(self, size: int) -> float:
        graph = self._chain(STEPS)
        return timed(lambda: [self._invoke(graph, {"v": 0}, STEPS) for _ in range(size)])

    def resume(self, size: int) -> float:
        graph = self._chain(size)
        return timed(lambda: self._invoke(graph, None, size))

    def answer(self, rounds: int) -> list[float]:
        graph = StateGraph(State)
        graph.add_node("gate", lambda _state: {"v": interrupt("go on?")})
        graph.add_node("after", step(7))
        graph.add_edge(START, "gate")
        graph.add_edge("gate", "after")
        graph.add_edge("after", END)
        made = graph.compile(checkpointer=self._saver)
        return [self._answered(made) for _ in range(rounds)]

    def _answered(self, graph: Any) -> float:
        self._invoke(graph, {"v": 0}, 5)
        time.sleep(0.05)
        self._thread -= 1
        return timed(lambda: self._invoke(graph, Command(resume=1), 5))

    def _chain(self, size: int) -> Any:
        graph = StateGraph(State)
        for at in range(size):
            graph.add_node(f"s{at}", step(at))
            graph.add_edge(f"s{at - 1}" if at else START, f"s{at}")
        graph.add_edge(f"s{size - 1}", END)
        return graph.compile(checkpointer=self._saver)

    def _invoke(self, graph: Any, given: Any, size: int) -> None:
        self._thread += 1
        config = {"configurable": {"thread_id": str(self._thread)}, "recursion_limit": size + 10}
        graph.invoke(given, config, durability="sync")


if __name__ == "__main__":
    play(LangGraph)
