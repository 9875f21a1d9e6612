"""Rules without state: joins, statuses, graphs, storable values, reducers, which errors are worth another try."""

import copy
import json
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabilize_nb import errors
from stabilize_nb.core.rows import ArrivalRow
from stabilize_nb.dag.readiness import Verdict, judge
from stabilize_nb.dag.region import kept
from stabilize_nb.errors import (
    ConfigError,
    InvalidWorkflowError,
    StageNotFoundError,
    ValueNotStorableError,
    is_permanent,
    is_transient,
)
from stabilize_nb.models.ids import derived_id, new_id
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution
from stabilize_nb.models.status import (
    ALLOWED,
    InvalidStateTransitionError,
    WorkflowStatus,
    can_transition,
    validate_transition,
)
from stabilize_nb.models.values import plain, plain_mapping
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.queue.messages import Token
from stabilize_nb.reducers import apply_output_reducers, check_reducer, known_reducers, register_reducer

J, T, V, S = JoinType, Token, Verdict, WorkflowStatus

# Joins (patterns.md 2.2).


def by_the_table(join: JoinType, threshold: int, fan_in: int, round_: list[Token]) -> Verdict:
    """Say what the table of patterns.md 2.2 says about a round, from the outcomes themselves."""
    live, pending = round_.count(T.LIVE), fan_in - len(round_)
    complete, broken = not pending, T.HALT in round_
    needed = threshold or fan_in
    fires = {
        J.AND: complete and not broken and live >= 1,
        J.OR: complete and live >= 1,
        J.MULTI_MERGE: round_[-1] is T.LIVE,
        J.DISCRIMINATOR: live >= 1,
        J.N_OF_M: live >= needed,
    }
    if fires[join]:
        return V.FIRE
    if join is J.N_OF_M and live and live + pending < needed:
        return V.BLOCK if broken else V.FAIL
    if not complete or (join is J.MULTI_MERGE and live):
        return V.WAIT
    return V.BLOCK if broken else V.PRUNE


def rounds() -> list[tuple[JoinType, int, int, tuple[Token, ...]]]:
    """Return every join over up to four edges, with every threshold and every order of outcomes."""
    return [
        (join, threshold, fan_in, outcomes)
        for join in J
        for fan_in in range(1, 5)
        for threshold in (range(fan_in + 1) if join is J.N_OF_M else [0])
        for outcomes in product(T, repeat=fan_in)
    ]


def verdicts(join: JoinType, threshold: int, outcomes: tuple[Token, ...]) -> list[Verdict]:
    """Judge a round outcome by outcome until it is settled."""
    found: list[Verdict] = []
    for seen in range(1, len(outcomes) + 1):
        counts = [outcomes[:seen].count(token) for token in T]
        found.append(judge(join, threshold, len(outcomes), *counts, outcomes[seen - 1]))
        if found[-1] is not V.WAIT and join is not J.MULTI_MERGE:
            break
    return found


def test_judge_says_what_the_table_says():
    """For every join, threshold and order of outcomes each verdict is the one of the table."""
    for join, threshold, fan_in, outcomes in rounds():
        found = verdicts(join, threshold, outcomes)
        for number, verdict in enumerate(found, start=1):
            expected = by_the_table(join, threshold, fan_in, list(outcomes[:number]))
            assert verdict is expected, (join, threshold, outcomes[:number])


def test_every_complete_round_is_settled():
    """No complete round is left waiting: it has fired, was pruned, blocked or failed."""
    for join, threshold, _, outcomes in rounds():
        found = verdicts(join, threshold, outcomes)
        assert any(verdict is not V.WAIT for verdict in found), (join, threshold, outcomes)


