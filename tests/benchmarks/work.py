"""What engines do: chains, fans, many small workflows, going on after a kill, and the answer at a gate."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import OTHERS
from tests.benchmarks.peers.contract import NOTES
from tests.benchmarks.rounds import Job, Place, Record, in_rounds

STORES = ("full", "normal", "postgresql")
#: Sizes of chains and fans; the largest is run on one store alone: where a commit costs least, growth shows most.
SIZES = {"chain": (10, 100, 1_000, 10_000), "fan": (100, 10_000)}
LARGEST, ON = 10_000, "normal"
USUAL = 100
WORKFLOWS = 200
#: As shipped, `stabilize` takes a tenth of a second for a step: a round of it says enough.
SLOW = 1
ANSWERS = 40
LONG = 200


def steps(place: Place, parts: set[str], rounds: int, *, quick: bool) -> list[Record]:
    """Measure chains, fans and many small workflows; all of them in the same rounds."""
    done = in_rounds(place, [job for job in _jobs(quick=quick) if job.work in parts], rounds, _once)
    return [
        {
            "work": job.work, "store": job.store, "size": job.size, "who": job.name,
            **{name: _column(records, name) for name in ("us", "cpu_us", "mb")},
        }
        for job, records in done.items()
    ]  # fmt: skip


def _jobs(*, quick: bool) -> list[Job]:
    jobs = []
    for store in STORES:
        for work, sizes in SIZES.items():
            for size in sizes:
                if size <= (USUAL if quick else 1_000) or (size == LARGEST and store == ON and not quick):
                    jobs += [Job(work=work, store=store, size=size, who=who) for who in ("bare", "stabilize_nb")]
        jobs.append(Job(work="chain", store=store, size=USUAL, who="bare", variant="two"))
        jobs += [Job(work="many", store=store, size=WORKFLOWS, who=who) for who in ("bare", "stabilize_nb")]
        jobs.append(Job(work="many", store=store, size=WORKFLOWS, variant="stored"))
        for who, other in OTHERS.items():
            if store in other.stores:
                jobs += _of_other(who, store)
    return jobs


def _of_other(who: str, store: str) -> list[Job]:
    jobs = [Job(work="chain", store=store, size=USUAL, who=who, rounds=SLOW if who == "stabilize" else 99)]
    if who == "stabilize":
        works = {"chain": USUAL, "fan": USUAL, "many": WORKFLOWS}
        return jobs + [
            Job(work=work, store=store, size=size, who=who, variant="mended") for work, size in works.items()
        ]
    works = {"fan": USUAL, "many": WORKFLOWS}
    return jobs + [Job(work=work, store=store, size=size, who=who) for work, size in works.items()]


def _once(place: Place, job: Job) -> Record:
    with place.store(job) as words:
        record = place.play(job, job.work, words)
    each = 1e6 / record["steps"]
    return {"us": record["seconds"] * each, "cpu_us": record["cpu"] * each, "mb": record["mb"]}


def recovery(place: Place, rounds: int) -> list[Record]:
    """Kill a process in the middle of a chain and start another: ms from the kill to its first body."""
    whose = ["bare", "stabilize_nb", *(who for who in OTHERS if who != "stabilize")]
    jobs = [
        Job(work="recovery", store=store, size=LONG, who=who)
        for store in STORES for who in whose if who not in OTHERS or store in OTHERS[who].stores
    ]  # fmt: skip
    return [
        {
            "store": job.store, "who": job.name,
            **{name: _column(records, name) for name in ("ms", "again")},
        }
        for job, records in in_rounds(place, jobs, rounds, _killed).items()
    ]  # fmt: skip


def _killed(place: Place, job: Job) -> Record:
    with place.store(job) as words:
        notes = Path(words[1]) / NOTES
        place.play(job, "crash", words)
        before = _noted(notes)
        place.play(job, "resume", words)
        after = _noted(notes)[len(before) :]
    bodies = [number for number, _ in before + after]
    if set(bodies) != set(range(job.size)):
        raise RuntimeError(f"{job.name} left {job.size - len(set(bodies))} bodies out")
    return {"ms": (after[0][1] - before[-1][1]) * 1_000, "again": len(bodies) - job.size}


def _noted(path: Path) -> list[tuple[int, float]]:
    return [(int(number), float(at)) for number, at in map(str.split, path.read_text().splitlines())]


def answers(place: Place, rounds: int, number: int) -> list[Record]:
    """Measure ms from an approval until the workflow has ended; of "bare", those of a commit."""
    whose = ["bare", "stabilize_nb", *OTHERS]
    jobs = [
        Job(work="answer", store=store, size=number, who=who)
        for store in STORES for who in whose if who not in OTHERS or store in OTHERS[who].stores
    ]  # fmt: skip
    return [
        {"store": job.store, "who": job.name, "p50": _column(records, "p50"), "p95": _column(records, "p95")}
        for job, records in in_rounds(place, jobs, rounds, _answered).items()
    ]


def _answered(place: Place, job: Job) -> Record:
    with place.store(job) as words:
        times = place.play(job, "answer", words)["times"]
    parts = statistics.quantiles(times, n=20)
    return {"p50": parts[9] * 1_000, "p95": parts[18] * 1_000}


def _column(records: list[Record | None], name: str) -> list[Any]:
    return [None if record is None else round(record[name], 4) for record in records]
