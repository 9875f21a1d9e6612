"""
Every value that comes in by any door is stored without loss or refused with its place (R14 of reliability.md).

A door is where a person hands a value in or a task returns one. What a person hands in is refused where they stand, and
nothing is stored; what a task returns fails the stage once, with the same sentence.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stabilize_nb import StageExecution, TaskResult, TransientError, register_reducer
from stabilize_nb.core.draft import Limits
from stabilize_nb.errors import ValueNotStorableError, ValueTooLargeError
from stabilize_nb.events.bus import Event, EventType
from stabilize_nb.models import values
from stabilize_nb.models.values import plain, plain_mapping
from stabilize_nb.queue.messages import AddMultiInstance, SignalStage
from stabilize_nb.queue.processor import QueueProcessor
from tests.makers import Bench, stage, workflow
from tests.values.kinds import KINDS, Kind, laughs

#: How many cases the table of doors has.
CASES = 1_962
STORES = ("file", "memory")


# -- doors --------------------------------------------------------------------------------------------


@dataclass
class House:
    """A store with its processor; `make` makes the value that a body is to hand in."""

    bench: Bench
    make: Callable[[], Any] = object
    told: list[Event] = field(default_factory=list)

    def body(self, given: StageExecution) -> Any:
        """Be every task; the name of the stage says how the value goes in."""
        match given.ref_id:
            case "outputs":
                return TaskResult.success(outputs={"value": self.make()})
            case "context":
                return TaskResult.success(context={"value": self.make()})
            case "step":
                return TaskResult.success(outputs={"value": given.step("make", self.make)})
            case "error" if "value" not in given.context:
                raise TransientError("again", context_update={"value": self.make()})
            case "progress":
                given.progress(0.5, value=self.make())
                return TaskResult.success()
            case "signal" if "_signal_name" not in given.context:
                return TaskResult.suspend()
            case "signal":
                return TaskResult.success(outputs=given.context["_signal_data"])
            case _:
                return TaskResult.success(outputs={"value": given.context["value"]})

    def returning(self) -> Any:
        """Be a task that returns the value itself."""
        return self.make()

    def counts(self) -> list[int]:
        """Return how many rows each table has."""
        return [
            self.bench.database.writer.raw.execute(f"SELECT count(*) FROM {table}").get
            for table in ("workflow", "stage", "task", "message", "event", "signal", "journal")
        ]

    def value(self, ref: str, make: Callable[[], Any]) -> Any:
        """Run a stage that hands the value in and return what was stored; raises what the stage says otherwise."""
        self.make = make
        flow = self.bench.run(workflow(stage(ref, task="body")))
        return self.ended(flow.id, ref)

    def ended(self, flow_id: str, ref: str) -> Any:
        """Return the value of a stage that has ended, once, and left nothing; raises what it failed with."""
        done = self.bench.store.retrieve(flow_id)
        row = done.stage_by_ref_id(ref)
        assert done.status.is_complete, f"stuck: {done}"
        assert self.bench.queue.size() == 0
        if row.status.name == "TERMINAL":
            assert done.status.name == "TERMINAL"
            assert row.outputs == {}
            assert row.tasks[0].attempt <= 1, "it cannot be stored the next time either"
            steps = "SELECT count(*) FROM journal WHERE stage_id = ?"
            assert self.bench.database.writer.raw.execute(steps, (row.id,)).get == 0
            raise ValueNotStorableError(row.error)
        return row.outputs.get("value", row.context.get("value"))


def inputs(house: House, make: Callable[[], Any]) -> Any:
    flow = workflow(stage("inputs", task="body"), context={"value": make()})
    house.bench.run(flow)
    assert same(house.bench.store.retrieve(flow.id).context["value"], house.ended(flow.id, "inputs"))
    return house.ended(flow.id, "inputs")


def stage_context(house: House, make: Callable[[], Any]) -> Any:
    flow = house.bench.run(workflow(stage("written", task="body", context={"value": make()})))
    return house.ended(flow.id, "written")


def outputs(house: House, make: Callable[[], Any]) -> Any:
    return house.value("outputs", make)


def left_in_context(house: House, make: Callable[[], Any]) -> Any:
    return house.value("context", make)


def signal(house: House, make: Callable[[], Any]) -> Any:
    flow = house.bench.run(workflow(stage("signal", task="body")))
    target = flow.stages[0].id
    before = house.counts()
    try:
        house.bench.queue.push(
            SignalStage(execution_id=flow.id, stage_id=target, signal_name="go", signal_data={"value": make()})
        )
    except ValueNotStorableError:
        assert house.counts() == before
        assert house.bench.store.retrieve(flow.id).stages[0].status.name == "SUSPENDED"
        raise
    house.bench.processor.process_all()
    return house.ended(flow.id, "signal")


def step(house: House, make: Callable[[], Any]) -> Any:
    return house.value("step", make)


def error(house: House, make: Callable[[], Any]) -> Any:
    return house.value("error", make)


def progress(house: House, make: Callable[[], Any]) -> Any:
    house.told.clear()
    house.value("progress", make)
    house.bench.database.flush()
    assert house.told[-1].data["fraction"] == 0.5
    return house.told[-1].data["value"]


def reducer(house: House, make: Callable[[], Any]) -> Any:
    register_reducer("odd", lambda _values: make())
    join = stage("join", "a", task="body", output_reducers={"value": "odd"})
    flow = house.bench.run(workflow(stage("a", task="body", context={"value": 1}), join))
    return house.ended(flow.id, "join")


DOORS: Mapping[str, tuple[Callable[[House, Callable[[], Any]], Any], str]] = {
    "inputs": (inputs, "workflow 'test' context.value"),
    "context of a stage": (stage_context, "workflow 'test' stage 'written' context.value"),
    "outputs": (outputs, "outputs of stage 'outputs'.value"),
    "context that a task leaves": (left_in_context, "context of stage 'context'.value"),
    "signal": (signal, "data of signal 'go'.value"),
    "durable step": (step, "stage 'step' task 'step' step 'make' result"),
    "update of an error": (error, "context_update of stage 'error'.value"),
    "progress": (progress, "progress of stage 'progress'.value"),
    "reducer": (reducer, "what reducer 'odd' makes of 'value'"),
}  # fmt: skip
#: Doors at which a person stands.
OUTER = ("inputs", "context of a stage", "signal")


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, House]]:
    folder: Path = tmp_path_factory.mktemp("values")
    urls = {"file": f"sqlite:///{folder}/runs.db", "memory": "sqlite:///:memory:"}
    made = {name: _house(urls[name]) for name in STORES}
    yield made
    for house in made.values():
        house.bench.close()


def _house(url: str) -> House:
    bench = Bench(url, durability="normal")
    house = House(bench)
    bench.registry.register("body", house.body)
    bench.processor.close()
    bench.processor = QueueProcessor(
        bench.queue, None, bench.store, bench.registry, limits=Limits(backoff_min=1, backoff_max=2)
    )
    bench.database.bus.subscribe("test", house.told.append, event_types={EventType.CUSTOM})
    return house


def same(value: Any, other: Any) -> bool:
    """Whether two values are equal in everything, -0.0 and the types too."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict):
        return list(value) == list(other) and all(same(value[key], other[key]) for key in value)
    if isinstance(value, list):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, float):
        return value == other and math.copysign(1, value) == math.copysign(1, other)
    return bool(value == other)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_value_comes_back_or_is_refused(houses: Mapping[str, House], kind: Kind, door: str, store: str) -> None:
    """What is stored comes back equal, types included; what is not is refused with place, type and what to do."""
    house = houses[store]
    enter, place = DOORS[door]
    before = house.counts()

    if not kind.refused:
        assert same(enter(house, kind.make), kind.stored)
        return
    with pytest.raises(ValueNotStorableError) as caught:
        enter(house, kind.make)
    says = str(caught.value)
    assert place in says
    assert kind.refused in says
    assert kind.advice in says
    assert "hush" not in says
    says.encode()
    if door in OUTER[:2]:
        assert house.counts() == before, "nothing is stored of what was refused"


