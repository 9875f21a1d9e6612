"""
The study: what do penguins differ in?

      ┌────────────────────────── again, at most 3 times ───────────────────────────┐
      ↓                                                                             │
    plan → weight, flippers, bills → draft (2 of 3) → strict, gentle → verdict (the first)
                                                                             │
                              publish ← sign_off ← ─────────────────────────┘

Each researcher is an agent that may call the tools of penguins.py. What comes too late is withdrawn: its model call is
broken off. `publish` is a flow of its own. All model calls together may not take more than the budget.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from examples.research_analyst.penguins import interval, means
from stabilize_nb import Budget, Flow, StageExecution
from stabilize_nb.llm import Agent, LLMClient


class Plan(BaseModel):
    """What each researcher is asked."""

    weight: str
    flippers: str
    bills: str


class Verdict(BaseModel):
    """What a reviewer thinks; `gaps`: what is missing."""

    enough: bool
    gaps: str


client = LLMClient(os.environ.get("MODEL", "scripted"))  # OPENAI_BASE_URL and OPENAI_API_KEY say where and who
planner = Agent(client, system="You plan a study of the Palmer penguins: one question for each topic.", schema=Plan)
researcher = Agent(client, [means, interval], system="Answer in one sentence, with numbers from the tools alone.")
writer = Agent(client, system="You write short texts in Markdown. Take over findings word for word.")
reviewer = Agent(client, system="You review texts.", schema=Verdict)

# -- the report: a flow of its own ----------------------------------------------------------------------------------

report = Flow("report", description="From a text that was approved to a file")


@report.stage
async def summary(text: str, stage: StageExecution) -> str:
    return await writer.ask(stage, f"SUMMARISE in one sentence:\n{text}")


@report.stage
def written(text: str, summary: str, path: str) -> dict[str, str]:
    whole = f"{text}\n\n> {summary}\n"
    new = Path(f"{path}.new")
    new.write_text(whole, encoding="utf-8")
    new.replace(path)  # readers see the whole report or none, also when the process dies here
    return {"report": whole}


# -- the study --------------------------------------------------------------------------------------------------------

flow = Flow(
    "research_analyst",
    description="What penguins differ in",
    budget=Budget(usd=0.50, calls=60, answer_tokens=1_000, prices={client.model: (1.0, 4.0)}),
)

with flow.loop("study", until="verdict.enough", max=3):

    @flow.stage
    async def plan(question: str, stage: StageExecution, gaps: str | None = None) -> dict[str, Any]:
        wanted = f"PLAN for: {question}" + (f"\nThe last text had gaps: {gaps}" if gaps else "")
        return {"questions": await planner.ask(stage, wanted)}

    @flow.stage(after=plan)
    async def weight(questions: dict[str, str], stage: StageExecution) -> str:
        return await researcher.ask(stage, f"RESEARCH {questions['weight']}")

    @flow.stage(after=plan)
    async def flippers(questions: dict[str, str], stage: StageExecution) -> str:
        return await researcher.ask(stage, f"RESEARCH {questions['flippers']}")

    @flow.stage(after=plan)
    async def bills(questions: dict[str, str], stage: StageExecution) -> str:
        return await researcher.ask(stage, f"RESEARCH {questions['bills']}")

    @flow.stage(join="2 of 3", cancel_rest=True)
    async def draft(
        weight: str | None, flippers: str | None, bills: str | None, question: str, stage: StageExecution
    ) -> dict[str, str]:
        findings = "\n".join(f"- {each}" for each in (weight, flippers, bills) if each)
        return {"text": await writer.ask(stage, f"WRITE about: {question}\nFINDINGS\n{findings}")}

    @flow.stage
    async def strict(draft: dict[str, str], stage: StageExecution) -> dict[str, Any]:
        return await reviewer.ask(stage, f"REVIEW strictly, are there intervals?\n{draft['text']}")

    @flow.stage
    async def gentle(draft: dict[str, str], stage: StageExecution) -> dict[str, Any]:
        return await reviewer.ask(stage, f"REVIEW gently, are there intervals?\n{draft['text']}")

    @flow.stage(join="any", cancel_rest=True)
    def verdict(strict: dict[str, Any] | None, gentle: dict[str, Any] | None) -> dict[str, Any]:
        said = strict or gentle or {}
        return {**said, "reviewer": "strict" if strict else "gentle"}


sign_off = flow.approval("Publish this?", name="sign_off", after="study", show="text")
publish = flow.call(report, name="publish", after=sign_off)
