"""`python -m examples.agent_team`: agents write, test and mend a small Python library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from examples.agent_team.script import ROMAN, RULES, SLUG, TABLE
from examples.agent_team.workshop import Workshop
from examples.example import Example, command

GOAL = "a library for small jobs with texts: slugs, Markdown tables, Roman numerals"


def inputs(folder: Path) -> dict[str, Any]:
    return {"goal": GOAL, "folder": str(folder)}


def faults(folder: Path) -> list[str]:
    """Return what is wrong with the library that the scripted model leads to."""
    wrong = [
        f"{name}.py is not as it was written"
        for name, code in {"slug": SLUG, "table": TABLE, "roman": ROMAN}.items()
        if not (file := folder / "textkit" / f"{name}.py").exists() or file.read_text(encoding="utf-8") != code
    ]
    if not (folder / "dist" / "textkit-0.1.0.zip").exists():
        wrong.append("nothing was released")
    said = "" if wrong else Workshop(str(folder)).run_tests()
    return wrong if wrong or "7 passed" in said else [f"the tests say {said!r}"]


EXAMPLE = Example(name="agent_team", flow="examples.agent_team.team:flow", rules=RULES, inputs=inputs, faults=faults)

if __name__ == "__main__":
    command(EXAMPLE)()
