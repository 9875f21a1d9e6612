"""Graphs with a StoreSaver: what goes on after a kill, what is stored, and what goes with a run."""

import asyncio
import enum
import operator
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from stabilize_nb import Engine, Flow, StageExecution
from stabilize_nb.checkup import examine
from stabilize_nb.errors import ConfigError, ValueNotStorableError
from stabilize_nb.langgraph import StoreSaver, run_graph
from tests.llm.waiting import next_gate

#: Three nodes, each of which tells on a file that it is run; the second one waits to be killed the first time.
GRAPH = """
import operator, sys, time
from pathlib import Path
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph
from stabilize_nb import Engine, Flow, StageExecution
from stabilize_nb.langgraph import StoreSaver, run_graph

class State(TypedDict):
    done: Annotated[list[str], operator.add]

def node(name):
    def run(state):
        with Path("nodes").open("a") as file:
            file.write(f"{name}\\n")
        if name == "second" and Path("nodes").read_text().count("second") == 1:
            print("at work", flush=True)
            time.sleep(60)
        return {"done": [name]}
    return run

builder = StateGraph(State)
for before, name in [(START, "first"), (START, "beside"), ("first", "second"), ("second", "third")]:
    builder.add_node(name, node(name))
    builder.add_edge(before, name)
"""
ALONE = """
with StoreSaver("graphs.db") as saver:
    graph = builder.compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "t"}}
    begun = saver.get_tuple(config) is not None
    print(sorted(graph.invoke(None if begun else {"done": []}, config, durability="sync")["done"]))
"""
STAGE = """
flow = Flow("graph")

@flow.stage
async def work(stage: StageExecution) -> dict:
    return await run_graph(stage, builder.compile(checkpointer=saver), {"done": []})

with Engine("graphs.db") as engine, StoreSaver(engine) as saver:
    flow.register(engine.registry)
    runs = engine.resume()
    run = runs[0] if runs else engine.start(flow)
    run.wait(30)
    print(sorted(run.workflow.stages[0].outputs["done"]))
"""


class State(TypedDict):
    done: Annotated[list[Any], operator.add]


def graph(saver, *nodes):
    """Compile nodes one after the other."""
    builder = StateGraph(State)
    builder.add_sequence(nodes)
    builder.add_edge(START, nodes[0].__name__)
    return builder.compile(checkpointer=saver)


def thread(name="t"):
    return {"configurable": {"thread_id": name}}


def rows(database):
    """Count the rows of the tables of graphs."""
    tables = ("graph_checkpoint", "graph_channel", "graph_write")
    return database.call_read(lambda c: [c.raw.execute(f"SELECT count(*) FROM {table}").get for table in tables])


@pytest.mark.parametrize("program", [ALONE, STAGE], ids=["by thread_id", "as a stage"])
def test_killed_graph_goes_on_at_the_node_that_was_at_work(program, tmp_path):
    """SIGKILL in the second node: it alone is run again, neither the one before it nor the one beside it."""
    command = [sys.executable, "-c", GRAPH + program]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout.readline() == "at work\n"
        killed.kill()

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)

    nodes = (tmp_path / "nodes").read_text().split()
    assert done.stdout == "['beside', 'first', 'second', 'third']\n"
    assert sorted(nodes[:2]) == ["beside", "first"]
    assert nodes[2:] == ["second", "second", "third"]
    assert examine(str(tmp_path / "graphs.db")).is_healthy


def test_interrupts_of_a_graph_are_questions_of_its_stage():
    """A node that asks twice the same is answered twice by a person, and gets the answers in their order."""

    def ask(state):
        return {"done": [interrupt("How many?")["answer"], interrupt("How many?")["answer"]]}

    flow = Flow("asks")

    @flow.stage
    async def work(stage: StageExecution) -> dict:
        return await run_graph(stage, graph(saver, ask), {"done": []})

    with Engine(":memory:") as engine, StoreSaver(engine) as saver:
        run = engine.start(flow)
        gate = None
        for answer in ("three", "four"):
            gate = next_gate(run, gate)
            assert gate.question == "How many?"
            run.approve(gate, answer=answer)
        run.wait(30)

        assert run.workflow.stages[0].outputs["done"] == ["three", "four"]


def test_checkpoints_of_a_stage_go_with_its_run():
    """Deleting a run takes the checkpoints of its graphs along, and no others."""

    def one(state):
        return {"done": [1]}

    flow = Flow("goes")

    @flow.stage
    async def work(stage: StageExecution) -> dict:
        return await run_graph(stage, graph(saver, one), {"done": []})

    with Engine(":memory:") as engine, StoreSaver(engine) as saver:
        graph(saver, one).invoke({"done": []}, thread())
        before = rows(engine.database)
        runs = [engine.start(flow) for _ in range(2)]
        assert [run.wait(30).name for run in runs] == ["SUCCEEDED"] * 2
        assert rows(engine.database) == [3 * count for count in before]

        assert len(engine.prune(keep=0)) == 2
        assert rows(engine.database) == before
        assert saver.get_tuple(thread()).checkpoint["channel_values"]["done"] == [1]


