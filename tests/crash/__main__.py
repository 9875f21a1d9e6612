"""
Kills processes and lets disks fail, and looks whether anything was lost, stuck, wrong or doubled.

    python -m tests.crash [SHAPE ...] [--journal WAL] [--long] [--seed N] [--jobs 2] [--json FILE]

With `--json` the results are written after each shape, and shapes that the file has already are left out.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import apsw
import click

from tests.crash.plan import LONG, ROWS, SHORT
from tests.crash.shapes import SHAPES
from tests.crash.sweep import JOURNALS, ready, sweep


@click.command()
@click.argument("names", nargs=-1)
@click.option("--journal", type=click.Choice(JOURNALS), help="One journal mode instead of both.")
@click.option("--long", is_flag=True, help="Every statement, and many faults; about 40 minutes on two cores.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@click.option("--jobs", default=2, show_default=True, help="Scenarios at a time.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where the results are kept.")
def main(names: tuple[str, ...], journal: str | None, long: bool, seed: int, jobs: int, file: Path | None) -> None:
    """Sweep the shapes named, or all."""
    ready()
    plan = replace(LONG if long else SHORT, seed=seed)
    report = _report(file, asdict(plan))
    for mode in (journal,) if journal else JOURNALS:
        for name in names or SHAPES:
            if f"{name}, {mode}" not in report["shapes"]:
                found = report["shapes"][f"{name}, {mode}"] = sweep(name, mode, plan, jobs)
                counted = "  ".join(f"{kind} {count}" for kind, count in found["kinds"].items())
                print(f"{name:26} {mode:9} {found['seconds']:6} s  {counted}  {len(found['wrong'])} wrong", flush=True)
                for line in found["wrong"][:3]:
                    print("   ", line[:1500], flush=True)
                _sum_up(report)
                if file:
                    file.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['totals']} in {report['seconds']} s, {len(report['wrong'])} wrong")
    sys.exit(bool(report["wrong"]))


def _report(file: Path | None, plan: dict[str, Any]) -> dict[str, Any]:
    """Return what a file has of this plan already, or an empty report."""
    if file and file.exists() and (kept := json.loads(file.read_text()))["plan"] == plan:
        return kept
    versions = {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version(), "apsw": apsw.apsw_version()}
    return {"begun": time.strftime("%Y-%m-%d"), "plan": plan, "versions": versions, "shapes": {}}


def _sum_up(report: dict[str, Any]) -> None:
    shapes = report["shapes"].values()
    totals: Counter[str] = sum((Counter(shape["kinds"]) for shape in shapes), Counter())
    report["totals"] = {kind: totals[kind] for kind in ROWS}
    report["repeated"] = sum(shape["repeated"] for shape in shapes)
    report["seconds"] = round(sum(shape["seconds"] for shape in shapes))
    report["wrong"] = [line for shape in shapes for line in shape["wrong"]]


if __name__ == "__main__":
    main()
