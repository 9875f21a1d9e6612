"""How a run begins, and what may stand in its way: a lost choice, a switch, a milestone, a lock, a turn."""

from __future__ import annotations

from tests.simulate.model.ends import bypass, end, withdraw
from tests.simulate.model.locks import choice_of, is_next, leave, next_turn, take_lock, take_turn
from tests.simulate.model.rules import gate
from tests.simulate.model.state import AFTER, BEFORE, DEAD, LIVE, Case, Run


def enter(case: Case, run: Run) -> None:
    """
    A run that is ready starts as soon as nothing stands in its way.

    It may also stand in a line of one first and be told that it is next: `case.patient` names those who do.
    """
    stage = case.plan(run)
    run.waits = ""
    patient = case.patient.pop(run.name, "")
    if stage.choice and choice_of(case, run).winner not in (None, run):
        withdraw(case, run, "deferred_choice", DEAD)
    elif not stage.enabled:
        bypass(case, run)
    elif stage.milestone[0] and milestone(case, run) != "open":
        if milestone(case, run) == "passed":
            bypass(case, run)
        else:
            leave(case, run)
            run.waits = "milestone"
    elif stage.mutex and (not take_lock(case, run) or patient == "lock"):
        run.waits = "lock"
    elif stage.choice and (not take_turn(case, run) or patient == "choice"):
        run.waits = "choice"
    else:
        set_out(case, run)
        if case.parts(run, BEFORE):
            case.enter_phase(run, BEFORE)
        elif not stage.tasks:
            choose(case, run)
            finish_well(case, run)


def finish_well(case: Case, run: Run) -> None:
    """The tasks of a run are done: what runs after them begins, or the run ends."""
    if case.parts(run, AFTER):
        case.enter_phase(run, AFTER)
    else:
        end(case, run, "FAILED_CONTINUE" if run.soft else "SUCCEEDED", LIVE)


def set_out(case: Case, run: Run) -> None:
    """A run has started."""
    run.ready, run.begun = False, True
    place = case.places[run.ref]
    place.fired = place.fired or 1
    case.say("started", run.name)
    case.move(run, "RUNNING")


def go_on(case: Case, name: str, generation: int | None) -> None:
    """A run is told that it has what it stood in line for."""
    run = case.find(name, generation)
    if run is not None and is_next(case, run):
        enter(case, run)


def milestone(case: Case, run: Run) -> str:
    """Judge the milestone of a run (WCP-18)."""
    stage = case.plan(run)
    mark = case.runs[stage.milestone[0]]
    is_blocked = mark.status == "NOT_STARTED" and case.is_over(mark)
    is_closed = bool(stage.until) and case.runs[stage.until].begun
    return gate(stage.milestone[1], mark.status, is_blocked=is_blocked, is_closed=is_closed)


def choose(case: Case, run: Run) -> None:
    """A member of a choice did more than wait: it wins, unless the choice was made before (WCP-16)."""
    stage = case.plan(run)
    if not stage.choice or choice_of(case, run).winner is not None:
        return
    choice = choice_of(case, run)
    choice.beginner = choice.winner = run
    choice.line = []
    for other in list(case.runs.values()):
        if case.plan(other).choice == stage.choice and other is not run:
            withdraw(case, other, "deferred_choice", DEAD)


def offer(case: Case, run: Run) -> None:
    """A member waits for an event: the choice stays open, and the next member may begin."""
    if case.plan(run).choice:
        choice = choice_of(case, run)
        if choice.beginner is run and choice.winner is None:
            next_turn(choice)
