"""What issue 10 asks for, line by line, and whether a report shows it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.peers import OTHERS
from tests.benchmarks.rounds import median, ratio

Report = dict[str, Any]
OURS = "stabilize_nb"
#: Engines that are to take at least twice as long with the same durability.
DURABLE = ("dbos", "langgraph", "burr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """
    A line that is to be shown; `unit` stands behind the figure. `least`: the figure must not be below it.

    `cpu` is the same ratio of CPU time, which decides nothing.
    """

    text: str
    figure: float
    bound: float
    cpu: float | None = None
    unit: str = ""
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure is within the bound."""
        return self.figure >= self.bound if self.least else self.figure <= self.bound


class Steps:
    """The chains, fans and workflows of a report: µs a stage in each round."""

    def __init__(self, report: Report) -> None:
        rows = report.get("steps", {}).get("rows", [])
        self.rows = {(row["work"], row["store"], row["size"], row["who"]): row for row in rows}

    def measured(
        self, work: str, store: str, size: int, who: str = OURS, *, what: str = "us"
    ) -> list[float | None] | None:
        """Return what a stage took in each round; None where it was not measured."""
        row = self.rows.get((work, store, size, who))
        return row[what] if row else None

    def ratio(self, one: tuple[Any, ...], other: tuple[Any, ...], *, what: str = "us") -> float | None:
        """Return how often the time of another's stage one's takes."""
        these, those = self.measured(*one, what=what), self.measured(*other, what=what)
        return None if these is None or those is None else ratio(these, those)

    def bound(
        self, text: str, one: tuple[Any, ...], other: tuple[Any, ...], bound: float, *, least: bool = False
    ) -> Iterator[Bound]:
        """Yield the line of a ratio, if both were measured."""
        found = self.ratio(one, other)
        if found is not None:
            cpu = self.ratio(one, other, what="cpu_us")
            yield Bound(text=text, figure=found, bound=bound, unit="×", least=least, cpu=cpu)


def bounds(report: Report) -> list[Bound]:
    """Return the lines of which the report says something."""
    steps = Steps(report)
    return [
        *_limits(steps), *_others(steps), *_together(steps), *_growth(steps), *_answers(report), *_once(report),
    ]  # fmt: skip


def _limits(steps: Steps) -> Iterator[Bound]:
    for work, store, bound in (("chain", "normal", 10), ("chain", "full", 2), ("fan", "normal", 8), ("fan", "full", 1)):
        one = work, store, 100
        yield from steps.bound(f"{work} of 100, `{store}`: times the bare limit", one, (*one, "bare"), bound)


def _others(steps: Steps) -> Iterator[Bound]:
    asked = [("stabilize", "normal", 200), ("stabilize, mended", "normal", 10)]
    asked += [(who, store, 2) for who in DURABLE for store in OTHERS[who].stores]
    for who, store, bound in asked:
        text = f"chain of 100, {_told(store)}: faster than {who.replace('stabilize', 'stabilize 0.33.1')}"
        ours = "chain", store, 100
        yield from steps.bound(text, (*ours, who), ours, bound, least=True)


def _together(steps: Steps) -> Iterator[Bound]:
    for who, words in ((OURS, ""), (f"{OURS}, stored", ", once they are stored")):
        for store, work, bound in (("normal", "fan", 1), ("full", "fan", 1), ("full", "chain", 4)):
            text = f"200 workflows of 3{words}, `{store}`: stages a second, times those of a {work} of 100"
            yield from steps.bound(text, (work, store, 100), ("many", store, 200, who), bound, least=True)


def _growth(steps: Steps) -> Iterator[Bound]:
    for work in ("chain", "fan"):
        text = f"{work} of 10,000, `normal`: cost of a stage, times that in one of 100"
        yield from steps.bound(text, (work, "normal", 10_000), (work, "normal", 100), 1.25)


def _answers(report: Report) -> Iterator[Bound]:
    rows = {(row["store"], row["who"]): row for row in report.get("answers", {}).get("rows", [])}
    for store in ("full", "normal", "postgresql"):
        ours, bare = rows.get((store, OURS)), rows.get((store, "bare"))
        if ours and bare:
            over = median(a - b for a, b in zip(ours["p50"], bare["p50"], strict=True)) or 0
            text = f"approval to the end of the workflow, {_told(store)}"
            yield Bound(text=f"{text}: p50 over a commit", figure=over, bound=5, unit=" ms")
            yield Bound(text=f"{text}: p95", figure=median(ours["p95"]) or 0, bound=15, unit=" ms")


def _once(report: Report) -> Iterator[Bound]:
    if costs := report.get("counts", {}).get("rows", {}).get("postgresql"):
        yield Bound(text="PostgreSQL: round trips of a task", figure=costs["trips"], bound=2)
        yield Bound(text="PostgreSQL: commits of a task", figure=costs["commits"], bound=1)
    if times := report.get("import", {}).get("rows"):
        yield Bound(text="`import stabilize_nb`, over bare Python", figure=over(times, OURS), bound=120, unit=" ms")
    for store, percent in report.get("idle", {}).get("rows", {}).items():
        if store != "bare":
            yield Bound(text=f"an idle engine on {_told(store)}: of a core", figure=percent, bound=0.2, unit=" %")


def over(times: dict[str, list[float]], who: str) -> float:
    """Return the ms that something took more than nothing, in the median of the turns."""
    return statistics.median(a - b for a, b in zip(times[who], times["bare"], strict=False))


def _told(store: str) -> str:
    return "PostgreSQL" if store == "postgresql" else f"`{store}`"
