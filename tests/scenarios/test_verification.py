"""Outputs are verified before anything that follows starts: by a flow, by a task, in threads and in coroutines."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from stabilize_nb import Engine, Flow, Task, TaskResult, WorkflowStatus
from stabilize_nb.conditions import ConditionReason, ConditionSet, ConditionType
from stabilize_nb.errors import ConfigError, TransientVerificationError, VerificationError
from stabilize_nb.queue.processor.presence import free_claims
from stabilize_nb.verification import CallableVerifier, OutputVerifier, Verifier, VerifyResult
from tests.makers import stage, workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stabilize_nb import Run, StageExecution

S = WorkflowStatus
PATIENCE = 20.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Open an engine in memory."""
    with Engine(":memory:", workers=4) as made:
        yield made


def written(verify: Any, answers: list[Any], begun: list[str], *, waits: bool = False, **words: Any) -> Flow:
    """Return a flow of a stage that is verified and one that follows it; `begun` has what ran."""
    flow = Flow("verified")

    def answer() -> Any:
        begun.append("write")
        return answers[min(begun.count("write"), len(answers)) - 1]

    async def answer_later() -> Any:
        return answer()

    flow.stage(verify=verify, name="write", **words)(answer_later if waits else answer)

    @flow.stage
    def publish(write: Any) -> Any:
        begun.append("publish")
        return write

    return flow


def run_of(flow: Flow, engine: Engine) -> Run:
    """Run a flow to its end."""
    flow.engine = engine
    run = flow.run()
    run.wait(PATIENCE)
    return run


def has_pages(report: dict[str, Any]) -> bool:
    return bool(report["pages"])


def says_why(report: dict[str, Any]) -> str | None:
    return None if report["pages"] else "it has no pages"


def asserts(report: dict[str, Any]) -> None:
    assert report["pages"], "it has no pages"


def raises(report: dict[str, Any]) -> None:
    if not report["pages"]:
        raise VerificationError("it has no pages")


def breaks(report: dict[str, Any]) -> bool:
    return report["pages"][0] > 0


def returns_nonsense(report: dict[str, Any]) -> Any:
    return VerifyResult.ok() if report["pages"] else 5


REFUSING: list[tuple[Any, str]] = [
    ("size > 3", "outputs of stage 'write' were refused: 'size > 3' is not true"),
    (has_pages, "has_pages says that it is not right"),
    (says_why, "it has no pages"),
    (asserts, "it has no pages"),
    (raises, "it has no pages"),
    (breaks, "ReturnedVerifier of stage 'write' could not say anything: IndexError"),
    (returns_nonsense, "returned 5; a VerifyResult"),
    (OutputVerifier("title"), "output 'title' is missing (there is: pages, size)"),
    (OutputVerifier(types={"size": (str, list)}), "output 'size' is of type int; str or list is expected"),
    (OutputVerifier(schema={"properties": {"pages": {"minItems": 1}}}), "$.pages: [] should be non-empty"),
    (CallableVerifier(lambda stage: bool(stage.outputs["pages"])), "the verifier says that it is not right"),
]


@pytest.mark.parametrize("waits", [False, True], ids=["in a thread", "coroutine"])
@pytest.mark.parametrize(("verify", "sentence"), REFUSING, ids=[str(number) for number in range(len(REFUSING))])
def test_what_is_refused_goes_no_further(engine: Engine, verify: Any, sentence: str, waits: bool):
    """A stage whose outputs are refused fails with a sentence, what follows never starts, and nothing gets out."""
    begun: list[str] = []

    run = run_of(written(verify, [{"pages": [], "size": 0}], begun, waits=waits), engine)

    assert run.status is S.TERMINAL
    assert begun == ["write"]
    assert sentence in run.workflow.stage_by_ref_id("write").error
    assert run.outputs == {}


