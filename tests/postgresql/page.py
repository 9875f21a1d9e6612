"""
The table of docs/postgresql.md, made of what the long run has found.

    python -m tests.postgresql.page      writes it anew from docs/postgresql.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.postgresql.proxy import Way

PAGE = Path("docs/postgresql.md")
RESULT = PAGE.with_suffix(".json")
BEGIN, END = "<!-- table: python -m tests.postgresql.page -->\n", "<!-- end -->\n"
Found = Mapping[str, Any]


def _kills(found: Found) -> str:
    kinds = ", ".join(f"{found['kinds'][kind]:,} {told}" for kind, told in KILLS.items())
    return f"{sum(found['kinds'].values()):,} ({kinds})"


def _ended(found: Found) -> str:
    return f"{sum(found['kinds'].values()):,}, at every statement of {len(found['shapes'])} shapes"


def _doubts(found: Found) -> str:
    ways = "; ".join(f"{found['kinds'][way.name.lower()]} {way.value}" for way in Way if way is not Way.ENDED)
    return f"{sum(found['kinds'].values())}: {ways}"


def _restarts(found: Found) -> str:
    return f"{found['restarts']} restarts under {found['runs']} workflows"


def _workers(found: Found) -> str:
    times = f"{found['p50']:.2f} s (p50), {found['p99']:.2f} s (p99)"
    return (
        f"{found['kills']} kills under {found['runs']} workflows of 4 stages in {found['processes']} processes; "
        f"{found['again']} bodies begun again, {times} after the kill"
    )


def _scenarios(found: Found) -> str:
    return f"{found['passed']:,} tests"


KILLS = {
    "commit": "before and after a commit",
    "statement": "before a statement",
    "again": "at a commit and again in the recovery",
}
#: Part -> what befalls whom, and how often it was tried.
ROWS: Mapping[str, tuple[str, Callable[[Found], str]]] = {
    "kills": ("a process is killed, in 25 shapes", _kills),
    "ended": ("`pg_terminate_backend`", _ended),
    "doubts": ("a proxy cuts a session around COMMIT", _doubts),
    "restarts": ("the server ends at once", _restarts),
    "workers": ("a worker is killed every second", _workers),
    "scenarios": ("nothing, or a kill as in `tests/scenarios`", _scenarios),
}


def page(report: Mapping[str, Any]) -> str:
    """Return the page with the table of a report."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + table(report) + END + rest.partition(END)[2]


def table(report: Mapping[str, Any]) -> str:
    """Return what a long run has found, as Markdown."""
    parts = report["parts"]
    lines = ["| what befalls whom | tried | lost, doubled, stuck or wrong |", "| --- | --- | ---: |"]
    lines += [
        f"| {told} | {cell(parts[name])} | {len(parts[name]['wrong'])} |"
        for name, (told, cell) in ROWS.items()
        if name in parts
    ]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return "\n".join([*lines, "", f"Carried out on {max(part['on'] for part in parts.values())} ({versions})."]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULT.read_text())))