@pytest.mark.parametrize("join", [J.AND, J.OR])
def test_verdict_of_and_and_or_does_not_depend_on_the_order(join: JoinType):
    """The same outcomes in another order end a round in the same way."""
    ends: dict[tuple, set[Verdict]] = {}
    for kind, _, _, outcomes in rounds():
        if kind is join:
            ends.setdefault(tuple(sorted(token.name for token in outcomes)), set()).add(verdicts(join, 0, outcomes)[-1])

    assert all(len(found) == 1 for found in ends.values())


def test_kept_outcomes_are_those_from_outside():
    """A region keeps what came from stages that are not repeated."""
    arrivals = [ArrivalRow("j", 0, 1, via, T.LIVE, via, held=False) for via in "abc"]

    assert [arrival.via for arrival in kept(arrivals, {"b", "j"})] == ["a", "c"]


# Statuses (api.md 2.3).

MOVES = {
    S.NOT_STARTED: "RUNNING CANCELED SKIPPED BUFFERED TERMINAL",
    S.BUFFERED: "NOT_STARTED RUNNING CANCELED SKIPPED",
    S.RUNNING: "CANCELED SUCCEEDED STOPPED SKIPPED TERMINAL FAILED_CONTINUE PAUSED SUSPENDED REDIRECT",
    S.PAUSED: "RUNNING CANCELED STOPPED",
    S.SUSPENDED: "RUNNING CANCELED STOPPED",
    S.REDIRECT: "RUNNING SUCCEEDED CANCELED",
}


@pytest.mark.parametrize("current", list(S), ids=str)
def test_moves_are_those_of_the_table(current: WorkflowStatus):
    """A status may stay and may make the documented moves, and no others."""
    legal = {target for target in S if can_transition(current, target)}

    assert {status.name for status in legal - {current}} == set(MOVES.get(current, "").split())
    assert current in legal


@pytest.mark.parametrize("status", list(S), ids=str)
def test_a_status_is_the_text_of_its_name(status: WorkflowStatus):
    """It is compared, looked up, printed and stored as its name, and no two are the same."""
    name = status.name

    assert (status == name, name == status, {name: 1}[status], {status: 1}[name]) == (True, True, 1, 1)
    assert (str(status), f"{status:>15}", json.dumps(status), WorkflowStatus(name)) == (
        name, f"{name:>15}", f'"{name}"', status,
    )  # fmt: skip
    assert [other for other in S if other == name] == [status]


def test_illegal_move_says_what_is_legal():
    """The error names the entity, both statuses and the legal moves."""
    with pytest.raises(InvalidStateTransitionError, match=r"stage s1 cannot go from PAUSED to SKIPPED.*CANCELED, RUNN"):
        validate_transition(S.PAUSED, S.SKIPPED, "stage", "s1")


def test_groups_of_statuses():
    """The questions about a status have the documented answers."""

    def names(question: str) -> str:
        return " ".join(sorted(status.name for status in S if getattr(status, question)))

    assert names("is_complete") == "CANCELED FAILED_CONTINUE SKIPPED STOPPED SUCCEEDED TERMINAL"
    assert names("is_halt") == "CANCELED STOPPED TERMINAL"
    assert names("is_successful") == "SKIPPED SUCCEEDED"
    assert names("is_failure") == "FAILED_CONTINUE STOPPED TERMINAL"
    assert str(S.SUCCEEDED) == "SUCCEEDED"
    assert set(ALLOWED) == set(S)


# Graphs.


