"""`python -m examples.langgraph_inside`: a graph of LangGraph as one stage of a durable workflow."""

from __future__ import annotations

from typing import Any

from examples.langgraph_inside.graph import begun, builder
from stabilize_nb import Engine, Flow, StageExecution
from stabilize_nb.langgraph import StoreSaver, run_graph


def notes(saver: StoreSaver) -> Flow:
    """Return the flow; `saver` keeps the checkpoints of its graph."""
    flow = Flow("notes", description="From a question to notes that a person has read")
    graph = builder.compile(checkpointer=saver)

    @flow.stage
    def ask(question: str) -> dict[str, str]:
        return {"words": question.lower().removesuffix("?")}

    @flow.stage(after=ask, retry=3)
    async def research(words: str, stage: StageExecution) -> dict[str, Any]:
        return dict(await run_graph(stage, graph, {"words": words}))

    @flow.stage(after=research)
    def publish(notes: list[str], reader: str) -> str:
        return f"{reader} has read: {' '.join(notes)}"

    return flow


def main() -> None:
    """Ask; have a person want something else, and then agree."""
    begun.clear()
    with Engine(":memory:") as engine, StoreSaver(engine) as saver:
        run = engine.start(notes(saver), question="Gentoo heavy?")
        for choice, words in [("reject", "gentoo flippers"), ("approve", "")]:
            [gate] = run.until_gate(timeout=60)
            print(f"found: {' '.join(gate.show['found'])}")
            run.decide(gate, choice, answer=words, user="ada")
            print(f"ada: {choice} {words}".rstrip())
        print(run.result(timeout=30))
        [again] = run.events.query("type == 'task.retried'")["data"]
        print(f"begun: {dict(begun)}, once more after {again['error']!r}")


if __name__ == "__main__":
    main()
