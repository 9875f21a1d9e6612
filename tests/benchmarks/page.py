"""The tables of a report: on docs/performance.md between their marks, and on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from tests.benchmarks.bounds import OURS, Report, Steps, bounds, over
from tests.benchmarks.peers import OTHERS
from tests.benchmarks.rounds import median

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
RESULT = PAGE.with_suffix(".json")
STORES = {"full": "SQLite `full`", "normal": "SQLite `normal`", "postgresql": "PostgreSQL"}
COUNTED = {
    "commits": "commits", "queries": "queries", "rows_read": "rows read", "rows_written": "rows written",
    "calls": "calls of Python functions", "trips": "round trips",
}  # fmt: skip
NOTHING = "–"
#: Processes that run or wait for a core, with which a machine is not quiet.
BUSY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of words; the first column is what a row is about."""

    name: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def rich(self) -> RichTable:
        """Return it for a terminal."""
        table = RichTable(*self.columns, title=self.name, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        return table


def tables(report: Report) -> list[Table]:
    """Return the tables of whatever was measured."""
    steps = Steps(report)
    made = [
        Table(name="bounds", columns=["", "asked for", "measured", "of CPU time", "holds"], rows=list(_bounds(report))),
        Table(name="stages", columns=["µs a stage", *_pairs("× bare")], rows=list(_stages(steps, "us"))),
        Table(name="cpu", columns=["µs of CPU a stage", *_pairs("× bare")], rows=list(_stages(steps, "cpu_us"))),
        Table(name="commits", columns=["µs a commit", *STORES.values()], rows=list(_commits(steps))),
        Table(name="others", columns=["times ours", *_kinds()], rows=list(_others(steps))),
        Table(name="memory", columns=["peak MB", *STORES.values()], rows=list(_memory(steps))),
        Table(name="waiting", columns=["ms", *STORES.values()], rows=list(_waiting(report))),
        Table(name="face", columns=["", "", "bare"], rows=list(_face(report))),
        Table(name="counts", columns=["of a stage", "SQLite", "PostgreSQL"], rows=list(_counts(report))),
    ]
    return [table for table in made if table.rows]


def page(report: Report) -> str:
    """Return the page with the tables of a report."""
    text = PAGE.read_text()
    for name, told in {**{table.name: table.markdown() for table in tables(report)}, "run": _run(report)}.items():
        begin, end = f"<!-- {name}: python -m tests.benchmarks --page -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        text = before + begin + "\n" + told + "\n" + end + rest.partition(end)[2]
    return text


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    for table in tables(report):
        console.print(table.rich())


def _pairs(word: str) -> list[str]:
    return [column for store in STORES.values() for column in (store, word)]


def _kinds() -> list[str]:
    short = {"full": "`full`", "normal": "`normal`", "postgresql": "PostgreSQL"}
    return [f"{work}, {store}" for work in ("chain", "fan", "many") for store in short.values()]


def _number(value: float | None, form: str = "") -> str:
    if value is None:
        return NOTHING
    return f"{value:{form or (',.0f' if abs(value) >= 100 else '.3g')}}"


def _bounds(report: Report) -> Iterator[list[str]]:
    for each in bounds(report):
        sign = "≥" if each.least else "≤"
        yield [
            each.text, f"{sign} {each.bound:g}{each.unit}", f"{_number(each.figure)}{each.unit}",
            NOTHING if each.cpu is None else f"{_number(each.cpu)}{each.unit}", "yes" if each.holds else "**no**",
        ]  # fmt: skip


def _stages(steps: Steps, what: str) -> Iterator[list[str]]:
    named = {
        "chain": lambda size: f"chain of {size:,}", "fan": lambda size: f"1 → {size:,} → 1",
        "many": lambda size: f"{size} workflows of 3",
    }  # fmt: skip
    seen = dict.fromkeys((work, size, who) for work, _, size, who in steps.rows if who.startswith(OURS))
    for work, size, who in sorted(seen, key=lambda key: (list(named).index(key[0]), key[1], key[2])):
        cells = []
        for store in STORES:
            one = work, store, size, who
            cells.append(_number(median(steps.measured(*one, what=what) or [])))
            cells.append(_number(steps.ratio(one, (work, store, size, "bare"), what=what)))
        yield [named[work](size) + (", once they are stored" if who != OURS else ""), *cells]


def _commits(steps: Steps) -> Iterator[list[str]]:
    for who, told in (("bare", "one INSERT, one UPDATE"), ("bare, two", "one INSERT, two UPDATEs")):
        found = [median(steps.measured("chain", store, 100, who) or []) for store in STORES]
        if any(found):
            yield [told, *map(_number, found)]


def _others(steps: Steps) -> Iterator[list[str]]:
    sizes = {"chain": 100, "fan": 100, "many": 200}
    for who in [name for other in OTHERS for name in (other, f"{other}, mended")]:
        cells = [
            steps.ratio((work, store, size, who), (work, store, size))
            for work, size in sizes.items()
            for store in STORES
        ]
        if any(cell is not None for cell in cells):
            yield [who, *map(_number, cells)]


def _memory(steps: Steps) -> Iterator[list[str]]:
    for who, size in ((OURS, 100), (OURS, 1_000), (OURS, 10_000), *((who, 100) for who in ("bare", *OTHERS))):
        rows = [steps.rows.get(("chain", store, size, who)) for store in STORES]
        if any(rows):
            yield [f"{who}, chain of {size:,}", *(_number(median(row["mb"]) if row else None) for row in rows)]


def _waiting(report: Report) -> Iterator[list[str]]:
    for section, columns in (("recovery", {"ms": "from kill -9 to the first body of a new process"}), ("answers", {
        "p50": "from an approval to the end of the workflow, p50", "p95": "the same, p95",
    })):  # fmt: skip
        rows = {(row["who"], row["store"]): row for row in report.get(section, {}).get("rows", [])}
        for column, words in columns.items():
            for who in dict.fromkeys(name for name, _ in rows):
                told = f"{words}: {'a bare commit' if who == 'bare' and section == 'answers' else who}"
                yield [told, *(_number(median(rows[who, s][column]) if (who, s) in rows else None) for s in STORES)]


def _face(report: Report) -> Iterator[list[str]]:
    if times := report.get("import", {}).get("rows"):
        bare = _number(median(times["bare"]))
        for who in times:
            if who != "bare":
                name = OTHERS[who].imports if who in OTHERS else who
                yield [f"`import {name}`, ms over bare Python", _number(over(times, who)), bare]
    if times := report.get("load_ext", {}).get("rows"):
        told = "`%load_ext stabilize_nb`, ms; bare: an empty extension"
        yield [told, _number(median(times[OURS])), _number(median(times["bare"]))]
    if idle := report.get("idle", {}).get("rows"):
        told = f"CPU of an engine that waits for an approval, for {report['idle']['seconds']:g} s, % of a core"
        for store, name in STORES.items():
            if store in idle:
                yield [f"{told}: {name}", _number(idle[store]), _number(idle["bare"])]
    if found := report.get("events", {}).get("rows"):
        bare = f"{found['bare']:.2f}"
        yield [f"`run.events` of {found['events']:,} facts, s; bare: the SELECT", f"{found['frame']:.2f}", bare]
        yield ["peak GB of a process that does it", f"{found['GB']:.2f}", NOTHING]
    if found := report.get("repaint", {}).get("rows"):
        for words, name in (("a repaint after a stage has ended", ""), ("the picture that stays", "picture_")):
            told = f"graph of {found['stages']} stages, {words}"
            yield [f"{told}: kB", _number(found[f"{name}bytes"] / 1_000), NOTHING]
            yield [f"{told}: ms of CPU", _number(found[f"{name}ms"]), NOTHING]
            yield ["of them for the layout, in a process of its own", _number(found[f"{name}layout_ms"]), NOTHING]


def _counts(report: Report) -> Iterator[list[str]]:
    costs: dict[str, Any] = report.get("counts", {}).get("rows", {})
    for name, words in COUNTED.items():
        if any(name in cost for cost in costs.values()):
            cells = [costs.get(store, {}).get(name) for store in ("sqlite", "postgresql")]
            yield [words, *(_number(cell, ".2f" if cell is not None and cell < 100 else "") for cell in cells)]


def _run(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    loads = [load for part in report.values() if isinstance(part, dict) for load in part.get("load", [])]
    rounds = [sum(us is not None for us in row["us"]) for row in report["steps"]["rows"]]
    return (
        f"Measured on {report['on']}, on {report['cores']} cores ({versions}); chains, fans and workflows in"
        f" {min(rounds)} to {max(rounds)} rounds. Processes that ran or waited for a core meanwhile, ours included:"
        f" {min(loads):.1f} to {max(loads):.1f}"
        + (
            ": other work was done beside it, so times are longer than on a quiet machine.\n"
            if max(loads) > BUSY
            else ".\n"
        )
    )
