"""
A support desk whose routes are data: the graph of a ticket is made of a table of conditions.

                                     ┌── too long ──┐
                                     ↓              │
    read → billing, technics, sales → answer ──→ check → clerk or manager → letter → send, send, ... → close
      (every one that is concerned, else reception)      (exactly one)               (one for each address)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stabilize_nb import JoinType, SplitType, StageExecution, TaskExecution, TaskRegistry, TaskResult, Workflow
from stabilize_nb.stages.multi_instance_builder import MultiInstanceBuilder

#: What answers when no route fits, and how many characters an answer may have.
DEFAULT, LONGEST = "reception", 60


def workflow(ticket: str, routes: Mapping[str, str]) -> Workflow:
    """Return the workflow of a ticket; `routes`: desk -> the condition under which it is asked."""
    desks = [*routes, DEFAULT]
    read = stage("read", split_type=SplitType.OR, split_conditions=dict(routes), split_default=DEFAULT)
    answer = stage("answer", *desks, join_type=JoinType.OR, output_reducers={"said": "collect"})
    check = stage(
        "check",
        "answer",
        jump_targets={"answer"},
        split_type=SplitType.XOR,
        split_conditions={"manager": "amount > 100"},
        split_default="clerk",
    )
    letter = stage("letter", "clerk", "manager", join_type=JoinType.OR)
    *_, closed = MultiInstanceBuilder.create_from_collection(letter, "addresses", "address", instance_type="send")
    closed.tasks, closed.output_reducers = [only("close")], {"sent": "collect"}
    return Workflow.create(
        "support",
        "ticket",
        [
            read,
            *(stage(desk, "read", task="desk") for desk in desks),
            answer,
            check,
            stage("clerk", "check", task="sign"),
            stage("manager", "check", task="sign"),
            letter,
            closed,
        ],
        context={"ticket": ticket},
    )


def stage(ref_id: str, *after: str, task: str | None = None, **fields: Any) -> StageExecution:
    """Return a stage with one task: that of its own name, unless another one is named."""
    return StageExecution(ref_id=ref_id, requisite_stage_ref_ids=set(after), tasks=[only(task or ref_id)], **fields)


def only(task: str) -> TaskExecution:
    """Return the first and last task of a stage."""
    return TaskExecution.create(task, task, stage_start=True, stage_end=True)


# -- tasks ------------------------------------------------------------------------------------------------------------


def read(stage: StageExecution) -> dict[str, Any]:
    ticket = stage.context["ticket"]
    amount = re.search(r"(\d+) euros", ticket)
    return {
        "words": re.findall(r"[a-z]+", ticket.lower()),
        "amount": int(amount[1]) if amount else 0,
        "addresses": re.findall(r"\S+@\S+", ticket),
    }


def desk(stage: StageExecution) -> dict[str, str]:
    return {"said": f"{stage.ref_id} has looked into what you wrote"}


def answer(stage: StageExecution) -> dict[str, str]:
    said = stage.context["said"]
    return {"text": f"{len(said)} of our desks are on it" if stage.context.get("short") else "; ".join(said)}


def check(stage: StageExecution) -> TaskResult:
    """Have what is too long written again."""
    if len(stage.context["text"]) > LONGEST:
        return TaskResult.jump_to("answer", context={"short": True})
    return TaskResult.success()


def sign(stage: StageExecution) -> dict[str, str]:
    return {"signature": stage.ref_id}


def letter(stage: StageExecution) -> dict[str, str]:
    return {"letter": f"{stage.context['text']} (signed by the {stage.context['signature']})"}


def send(stage: StageExecution) -> dict[str, str]:
    return {"sent": stage.context["address"]}


def close(stage: StageExecution) -> dict[str, Any]:
    return {"letter": stage.context["letter"], "readers": stage.context.get("sent", [])}


def register(registry: TaskRegistry) -> None:
    """Make the tasks known to an engine."""
    for task in (read, desk, answer, check, sign, letter, send, close):
        registry.register(task.__name__, task)
