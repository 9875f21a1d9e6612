"""Forks: what was finished is taken over, the rest is run, the parent is left alone."""

from __future__ import annotations

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import ConfigError, StageNotFoundError, StageNotReadyError, ValueNotStorableError
from stabilize_nb.events.history import entries_of
from stabilize_nb.events.replay import fold
from stabilize_nb.forks import Origin
from stabilize_nb.handlers.fork_workflow import KEPT
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.run import Run
from tests.events.scenes import SCENES, play, tasks, work
from tests.events.test_replay import rebuilt, stored
from tests.makers import Bench, chain

S = WorkflowStatus
PATIENCE = 30
#: Moments at which a scene is forked: a long one is not forked at every fact.
MOMENTS = 12


class Host(Bench):
    """A bench that a run takes for its engine."""

    rehearsal = None

    @property
    def owner(self):
        """Who works at what is begun here."""
        return self.processor.owner

    def work(self, _run_id=None):
        """Do what is queued."""
        self.processor.process_all(timeout=PATIENCE)


def rows_of(host, run_id):
    """Return the header and every row of a run."""
    return host.database.call_read(lambda connection: stored(connection, run_id))


def begun_anew(fork):
    """Return the stages whose bodies were begun after the fork was made, before any jump put stages back."""
    kinds = list(fork.events.type)
    own = kinds.index("workflow.forked")
    until = kinds.index("jump.executed", own) if "jump.executed" in kinds[own:] else len(kinds)
    later = fork.events[own:until]
    return set(later[later.type == "task.started"].stage)


