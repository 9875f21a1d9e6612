"""How a run ends: its edges speak, it gives back what it held, a failure halts the workflow (2.1, 2.5, 2.7, 2.9)."""

from __future__ import annotations

from tests.simulate.model.locks import leave
from tests.simulate.model.rules import chosen
from tests.simulate.model.state import AFTER, BEFORE, COMPLETE, DEAD, FAILURE, HALT, LIVE, Case, Edge, Run, Word


def end(case: Case, run: Run, status: str, outcome: str, reason: str = "") -> None:
    """A run ends; with an outcome its edges speak."""
    case.move(run, status)
    run.outcome = outcome
    run.ready = run.at_work = run.polling = False
    if run.is_first:
        case.places[run.ref].fired = case.places[run.ref].fired or 1
    below = case.below[run.ref]
    taken = chosen(case.plan(run), below, run.output) if outcome == LIVE else below
    dead = [ref for ref in below if ref not in taken]
    case.say("ended", run.name, status, outcome, reason, *sorted(dead))
    if outcome:
        speak(case, run.ref, run.name, outcome, dead)
    leave(case, run)


def bypass(case: Case, run: Run) -> None:
    """A run is not carried out, and its thread goes on."""
    run.bypassed = True
    end(case, run, "SKIPPED", LIVE)


def speak(case: Case, ref: str, source: str, outcome: str, dead: list[str]) -> None:
    """Every edge of a stage gets an outcome for each of its threads."""
    place = case.places[ref]
    for _ in range(place.plan.thread_split):
        place.sent += 1
        for below in case.below[ref]:
            if outcome == LIVE and place.plan.many and below == f"{ref}_mi_join":
                continue  # its instances take the place of this edge
            edge = Edge(ref, place.generation, below, place.sent)
            case.flight[edge] = Word(DEAD if below in dead else outcome, source)


def withdraw(case: Case, run: Run, reason: str, outcome: str = "") -> None:
    """Cancel a run; a stage that has not fired absorbs the first round that still comes."""
    if run.status in COMPLETE:
        return
    if run.attempt and run.status != "REDIRECT":
        case.say("on_cancel", run.name)
    if run.is_first and not case.places[run.ref].fired:
        case.places[run.ref].settled.add(1)
        case.places[run.ref].absorbs = True
    end(case, run, "CANCELED", "" if case.is_over(run) else outcome, reason)
    for ref in case.parts(run, BEFORE, AFTER, FAILURE):
        for part in case.runs_of(ref):
            withdraw(case, part, reason)


def fail(case: Case, run: Run) -> None:
    """A run fails, which its settings may soften; first comes what it has for that."""
    if case.parts(run, FAILURE) and run.phase != FAILURE and case.ending != "CANCELED":
        case.enter_phase(run, FAILURE)
        return
    match case.plan(run).on_failure:
        case "continue":
            end(case, run, "FAILED_CONTINUE", LIVE)
        case "stop" | "late":
            end(case, run, "STOPPED", HALT)
        case _ if case.plan(run).parent:
            end(case, run, "TERMINAL", "")
        case _:
            end(case, run, "TERMINAL", "")
            if not case.ending:
                begin_to_end(case, "TERMINAL")
                for other in list(case.runs.values()):
                    if other.status in ("SUSPENDED", "PAUSED", "REDIRECT") or other.polling:
                        withdraw(case, other, "workflow_failed")


def begin_to_end(case: Case, status: str) -> None:
    """From now on no stage becomes enabled."""
    case.ending = status
    case.say("workflow", "ending", status)
    for run in case.runs.values():
        if run.ready:
            leave(case, run)


def end_all(case: Case, status: str, reason: str) -> None:
    """Everything that is not complete is withdrawn."""
    begin_to_end(case, status)
    for run in list(case.runs.values()):
        withdraw(case, run, reason)
