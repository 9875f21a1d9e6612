"""Multi-instance activities whose instances are made while the workflow runs (WCP-14, 15, 26, 27, 36).

Instances that are written down are ordinary stages, and so is the join; see `joins` for what it waits for.
"""

from __future__ import annotations

from tests.simulate.model.ends import end, withdraw
from tests.simulate.model.gates import set_out
from tests.simulate.model.joins import activate, enter, fail, fire, judge, pass_on, words
from tests.simulate.model.state import COMPLETE, DEAD, HALT, LIVE, Case, Edge, Place, Run, Word
from tests.simulate.plan import Many, Stage

PASSED = frozenset({"SUCCEEDED", "FAILED_CONTINUE", "SKIPPED"})


def many_of(place: Place) -> Many:
    return place.plan.many or Many()


def join_of(case: Case, ref: str) -> Place | None:
    return case.places.get(f"{ref}_mi_join")


def open_join(case: Case, ref: str) -> Place | None:
    """Return the join of an activity that is open and whose parent has ended."""
    place, run = join_of(case, ref), case.runs[ref]
    if place is None or run.status not in PASSED or run.outcome != LIVE:
        return None
    is_over = place.fired or place.sent or case.runs[place.plan.ref].status != "NOT_STARTED"
    return None if is_over else place


def is_open(case: Case, ref: str) -> bool:
    """Whether an activity waits for additions."""
    place = case.places[ref]
    over = case.ending or case.status in COMPLETE or place.closed
    return many_of(place).dynamic and not over and open_join(case, ref) is not None


def written(case: Case, ref: str) -> int:
    return sum(other.startswith(f"{ref}_instance_") for other in case.below[ref])


def parent_ended(case: Case, run: Run) -> None:
    """Make and start the instances whose number is known now; or none of them is needed."""
    place = case.places[run.ref]
    join = join_of(case, run.ref)
    if run.outcome != LIVE:
        for name in place.made if run.outcome else ():
            if case.runs[name].status in COMPLETE:
                continue
            if run.outcome == DEAD:
                end(case, case.runs[name], "SKIPPED", DEAD)
            else:
                pass_on(case, case.places[name], HALT)
        return
    later = many_of(place).later
    if later and run.output is None and not case.ending:
        _fail(case, join, run)
        return
    if join is not None:
        join.after = [ref for ref in join.after if ref != run.ref]
    for _ in range(later[min(run.output, len(later)) - 1] if later and run.output else 0):
        make(case, run.ref)
    for name in place.made:
        start(case, name, run)
    if join is None or is_open(case, run.ref):
        return
    if case.ending:
        if not join.after and not many_of(place).dynamic:
            _keep(case, join.plan.ref, run)
    elif open_join(case, run.ref) is None:
        return
    elif not join.after:
        fire(case, join, [Word(LIVE, run.name)])
    elif later and join.plan.threshold > len(join.after):
        _fail(case, join, run)


def _fail(case: Case, join: Place | None, parent: Run) -> None:
    """The join says why the activity cannot be carried out."""
    if join is not None:
        join.settled.add(1)
        run = activate(case, join, [Word(LIVE, parent.name)])
        set_out(case, run)
        fail(case, run)


def make(case: Case, ref: str) -> str:
    """Add an instance, and an edge to the join."""
    place, join = case.places[ref], join_of(case, ref)
    name = f"{ref}_instance_{written(case, ref) + len(place.made)}"
    place.made.append(name)
    case.places[name] = Place(_like_the_first(case, ref, name), [ref])
    case.runs[name] = Run(name, name, 0)
    case.below[name] = [] if join is None else [join.plan.ref]
    if join is not None:
        join.after.append(name)
    case.say("added", name)
    return name


def _keep(case: Case, name: str, parent: Run) -> None:
    place = case.places[parent.ref]
    case.flight[Edge(parent.ref, place.generation, name, place.sent)] = Word(LIVE, parent.name)


def _like_the_first(case: Case, ref: str, name: str) -> Stage:
    """Return what an instance is that is made later: like the first that was written down, if there is one."""
    first = case.places.get(f"{ref}_instance_0")
    if first is None or not written(case, ref):
        return Stage(name, (ref,))
    plan = first.plan
    return Stage(name, (ref,), tasks=plan.tasks, mutex=plan.mutex, region=plan.region)


def start(case: Case, name: str, parent: Run) -> None:
    """An instance gets the thread of its parent; while the workflow is ending it does not start."""
    if case.ending:
        _keep(case, name, parent)
    elif case.runs[name].status == "NOT_STARTED":
        case.say("token", name, 1, parent.ref, parent.name, LIVE, False)
        fire(case, case.places[name], [Word(LIVE, parent.name)])


def reopen(case: Case, ref: str) -> None:
    """The parent of an activity was reset: its join has the edges again that were written down."""
    join = join_of(case, ref)
    if join is not None:
        join.after = [*join.plan.after]


# Orders from outside.


def add(case: Case, ref: str) -> None:
    """AddMultiInstance: one more, while the activity is open."""
    place, run = case.places[ref], case.runs[ref]
    is_over = case.ending or case.status in COMPLETE or place.closed or run.status == "NOT_STARTED"
    if is_over or not many_of(place).dynamic or (run.status in COMPLETE and open_join(case, ref) is None):
        case.say("refused", ref)
        return
    name = make(case, ref)
    if run.status in COMPLETE:
        start(case, name, run)


def close(case: Case, ref: str) -> None:
    """CloseMultiInstance: no more; the activity is complete when all instances are."""
    place = case.places[ref]
    is_over = place.closed or case.ending or case.status in COMPLETE or case.runs[ref].status == "NOT_STARTED"
    if place.plan.many is None or is_over:
        return
    place.closed = True
    case.say("closed", ref)
    join = open_join(case, ref)
    if join is not None:
        if not join.after:
            fire(case, join, [Word(LIVE, ref)])
        else:
            judge(case, join, 1)


def complete(case: Case, ref: str) -> None:
    """CompleteMultiInstance: go on with what there is."""
    place, join = case.places[ref], open_join(case, ref)
    if place.plan.many is None or join is None or case.ending or case.status in COMPLETE:
        return
    if not place.closed:
        place.closed = True
        case.say("closed", ref)
    live = [word for word in words(join, 1).values() if word.outcome == LIVE]
    join.settled.add(1)
    run = activate(case, join, live or [Word(LIVE, ref)])
    _withdraw_rest(case, join, "mi_completed")
    enter(case, run)


def cancel_activity(case: Case, ref: str) -> None:
    """CancelStage on the parent of an open activity."""
    join = open_join(case, ref)
    if case.places[ref].plan.many is not None and join is not None and not case.ending:
        case.cancels = True
        withdraw(case, case.runs[join.plan.ref], "mi_canceled", HALT)
        _withdraw_rest(case, join, "mi_canceled")


def _withdraw_rest(case: Case, join: Place, reason: str) -> None:
    for ref in join.after:
        for run in case.runs_of(ref):
            withdraw(case, run, reason, DEAD)