def stage(ref: str, *after: str, **fields: Any) -> StageExecution:
    return StageExecution(ref_id=ref, requisite_stage_ref_ids=set(after), **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    name: str
    stages: list[StageExecution]
    says: list[str] = field(default_factory=list)


OR = SplitType.OR
FAULTS = [
    Fault(name="duplicate", stages=[stage("a"), stage("a")], says=["duplicate ref_id 'a' (2 stages)"]),
    Fault(name="no name", stages=[stage("")], says=["a stage has no ref_id"]),
    Fault(name="reserved name", stages=[stage("a#2")], says=["ref_id 'a#2' ends in '#' and a number"]),
    Fault(name="unknown", stages=[stage("a", "z")], says=["stage 'a' requires unknown stage 'z'"]),
    Fault(name="itself", stages=[stage("a", "a")], says=["stage 'a' requires itself"]),
    Fault(name="cycle", stages=[stage("a", "c"), stage("b", "a"), stage("c", "b")], says=["cycle: ", "a", "b", "c"]),
    Fault(
        name="threshold too high",
        stages=[stage("a"), stage("b", "a", join_type=J.N_OF_M, join_threshold=2)],
        says=["stage 'b' waits for 2 branches but has 1 (a)"],
    ),
    Fault(
        name="threshold of nothing", stages=[stage("b", join_type=J.N_OF_M, join_threshold=1)], says=["has 0 (none)"]
    ),
    Fault(name="negative threshold", stages=[stage("b", join_threshold=-1)], says=["negative join_threshold -1"]),
    Fault(
        name="split to a stranger",
        stages=[stage("a", split_type=OR, split_conditions={"c": "1"}), stage("b", "a"), stage("c", "b")],
        says=["stage 'a' splits to 'c', which is not directly downstream of it"],
    ),
    Fault(
        name="default to a stranger",
        stages=[stage("a", split_type=OR, split_default="z")],
        says=["stage 'a' splits to 'z'"],
    ),
    Fault(
        name="condition",
        stages=[stage("a", split_type=OR, split_conditions={"b": "x("}), stage("b", "a")],
        says=["stage 'a' has a condition for 'b' that is not an expression"],
    ),
    Fault(
        name="several at once",
        stages=[stage("a", "z"), stage("a"), stage("b", "b")],
        says=["duplicate ref_id 'a'", "unknown stage 'z'", "'b' requires itself"],
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_graph_that_cannot_be_run_is_refused(fault: Fault):
    """Every fault of a graph is named with its members, all at once, when the workflow is created."""
    with pytest.raises(InvalidWorkflowError) as caught:
        Workflow.create("app", "bad", fault.stages)

    assert str(caught.value).startswith("workflow 'bad' cannot be run: ")
    for text in fault.says:
        assert text in str(caught.value)


def test_sound_graph_is_accepted_in_the_order_given():
    """Stages stay as they are written."""
    stages = [stage("c", "a", "b"), stage("b", "a"), stage("a")]

    assert [each.ref_id for each in Workflow.create("app", "good", stages).stages] == ["c", "b", "a"]


def test_stages_of_a_workflow_are_found_by_name():
    """A ref_id names the first run of a stage, `activations` gives all of them in order."""
    rows = [stage("a"), stage("m#10", activation=10), stage("m#2", activation=2), stage("m")]
    picture = Workflow(name="w", stages=rows)

    assert picture.stage_by_ref_id("m").ref_id == "m"
    assert [each.ref_id for each in picture.activations("m")] == ["m", "m#2", "m#10"]
    with pytest.raises(StageNotFoundError, match=r"workflow 'w' has no stage 'z'; its stages are: a, m, m#10, m#2"):
        picture.stage_by_ref_id("z")


def test_context_of_a_workflow_is_the_outputs_of_its_stages():
    """Later stages win."""
    picture = Workflow(stages=[stage("a", outputs={"x": 1, "y": 1}), stage("b", outputs={"x": 2})])

    assert picture.get_context() == {"x": 2, "y": 1}


# Ids.


def test_new_ids_sort_in_the_order_in_which_they_are_made():
    """Ids are 26 characters, unique, and in order."""
    ids = [new_id() for _ in range(2_000)]

    assert sorted(set(ids)) == ids
    assert {len(id_) for id_ in ids} == {26}


@given(st.text(), st.text(), st.integers())
def test_derived_ids_are_the_same_again(parent: str, slot: str, number: int):
    """The same parent, slot and number give the same id; another number gives another."""
    try:
        made = derived_id(parent, slot, number)
    except UnicodeEncodeError:
        return
    assert made == derived_id(parent, slot, number)
    assert made != derived_id(parent, slot, number + 1)
    assert len(made) == 26


# Values.

json_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5), inner)
    ),
    max_leaves=20,
)