def test_number_of_cases() -> None:
    """The table is as large as is said of it."""
    assert len(KINDS) * len(DOORS) * len(STORES) == CASES
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 70
    said = f"{len(KINDS)} kinds of values at {len(DOORS)} doors of a store in a file and one in memory, {CASES:,} cases"
    assert said in Path("docs/values.md").read_text(encoding="utf-8")


# -- JSON data ----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT
    | st.floats(allow_nan=False, allow_infinity=False)
)  # fmt: skip
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)


@settings(max_examples=150, deadline=None)
@given(value=JSON)
def test_json_data_comes_back(houses: Mapping[str, House], value: Any) -> None:
    """Any JSON data goes through body and store and comes back the same, and shares nothing with what was given."""
    before = copy.deepcopy(value)

    found = outputs(houses["memory"], lambda: value)

    assert same(found, before)
    assert same(json.loads(json.dumps(found)), before)
    assert found is not value or not isinstance(value, list | dict)


ODD = LEAVES | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=2) | st.complex_numbers()
KEYS = TEXT | st.text(max_size=4) | st.integers()


@settings(max_examples=100, deadline=None)
@given(value=st.recursive(ODD, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)))
def test_no_value_breaks_the_door(value: Any) -> None:
    """Whatever comes is stored without loss or refused; nothing else is raised."""
    try:
        stored = plain(value, "here")
    except ValueNotStorableError:
        return
    assert same(stored, value)


# -- what is no value among others --------------------------------------------------------------------


