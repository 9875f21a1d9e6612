"""What a stage does when one of its edges has given an outcome: the rounds of its join (patterns.md 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stabilize_nb.core.evolve import POOL
from stabilize_nb.core.facts import JoinPassed, TokenArrived
from stabilize_nb.core.rows import is_over
from stabilize_nb.core.view import ByRef, Jumpers, Region, Unsettled
from stabilize_nb.dag.readiness import Verdict, judge
from stabilize_nb.handlers.ending import end_stage, send_tokens, withdraw
from stabilize_nb.handlers.entering import activate, begin_and_fail, enter
from stabilize_nb.handlers.instances import is_join, join_verdict, made_instances
from stabilize_nb.models.stage import JoinType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import Token

if TYPE_CHECKING:
    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import RoundRow, StageRow, StageSpec

S = WorkflowStatus


def act(draft: Draft, base: StageRow, number: int, latest: Token, source: str) -> None:
    """Do what the `number`-th round of a stage says; `latest` is the outcome just counted, of the run `source`."""
    if base.spec.thread_merge > 1:
        _act_on_pool(draft, base, latest)
        return
    counts = draft.round(base, number)
    if counts is None:
        return
    if not counts.settled:
        _act_on_round(draft, base, counts, latest, source)
    if base.spec.join_blocking and _is_complete(base, counts):
        following = draft.round(draft.stage(base.id), number + 1)
        if following is not None and not following.settled:
            act(draft, draft.stage(base.id), number + 1, Token.LIVE, "")


def _is_complete(base: StageRow, counts: RoundRow) -> bool:
    return counts.live + counts.dead + counts.halt == base.spec.fan_in


def _act_on_round(draft: Draft, base: StageRow, counts: RoundRow, latest: Token, source: str) -> None:
    spec = base.spec
    verdict = (
        join_verdict(draft, base, counts)
        if is_join(draft, base)
        else judge(spec.join_type, spec.join_threshold, spec.fan_in, counts.live, counts.dead, counts.halt, latest)
    )
    match verdict:
        case Verdict.FIRE if base.status is S.CANCELED and not base.fired:
            _pass_on(draft, base, counts.number, Token.DEAD)
        case Verdict.FIRE if _is_held_up(draft, base, counts):
            pass
        case Verdict.FIRE if spec.join_type is JoinType.MULTI_MERGE:
            enter(draft, activate(draft, base, 0, [source]))
        case Verdict.FIRE:
            fire(draft, base, counts.number)
        case Verdict.PRUNE:
            _pass_on(draft, base, counts.number, Token.DEAD)
        case Verdict.BLOCK:
            _pass_on(draft, base, counts.number, Token.HALT)
        case Verdict.FAIL:
            row = activate(draft, base, counts.number, _live(draft, base, counts.number))
            begin_and_fail(draft, row, _why(spec))
        case Verdict.WAIT:
            pass


def fire(draft: Draft, base: StageRow, number: int) -> None:
    """Let a round make its run; a cancelling join withdraws what it does not need any more."""
    arrivals = draft.arrivals(base, number)
    row = activate(draft, base, number, [arrival.source for arrival in arrivals if arrival.token is Token.LIVE])
    if base.spec.join_cancel_remaining:
        _cancel_rest(draft, draft.stage(base.id), {arrival.via for arrival in arrivals})
    enter(draft, draft.stage(row.id))


def _why(spec: StageSpec) -> str:
    branches = ", ".join(spec.requisites)
    return (
        f"join of stage {spec.ref_id!r} is unreachable: threshold {spec.join_threshold or spec.fan_in} is out of "
        f"reach, since too few of its branches ({branches}) can still deliver"
    )


def _live(draft: Draft, base: StageRow, number: int) -> list[str]:
    return [row.source for row in draft.arrivals(base, number) if row.token is Token.LIVE]


def _pass_on(draft: Draft, base: StageRow, number: int, token: Token) -> None:
    if token is Token.DEAD and base.fired == 0 and base.status is S.NOT_STARTED:
        end_stage(draft, base, S.SKIPPED, token=token, settles=number, reason="pruned")
        return
    draft.record(JoinPassed(base.id, number, token))
    send_tokens(draft, draft.stage(base.id), base.id, token)


# -- thread merge (WCP-41) ---------------------------------------------------------------------------


def _act_on_pool(draft: Draft, base: StageRow, latest: Token) -> None:
    counts = draft.round(base, POOL)
    if counts is None:
        return
    size = base.spec.thread_merge
    if counts.settled and (counts.live <= size or not base.fired):
        return  # the stage was jumped to, or withdrawn: what would have been its first run is over
    if latest is Token.LIVE and counts.live % size == 0:
        live = [row for row in draft.arrivals(base, 0) if row.token is Token.LIVE]
        live.sort(key=lambda row: row.position)
        enter(draft, activate(draft, base, POOL, [row.source for row in live[-size:]]))
    elif latest is not Token.LIVE and not counts.live and base.status is S.NOT_STARTED and not base.sent:
        spoken = {row.via for row in draft.arrivals(base, 0)}
        if len(spoken) == base.spec.fan_in:
            _pass_on(draft, base, POOL, Token.HALT if counts.halt else Token.DEAD)


# -- blocking and cancelling joins (WCP-28, 29, 31, 32) ----------------------------------------------


def _is_held_up(draft: Draft, base: StageRow, counts: RoundRow) -> bool:
    """Whether a round that could fire has to wait: for the round before it, or for a jump that may revive an edge."""
    if base.spec.join_blocking and counts.number > 1:
        before = draft.round(base, counts.number - 1)
        return before is None or not _is_complete(base, before)
    return base.spec.join_type is JoinType.OR and counts.dead > 0 and _may_revive(draft, base, counts.number)


def _cancel_rest(draft: Draft, join: StageRow, delivered: set[str]) -> None:
    """Withdraw what leads only to this join by an edge that has not delivered, with the threads that are under way."""
    rest = _rest(draft, join, delivered)
    under_way = {row.id: _under_way(draft, row) for row in rest}
    activities = [row.spec.mi_parent for row in (*rest, join) if is_join(draft, row)]
    made = [row for parent in activities for row in made_instances(draft, draft.stage(parent))]
    for row in [*rest, *made]:
        for run in draft.runs(row):
            if not is_over(run):
                withdraw(draft, draft.stage(run.id), reason=_reason(join), token=Token.DEAD)
    for row in rest:
        _absorb(draft, draft.stage(row.id), under_way[row.id])


def _rest(draft: Draft, join: StageRow, delivered: set[str]) -> list[StageRow]:
    """
    Return the first rows of the stages in the scope of a cancelling join, by ordinal (WCP-29).

    The thread of an activity's parent is with its instances, so the parent is in it when one of them is.
    """
    rows = {row.id: row for row in draft.stages(join.spec.serving)}
    found: dict[str, StageRow] = {}
    todo = [source for source in join.spec.sources if source not in delivered | {join.spec.mi_parent}]
    if is_join(draft, join) and _made_late(draft, join, delivered):
        todo.append(join.spec.mi_parent)
    while todo:
        row = rows.get(todo.pop())
        if row is not None and row.id not in found:
            found[row.id] = row
            todo.extend(row.spec.sources)
    return sorted(found.values(), key=lambda row: row.ordinal)


def _made_late(draft: Draft, join: StageRow, delivered: set[str]) -> bool:
    """Whether an instance that was made at run time has not delivered: it has the thread of its activity's parent."""
    return any(row.id not in delivered for row in made_instances(draft, draft.stage(join.spec.mi_parent)))


