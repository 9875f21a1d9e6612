"""Messages and facts as data: what is written is read back, whatever its fields; what is not ours is refused."""

import dataclasses
import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import Shell, stage, workflow

from stabilize_nb.core import facts as f
from stabilize_nb.core.evolve import _APPLY
from stabilize_nb.core.rows import spec_from_data, spec_to_data, written
from stabilize_nb.errors import StabilizeFatalError
from stabilize_nb.handlers import HANDLERS
from stabilize_nb.models.multi_instance import MultiInstanceConfig
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution, SyntheticStageOwner
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue import messages as m
from stabilize_nb.queue.messages import Token

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
documents = st.dictionaries(text, st.none() | st.booleans() | st.integers() | text | st.lists(text, max_size=2))
VALUES: dict[Any, st.SearchStrategy] = {
    str: text,
    int: st.integers(0, 2**40),
    bool: st.booleans(),
    str | None: st.none() | text,
    int | None: st.none() | st.integers(0, 9),
    list[str]: st.lists(text, max_size=3),
    list[dict[str, Any]]: st.lists(documents, max_size=2),
    dict[str, Any]: documents,
    dict[str, str]: st.dictionaries(text, text, max_size=3),
    Token: st.sampled_from(Token),
    Token | None: st.none() | st.sampled_from(Token),
    WorkflowStatus: st.sampled_from(WorkflowStatus),
}


def any_of(kinds: list[type]) -> st.SearchStrategy:
    """Return a strategy for instances of these dataclasses with any values in all fields."""
    built = []
    for kind in kinds:
        hints = get_type_hints(kind)
        fields = {each.name: VALUES[hints[each.name]] for each in dataclasses.fields(kind)}
        built.append(st.builds(kind, **fields))
    return st.one_of(built)


@given(any_of(list(m.MESSAGES.values())))
def test_message_is_read_as_it_was_written(message: m.Message):
    """A message survives its way through a row, and the row's own columns are not in the payload."""
    payload = json.loads(json.dumps(m.to_payload(message)))
    stage_id = getattr(message, "stage_id", None)

    assert not {"execution_id", "stage_id"} & payload.keys()
    assert m.from_payload(type(message).__name__, message.execution_id, stage_id, payload) == message


def test_message_with_defaults_has_an_empty_payload():
    """Only what differs from the defaults is written."""
    assert [m.to_payload(kind()) for kind in m.MESSAGES.values()] == [{}] * len(m.MESSAGES)


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        ("MakeCoffee", {}, "message type 'MakeCoffee' is not known to this version"),
        ("RunTask", {"sugar": 1, "milk": 2}, "message RunTask has unknown fields: milk, sugar"),
        ("TaskFinished", {}, "not known"),
    ],
)
def test_message_of_another_version_is_refused(kind: str, payload: dict, says: str):
    """A row that this version cannot read is an error that says why, not a guess."""
    with pytest.raises(StabilizeFatalError, match=says):
        m.from_payload(kind, "w", "s", payload)


def test_every_message_has_a_handler():
    """The table of handlers is complete: every message that can be queued, and the end of a body."""
    assert set(HANDLERS) == {*m.MESSAGES.values(), m.TaskFinished, m.ForkWorkflow}


def test_messages_that_hold_a_workflow_open_are_those_that_may_start_a_stage():
    """A message about an open stage needs not hold the workflow, since the stage does."""
    counting = {kind.__name__ for kind in m.MESSAGES.values() if kind.COUNTS}

    assert counting == {"StartWorkflow", "StartStage", "EnterStage", "AddMultiInstance", "CompleteWorkflow"}
    assert [kind.__name__ for kind in m.MESSAGES.values() if kind.TIMER] == ["TimeoutStage", "TimeoutGate"]


@given(any_of(list(f.FACTS.values())))
def test_fact_is_read_as_it_was_written(fact: f.Fact):
    """A fact survives its way through the log."""
    data = json.loads(json.dumps(f.to_data(fact)))

    assert data["fact"] == type(fact).__name__
    assert f.from_data(data) == fact


def test_fact_of_another_version_is_refused():
    """A log that this version cannot fold is an error that names the fact."""
    with pytest.raises(StabilizeFatalError, match="fact 'CoffeeMade' is not known"):
        f.from_data({"fact": "CoffeeMade"})


def test_every_fact_is_applied_and_has_a_name():
    """evolve knows every fact, and every fact is published under some name."""
    assert set(_APPLY) == set(f.FACTS.values())
    for kind in f.FACTS.values():
        assert kind.TYPE or kind in (f.WorkflowEnded, f.StageEnded, f.TaskEnded)


