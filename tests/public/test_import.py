"""Importing the package costs nothing that is not needed."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import pytest

HEAVY = ("pandas", "ipywidgets", "IPython", "psycopg", "httpx2", "networkx", "numpy", "pydantic", "rich", "click")
#: Milliseconds that `import stabilize_nb` may take more than `python -c pass`.
BUDGET = 150


def run(source: str) -> str:
    """Run Python source in a fresh interpreter and return what it prints."""
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "source",
    ["import stabilize_nb", "from stabilize_nb import Engine, Flow, QueueProcessor, SqliteWorkflowStore, approve"],
)
def test_heavy_modules_stay_out(source: str) -> None:
    """Neither the package nor the engine loads a heavy module before it is used."""
    loaded = json.loads(run(f"{source}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"))

    assert set(HEAVY) & set(loaded) == set()


def test_import_is_quick() -> None:
    """The import takes at most 150 ms more than an empty program, in the median of interleaved runs."""
    pairs = [(timed("import stabilize_nb"), timed("pass")) for _ in range(7)]
    extra = statistics.median(a - b for a, b in pairs) * 1_000

    print(f"import stabilize_nb: {extra:.0f} ms more than an empty program")
    assert extra <= BUDGET


def timed(source: str) -> float:
    """Return the seconds that a fresh interpreter takes for some source."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", source], check=True)
    return time.perf_counter() - begun