@pytest.mark.parametrize("waits", [False, True], ids=["in a thread", "coroutine"])
@pytest.mark.parametrize("verify", [verify for verify, _ in REFUSING[:-3]] + [REFUSING[-1][0]])
def test_what_is_right_goes_on(engine: Engine, verify: Any, waits: bool):
    """The same verifiers let pass what is right, and what follows gets it; the log has the verifier's word."""
    begun: list[str] = []

    run = run_of(written(verify, [{"pages": [1], "size": 7, "title": "x"}], begun, waits=waits), engine)

    assert run.status is S.SUCCEEDED, run.error
    assert begun == ["write", "publish"]
    word = run.workflow.stage_by_ref_id("write").context["_verification"]
    assert word == {"status": "OK", "message": "", "details": {}}
    assert any("_verification" in str(data) for data in run.events["data"])


def test_what_is_made_again_is_made_anew(engine: Engine):
    """A verifier that says to retry has the body run anew: its steps are done again, not recalled."""
    made: list[int] = []
    keys: list[str] = []

    def draw(stage: StageExecution) -> dict[str, int]:
        keys.append(stage.idempotency_key)
        return {"score": stage.step("draw", lambda: made.append(len(made)) or len(made))}

    def high_enough(drawn: dict[str, int]) -> VerifyResult:
        return VerifyResult.ok("enough") if drawn["score"] > 2 else VerifyResult.retry(f"{drawn['score']} is too low")

    flow = Flow("drawn")
    flow.stage(draw, verify=high_enough)
    run = run_of(flow, engine)

    assert run.status is S.SUCCEEDED, run.error
    assert made == [0, 1, 2]
    assert len(set(keys)) == 3
    assert run.workflow.stage_by_ref_id("draw").context["_verification"]["message"] == "enough"
    retried = run.events[run.events["type"] == "task.retried"]
    assert [data["error"] for data in retried["data"]] == [
        "outputs of stage 'draw' were refused: 1 is too low",
        "outputs of stage 'draw' were refused: 2 is too low",
    ]


def test_what_stays_refused_fails_after_its_last_attempt(engine: Engine):
    """A stage is run anew as often as `retry` says; then it fails with the last word, and keeps what was refused."""
    begun: list[str] = []

    run = run_of(written(OutputVerifier(condition="size > 3", retry=True), [{"size": 0}], begun, retry=2), engine)

    assert begun == ["write"] * 3
    assert run.status is S.TERMINAL
    word = run.workflow.stage_by_ref_id("write").context["_verification"]
    assert word["status"] == "RETRY"
    assert word["refused"] == {"size": 0}


class Measured(Task):
    """A task of the reference API with a verifier of its own."""

    verifier: Verifier = OutputVerifier(required=["length"], types={"length": int})

    def execute(self, stage: StageExecution) -> TaskResult:
        """Give what the context says."""
        return TaskResult.success(outputs=stage.context["given"])


@pytest.mark.parametrize(("given", "status"), [({"length": 3}, S.SUCCEEDED), ({"length": "3"}, S.TERMINAL)], ids=str)
def test_task_has_a_verifier(engine: Engine, given: Any, status: WorkflowStatus):
    """A task of the reference API is verified by its class attribute."""
    engine.registry.register("measured", Measured)

    run = engine.start(workflow(stage("a", task="measured", context={"given": given}), stage("b", "a")))
    run.wait(PATIENCE)

    assert run.status is status
    assert run.workflow.stage_by_ref_id("b").status is (S.SUCCEEDED if status is S.SUCCEEDED else S.NOT_STARTED)


def test_what_failed_by_itself_is_not_verified(engine: Engine):
    """A verifier sees only outputs of bodies that have succeeded."""
    asked: list[Any] = []

    def fails() -> TaskResult:
        return TaskResult.failed_continue("no luck", outputs={"size": 0})

    flow = Flow("failing")
    flow.stage(fails, verify=asked.append)
    run = run_of(flow, engine)

    assert run.workflow.stage_by_ref_id("fails").status is S.FAILED_CONTINUE
    assert asked == []