S = WorkflowStatus
NAMES = [
    (f.WorkflowEnded(S.SUCCEEDED), "workflow.completed"),
    (f.WorkflowEnded(S.TERMINAL), "workflow.failed"),
    (f.WorkflowEnded(S.CANCELED), "workflow.canceled"),
    (f.StageEnded("a", S.SUCCEEDED), "stage.completed"),
    (f.StageEnded("a", S.FAILED_CONTINUE), "stage.completed"),
    (f.StageEnded("a", S.STOPPED), "stage.completed"),
    (f.StageEnded("a", S.TERMINAL), "stage.failed"),
    (f.StageEnded("a", S.SKIPPED), "stage.skipped"),
    (f.StageEnded("a", S.CANCELED), "stage.canceled"),
    (f.TaskEnded("a", 0, S.TERMINAL), "task.failed"),
    (f.TaskEnded("a", 0, S.SUCCEEDED), "task.completed"),
    (f.TaskStarted("a", 0, 1), "task.started"),
]


@pytest.mark.parametrize(("fact", "name"), NAMES, ids=[f"{type(fact).__name__}-{name}" for fact, name in NAMES])
def test_fact_is_published_under_its_documented_name(fact: f.Fact, name: str):
    """The name of an end depends on how it ended."""
    assert f.event_type(fact) == name


@given(
    join=st.sampled_from(JoinType),
    split=st.sampled_from(SplitType),
    threshold=st.integers(0, 5),
    conditions=st.dictionaries(text, text, max_size=3),
    default=st.none() | text,
    reducers=st.dictionaries(text, text, max_size=2),
    tasks=st.integers(0, 3),
    after=st.sets(text, max_size=3),
    name=text,
)
def test_definition_of_a_stage_is_read_as_it_was_written(
    join: JoinType, split: SplitType, threshold: int, conditions: dict, default: str | None, reducers: dict,
    tasks: int, after: set, name: str,
):  # fmt: skip
    """Every field of a definition survives JSON, the order of split conditions included."""
    made = stage(
        "a", *after, tasks=tasks, join_type=join, split_type=split, join_threshold=threshold,
        split_conditions=conditions, split_default=default, output_reducers=reducers, name=name, type="t",
    )  # fmt: skip
    spec = spec_from_data(json.loads(json.dumps(spec_to_data(made))))

    assert (spec.join_type, spec.split_type, spec.join_threshold) == (join, split, threshold)
    assert list(spec.split_conditions.items()) == list(conditions.items())
    assert spec.split_default == (default or None)
    assert spec.output_reducers == reducers
    assert spec.requisites == tuple(sorted(after))
    assert spec.fan_in == len(after)
    assert spec.tasks == tuple((task.name, task.implementing_class) for task in made.tasks)
    assert (spec.ref_id, spec.name, spec.type) == ("a", name, "t")


def test_shell_of_these_tests_starts_from_the_same_definition():
    """The rows that WorkflowCreated makes are the stages and tasks as written."""
    shell = Shell(workflow(stage("b", "a", tasks=2), stage("a"), x=1))

    assert shell.statuses == {"b": "NOT_STARTED", "a": "NOT_STARTED"}
    assert shell.task("b", 1).name == "b.1"
    assert shell.head.context == {"x": 1}


def test_everything_that_was_written_is_read_again():
    """Every field that an author can set survives a definition."""
    made = stage(
        "a", "b", thread_split=2, thread_merge=3, join_blocking=True, join_cancel_remaining=True, mutex_key="k",
        critical_section="s", deferred_choice_group="g", milestone_ref_id="m", milestone_status="SUCCEEDED",
        milestone_until_ref_id="u", cancel_region="r", cancels_stages={"x"}, cancels_regions={"y"},
        ends_workflow="SUCCEEDED", jump_targets={"z"}, mi_config=MultiInstanceConfig(count=3),
        parent_stage_id="p", synthetic_stage_owner=SyntheticStageOwner.STAGE_AFTER,
    )  # fmt: skip
    fields = written(spec_from_data(json.loads(json.dumps(spec_to_data(made)))))

    state = {"id", "ref_id", "tasks", "context", "outputs", "status", "generation", "activation", "start_time"}
    state |= {"end_time", "error", "runtime"}
    assert fields.keys() == {each.name for each in dataclasses.fields(StageExecution)} - state
    assert {name: getattr(made, name) for name in fields} == fields
