"""Properties of every run: random graphs, worked at in random order, with redeliveries and lost leases.

Legal moves, replay, progress and the count of open rows are looked at by the shell after every commit; the tests
here add what is seen only at the end. Numbers refer to section 9 of the design.
"""

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from shell import (
    Answer,
    Order,
    Script,
    Shell,
    done,
    failed,
    fold,
    jump,
    present,
    retry,
    running,
    stage,
    suspend,
    until_signalled,
    workflow,
)

from stabilize_nb.core import facts as f
from stabilize_nb.core.evolve import evolve, genesis
from stabilize_nb.core.rows import ArrivalRow, StageRow
from stabilize_nb.models.stage import JoinType, SplitType
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue import messages as m

S = WorkflowStatus
J = JoinType


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A graph and what its bodies do; made anew for each shell."""

    stages: dict[str, tuple[set[str], dict]]
    answers: dict[str, list[Answer]]

    def shell(self, order: Order) -> Shell:
        made = workflow(*(stage(ref, *after, **fields) for ref, (after, fields) in self.stages.items()))
        return Shell(made, Script(**self.answers), order)


def own_output(body) -> m.Outcome:
    """Put out the ref_id as text and as a list."""
    return done(last=body.stage.ref_id, all=[body.stage.ref_id])


GOOD: list[Answer] = [own_output, done(), done(S.SKIPPED), done(S.FAILED_CONTINUE)]
BAD: list[Answer] = [failed(), done(S.STOPPED), done(S.CANCELED), retry(max_attempts=2)]
WAITING: list[Answer] = [running(0), running(500), retry(max_attempts=5), suspend(), until_signalled()]
CONTEXTS = [
    {},
    {},
    {"stageEnabled": False},
    {"continuePipelineOnFailure": True},
    {"failPipeline": False},
    {"completeOtherBranchesThenFail": True},
    {"stageTimeoutMs": 700},
]


@st.composite
def plans(draw, *, joins=tuple(J), extra=(), jumps=False, contexts=CONTEXTS[:3], size=7) -> Plan:
    """Draw a graph of up to `size` stages; edges go from lower to higher numbers."""
    refs = [f"s{number}" for number in range(draw(st.integers(1, size)))]
    targets = [jump(ref, hop=1) for ref in [*refs, "nowhere"]] if jumps else []
    edges = {ref: draw(st.sets(st.sampled_from(refs[:at]), max_size=3)) for at, ref in enumerate(refs) if at}
    stages, answers = {}, {}
    for ref in refs:
        below = [other for other in edges if ref in edges[other]]
        after = edges.get(ref, set())
        join = draw(st.sampled_from(joins))
        conditions = st.sampled_from(["true", "false", "last == 's0'"])
        fields = {
            "tasks": draw(st.sampled_from([1, 1, 1, 0, 2])),
            "join_type": join,
            "join_threshold": draw(st.integers(0, len(after))) if join is J.N_OF_M else 0,
            "split_type": draw(st.sampled_from(SplitType)),
            "split_conditions": {other: draw(conditions) for other in below},
            "split_default": draw(st.sampled_from([None, *below])),
            "context": draw(st.sampled_from(contexts)),
        }
        stages[ref] = (after, fields)
        choice = st.sampled_from([*GOOD, *extra, *targets])
        answers[ref] = [*draw(st.lists(choice, max_size=3)), draw(st.sampled_from(GOOD))]
    return Plan(stages=stages, answers=answers)


def orders(**fixed) -> st.SearchStrategy[Order]:
    random = st.integers(0, 2**32).map(Random)
    fields = {
        "budget": st.sampled_from([1, 2, 32]),
        "slots": st.sampled_from([0, 1, 4]),
        "prefetch": st.booleans(),
        "redeliver": st.sampled_from([0.0, 0.5]),
        "lose": st.sampled_from([0.0, 0.3]),
    }
    return st.builds(Order, random=random, **(fields | fixed))


def work(shell: Shell, *, rounds: int = 40) -> Shell:
    """Work until the workflow has ended, signalling whatever suspends."""
    shell.push(m.StartWorkflow(execution_id=shell.made.id)).drain()
    for _ in range(rounds):
        waiting = [row for row in shell.stages() if row.status is S.SUSPENDED]
        if not waiting and not shell.head.paused:
            break
        for row in waiting:
            shell.push(m.SignalStage(execution_id=shell.made.id, stage_id=row.id, signal_name="go"))
        if shell.head.paused:
            shell.push(m.ResumeWorkflow(execution_id=shell.made.id))
        shell.drain()
    return shell


def is_blocked(shell: Shell, row: StageRow) -> bool:
    """Whether a stage never starts because a branch that it needs was broken off."""
    arrivals = (each for each in shell.rows.values() if isinstance(each, ArrivalRow))
    return any(each[:2] == (row.id, row.generation) and each.token is m.Token.HALT for each in arrivals)


def assert_well_ended(shell: Shell) -> None:
    """Ended (2) with nothing left behind, every join fired once a round (7), the log alone gives the rows (3)."""
    assert shell.status.is_complete, shell.statuses
    assert "deadlock" not in (shell.head.error or ""), shell.head.error
    if shell.head.ending is None:
        for row in shell.stages():
            assert row.status.is_complete or is_blocked(shell, row), f"{row.ref_id!r} waits for ever"
    generations: Counter[str] = Counter()
    fired: Counter[tuple[str, int, int]] = Counter()
    for fact in shell.facts(f.StageReset, f.JoinFired):
        if isinstance(fact, f.StageReset):
            generations[fact.stage] += 1
        elif fact.number:
            fired[fact.stage, generations[fact.stage], fact.number] += 1
    assert set(fired.values()) <= {1}, fired
    view = fold(shell.log)
    assert (present(view), view.head) == (shell.rows, shell.head)


@given(plans(contexts=CONTEXTS, extra=BAD + WAITING), orders())
def test_every_graph_ends(plan: Plan, order: Order):
    """Whatever the joins, splits, failures and waits, a workflow ends, by legal moves only (1, 2, 3, 4, 7)."""
    assert_well_ended(work(plan.shell(order)))


@given(plans(contexts=CONTEXTS, extra=BAD + WAITING, jumps=True), orders())
def test_every_graph_with_jumps_ends(plan: Plan, order: Order):
    """Backward, forward, sideways and self jumps wedge nothing (1, 2, 3, 4, 7, 8)."""
    assert_well_ended(work(plan.shell(order)))


COMMANDS = st.sampled_from(
    [m.CancelStage, m.CancelWorkflow, m.PauseWorkflow, m.ResumeWorkflow, m.RestartStage, m.RestartStage]
)


@given(
    plans(contexts=CONTEXTS, extra=BAD + WAITING, jumps=True, size=5),
    orders(),
    st.lists(st.tuples(st.integers(0, 12), COMMANDS, st.integers(0, 4)), max_size=6),
)
def test_orders_from_outside_wedge_nothing(plan: Plan, order: Order, commands: list):
    """Cancelling, pausing, resuming and restarting at any moment leave a workflow that ends (1, 2, 3, 8)."""
    shell = plan.shell(order)
    shell.push(m.StartWorkflow(execution_id=shell.made.id))
    for ticks, kind, place in commands:
        for _ in range(ticks):
            shell.tick()
        rows = shell.stages()
        target = {"stage_id": rows[place % len(rows)].id} if issubclass(kind, m.StageMessage) else {}
        shell.push(kind(execution_id=shell.made.id, **target))

    assert_well_ended(work(shell))


@given(plans(joins=(J.AND, J.OR), extra=[done(S.STOPPED)]), st.lists(orders(lose=st.just(0.0)), min_size=2, max_size=3))
def test_order_does_not_matter_for_and_and_or(plan: Plan, several: list[Order]):
    """AND/OR graphs end with the same statuses in every order, at every budget (5)."""
    plain = work(plan.shell(Order()))

    for order in several:
        shell = work(plan.shell(order))
        assert (shell.statuses, shell.status) == (plain.statuses, plain.status)


@given(plans(joins=(J.AND, J.OR), extra=WAITING[:3], jumps=False), orders(lose=st.just(0.0)))
def test_order_does_not_matter_for_what_a_stage_sees(plan: Plan, order: Order):
    """The inputs of every stage of an AND/OR graph are the same in every order (5)."""

    def inputs(shell: Shell) -> dict:
        return {ref: shell.inputs(ref).context for ref in set(shell.runs())}

    assert inputs(work(plan.shell(order))) == inputs(work(plan.shell(Order())))


@given(plans(extra=WAITING, contexts=[{}]), st.sampled_from([1, 32]))
@settings(max_examples=100)
def test_loading_ahead_changes_no_result(plan: Plan, budget: int):
    """What a shell adds to an answer changes speed and not the facts of a run."""

    ahead, never = (work(plan.shell(Order(budget=budget, prefetch=flag))) for flag in (True, False))

    assert ahead.facts()[1:] == never.facts()[1:]


@given(plans(contexts=CONTEXTS, extra=BAD + WAITING, jumps=True), orders())
@settings(max_examples=100)
def test_log_gives_the_rows_at_every_commit(plan: Plan, order: Order):
    """Cutting the log at the end of any commit and folding it gives the rows of that moment (3)."""
    shell = plan.shell(order)
    moments = []
    commit = shell._commit

    def watched(step, queued) -> None:
        commit(step, queued)
        moments.append((len(shell.log), dict(shell.rows), shell.head))

    shell._commit = watched
    work(shell)

    (at, created), *rest = shell.log
    view = evolve(genesis(created.definition), created, at)
    ends = {length: (rows, head) for length, rows, head in moments}
    for number, (moment, fact) in enumerate(rest, start=2):
        evolve(view, fact, moment)
        assert view.head.sequence == number
        if number in ends:
            assert (present(view), view.head) == ends[number]


@given(plans(contexts=CONTEXTS, extra=BAD + WAITING), st.integers(0, 2**32))
@settings(max_examples=100)
def test_late_results_change_nothing_but_their_own_record(plan: Plan, seed: int):
    """A result of a lost lease or of a stage that moved on gives a ResultDiscarded and no other fact (8)."""
    order = Order(random=Random(seed), lose=0.5)
    shell = work(plan.shell(order))
    before = (dict(shell.rows), shell.status)

    for body in shell.bodies:
        facts = shell.finish(replace(body), done(late=1))
        assert [type(fact) for fact in facts] == [f.ResultDiscarded]

    assert (shell.rows, shell.status) == before
