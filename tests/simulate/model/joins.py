"""What a stage does when an edge has given an outcome: rounds, activations, threads (2.2, 2.3, WCP-28 to 41)."""

from __future__ import annotations

from tests.simulate.model.ends import end, fail, speak, withdraw
from tests.simulate.model.gates import enter, set_out
from tests.simulate.model.locks import give_back
from tests.simulate.model.rules import activity_verdict, verdict
from tests.simulate.model.state import DEAD, HALT, LIVE, Case, Edge, Place, Run, Word


def deliver(case: Case, edge: Edge) -> None:
    """An outcome reaches its join; while the workflow is ending it has no effect."""
    word = case.flight.pop(edge, None)
    if word is None:
        return
    place = case.places[edge.below]
    is_held = bool(case.ending) and not (place.plan.parent and case.ending == "TERMINAL")
    case.say("token", edge.below, edge.number, edge.above, word.source, word.outcome, is_held)
    if is_held:
        return
    place.got[edge.above, edge.number] = word
    if place.plan.thread_merge > 1:
        _merge(case, place)
        return
    judge(case, place, edge.number, word)
    number = edge.number
    while place.plan.blocking and is_complete(place, number):
        number += 1
        judge(case, place, number)


def begin(case: Case, ref: str) -> None:
    """A stage without requisites is to start."""
    if ref in case.roots and not case.ending:
        case.roots.discard(ref)
        run = case.runs[ref]
        if run.status == "NOT_STARTED" and not run.ready:
            run.ready = True
            enter(case, run)


def words(place: Place, number: int) -> dict[str, Word]:
    """Return what the edges have said in a round."""
    return {above: word for (above, at), word in place.got.items() if at == number}


def is_complete(place: Place, number: int) -> bool:
    return len(words(place, number)) == len(place.after)


def judge(case: Case, place: Place, number: int, latest: Word | None = None) -> None:
    """Do what a round says, `latest` being what was said last."""
    said = words(place, number)
    if number in place.settled or not said:
        return
    if place.plan.join == "MULTI_MERGE" and latest is not None and latest.outcome == LIVE:
        fire(case, place, [latest])
        return
    live = [word for word in said.values() if word.outcome == LIVE]
    match _verdict(case, place, said):
        case "fire" if not _is_held_up(case, place, number):
            place.settled.add(number)
            run = activate(case, place, live)
            if place.plan.cancel_rest:
                cancel_rest(case, place, {*said})
            enter(case, run)
        case "fail":
            place.settled.add(number)
            run = activate(case, place, live)
            set_out(case, run)
            fail(case, run)
        case "prune":
            place.settled.add(number)
            pass_on(case, place, DEAD)
        case "block":
            place.settled.add(number)
            pass_on(case, place, HALT)


def _verdict(case: Case, place: Place, said: dict[str, Word]) -> str:
    outcomes = [word.outcome for word in said.values()]
    parent = _parent(case, place)
    if parent is None or parent.plan.many is None:
        return verdict(place.plan, len(place.after), outcomes)
    ref = parent.plan.ref
    if ref in said:
        return "block" if said[ref].outcome == HALT else "prune"
    if not parent.plan.many.dynamic or case.runs[ref].outcome != LIVE:
        return verdict(place.plan, len({*place.after} - {ref}), outcomes)
    return activity_verdict(parent.plan.many, len(place.after), outcomes, closed=parent.closed)


def _parent(case: Case, place: Place) -> Place | None:
    """Return the parent of the activity of which a stage is the join."""
    parent, suffix, _ = place.plan.ref.partition("_mi_join")
    found = case.places.get(parent)
    return found if suffix and found is not None and found.plan.many else None


def pass_on(case: Case, place: Place, outcome: str) -> None:
    """A round ends without a run: the stage says so to those below."""
    ref = place.plan.ref
    if outcome == DEAD and not place.fired:
        end(case, case.runs[ref], "SKIPPED", DEAD)
        return
    case.say("passed", ref, outcome)
    speak(case, ref, ref, outcome, [])
    run = case.runs[ref]
    if run.status == "NOT_STARTED" and case.is_over(run):
        give_back(case, run)
        case.move(run, "NOT_STARTED")


