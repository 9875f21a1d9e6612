"""
The team: agents that write, test and mend a small Python library.

                 ┌───────────── again with notes, at most 4 times ──────────────┐
                 ↓                                                              │
    architect → code (one coder for each module) → suite → verify → review ─────┘
                                                                      │
                                                   release (asks you first)

The model's word is not taken for it that the library works: `verify` runs pytest. The first version fails, so the
reviewer reads the code and says what is to be mended, and the coder of that module gets its notes.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic import BaseModel

from examples.agent_team.workshop import Workshop
from stabilize_nb import Budget, Flow, StageExecution
from stabilize_nb.llm import Agent, LLMClient, tool


class Module(BaseModel):
    """A module of the library."""

    name: str
    purpose: str


class Plan(BaseModel):
    """What the library consists of."""

    modules: list[Module]


class Note(BaseModel):
    """What is to be mended in a module."""

    module: str
    text: str


class Review(BaseModel):
    """What a reviewer found."""

    notes: list[Note]


client = LLMClient(os.environ.get("MODEL", "scripted"))  # OPENAI_BASE_URL and OPENAI_API_KEY say where and who
flow = Flow(
    "agent_team",
    description="A library, written, tested and mended by agents",
    budget=Budget(tokens=400_000, calls=60, answer_tokens=2_000),
)


@flow.stage
async def architect(goal: str, stage: StageExecution) -> dict[str, Any]:
    agent = Agent(client, system="You are a software architect. The package is named textkit.", schema=Plan)
    plan = await agent.ask(stage, f"PLAN modules for: {goal}")
    return {"modules": plan["modules"]}


with flow.loop("build", until="review.passed", max=4):

    @flow.stage(each="modules")
    async def code(
        module: dict[str, str], folder: str, stage: StageExecution, notes: dict[str, str] | None = None
    ) -> str:
        name, shop = module["name"], Workshop(folder)
        if notes is None:
            coder = Agent(client, [shop.write_file], system="You write one Python module.")
            return await coder.ask(stage, f"CODE textkit/{name}.py: {module['purpose']}")
        if name not in notes:
            return "nothing to mend"
        coder = Agent(client, [shop.read_file, shop.write_file, shop.run_tests], system="You mend one Python module.")
        return await coder.ask(stage, f"MEND textkit/{name}.py: {notes[name]}")

    @flow.stage(after=code)
    async def suite(
        modules: list[dict[str, str]], folder: str, stage: StageExecution, notes: dict[str, str] | None = None
    ) -> str:
        if notes is not None:
            return "the tests stand"
        tester = Agent(client, [Workshop(folder).write_file], system="You write tests for pytest, one file a module.")
        listed = "\n".join(f"- {module['name']}: {module['purpose']}" for module in modules)
        return await tester.ask(stage, f"TEST these modules of textkit:\n{listed}")

    @flow.stage(after=suite)
    def verify(folder: str, stage: StageExecution) -> str:
        return stage.step("pytest", Workshop(folder).run_tests)

    @flow.stage
    async def review(verify: str, folder: str, stage: StageExecution) -> dict[str, Any]:
        if "failed" not in verify and "error" not in verify:
            return {"passed": True, "notes": {}}
        reviewer = Agent(client, [Workshop(folder).read_file], system="You review Python code.", schema=Review)
        found = await reviewer.ask(stage, f"REVIEW, pytest says:\n{verify}")
        return {"passed": False, "notes": {note["module"]: note["text"] for note in found["notes"]}}


@flow.stage(after="build", when="review.passed")
async def release(folder: str, verify: str, stage: StageExecution) -> dict[str, str]:
    asks_first = tool(approve=True)(Workshop(folder).release)
    agent = Agent(client, [asks_first], system="You release software. Call the tool, then say it in a sentence.")
    return {"released": await agent.ask(stage, f"RELEASE textkit, pytest says: {verify}")}