def test_graph_without_a_saver_of_ours_is_refused():
    """A stage does not run a graph that would begin anew after a crash."""

    def one(state):
        return {"done": [1]}

    flow = Flow("forgets")

    @flow.stage
    async def work(stage: StageExecution) -> dict:
        return await run_graph(stage, graph(None, one), {"done": []})

    with Engine(":memory:") as engine:
        run = engine.start(flow)
        run.wait(30)

        assert "compile it with checkpointer=StoreSaver(...)" in run.workflow.stages[0].error


class Mood(enum.Enum):
    GOOD = "good"


@dataclass
class Found:
    mood: Mood


def test_only_types_that_were_named_are_stored():
    """A value that would be another one after a crash is refused when it is written; a named type comes back."""

    def find(state):
        return {"done": [Found(Mood.GOOD)]}

    with StoreSaver(":memory:", types=[Found]) as saver, pytest.raises(ValueNotStorableError, match=r"Mood: name it"):
        graph(saver, find).invoke({"done": []}, thread())
    with StoreSaver(":memory:", types=[Found, Mood]) as saver:
        graph(saver, find).invoke({"done": []}, thread())
        assert saver.get_tuple(thread()).checkpoint["channel_values"]["done"] == [Found(Mood.GOOD)]


def test_nothing_is_unpickled():
    """A serializer that falls back on pickle is refused, and so is a value that only pickle can hold."""
    with pytest.raises(ConfigError, match="pickle_fallback=True would run whatever code a database holds"):
        StoreSaver(":memory:", serde=JsonPlusSerializer(pickle_fallback=True))

    def code(state):
        return {"done": [code]}

    with StoreSaver(":memory:") as saver, pytest.raises(ValueNotStorableError, match="cannot be stored"):
        graph(saver, code).invoke({"done": []}, thread())


def test_config_without_a_thread_is_refused():
    """The sentence says what to pass."""
    with StoreSaver(":memory:") as saver, pytest.raises(ConfigError, match="the config names none"):
        saver.get_tuple({"configurable": {}})


def test_branches_of_a_thread_keep_their_values():
    """Two branches that begin at one checkpoint have versions of the same count, and values of their own."""

    def one(state):
        return {"done": [len(state["done"])]}

    with StoreSaver(":memory:") as saver:
        compiled = graph(saver, one)
        compiled.invoke({"done": ["a"]}, thread())
        *_, first = saver.list(thread())
        ends = [compiled.update_state(first.config, {"done": [word]}, as_node="one") for word in ("b", "c")]

        assert [compiled.get_state(end).values["done"] for end in ends] == [["b"], ["c"]]
        assert [each.checkpoint["id"] for each in saver.list(None)] == [
            each.checkpoint["id"] for each in saver.list(thread())
        ]


def added(before, writes):
    return [*before, *(item for write in writes for item in write)]


class Long(TypedDict):
    done: Annotated[list[Any], DeltaChannel(added)]


def test_pruning_keeps_the_differences_of_which_a_value_consists():
    """What the newest checkpoint needs of its ancestors stays, other checkpoints and values go."""

    def one(state):
        return {"done": [len(state["done"])]}

    builder = StateGraph(Long)
    builder.add_node("one", one)
    builder.add_edge(START, "one")
    with StoreSaver(":memory:") as saver:
        compiled = builder.compile(checkpointer=saver)
        for _ in range(3):
            compiled.invoke({"done": ["x"]}, thread())
        value = compiled.get_state(thread()).values["done"]
        graph(saver, one).invoke({"done": []}, thread("plain"))

        saver.prune(["t", "plain"])

        assert len(value) == 6
        assert compiled.get_state(thread()).values["done"] == value
        assert len(list(saver.list(thread("plain")))) == 1
        saver.prune(["t"], strategy="delete")
        saver.delete_thread("plain")
        assert rows(saver.database) == [0, 0, 0]
        with pytest.raises(ConfigError, match="strategy 'all' is not known"):
            saver.prune(["t"], strategy="all")


def test_large_values_are_kept_once():
    """A channel that does not change is written once, however many checkpoints have it."""

    class Document(TypedDict):
        text: str
        count: int

    def count(state):
        return {"count": state["count"] + 1}

    builder = StateGraph(Document)
    builder.add_node("count", count)
    builder.add_edge(START, "count")
    builder.add_conditional_edges("count", lambda state: "count" if state["count"] < 20 else "__end__")
    with StoreSaver(":memory:") as saver:
        text = "word " * 400_000
        asyncio.run(builder.compile(checkpointer=saver).ainvoke({"text": text, "count": 0}, thread()))

        newest, *_ = saver.list(thread(), limit=1)
        assert newest.checkpoint["channel_values"]["text"] == text
        sizes = saver.database.call_read(lambda c: c.raw.execute("SELECT sum(length(body)) FROM graph_channel").get)
        assert sizes < 2.1 * len(text)
