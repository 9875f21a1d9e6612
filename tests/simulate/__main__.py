"""The long run: `python -m tests.simulate --seeds 100000 --record docs/simulation.md`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from tests.simulate.coverage import FAULTS
from tests.simulate.record import page
from tests.simulate.simulation import Tally, explain, tally

CHUNK = 50


@click.command()
@click.option("--seeds", default=2_000, show_default=True, help="How many seeds to simulate.")
@click.option("--start", default=0, show_default=True, help="The first of them.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="Processes to work in.")
@click.option("--reports", default=5, show_default=True, help="How many divergences to report with a smallest plan.")
@click.option("--record", type=click.Path(path_type=Path), help="Markdown page to write the result to.")
def main(seeds: int, start: int, jobs: int, reports: int, record: Path | None) -> None:
    """Run random workflows against the reference model; ends with 1 when the two do not agree."""
    console = Console()
    total = _simulate(console, range(start, start + seeds), jobs)
    console.print(_features(total), _facts(total))
    console.print(
        f"{total.seeds:,} seeds from {start:,}, {total.commits:,} commits, {total.foretold:,} ends known beforehand: "
        f"{len(total.divergences):,} divergences"
    )
    if record is not None:
        record.write_text(page(total, start), encoding="utf-8")
    for seed in islice(sorted(total.divergences), reports):
        console.print(explain(seed), markup=False, highlight=False, soft_wrap=True)
    if total.divergences:
        console.print(f"seeds that diverge: {', '.join(map(str, sorted(total.divergences)))}")
        raise SystemExit(1)


def _simulate(console: Console, seeds: range, jobs: int) -> Tally:
    total = Tally()
    shown = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*shown, TimeRemainingColumn(), console=console) as progress, ProcessPoolExecutor(jobs) as pool:
        task = progress.add_task("seeds", total=len(seeds))
        for part in pool.map(tally, _chunks(seeds)):
            total.add(part)
            progress.update(task, advance=part.seeds, description=f"seeds, {len(total.divergences)} divergences")
    return total


def _chunks(seeds: range) -> Iterator[range]:
    return (seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK))


def _features(total: Tally) -> Table:
    table = Table(title="Seeds with each feature, and with each fault beside it")
    for name in ("feature", "seeds", *FAULTS):
        table.add_column(name, justify="left" if name == "feature" else "right")
    for name, count in sorted(total.features.items()):
        table.add_row(name, f"{count:,}", *(f"{total.cells[name, fault]:,}" for fault in FAULTS))
    return table


def _facts(total: Tally) -> Table:
    table = Table("fact", Column("times", justify="right"), title="Facts")
    for name, count in sorted(total.facts.items()):
        table.add_row(name, f"{count:,}")
    return table


if __name__ == "__main__":
    main()
