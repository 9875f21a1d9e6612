"""Pages of the documentation are true: their code runs, and prints what stands below it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    "agents.md",
    "analysis.md",
    "docker.md",
    "http.md",
    "langgraph.md",
    "mcp.md",
    "other-agents.md",
    "security.md",
    "starting.md",
    "tasks.md",
    "verification.md",
    "workers.md",
]
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_page_runs_and_prints_what_it_says(page, tmp_path):
    """The blocks of a page are one program, and what it prints are the texts of the page."""
    blocks = BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    program = "\n".join(code for language, code in blocks if language == "python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert done.stdout == "".join(text for language, text in blocks if language == "text")