def test_transient_error_of_a_verifier_is_tried_again(engine: Engine):
    """Where a verifier cannot reach what it needs, the task is run again, as after any transient error."""
    asked: list[str] = []

    def reaches(answer: Any) -> None:
        asked.append(answer)
        if len(asked) == 1:
            raise ConnectionError("nobody there")
        if len(asked) == 2:
            raise TransientVerificationError("not yet")

    begun: list[str] = []
    run = run_of(written(reaches, ["done"], begun), engine)

    assert run.status is S.SUCCEEDED, run.error
    assert begun == ["write"] * 3 + ["publish"]


def test_each_instance_is_verified(engine: Engine):
    """Of a stage that runs once for each item every instance is verified by itself."""
    flow = Flow("each")

    @flow.stage(each=[1, 5], verify="size > 3")
    def measure(item: int) -> dict[str, int]:
        return {"size": item}

    run = run_of(flow, engine)

    stages = {each.ref_id: each.status for each in run.workflow.stages}
    assert stages["measure_instance_0"] is S.TERMINAL
    assert stages["measure_instance_1"] is S.SUCCEEDED


def test_other_verifier_is_other_code():
    """The print of a stage's code changes with what its verifier asks, so a run knows the code it was started with."""

    def name(verify: Any) -> str:
        flow = Flow("printed")

        @flow.stage(verify=verify)
        def write() -> dict[str, int]:
            return {"size": 3}

        return flow.task_name(flow.stages["write"])

    names = [name(verify) for verify in (None, "size > 3", "size > 4", has_pages, says_why, OutputVerifier("size"))]

    assert len(set(names)) == len(names)
    assert name("size > 3") == name("size > 3")


async def later(report: Any) -> bool:
    return True


@pytest.mark.parametrize("verify", [5, later, "size >", ["size > 3"], {"type": "object"}])
def test_what_cannot_verify_is_refused(verify: Any):
    """A word that is no verifier is refused where it is written."""
    with pytest.raises(ConfigError, match=r"stage 'write': verify="):
        written(verify, [], [])


def test_conditions_tell_what_was_verified(engine: Engine):
    """The conditions of a stage say whether it was verified, and why not."""
    right = run_of(written("size > 3", [{"size": 7}], []), engine)
    wrong = run_of(written("size > 3", [{"size": 0}], []), engine)

    def conditions(run: Run, ref: str) -> ConditionSet:
        return ConditionSet.of(run.workflow.stage_by_ref_id(ref))

    assert conditions(right, "write").is_true(ConditionType.VERIFIED)
    assert conditions(right, "write").is_true(ConditionType.SUCCEEDED)
    assert conditions(right, "publish").get(ConditionType.VERIFIED).status is None
    refused = conditions(wrong, "write").get(ConditionType.VERIFIED)
    assert refused.status is False
    assert refused.reason is ConditionReason.VERIFICATION_REFUSED
    assert conditions(wrong, "write").is_true(ConditionType.FAILED)
    assert not conditions(wrong, "publish").is_true(ConditionType.READY)
    assert [each["type"] for each in conditions(wrong, "write").as_data()] == [each.value for each in ConditionType]


def test_death_while_verifying_tells_nobody(engine: Engine):
    """A process that dies while a verifier looks has committed nothing: the body is run and verified again."""
    begun: list[str] = []
    asked: list[Any] = []
    again = threading.Event()

    def looks(answer: Any) -> None:
        asked.append(answer)
        if len(asked) > 1:
            again.set()
            return
        engine.database.write(lambda connection: free_claims(connection, engine.processor.owner, 3))
        engine.database.changes.notify()
        again.wait(PATIENCE)

    run = run_of(written(looks, ["done"], begun), engine)

    assert run.status is S.SUCCEEDED, run.error
    assert sorted(begun) == ["publish", "write", "write"]
    assert len(asked) == 2