@given(json_data)
def test_json_data_is_stored_without_loss(value: Any):
    """What JSON can hold comes back equal, as a copy."""
    stored = plain(value, "value")

    assert stored == value
    assert json.loads(json.dumps(stored)) == stored
    assert stored is not value or not isinstance(value, list | dict)


def test_tuples_and_mappings_become_lists_and_dicts():
    """Tuples are stored as lists, any mapping as a dict."""
    value = {"a": (1, (2,)), "b": OrderedDict(c=MappingProxyType({"d": ()}))}

    assert plain(value, "value") == {"a": [1, [2]], "b": {"c": {"d": []}}}


def test_copy_shares_nothing_that_can_change():
    """Changing the original afterwards does not change what was stored."""
    value = {"a": [{"b": [1]}]}
    stored = plain(value, "value")
    before = copy.deepcopy(stored)
    value["a"][0]["b"].append(2)

    assert stored == before


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def circle() -> list:
    value: list = []
    value.append(value)
    return value


class Text(str):
    """Text that is equal to nothing but itself."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


REFUSED: list[tuple[str, Any, str]] = [
    ("nan", math.nan, "here is the number nan"),
    ("infinity", [math.inf], "here[0] is the number inf"),
    ("large integer", {"n": 2**63}, "here.n is an integer beyond 64 bits"),
    ("small integer", -(2**63) - 1, "here is an integer beyond 64 bits"),
    ("bytes", b"x", "here is of type bytes"),
    ("set", {"a": {1}}, "here.a is of type set"),
    ("object", object(), "here is of type object"),
    ("class", int, "here is of type type"),
    ("same key twice", {Text("x"): 1, "x": 2}, "two keys are the same text"),
    ("NUL", "a\0b", "NUL"),
    ("surrogate", {"a": ["\ud800"]}, "here.a[0] is text with a lone surrogate"),
    ("key", {1: 2}, "a key of type int (1)"),
    ("key with NUL", {"a\0": 1}, "NUL"),
    ("key with surrogate", {"\ud800": 1}, "lone surrogate"),
    ("too deep", nested(300), "nested deeper than 200 levels"),
    ("itself", circle(), "or contains itself"),
]


@pytest.mark.parametrize(("value", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_value_that_json_cannot_hold_is_refused(value: Any, says: str):
    """The error gives the path, the type and what to do, and can itself be printed."""
    with pytest.raises(ValueNotStorableError) as caught:
        plain(value, "here")

    assert says in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("value", [None, [1], "x", 5])
def test_mapping_is_expected_where_a_mapping_is_stored(value: Any):
    """Context and outputs are mappings; anything else is refused with its type."""
    with pytest.raises(ValueNotStorableError, match="a mapping with text keys is expected"):
        plain_mapping(value, "stage 'a' outputs")
    assert plain_mapping({}, "x") == {}


# Reducers.

REDUCED = [
    ("collect", [1, [2], 3], [1, [2], 3]),
    ("append", [1, 2], [1, 2]),
    ("extend", [[1], 2, [3, 4]], [1, 2, 3, 4]),
    ("sum", [1, 2, 3.5], 6.5),
    ("max", [1, 3, 2], 3),
    ("min", ["b", "a"], "a"),
    ("merge", [{"a": 1, "b": 1}, {"b": 2}], {"a": 1, "b": 2}),
    ("first", [1, 2], 1),
    ("last", [1, 2], 2),
]


@pytest.mark.parametrize(("name", "values", "expected"), REDUCED, ids=[case[0] for case in REDUCED])
def test_reducer_combines_the_values_of_the_branches(name: str, values: list, expected: Any):
    """A reducer gets the values in the order of the branches; a branch without the key is left out."""
    branches = [{"x": value, "other": 0} for value in values]

    assert apply_output_reducers({"x": name}, [*branches[:1], {}, *branches[1:]]) == {"x": expected}


def test_reducer_without_values_gives_nothing():
    """A key that no branch has stays away."""
    assert apply_output_reducers({"x": "sum"}, [{}, {"y": 1}]) == {}


def test_reducers_leave_the_branches_alone():
    """Combining changes none of the outputs that are combined."""
    branches = [{"x": {"a": 1}, "y": [1]}, {"x": {"a": 2}, "y": [2]}]
    before = copy.deepcopy(branches)

    apply_output_reducers({"x": "merge", "y": "extend"}, branches)

    assert branches == before


def test_unknown_reducer_is_refused_with_the_known_ones():
    """The error names what there is, and registering adds to it."""
    with pytest.raises(ConfigError, match=r"unknown reducer 'median'; known are append, collect"):
        check_reducer("median")

    register_reducer("longest", lambda values: max(values, key=len))
    assert "longest" in known_reducers()
    assert apply_output_reducers({"x": "longest"}, [{"x": "a"}, {"x": "bb"}]) == {"x": "bb"}


# Errors.


class RateLimitError(Exception):
    pass


class ServiceUnavailable(Exception):
    pass


class ValidationTimeout(Exception):
    pass


class InvalidRequest(ConnectionError):
    pass


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def during(error: Exception, context: BaseException, *, hidden: bool = False) -> Exception:
    error.__context__ = context
    error.__suppress_context__ = hidden
    return error


def chain_in_a_circle() -> Exception:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    return first


#: What is thrown, whether it is worth another try (True), certainly not (False), or unknown (None).
THROWN = [
    (errors.TransientError("x"), True),
    (errors.ConcurrencyError("x"), True),
    (errors.TransientVerificationError("x"), True),
    (errors.PermanentError("x"), False),
    (errors.TaskTimeoutError(), True),
    (TimeoutError(), True),
    (ConnectionResetError(), True),
    (OSError(111, "refused"), True),
    (OSError(28, "disk full"), None),
    (FileNotFoundError(2, "no such file"), False),
    (RateLimitError(), True),
    (ServiceUnavailable(), True),
    (ValidationTimeout(), False),
    (InvalidRequest(), False),
    (ValueError(), False),
    (KeyError(), False),
    (RuntimeError(), None),
    (caused(RuntimeError(), TimeoutError()), True),
    (caused(RuntimeError(), ValueError()), False),
    (caused(ValueError(), TimeoutError()), False),
    (during(RuntimeError(), ConnectionError()), True),
    (during(RuntimeError(), ConnectionError(), hidden=True), None),
    (caused(errors.TransientError("x"), errors.PermanentError("y")), True),
    (errors.TransientError("x", cause=ValueError()), True),
    (caused(RuntimeError(), errors.TransientError("x")), True),
    (chain_in_a_circle(), None),
]


@pytest.mark.parametrize(("error", "verdict"), THROWN, ids=lambda part: repr(part)[:40])
def test_error_is_worth_another_try(error: Exception, verdict: bool | None):
    """Classes before names, permanent before transient, and what says nothing asks its cause."""
    assert is_transient(error) is (verdict is True)
    assert is_permanent(error) is (verdict is False)


def test_transient_error_in_the_chain_gives_its_settings():
    """`retry_after` and `context_update` are found behind other exceptions, unless a permanent one hides them."""
    transient = errors.TransientError("slow", code=503, retry_after=2.0, context_update={"page": 2})

    assert str(transient) == "slow (code=503)"
    assert errors.transient_cause(caused(RuntimeError(), transient)) is transient
    assert errors.transient_cause(caused(errors.PermanentError("no"), transient)) is None
    assert errors.transient_cause(RuntimeError()) is None
    assert errors.TransientError().context_update == {}
