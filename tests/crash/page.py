"""
The figures of docs/reliability.md: those it promises, and the table of the long run.

    python -m tests.crash.page      writes the table anew from docs/reliability.json
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash.plan import ROWS

PAGE = Path("docs/reliability.md")
RESULT = PAGE.with_suffix(".json")
BEGIN, END = "<!-- table: python -m tests.crash.page -->\n", "<!-- end -->\n"
_PROMISE = re.compile(r"at least (?P<kills>[\d,]+) kills,\s+(?P<faults>[\d,]+) faults of the disk\s+and "
                      r"(?P<losses>[\d,]+) losses of power")  # fmt: skip


def figures(text: str) -> dict[str, int]:
    """Return what the page promises of the test command."""
    found = _PROMISE.search(text)
    assert found, f"no sentence like {_PROMISE.pattern}"
    return {name: int(number.replace(",", "")) for name, number in found.groupdict().items()}


def page(report: dict[str, Any]) -> str:
    """Return the page with the table of a report."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + table(report) + END + rest.partition(END)[2]


def table(report: dict[str, Any]) -> str:
    """Return what a long run has found, as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    journals = {journal: _count(report, journal) for journal in ("WAL", "TRUNCATE")}
    lines = ["| what befalls a process | WAL | TRUNCATE | lost, stuck or wrong |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {told} | {journals['WAL'][kind]:,} | {journals['TRUNCATE'][kind]:,} | 0 |" for kind, told in ROWS.items()
    ]
    told = (
        f"{sum(report['totals'].values()):,} scenarios on {report['begun']} ({versions}; seed {report['plan']['seed']})"
    )
    lines += ["", f"{told}; {report['repeated']:,} bodies were run again, each of them predicted."]
    if recovery := report.get("recovery"):
        told = f"After {recovery['kills']} kills in the middle of a body another process was in a body"
        lines += ["", f"{told} after {recovery['p50']:.2f} s (p50), {recovery['p99']:.2f} s (p99)."]
    return "\n".join(lines) + "\n" if not report["wrong"] else f"**{len(report['wrong'])} wrong**\n"


def _count(report: dict[str, Any], journal: str) -> Counter[str]:
    kinds = (Counter(shape["kinds"]) for name, shape in report["shapes"].items() if name.endswith(f", {journal}"))
    return sum(kinds, Counter())


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULT.read_text())))