def _under_way(draft: Draft, base: StageRow) -> list[tuple[int, str]]:
    """Return number and origin of the outcomes that were sent to a stage and have not come."""
    sources = [source for source in draft.stages(base.spec.sources) if source.spec.mi_join != base.id]
    open_runs = sum(not is_over(run) for run in draft.runs(base)) if base.fired else 0
    had = base.sent // base.spec.thread_split + open_runs
    if sum(source.sent for source in sources) <= had:
        return []
    come = {(row.number, row.via) for row in draft.arrivals(base, 0)}
    sent = [(number, source.id) for source in sources for number in range(1, source.sent + 1)]
    return [each for each in sent if each not in come]


def _absorb(draft: Draft, base: StageRow, under_way: list[tuple[int, str]]) -> None:
    """Let every round of a withdrawn stage that has begun, or will by what is under way, be over without a run."""
    if base.spec.join_type is JoinType.MULTI_MERGE or base.spec.thread_merge > 1:
        for number, via in under_way:
            draft.record(TokenArrived(base.id, number, via, via, Token.DEAD))
            act(draft, draft.stage(base.id), number, Token.DEAD, via)
        return
    begun = {number for number, _ in under_way}
    if base.spec.fan_in > 1:
        begun |= {row.number for row in draft.arrivals(base, 0)}
    for number in sorted(begun):
        counts = draft.round(base, number)
        if counts is None or not counts.settled:
            _pass_on(draft, draft.stage(base.id), number, Token.DEAD)


def _reason(join: StageRow) -> str:
    return "mi_threshold" if join.spec.mi_parent else "join_fired"


def _is_idle(draft: Draft, base: StageRow) -> bool:
    """Whether no run of a stage is open or still to come."""
    return all(is_over(row) for row in draft.runs(base))


# -- the general synchronizing merge (WCP-38) ---------------------------------------------------------


def _may_revive(draft: Draft, base: StageRow, number: int) -> bool:
    """Whether a stage that has not ended says that it may jump to where a dead edge would come alive again."""
    jumpers: list[StageRow] = draft.view.members(Jumpers(), "stage", _is_jumper)
    waiting = [row for row in jumpers if not _is_idle(draft, row)]
    if not waiting:
        return False
    dead = {row.via for row in draft.arrivals(base, number) if row.token is Token.DEAD}
    behind = set(draft.view.get(Region(base.id)))
    targets = {ref for row in waiting if row.id not in behind for ref in row.spec.jump_targets}
    return any(dead & set(draft.view.get(Region(draft.view.get(ByRef(ref))))) for ref in sorted(targets))


def _is_jumper(row: StageRow) -> bool:
    return bool(row.spec.jump_targets) and row.id == row.base_id


def judge_again(draft: Draft) -> None:
    """Look again at the OR-joins that waited for a jump: a stage that may jump has ended without one."""
    if draft.head.ending is not None:
        return
    rounds: list[RoundRow] = draft.view.members(Unsettled(), "round", lambda row: not row.settled and row.live > 0)
    for counts in rounds:
        base = draft.stage(counts.stage_id)
        if base.spec.join_type is JoinType.OR and base.generation == counts.generation:
            act(draft, base, counts.number, Token.LIVE, "")
