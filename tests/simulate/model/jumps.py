"""Jumps and resets (2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.simulate.model.ends import end, fail, withdraw
from tests.simulate.model.instances import reopen
from tests.simulate.model.joins import fire
from tests.simulate.model.locks import choice_of, holder_for, leave, leave_lines, lock_of
from tests.simulate.model.state import DEAD, LIVE, OPEN, Case, Edge, Place, Run, Word


def leap(case: Case, name: str, generation: int | None) -> None:
    """Carry out the jump that a body asked for."""
    run = case.find(name, generation)
    if run is None or run.status != "REDIRECT":
        return
    if run.target not in case.places or (run.is_counted and case.jumps >= case.max_jumps):
        case.say("resumed", name)
        run.status, run.task, run.attempt = "RUNNING", run.task + 1, 0
        fail(case, run)
        return
    case.jumps += run.is_counted
    case.say("jumped", name, run.target, case.jumps)
    region = case.region(run.target)
    with _keeping(case, case.runs[run.target]):
        put_back = reset(case, region, leaving=run)
    sources = [word for edge, word in put_back.items() if edge.below == run.target and edge.number == 1]
    sources = [word for word in sources if word.outcome == LIVE]
    if run.ref not in region:
        end(case, run, "SUCCEEDED", DEAD)
        sources.append(Word(LIVE, run.name))
    case.places[run.target].settled.add(1)
    case.places[run.target].absorbs = True
    case.roots.discard(run.target)
    fire(case, case.places[run.target], sources)


def reset(case: Case, region: set[str], leaving: Run) -> dict[Edge, Word]:
    """Put stages back to before they ran; return what had come to them from outside: it comes again."""
    inside = [run for run in case.runs.values() if run.ref in region]
    with _waiting_for_all(case, inside):
        for run in inside:
            if run.status in OPEN and run is not leaving:
                withdraw(case, run, "jump")
    put_back = {
        Edge(above, case.places[above].generation, ref, number): word
        for ref in region
        for (above, number), word in case.places[ref].got.items()
        if above not in region
    }
    case.flight = {edge: word for edge, word in case.flight.items() if edge.above not in region} | put_back
    made = [name for ref in case.places if ref in region for name in case.places[ref].made]
    for run in inside:
        if not run.is_first or run.name in made:
            case.say("retired", run.name)
        del case.runs[run.name]
    for ref in [ref for ref in case.places if ref in region and ref not in made]:
        old = case.places[ref]
        case.places[ref] = Place(old.plan, [above for above in old.after if above not in made], old.generation + 1)
        case.runs[ref] = Run(ref, ref, old.generation + 1)
        case.move(case.runs[ref], "NOT_STARTED")
        case.say("reset", ref, old.generation + 1)
    for run in inside:
        leave_lines(case, run)
    for run in inside:
        _free(case, run)
    for name in made:
        del case.places[name], case.below[name]
    for ref in [ref for ref in case.places if ref in region and case.places[ref].plan.many]:
        reopen(case, ref)
    return put_back


def _free(case: Case, run: Run) -> None:
    """What a run held or waited for is free, and its choice is open again."""
    if case.plan(run).choice:
        choice = choice_of(case, run)
        if choice.winner is not None:
            choice.winner = choice.beginner = None
    leave(case, run)


@contextmanager
def _waiting_for_all(case: Case, runs: list[Run]) -> Iterator[None]:
    """Let nobody give a lock back before all are reset: a section that is to be repeated goes on."""
    locks = [lock_of(case, run) for run in runs]
    before = [lock.kept for lock in locks]
    for lock in locks:
        lock.kept = True
    yield
    for lock, kept in zip(locks, before, strict=True):
        lock.kept = kept


@contextmanager
def _keeping(case: Case, target: Run) -> Iterator[None]:
    """
    Let the target of a jump go on with what it or its section holds: `case.eager` names who does.

    That, and to go to the end of the line, are both right.
    """
    lock = lock_of(case, target)
    lock.kept = target.name in case.eager and lock.holder == holder_for(case, target)
    yield
    lock.kept = False