def ends(run):
    """Return how each stage ended."""
    return {stage.ref_id: stage.status for stage in run.workflow.stages}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_run_can_be_gone_on_with_from_its_moments(scene):
    """Nothing that was finished is begun again, the fork's log comes to its rows (C7), and the parent's rows stay."""
    with Host(tasks=tasks()) as host:
        run = Run(host, play(scene, host).id)
        before = rows_of(host, run.id)
        facts = range(1, len(run.events) + 1)
        moments = [number for number in facts if run.at(number).view.head.started_at is not None]
        for number in [*moments[:: max(1, len(moments) // MOMENTS)], facts[-1]]:
            stages = run.at(number).stages
            open_ones = {stage.row.base_id for stage in stages if stage.status not in KEPT}
            finished = {stage.ref_id for stage in stages if stage.row.base_id not in open_ones}

            fork = run.fork(number)

            assert not begun_anew(fork) & finished
            assert rebuilt(fold(entries_of(host.database, fork.id))) == rows_of(host, fork.id)
            if scene.play == (work,):
                assert ends(fork) == ends(run)
            assert fork.forked_from == Origin(run.id, number, "")
        assert rows_of(host, run.id) == before


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.play == (work,)], ids=lambda scene: scene.name)
def test_a_run_can_be_gone_on_with_at_each_of_its_stages(scene):
    """The stage and what follows it run again, nothing else does, and it ends as before: also a fork of a fork."""
    with Host(tasks=tasks()) as host:
        run = Run(host, play(scene, host).id)
        for name in [stage.ref_id for stage in run.workflow.stages if stage.start_time is not None]:
            fork = run.fork(name)
            second = fork.fork(name)

            base = name.partition("#")[0]
            assert base in begun_anew(fork) or not run.workflow.stage_by_ref_id(name).tasks
            for each in (fork, second):
                assert ends(each) == ends(run)
                assert rebuilt(fold(entries_of(host.database, each.id))) == rows_of(host, each.id)
            assert [each.id for each in fork.forks] == [second.id]


def test_fork_is_one_commit_and_repeats_only_what_it_must():
    """A run of 100 stages: as many commits as its last stage takes, and one for the fork."""
    with Host(tasks=tasks()) as host:
        flow = chain(100)
        host.begin(flow)
        host.work()
        run = Run(host, flow.id)
        commits = []
        host.database.writer.raw.set_commit_hook(lambda: bool(commits.append(1)))

        fork = run.fork("s99")

        assert fork.status is S.SUCCEEDED
        assert begun_anew(fork) == {"s99"}
        assert len(commits) <= 5


@pytest.fixture
def engine():
    """Return an engine in memory."""
    with Engine(":memory:") as made:
        yield made


@pytest.fixture
def essay():
    """Return a flow of three stages, and what they were called with."""
    calls = []
    flow = Flow("essay")

    @flow.stage
    def plan(question):
        calls.append("plan")
        return {"topics": [question, "ice"]}

    @flow.stage
    def draft(plan):
        calls.append("draft")
        return " and ".join(plan["topics"])

    @flow.stage
    def review(draft, question):
        calls.append("review")
        return f"{draft}: {question}?"

    return flow, calls


def test_inputs_and_outputs_are_replaced_for_what_runs_again(engine, essay):
    """The stages that are taken over keep what they had seen; a dict replaces the values of its names only."""
    flow, calls = essay
    run = engine.start(flow, question="why")
    assert run.result(PATIENCE) == "why and ice: why?"
    calls.clear()

    assert run.fork("review", inputs={"question": "how"}).result(PATIENCE) == "why and ice: how?"
    assert run.fork("review", outputs={"draft": "snow"}).result(PATIENCE) == "snow: why?"
    assert run.fork("draft", outputs={"plan": {"topics": ["sea"]}}).result(PATIENCE) == "sea: why?"

    assert calls == ["review", "review", "draft", "review"]
    assert run.result() == "why and ice: why?"


def test_replaced_outputs_reach_stages_that_are_not_next_to_them(engine):
    """A value that a stage had not put out before is seen by all that follows it."""
    flow = Flow("far")

    @flow.stage
    def first():
        return {"old": 1}

    @flow.stage
    def middle(first):
        return {"seen": sorted(first)}

    @flow.stage
    def last(middle, first, new=0, old=0):
        return [new, old, middle["seen"]]

    run = engine.start(flow)
    assert run.result(PATIENCE) == [0, 1, ["old"]]

    assert run.fork("last", outputs={"first": {"new": 5}}).result(PATIENCE) == [5, 1, ["old"]]


def test_run_that_waits_is_forked_and_goes_on_for_itself(engine):
    """Two answers to one question: the parent waits on, and each run has its own gate."""
    flow = Flow("letter")
    flow.approval("Send it?", name="gate")

    @flow.stage(after="gate")
    def send():
        return "sent"

    run = engine.start(flow)
    run.until_gate(PATIENCE)
    fork = run.fork("gate")
    fork.until_gate(PATIENCE)
    fork.approve()

    assert fork.result(PATIENCE) == "sent"
    assert [gate.run_id for gate in engine.inbox()] == [run.id]
    run.reject()
    assert run.wait(PATIENCE).is_complete


def test_code_is_that_of_now_or_that_of_the_run(engine):
    """`code` says with which version of the functions the rest is run."""

    def made(word):
        flow = Flow("words")

        @flow.stage
        def first():
            return word

        flow.stage(name="second")(_longer if word == "long" else _shorter)
        return flow

    run = engine.start(made("long"))
    assert run.result(PATIENCE) == "long, longer"
    engine.define(made("short"))

    assert run.fork("second").result(PATIENCE) == "long, shorter"
    assert run.fork("second", code="recorded").result(PATIENCE) == "long, longer"


def _longer(first):
    return f"{first}, longer"


def _shorter(first):
    return f"{first}, shorter"


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (
            {"at": "reviw"},
            StageNotFoundError,
            r"has no stage 'reviw'; its stages are: plan, draft, review, never; did you mean 'review'\?$",
        ),
        ({"at": "never"}, StageNotReadyError, "cannot be forked at 'never', which never ran there; stages that did: "),
        ({"at": 999}, ConfigError, "has no fact 999"),
        ({"at": 1}, StageNotReadyError, "had not begun after fact 1"),
        ({"at": "review", "code": "old"}, ConfigError, "code='old' is not known; write one of 'current', 'recorded'"),
        (
            {"at": "review", "inputs": {"questoin": 1}},
            ConfigError,
            r"no input 'questoin'; its inputs are: .*; did you mean 'question'\?$",
        ),
        (
            {"at": "review", "inputs": {"question": {1}}},
            ValueNotStorableError,
            "the fork.question is of type set",
        ),
        ({"at": "review", "outputs": {"review": 1}}, ConfigError, "outputs of 'review' cannot be replaced: .* 'plan'"),
        ({"at": "review", "outputs": {"plan": 1}}, ConfigError, r"'plan' puts out values by name \(topics\)"),
    ],
)
def test_what_cannot_be_forked_is_refused_in_a_sentence(engine, essay, words, error, says):
    """Nothing is stored."""
    flow, _ = essay

    @flow.stage(after="review", when="question == 'never'")
    def never():
        return 1

    run = engine.start(flow, question="why")
    run.wait(PATIENCE)

    with pytest.raises(error, match=says):
        run.fork(**words)
    assert len(engine.runs()) == 1


def test_fork_takes_an_input_that_was_left_at_its_default(engine):
    """What a stage may be given, a fork may give; a slip is told, also where the run had no inputs at all."""
    flow = Flow("sum")

    @flow.stage
    def load(number=3):
        return list(range(number))

    @flow.stage
    def total(load, scale=1):
        return sum(load) * scale

    run = engine.start(flow)
    assert run.result(PATIENCE) == 3
    assert run.fork("total", inputs={"scale": 10}).result(PATIENCE) == 30
    with pytest.raises(
        ConfigError, match=r"has no input 'scael'; its inputs are: number, scale; did you mean 'scale'\?"
    ):
        run.fork("total", inputs={"scael": 10})
