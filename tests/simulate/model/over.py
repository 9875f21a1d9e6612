"""When a workflow is over, how it has ended, and what must be so when nothing moves (2.8)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulate.model.ends import bypass
from tests.simulate.model.gates import milestone
from tests.simulate.model.instances import is_open
from tests.simulate.model.locks import choice_of, give_all_back, is_alive, is_next, lock_of
from tests.simulate.model.state import COMPLETE, LIVE, OPEN, Case, Place, Run


def complete(case: Case) -> None:
    """The engine finds that nothing is left to do: milestones that cannot come are passed, or the workflow ends."""
    if case.status != "RUNNING" or any(unfinished(case)):
        return
    waiting = [run for run in case.runs.values() if run.waits == "milestone"]
    if waiting:
        for run in waiting:
            bypass(case, run)
        return
    case.status = _verdict(case)
    for (name, _), signals in case.kept.items():
        for signal in signals:
            case.say("dropped", name, signal)
    case.kept = {}
    give_all_back(case)
    case.say("workflow", "ended", case.status)
    if case.caller is not None:
        case.store.calls.append(case.caller)


def unfinished(case: Case) -> Iterator[str]:
    """Say what holds a workflow open."""
    yield from (f"{run.name} is {run.status}" for run in case.runs.values() if run.status in OPEN)
    if not case.ending:
        yield from (f"{edge} is under way" for edge in case.flight)
        yield from (f"{ref} is to be started" for ref in case.roots)
        yield from (f"{ref} may get instances" for ref in case.places if is_open(case, ref))
        yield from (f"{run.name} is ready" for run in case.runs.values() if run.ready and run.waits != "milestone")


def _verdict(case: Case) -> str:
    if case.ending:
        return case.ending
    if any(_holds_a_thread(place) for place in case.places.values()):
        return "TERMINAL"
    if any(run.status == "STOPPED" and case.plan(run).on_failure == "late" for run in case.runs.values()):
        return "TERMINAL"
    ends = [run for run in case.runs.values() if not case.below[run.ref] and not case.plan(run).parent]
    if case.cancels and not any(run.status in ("SUCCEEDED", "FAILED_CONTINUE") or run.bypassed for run in ends):
        return "CANCELED"
    return "SUCCEEDED"


def _holds_a_thread(place: Place) -> bool:
    """Whether a stage got a thread, has never run, and has not said that it never will."""
    if place.fired or place.sent:
        return False
    return any(word.outcome == LIVE for (_, number), word in place.got.items() if number not in place.settled)


def complaints(case: Case) -> Iterator[str]:
    """Say what should have happened by now and did not."""
    yield from (f"{caller} was not told that its child has ended" for caller in case.store.calls)
    if case.caller is not None and case.status not in COMPLETE:
        caller = case.store.cases[case.caller.case].find(case.caller.run, case.caller.generation)
        if caller is None or caller.child != case.name or caller.status in COMPLETE:
            yield "nobody wants its end any more, but it was not cancelled"
    if case.status in COMPLETE or case.status == "NOT_STARTED":
        return
    if case.status == "RUNNING" and not any(unfinished(case)):
        yield "the workflow should have ended"
    yield from (f"{run.name} is {run.status}" for run in case.runs.values() if _should_move(case, run))
    if not case.ending:
        yield from (f"{word} on {edge} was never delivered" for edge, word in case.flight.items())
        yield from (f"{ref} was never started" for ref in case.roots)
        for run in case.runs.values():
            if run.ready and not _waits_rightly(case, run):
                yield f"{run.name} waits for {run.waits or 'nothing'}"


def _should_move(case: Case, run: Run) -> bool:
    """Whether something has to be done about a run that is open."""
    parts = [part for ref in case.parts(run, run.phase) for part in case.runs_of(ref)]
    return run.status == "REDIRECT" or (run.status == "RUNNING" and all(case.is_over(part) for part in parts))


def _waits_rightly(case: Case, run: Run) -> bool:
    match run.waits:
        case "milestone":
            return milestone(case, run) == "wait"
        case "lock":
            holder = lock_of(case, run).holder
            return not is_next(case, run) and holder is not None and is_alive(case.store.cases[holder[0]], holder)
        case "choice":
            beginner = choice_of(case, run).beginner
            return not is_next(case, run) and beginner is not None and beginner.status in OPEN
    return False
