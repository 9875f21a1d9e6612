"""The result of a long run as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulate.coverage import FAULTS
from tests.simulate.simulation import Tally

HEAD = """\
# Simulation

`tests/simulate` draws random workflows from seeds: splits, joins, jumps, choices, locks and sections, milestones,
regions, threads, instances, synthetic stages and child workflows, up to three workflows that share locks. It works at
them in one thread, in memory, by a clock that is a number. Messages are taken in any order, late and a second time;
leases run out while a body goes on; the process dies with all its bodies; decisions are lost before their commit; and
people signal, cancel, pause, resume, add, close and complete at any moment.

After every decision the facts that were recorded are held against a reference model, which knows the specification and
nothing of the engine, and after every commit the status of every row. When nothing moves any more, nothing may be left
that should have. At the end the log has to give the rows, and plans whose end no order can change have to end as
they must. `tests/simulate/test_planted_bugs.py` plants bugs in the engine, one at a time, and each has to be found.

    python -m tests.simulate --seeds 100000     # the long run; a report shows the smallest plan that still diverges
    python -m pytest tests/simulate             # 2,000 seeds and the planted bugs

This page is written by the long run (`--record docs/simulation.md`).
"""


def page(total: Tally, start: int) -> str:
    """Return the page that says what a run covered and found."""
    return "\n".join([HEAD, *_result(total, start), "", *_features(total), "", *_facts(total), ""])


def _result(total: Tally, start: int) -> Iterator[str]:
    yield "## Result"
    yield ""
    yield from _table(
        ("what", "number"),
        [
            ("seeds", f"{total.seeds:,} from {start:,}"),
            ("divergences", f"{len(total.divergences):,}"),
            ("commits", f"{total.commits:,}"),
            ("plans whose end was known beforehand", f"{total.foretold:,}"),
        ],
    )


def _features(total: Tally) -> Iterator[str]:
    yield "## Seeds with each feature, and with each fault beside it"
    yield ""
    yield "repeat: messages come twice; lose: leases run out; crash: the process dies; abort: decisions are lost;"
    yield "delay: messages are late."
    yield ""
    rows = [
        (name, f"{count:,}", *(f"{total.cells[name, fault]:,}" for fault in FAULTS))
        for name, count in sorted(total.features.items())
    ]
    yield from _table(("feature", "seeds", *FAULTS), rows)


def _facts(total: Tally) -> Iterator[str]:
    yield "## Facts recorded"
    yield ""
    yield from _table(("fact", "times"), [(name, f"{count:,}") for name, count in sorted(total.facts.items())])


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
