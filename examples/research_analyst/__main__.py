"""`python -m examples.research_analyst`: researchers, reviewers and you find out what penguins differ in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from examples.example import Example, command
from examples.research_analyst.script import RULES

QUESTION = "What do penguins differ in?"
#: What the second look finds; two of three stand in the report.
FINDINGS = {
    "weight": r"Males are heavier than females by 532\.\d to 831\.\d g",
    "flippers": r"Adelie flippers are 0\.\d to 5\.\d mm longer on Torgersen",
    "bills": r"Bills of Chinstrap are \d+\.\d to \d+\.\d mm longer",
}


def inputs(folder: Path) -> dict[str, Any]:
    return {"question": QUESTION, "path": str(folder / "report.md")}


def faults(folder: Path) -> list[str]:
    """Return what is wrong with the report that the scripted model leads to."""
    path = folder / "report.md"
    if not path.exists():
        return ["there is no report"]
    text = path.read_text(encoding="utf-8")
    found = [name for name, pattern in FINDINGS.items() if re.search(pattern, text)]
    wrong = [] if text.count("\n- ") == len(found) >= 2 else [f"the report has the findings {found}: {text!r}"]
    return wrong + [f"the report lacks {part!r}" for part in (f"# {QUESTION}", "> Penguins differ") if part not in text]


EXAMPLE = Example(
    name="research_analyst", flow="examples.research_analyst.study:flow", rules=RULES, inputs=inputs, faults=faults
)

if __name__ == "__main__":
    command(EXAMPLE)()
