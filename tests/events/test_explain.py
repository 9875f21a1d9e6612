"""One sentence for a stage: why it has not run, what it waits for, or how it ended; of now and of any moment."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from stabilize_nb import Engine, Flow, JoinType, TransientError
from stabilize_nb.errors import StageNotFoundError, WaitingForCode, WaitTimeoutError
from stabilize_nb.events.past import Past
from stabilize_nb.explain_stage import explain_stage
from stabilize_nb.models.stage import SplitType
from stabilize_nb.run_state import RunState
from tests.events.scenes import SCENES, _activity, _cancel, _gate, _pause, _with_parts, tasks, work
from tests.events.scenes import play as play_scene
from tests.makers import Bench, stage, workflow


@dataclass(frozen=True)
class Case:
    name: str
    flow: Callable[[], object]
    stage: str
    sentence: str
    acts: tuple[Callable, ...] = (work,)


def scene(name):
    return next(each for each in SCENES if each.name == name)


def chain():
    return workflow(stage("a", task="give"), stage("gate", "a", task="gate"), stage("c", "gate", task="give"))


def joined(**fields):
    return workflow(
        stage("a", task="give"), stage("p", task="gate"), stage("q", task="gate"), stage("j", "a", "p", "q", **fields)
    )


CASES = [
    Case("succeeded", chain, "a", "stage 'a' succeeded"),
    Case("signal", chain, "gate", "stage 'gate' waits for a signal"),
    Case("what it follows", chain, "c", "stage 'c' waits for 'gate' (suspended)"),
    Case("not begun", chain, "a", "stage 'a' has not run: the run has not started", acts=()),
    Case("all of several", joined, "j", "stage 'j' waits for 2 of 3: 'p' (suspended), 'q' (suspended)"),
    Case(
        "some of several", lambda: joined(join_type=JoinType.N_OF_M, join_threshold=2), "j",
        "stage 'j' waits for 1 more of the 2 branches that it needs: 'p' (suspended), 'q' (suspended)",
    ),
    Case(
        "the first of several",
        lambda: workflow(
            stage("p", task="gate"), stage("q", task="gate"), stage("j", "p", "q", join_type=JoinType.DISCRIMINATOR)
        ),
        "j", "stage 'j' waits for the first of: 'p' (suspended), 'q' (suspended)",
    ),
    Case(
        "branch not taken",
        lambda: workflow(
            stage("a", task="give", split_type=SplitType.OR, split_conditions={"b": "done == 'a'", "c": "done == 'x'"}),
            stage("b", "a", task="give"), stage("c", "a", task="give"), stage("d", "c", task="give"),
        ),
        "c", "stage 'c' was skipped: no branch led to it from 'a' (succeeded)",
    ),
    Case(
        "failed", lambda: workflow(stage("a", task="fail"), stage("b", "a", task="give")), "a",
        "stage 'a' failed: no luck",
    ),
    Case(
        "after a failure", lambda: workflow(stage("a", task="fail"), stage("b", "a", task="give")), "b",
        "stage 'b' did not run: it comes after 'a' (terminal)",
    ),
    Case(
        "tolerated", lambda: workflow(stage("a", task="fail", context={"continuePipelineOnFailure": True})), "a",
        "stage 'a' failed, and the run goes on: no luck",
    ),
    Case("cancelled", chain, "gate", "stage 'gate' was cancelled: the run was cancelled", acts=(work, _cancel, work)),
    Case(
        "paused", lambda: workflow(stage("gate", task="gate"), stage("a", task="give")), "a",
        "stage 'a' rests while the run is paused: run.resume() goes on", acts=(_pause, work),
    ),
    Case(
        "lock", lambda: workflow(stage("gate", task="gate", mutex_key="k"), stage("b", task="give", mutex_key="k")),
        "b", "stage 'b' waits for the lock 'k', which 'gate' has",
    ),
    Case(
        "milestone",
        lambda: workflow(
            stage("gate", task="gate"),
            stage("m", task="give", milestone_ref_id="gate", milestone_status="SUCCEEDED"),
        ),
        "m", "stage 'm' waits until 'gate' is SUCCEEDED",
    ),
    Case(
        "choice that fell on another",
        lambda: workflow(
            stage("gate", task="gate", deferred_choice_group="g"), stage("q", task="gate", deferred_choice_group="g")
        ),
        "q", "stage 'q' was cancelled: the choice fell on another stage", acts=(work, _gate, work),
    ),
    Case(
        "instances to come", _activity, "p_mi_join",
        "stage 'p_mi_join' waits for further instances, or for the end of adding them",
    ),
    Case(
        "part of a stage",
        lambda: _with_parts(workflow(stage("a", task="give"), stage("n", "a", task="give"))),
        "a.after.stage_after",
        "stage 'a.after.stage_after' has not run: the run has not started", acts=(),
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stage_is_explained(case):
    """Each reason has its sentence, with the names of what is waited for."""
    with Bench(tasks=tasks()) as bench:
        flow = case.flow()
        bench.begin(flow)
        for act in case.acts:
            act(bench, flow)
        there = Past(bench.database, flow.id)

        assert explain_stage(RunState.of(there, there.last), case.stage) == case.sentence


@pytest.mark.parametrize("each", SCENES, ids=lambda each: each.name)
def test_every_stage_is_explained_at_every_moment(each):
    """Whatever the moment, there is one line that names the stage and ends without a full stop."""
    with Bench(tasks=tasks()) as bench:
        flow = play_scene(each, bench)
        there = Past(bench.database, flow.id)
        sentences = {
            (state := RunState.of(there, number)).explain(row.ref_id)
            for number in range(1, there.last + 1)
            for row in RunState.of(there, number).rows
        }

        assert len(sentences) > 2
        assert all(said.startswith("stage '") and "\n" not in said and "None" not in said for said in sentences)
        assert state.sequence <= there.last


def test_waiting_instances_are_counted():
    """A join of several instances says how many have not ended."""
    with Engine(":memory:") as engine:
        flow = Flow("many")

        @flow.stage
        def plan():
            return {"topics": ["a", "b", "c"]}

        @flow.stage(each="topics", after="plan")
        def research(topic):
            return {"finding": topic}

        run = engine.start(flow)
        run.wait(20)
        number = int(run.events.loc[run.events["type"] == "instance.added", "seq"].iloc[-1])

        assert run.at(number).explain("research_mi_join") == (
            "stage 'research_mi_join' waits for 3 of 3: 'research_instance_0' (not started), "
            "'research_instance_1' (not started), 'research_instance_2' (not started)"
        )


def test_another_try_says_when_and_why():
    """A stage whose task failed in a way that may pass says when it is tried again."""
    with Engine(":memory:") as engine:
        engine.processor.limits = replace(engine.processor.limits, backoff_min=1)
        flow, calls = Flow("busy"), []

        @flow.stage(retry=2)
        def draft():
            calls.append(1)
            if len(calls) == 1:
                raise TransientError("model is busy")
            return 1

        run = engine.start(flow)
        run.wait(20)
        number = int(run.events.loc[run.events["type"] == "task.retried", "seq"].iloc[0])
        said = run.at(number).explain("draft")

        assert said.startswith("stage 'draft' tries again at ")
        assert said.endswith(" UTC, attempt 1 failed: TransientError: model is busy")
        assert run.explain("draft") == "stage 'draft' succeeded"


def test_missing_code_is_named(tmp_path):
    """A stage whose code no cell of this process has defined says so."""
    with Engine(tmp_path / "runs.db") as engine:
        flow = Flow("publishing")
        sign_off = flow.approval("Go?", name="sign_off")

        @flow.stage(after=sign_off)
        def publish():
            return 1

        run_id = engine.start(flow).id
        engine.run(run_id).until_gate(20)
    with Engine(tmp_path / "runs.db") as engine:
        [run] = engine.resume(run_id)
        run.approve("sign_off")
        with pytest.raises(WaitingForCode):
            run.result(20)

        assert run.explain("publish") == (
            "stage 'publish' waits for code: 'publishing.publish' is not defined in this process"
        )


def test_run_explains_as_a_whole_or_one_stage():
    """Without a name there is a sentence for each thing; a name that no stage has is refused with those there are."""
    with Engine(":memory:") as engine:
        flow = Flow("asking")
        flow.approval("Go?", name="sign_off")
        run = engine.start(flow)
        run.until_gate(20)

        assert run.explain() == ["stage 'sign_off' waits for a decision or signal"]
        assert run.explain("sign_off") == "stage 'sign_off' waits for a decision: Go?"
        with pytest.raises(StageNotFoundError, match="its stages were: sign_off"):
            run.explain("publish")


def test_who_waits_for_a_run_is_told_of_another_try():
    """A run that fails again and again does not look like one that works."""
    flow = Flow("fails")

    @flow.stage
    def ask():
        raise TransientError("no server", retry_after=60)

    with Engine(":memory:") as engine:
        run = engine.start(flow)
        while "tries again" not in str(run.explain()):
            engine.database.changes.ticket().wait(0.05)

        with pytest.raises(WaitTimeoutError, match=r"stage 'ask' tries again at .*: TransientError: no server"):
            run.wait(0)
        run.cancel()


def test_run_says_which_of_its_stages_wait_for_a_place():
    """Of a wide fan only what is at work runs; the others are one sentence."""
    flow, go_on = Flow("fan"), threading.Event()

    @flow.stage(each="numbers")
    def look(number):
        assert go_on.wait(20)
        return number

    with Engine(":memory:", workers=1) as engine:
        run = engine.start(flow, numbers=list(range(8)))
        while not any("wait for workers" in line for line in run.explain()):
            engine.database.changes.ticket().wait(0.05)
        said = run.explain()
        go_on.set()
        run.wait(20)
    names = ", ".join(f"'look_instance_{at}'" for at in range(1, 6))
    assert [line for line in said if line.endswith(" runs")] == ["stage 'look_instance_0' runs"]
    assert said[-1] == f"7 stages wait for workers that are free: {names} and 2 more"
