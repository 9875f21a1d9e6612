"""A secret is looked up where a stage that uses it is run, each time anew; everything else has its name."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from stabilize_nb import (
    Engine,
    Flow,
    Secret,
    StageExecution,
    SubWorkflowTask,
    Task,
    TaskExecution,
    TaskResult,
    Workflow,
    secret,
)
from stabilize_nb.errors import ConfigError, ValueNotStorableError
from stabilize_nb.llm import LLMClient
from stabilize_nb.testing.model import ScriptedModel

ROOT = Path(__file__).parents[2]
VALUE = "correct horse battery staple"
STORED = {"$secret": "KEY"}

seen: list[Any] = []
using = Flow("using")


@using.stage
def first(key: str, where: str) -> dict[str, Any]:
    seen.append(key)
    return {"key": key, "where": where}


@using.stage(after="first")
def second(first: dict[str, Any], other: str = secret("OTHER")) -> str:
    seen.append((first["key"], other))
    return "done"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY", raising=False)
    seen.clear()


def memory(**settings: Any) -> Engine:
    return Engine(":memory:", **settings)


def test_stages_have_values_and_the_store_has_names() -> None:
    """Parameters, defaults and what a stage hands on as a whole hold the value; inputs, outputs and facts the name."""
    with memory(secrets={"KEY": VALUE, "OTHER": "other-value"}) as engine:
        run = engine.start(using, key=secret("KEY"), where="here")
        run.wait(10)

        assert seen == [VALUE, (VALUE, "other-value")]
        assert run.inputs == {"key": secret("KEY"), "where": "here"}
        assert run.outputs["first"]["key"] == secret("KEY")
        assert json.loads(json.dumps(run.outputs["first"])) == {"key": STORED, "where": "here"}


def test_every_call_looks_anew() -> None:
    """A key that was changed meanwhile is the new one in the next stage, and in a run that is retried."""
    current = {"KEY": "old-old-old"}
    flow, begun = Flow("rotating"), threading.Event()

    @flow.stage
    def fail_once(key: str) -> None:
        seen.append(key)
        if key.startswith("old"):
            raise ValueError("expired")
        begun.set()

    with memory(secrets=lambda name: current[name]) as engine:
        run = engine.start(flow, key=secret("KEY"))
        assert run.wait(10).name == "TERMINAL"
        current["KEY"] = "new-new-new"
        run.retry()
        assert begun.wait(10)
        assert run.wait(10).name == "SUCCEEDED"

    assert seen == ["old-old-old", "new-new-new"]


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (None, "the environment of this process: set the environment variable KEY"),
        ({}, "what Engine(secrets=...) was given: add it there"),
        (lambda _: None, "what Engine(secrets=...) was given: add it there"),
        ({}.__getitem__, "what Engine(secrets=...) was given: add it there"),
    ],
    ids=["environment", "mapping", "function", "function that raises"],
)
def test_missing_secret_fails_its_stage_with_a_sentence(source: Any, where: str) -> None:
    """The sentence says which secret, which stage, where was looked, and what to do; nothing is tried again."""
    with memory(secrets=source) as engine:
        run = engine.start(using, key=secret("KEY"), where="here")

        assert run.wait(10).name == "TERMINAL"
        error = (
            f"SecretNotFoundError: stage 'first' needs secret 'KEY', which is not in {where}, then restart the stage"
        )
        assert next(iter(run.stages["error"])) == error
        assert seen == []


@pytest.mark.parametrize("source", [7, "KEY", ["KEY"]], ids=str)
def test_sources_are_checked(source: Any) -> None:
    """What no secret can be looked up in is refused when the engine is made."""
    with pytest.raises(ConfigError, match="a mapping from names to values is expected"):
        memory(secrets=source)


class Plain(Task):
    """A task of the reference API."""

    def execute(self, stage: StageExecution) -> TaskResult:
        seen.append(stage.context["nested"])
        return TaskResult.success({"nested": stage.context["nested"]})


def plain_stage(ref_id: str, task: str, *after: str, **context: Any) -> StageExecution:
    return StageExecution(
        ref_id=ref_id, context=context, tasks=[TaskExecution.create(ref_id, task)], requisite_stage_ref_ids=set(after)
    )


def test_tasks_children_and_forks(tmp_path: Path) -> None:
    """A task sees values wherever they stand in its context; a child workflow and a fork get the names."""
    child = {"name": "child", "stages": [plain_stage("in", "plain", nested=[secret("KEY")])], "context": {}}
    with Engine(tmp_path / "runs.db", secrets={"KEY": VALUE}, durability="normal") as engine:
        engine.registry.register("plain", Plain)
        engine.registry.register("sub", SubWorkflowTask)
        stages = [
            plain_stage("a", "plain", nested={"list": [{"key": secret("KEY")}]}),
            plain_stage("b", "sub", "a", _sub_workflow_config=child),
        ]
        run = engine.start(Workflow.create("tests", "parent", stages))
        run.wait(10)
        again = run.fork("a")
        again.wait(10)

        assert seen == [{"list": [{"key": VALUE}]}, [VALUE]] * 2
        assert run.outputs["a"] == again.outputs["a"] == {"nested": {"list": [{"key": STORED}]}}
        assert run.outputs["b"]["nested"] == [secret("KEY")]
        assert run.at(1).workflow.stages[0].context["nested"] == {"list": [{"key": secret("KEY")}]}


def test_items_loops_and_calls_pass_names_on() -> None:
    """What stands around functions passes references on: each item of a list, each pass of a loop, a called flow."""
    inner = Flow("inner")

    @inner.stage
    def ask(key: str) -> str:
        seen.append(key)
        return "asked"

    flow = Flow("outer")

    @flow.stage
    def find(keys: list[str]) -> list[str]:
        return keys

    @flow.stage(after="find", each="find")
    def one(item: str) -> str:
        seen.append(item)
        return item

    flow.call(inner, name="child", after="one")
    with memory(secrets={"KEY": VALUE, "OTHER": "other-value"}) as engine:
        run = engine.start(flow, keys=[secret("KEY"), secret("OTHER")], key=secret("KEY"))

        assert run.wait(10).name == "SUCCEEDED", run.error
        assert sorted(seen) == sorted([VALUE, "other-value", VALUE])
        assert [secret("KEY"), secret("OTHER")] in [each.get("result") for each in run.outputs.values()]


def test_steps_hold_names_and_give_values() -> None:
    """The result of a step is stored without the value, and the body has the value, also when it is run again."""
    flow = Flow("stepping")

    @flow.stage
    async def twice(key: str, stage: StageExecution) -> str:
        seen.append(await stage.step_async("token", lambda: {"token": key, "text": f"for {key}"}))
        answer = await stage.ask_async(f"Use {key}?")
        return answer.choice

    with memory(secrets={"KEY": VALUE}) as engine:
        run = engine.start(flow, key=secret("KEY"))
        gate = run.until_gate(10)[0]
        run.approve(gate)
        run.wait(10)

        assert run.status.name == "SUCCEEDED", run.error
        assert gate.question == "Use [secret KEY]?"
        assert seen == [{"token": VALUE, "text": "for [secret KEY]"}] * 2


def test_model_client_looks_its_key_up() -> None:
    """`LLMClient(api_key=secret(...))` asks with the key of the engine; where there is none the stage fails."""
    flow = Flow("asking")
    with ScriptedModel(["fine"]) as model:
        client = LLMClient("m", model.url, api_key=secret("KEY"))

        @flow.stage
        def ask() -> str:
            return client.chat([{"role": "user", "content": "well?"}]).content

        with memory(secrets={"KEY": VALUE}) as engine:
            assert engine.start(flow).result(10) == "fine"
        assert model.calls[0].request.headers["authorization"] == f"Bearer {VALUE}"
        with memory(secrets={}) as engine:
            run = engine.start(flow)
            assert run.wait(10).name == "TERMINAL"
            assert "needs secret 'KEY'" in str(run.error)


def test_killed_process_leaves_names_and_the_next_one_looks_up(tmp_path: Path) -> None:
    """A process that had the value dies in the middle of a stage; the next one, with a new value, goes on with that."""
    path = tmp_path / "runs.db"
    code = f"from tests.secrets.dying import die; die({str(path)!r})"
    environment = {**os.environ, "KEY": VALUE, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert VALUE.encode() not in left
    assert b'{"$secret":"KEY"}' in left

    code = f"from tests.secrets.dying import go_on; go_on({str(path)!r})"
    environment["KEY"] = "another value by now"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=60, check=True, capture_output=True, text=True
    )
    assert done.stdout == "SUCCEEDED True\n"


def test_references_are_values() -> None:
    """A reference equals another of its name, is hashed, copied and pickled as such, and never changed."""
    key = secret("KEY")

    assert repr(key) == "secret('KEY')"
    assert {key: 1}[secret("KEY")] == 1
    assert copy.deepcopy(key) is copy.copy(key) is key
    assert pickle.loads(pickle.dumps(key)) == key != secret("OTHER")
    assert type(pickle.loads(pickle.dumps(key))) is Secret
    with pytest.raises(TypeError, match="cannot be changed"):
        key["$secret"] = "OTHER"
    with pytest.raises(TypeError, match="cannot be changed"):
        key.update({})


@pytest.mark.parametrize("name", ["", " KEY", "two\nlines", "x" * 201, 7, None], ids=repr)
def test_names_are_checked_and_not_repeated(name: Any) -> None:
    """What cannot be a name, such as a value that was given for one, is refused without being shown."""
    with pytest.raises(ConfigError, match="write the name of the secret") as error:
        secret(name)
    assert not name or str(name) not in str(error.value)


def test_data_cannot_pass_for_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model or a server sends is no reference, whatever it looks like: else it would name our secrets."""
    monkeypatch.setenv("KEY", VALUE)
    flow = Flow("hostile")

    @flow.stage
    def fetch() -> Any:
        return {"answer": [json.loads('{"$secret": "KEY"}')]}

    @flow.stage(after="fetch")
    def use(fetch: Any) -> None:
        seen.append(fetch)

    with memory() as engine:
        run = engine.start(flow)
        assert run.wait(10).name == "TERMINAL"
        assert "answer[0] has the key '$secret', which stands for a secret" in str(run.error)
        with pytest.raises(ValueNotStorableError, match="write secret"):
            engine.start(using, key={"$secret": "KEY", "more": 1}, where="x")
    assert seen == []
