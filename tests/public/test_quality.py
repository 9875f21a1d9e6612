"""The tools that judge the code: their verdict is a test, so that one command runs everything."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    name: str
    command: tuple[str, ...]


TOOLS = [
    Tool(name="ruff check", command=("ruff", "check", "--no-fix")),
    Tool(name="ruff format", command=("ruff", "format", "--check")),
    Tool(name="mypy", command=("mypy",)),
    Tool(name="lint-imports", command=("lint-imports",)),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_tool_finds_nothing(tool: Tool, capsys: pytest.CaptureFixture[str]):
    """The tool ends with success over the whole repository."""
    program, *arguments = tool.command
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    verdict = (done.stdout + done.stderr).strip()

    with capsys.disabled():
        print(f"\n{tool.name}: {verdict.splitlines()[-1]}")
    assert done.returncode == 0, verdict
