"""A graph as the body of a stage: nodes that are done are not done again, and interrupts are questions to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic_core
from langgraph.types import Command

from stabilize_nb.errors import ConfigError
from stabilize_nb.langgraph.saver import StoreSaver

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel import Pregel
    from langgraph.types import Interrupt

    from stabilize_nb.models.stage import StageExecution


async def run_graph(stage: StageExecution, graph: Pregel[Any, Any, Any, Any], given: Any) -> Any:
    """
    Run a compiled graph to its end in the body of a stage, and return its last values as JSON data.

    Its checkpointer is a StoreSaver; its thread is the idempotency key of the stage. When the body is run again, after
    a crash or the answer of a person, the graph goes on at the nodes that were not done. An interrupt becomes a
    question of the stage: the node gets a mapping with `choice` and what came with it, such as `answer`.

    Raises ConfigError for a graph without a StoreSaver.
    """
    saver = graph.checkpointer
    if not isinstance(saver, StoreSaver):
        raise ConfigError(
            f"stage {stage.ref_id!r} runs a graph that keeps no checkpoints in a store: compile it with "
            "checkpointer=StoreSaver(...)"
        )
    config: RunnableConfig = {"configurable": {"thread_id": stage.idempotency_key}}
    now = given if await saver.aget_tuple(config) is None else None
    while True:
        values = await graph.ainvoke(now, config, durability="sync")
        interrupts = (await graph.aget_state(config)).interrupts
        if not interrupts:
            return pydantic_core.to_jsonable_python(values)
        now = Command(resume={each.id: await _answer(stage, each) for each in interrupts})


async def _answer(stage: StageExecution, interrupt: Interrupt) -> dict[str, Any]:
    """Ask a person what a node asks; each interrupt has an id of its own, also the second one of a node."""
    asked = pydantic_core.to_jsonable_python(interrupt.value)
    message = asked if isinstance(asked, str) else "The graph asks:"
    show = None if isinstance(asked, str) else asked
    answer = await stage.ask_async(message, show=show, form={"answer": "str?"}, name=f"interrupt:{interrupt.id}")
    return {**answer.data, "choice": answer.choice}