def test_result_that_is_no_mapping(houses: Mapping[str, House]) -> None:
    """A function may return what it likes: what cannot be stored fails its stage, once, with the sentence."""
    house = houses["memory"]
    house.bench.registry.replace("bare", house.returning)
    for kind in KINDS:
        if not kind.refused or kind.name == "coroutine":  # which would be waited for
            continue
        house.make = kind.make
        done = house.bench.run(workflow(stage("bare", task="bare"))).stages[0]
        assert (done.status.name, done.tasks[0].attempt) == ("TERMINAL", 1), kind.name
        assert kind.refused in (done.error or ""), kind.name


@pytest.mark.parametrize("wrong", [5, "text", [1], {1, 2}, object()], ids=lambda value: type(value).__name__)
def test_mapping_is_expected(houses: Mapping[str, House], wrong: Any) -> None:
    """Context, outputs and data are mappings, and whoever gives something else is told where."""
    bench = houses["memory"].bench
    flow = bench.run(workflow(stage("signal", task="body")))
    orders = SignalStage(execution_id=flow.id, stage_id=flow.stages[0].id, signal_name="go", signal_data=wrong)
    expected = "a mapping with text keys is expected"

    for attempt in (
        lambda: TaskResult.success(outputs=wrong), lambda: TaskResult.suspend(context=wrong),
        lambda: workflow(stage("a"), context=wrong), lambda: bench.queue.push(orders),
        lambda: bench.store.store(workflow(stage("a", context=wrong))), lambda: plain_mapping(wrong, "here"),
    ):  # fmt: skip
        with pytest.raises(ValueNotStorableError, match=expected):
            attempt()
    bench.orchestrator.cancel(flow)
    bench.processor.process_all()


def test_words_of_an_order_are_values(houses: Mapping[str, House]) -> None:
    """A name, a reason or the context of a new instance goes through the door too."""
    bench = houses["memory"].bench
    flow = bench.run(workflow(stage("signal", task="body")))
    target = {"execution_id": flow.id, "stage_id": flow.stages[0].id}

    with pytest.raises(ValueNotStorableError, match="CancelWorkflow reason is text with a NUL"):
        bench.orchestrator.cancel(flow, reason="\0")
    with pytest.raises(ValueNotStorableError, match=r"AddMultiInstance instance_context\.at is of type set"):
        bench.queue.push(AddMultiInstance(**target, instance_context={"at": {1}}))
    with pytest.raises(ValueNotStorableError, match=r"workflow '.ud800' name is text with a lone surrogate"):
        bench.store.store(workflow(stage("a"), name="\ud800"))
    bench.orchestrator.cancel(flow)
    bench.processor.process_all()


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("raised", "says"),
    [(Unreadable(), "its text cannot be read"), (ValueError("a\0\ud800"), "ValueError: a\\0\\ud800"),
     (ValueError("x" * 10**6), "ValueError: xxx"), (ValueError({1}), "ValueError: {1}")],
    ids=["unreadable", "not storable", "huge", "no text"],
)  # fmt: skip
def test_any_exception_is_told(houses: Mapping[str, House], raised: Exception, says: str) -> None:
    """A stage fails with what its exception says, as far as that can be read and stored."""

    def body() -> None:
        raise raised

    bench = houses["file"].bench
    bench.registry.replace("raise", body)
    done = bench.run(workflow(stage("a", task="raise"))).stages[0]

    assert done.status.name == "TERMINAL"
    assert says in (done.error or "")
    assert len(done.error or "") < 5_000


@pytest.mark.parametrize(
    ("said", "told"),
    [({"code": 5}, '{"code":5}'), (7, "7"), (["a"], '["a"]'), ("", "task 'a' gave no reason")],
    ids=str,
)
def test_error_of_a_task_may_be_data(houses: Mapping[str, House], said: Any, told: str) -> None:
    """An error that is no text is told as JSON."""
    bench = houses["file"].bench
    bench.registry.replace("fail", lambda: TaskResult.terminal(said))
    done = bench.run(workflow(stage("a", task="fail"))).stages[0]

    assert done.status.name == "TERMINAL"
    assert done.error == told


# -- limits -------------------------------------------------------------------------------------------


def test_too_large_value_is_refused(monkeypatch: pytest.MonkeyPatch, houses: Mapping[str, House]) -> None:
    """More than 64 MiB fail the stage once with the place; so do parts that are shared a million times."""
    with pytest.raises(ValueTooLargeError, match=r"here takes more than 64 MiB as JSON text \(reached at here.a\[1\]"):
        plain({"a": ["x", "y" * values.MAX_SIZE]}, "here")
    monkeypatch.setattr(values, "MAX_PARTS", 10_000)
    with pytest.raises(ValueTooLargeError, match="more than 10,000 lists and mappings"):
        plain(laughs(), "here")
    monkeypatch.setattr(values, "MAX_SIZE", 1_000)
    with pytest.raises(ValueNotStorableError, match=r"outputs of stage 'outputs' takes more than"):
        outputs(houses["memory"], lambda: "x" * 1_000)
