"""
A graph of LangGraph that finds notes about a question. Nothing in it knows of stabilize_nb.

    search ──→ judge ──→ review, by a person ──→ the end
     ↑  ↑        │          │
     │  └ widen ←┘          │
     └───── other words ←───┘
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

NOTES = [
    "Gentoo penguins have a body mass of 4.2 to 6.3 kg.",
    "Adelie penguins have a body mass of 2.9 to 4.8 kg.",
    "Gentoo penguins have flippers of 203 to 231 mm.",
    "Chinstrap penguins breed on the island of Dream.",
]
WIDER = {"heavy": "mass", "long": "flippers"}
#: How often the nodes that do something have begun.
begun: Counter[str] = Counter()


class State(TypedDict, total=False):
    """What the nodes share."""

    words: str
    notes: list[str]
    reader: str


def search(state: State) -> State:
    begun["search"] += 1
    words = set(state["words"].lower().split())
    return {"notes": [note for note in NOTES if words <= set(note.lower().rstrip(".").split())]}


def judge(state: State) -> Command[Literal["widen", "review"]]:
    begun["judge"] += 1
    if begun["judge"] == 1:
        raise ConnectionError("the judge is not there yet")
    return Command(goto="review" if state["notes"] else "widen")


def widen(state: State) -> State:
    begun["widen"] += 1
    return {"words": " ".join(WIDER.get(word, word) for word in state["words"].split())}


def review(state: State) -> Command[Literal["search", "__end__"]]:
    said: dict[str, Any] = interrupt({"found": state["notes"]})
    if said["choice"] == "reject":
        return Command(goto="search", update={"words": said["answer"]})
    return Command(goto=END, update={"reader": said["user"]})


builder = StateGraph(State)
for node in (search, judge, widen, review):
    builder.add_node(node)
builder.add_edge(START, "search")
builder.add_edge("search", "judge")
builder.add_edge("widen", "search")