def fire(case: Case, place: Place, live: list[Word]) -> None:
    enter(case, activate(case, place, live))


def activate(case: Case, place: Place, live: list[Word]) -> Run:
    """Make the next run of a stage: the first is the stage's own, further ones come on top."""
    ref = place.plan.ref
    place.fired += 1
    name = ref if place.fired == 1 else f"{ref}#{place.fired}"
    if place.fired > 1:
        case.runs[name] = Run(name, ref, place.generation)
    run = case.runs[name]
    run.ready = True
    run.led = tuple(sorted(word.source for word in live))
    sources = [case.runs[word.source] for word in live]
    own = {(source.ref, source.generation, source.output) for source in sources if source.output is not None}
    run.sees = frozenset(own).union(*(source.sees for source in sources))
    case.say("fired", run.name, *run.led)
    return run


def _merge(case: Case, place: Place) -> None:
    """
    A thread merge takes so many threads at a time, in the order in which they came (WCP-41).

    A jump to it stands for its first firing: the first threads that come then are absorbed.
    """
    live = [word for word in place.got.values() if word.outcome == LIVE]
    size = place.plan.thread_merge
    if len(live) - place.merged >= size:
        place.merged += size
        if place.merged > size or not place.absorbs:
            fire(case, place, live[place.merged - size : place.merged])
    elif not live and {above for above, _ in place.got} == {*place.after} and 1 not in place.settled:
        place.settled.add(1)
        halt = any(word.outcome == HALT for word in place.got.values())
        pass_on(case, place, HALT if halt else DEAD)


def _is_held_up(case: Case, place: Place, number: int) -> bool:
    """Whether a round that could fire waits for the one before, or for a jump that may revive an edge."""
    if place.plan.blocking and number > 1 and not is_complete(place, number - 1):
        return True
    return place.plan.join == "OR" and _may_revive(case, place, number)


def _may_revive(case: Case, place: Place, number: int) -> bool:
    """Whether a stage that is not over says that it may jump to where a dead edge would come alive (WCP-38)."""
    dead = {above for above, word in words(place, number).items() if word.outcome == DEAD}
    behind = case.region(place.plan.ref)
    for run in case.runs.values():
        targets = case.plan(run).jump_targets
        if run.ref not in behind and not case.is_over(run) and any(dead & case.region(ref) for ref in targets):
            return True
    return False


def judge_again(case: Case) -> None:
    """Look again at the OR-joins that may have waited for a jump."""
    for place in case.places.values() if not case.ending else ():
        if place.plan.join == "OR" and len(place.plan.after) > 1:
            for number in sorted({number for _, number in place.got}):
                judge(case, place, number)


def cancel_rest(case: Case, place: Place, delivered: set[str]) -> None:
    """Withdraw what could only have led to this join, with the threads that are under way to it (WCP-29)."""
    join = place.plan.ref
    scope: set[str] = set()
    reason = "join_fired" if _parent(case, place) is None else "mi_threshold"
    todo = [ref for ref in place.after if ref not in delivered]
    while todo:
        ref = todo.pop()
        if ref not in scope and _leads_only_to(case, ref, join):
            scope.add(ref)
            todo += case.places[ref].after
    under_way = [edge for edge in case.flight if edge.below in scope]
    for ref in [ref for ref in case.places if ref in scope]:
        for run in case.runs_of(ref):
            if not case.is_over(run):
                withdraw(case, run, reason, DEAD)
    for ref in scope:
        _absorb(case, case.places[ref], [edge for edge in under_way if edge.below == ref])


def _absorb(case: Case, place: Place, under_way: list[Edge]) -> None:
    """What is under way to a withdrawn stage leads to no run of it, and neither does what has come of its round."""
    if place.plan.join == "MULTI_MERGE" or place.plan.thread_merge > 1:
        for edge in under_way:
            case.flight[edge] = Word(DEAD, edge.above)
            deliver(case, edge)
        return
    begun = {edge.number for edge in under_way} | {number for _, number in place.got}
    for number in sorted(begun - place.settled):
        place.settled.add(number)
        pass_on(case, place, DEAD)


def _leads_only_to(case: Case, ref: str, join: str) -> bool:
    below = case.below[ref]
    return bool(below) and all(other == join or _leads_only_to(case, other, join) for other in below)
