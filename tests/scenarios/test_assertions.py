"""Assertions for bodies and JSON schemas for what stages get and give: what each lets pass, and its sentence."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from stabilize_nb import StageExecution
from stabilize_nb import assertions as a
from stabilize_nb.errors import ConfigError, StabilizeError, is_transient
from stabilize_nb.models.stage import Upstream
from stabilize_nb.validation import (
    SHELL_TASK_SCHEMA,
    WAIT_TASK_SCHEMA,
    SchemaValidator,
    is_valid,
    validate_context,
    validate_outputs,
)
from stabilize_nb.verification import CallableVerifier, OutputVerifier, VerifyResult


def upstream(**errors: str | None) -> dict[str, tuple[Upstream, ...]]:
    return {ref: (Upstream(ref_id=ref, outputs={}, context={"error": why}),) for ref, why in errors.items()}


STAGE = StageExecution(
    ref_id="write", context={"topic": "bees", "size": 3, "_own": 1}, outputs={"pages": [1], "none": None},
    requisite_stage_ref_ids={"plan", "read"}, runtime=SimpleNamespace(upstream=upstream(plan=None, read=None)),
)  # fmt: skip
LATE = StageExecution(
    ref_id="write", requisite_stage_ref_ids={"plan", "read"}, runtime=SimpleNamespace(upstream=upstream(plan="no ink"))
)

PASSING: list[tuple[Callable[[], Any], Any]] = [
    (lambda: a.assert_true(1, "no"), None),
    (lambda: a.assert_not_none(0, "size"), 0),
    (lambda: a.assert_non_empty([0], "pages"), [0]),
    (lambda: a.assert_config(True, "no"), None),
    (lambda: a.assert_context(STAGE, "topic"), "bees"),
    (lambda: a.assert_context(STAGE, "topic", "size"), ("bees", 3)),
    (lambda: a.assert_context_type(STAGE, "size", (int, float)), 3),
    (lambda: a.assert_context_in(STAGE, "topic", ["bees", "ants"]), "bees"),
    (lambda: a.assert_output(STAGE, "pages"), [1]),
    (lambda: a.assert_output({"pages": 2}, "pages"), 2),
    (lambda: a.assert_output_type(STAGE, "pages", list), [1]),
    (lambda: a.assert_stage_ready(STAGE), None),
    (lambda: a.assert_no_upstream_failures(STAGE), None),
    (lambda: a.assert_verified(STAGE, OutputVerifier("pages")), None),
]
FAILING: list[tuple[Callable[[], Any], type[StabilizeError], str]] = [
    (lambda: a.assert_true(0, "there is no ink"), a.PreconditionError, "there is no ink"),
    (lambda: a.assert_not_none(None, "size"), a.PreconditionError, "size is None; a value is expected"),
    (lambda: a.assert_non_empty([], "pages"), a.PreconditionError, "pages is []; something in it is expected"),
    (lambda: a.assert_non_empty(None, "pages"), a.PreconditionError, "pages is None; something in it is expected"),
    (lambda: a.assert_config(False, "no key"), a.ConfigError, "no key"),
    (
        lambda: a.assert_context(STAGE, "topic", "tone", "pages"), a.ContextError,
        "stage 'write' needs 'tone', 'pages' in its context; it has: topic, size",
    ),
    (
        lambda: a.assert_context_type(STAGE, "topic", (int, list)), a.ContextError,
        "'topic' in the context of stage 'write' is of type str; int or list is expected",
    ),
    (
        lambda: a.assert_context_in(STAGE, "topic", ["ants"]), a.ContextError,
        "'topic' in the context of stage 'write' is 'bees'; one of 'ants' is expected",
    ),
    (lambda: a.assert_output(STAGE, "none"), a.OutputError, "output 'none' of stage 'write' is missing"),
    (lambda: a.assert_output({}, "pages"), a.OutputError, "output 'pages' of the outputs is missing"),
    (
        lambda: a.assert_output_type(STAGE, "pages", str), a.OutputError,
        "output 'pages' of stage 'write' is of type list; str is expected",
    ),
    (lambda: a.assert_stage_ready(LATE), a.StageNotReadyError, "stage 'write' needs 'read', which did not lead here"),
    (
        lambda: a.assert_no_upstream_failures(LATE), a.StageNotReadyError,
        "stage 'write' follows stages that failed: 'plan' (no ink)",
    ),
    (lambda: a.assert_verified(STAGE, OutputVerifier("title")), a.VerificationError, "were refused: output 'title'"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "value"), PASSING, ids=[str(number) for number in range(len(PASSING))])
def test_assertion_returns_what_it_looked_at(check: Callable[[], Any], value: Any):
    """What is as it has to be is returned, so that one line both checks and reads."""
    assert check() == value


@pytest.mark.parametrize(("check", "kind", "sentence"), FAILING, ids=[str(number) for number in range(len(FAILING))])
def test_assertion_says_what_is_wrong(check: Callable[[], Any], kind: type[StabilizeError], sentence: str):
    """What is not as it has to be is an error of its kind that names stage and key, and is not tried again."""
    with pytest.raises(kind) as caught:
        check()

    assert sentence in str(caught.value)
    assert not is_transient(caught.value)


def test_verifier_that_says_retry_is_asserted_as_transient():
    """What may be right later has the body tried again."""
    later = CallableVerifier(lambda stage: VerifyResult.retry("not yet"))

    with pytest.raises(StabilizeError, match="not yet") as caught:
        a.assert_verified(STAGE, later)
    assert is_transient(caught.value)


def test_there_are_twelve_assertions_and_nine_errors():
    """The names of the reference API are all there."""
    assert len([name for name in a.__all__ if name.startswith("assert_")]) == 12
    assert len([name for name in a.__all__ if name.endswith("Error")]) == 9


@pytest.mark.parametrize(
    ("schema", "context", "faults"),
    [
        (SHELL_TASK_SCHEMA, {"command": "ls", "timeout": 3, "_max_attempts": 2, "other": 1}, []),
        (SHELL_TASK_SCHEMA, {"command": ["ls", "-l"], "env": {"A": "1"}, "expected_codes": [0, 1]}, []),
        (SHELL_TASK_SCHEMA, {}, ["$: 'command' is a required property"]),
        (SHELL_TASK_SCHEMA, {"command": "a", "timeout": 0}, ["$.timeout: 0 is less than or equal to the minimum of 0"]),
        (WAIT_TASK_SCHEMA, {"waitTime": 0.5}, []),
        (WAIT_TASK_SCHEMA, {"waitTime": "5"}, ["$.waitTime: '5' is not of type 'number'"]),
        (
            {"properties": {"a": {"type": "string"}, "b": {"items": {"minimum": 3}}}}, {"b": [5, 1], "a": 1},
            ["$.a: 1 is not of type 'string'", "$.b[1]: 1 is less than the minimum of 3"],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_context_is_checked_by_a_schema(schema: dict[str, Any], context: dict[str, Any], faults: list[str]):
    """Everything that is wrong is named with its path; keys of the engine do not count."""
    assert [str(fault) for fault in validate_context(context, schema)] == faults
    assert [str(fault) for fault in validate_context(StageExecution(context=context), schema)] == faults
    assert is_valid({key: value for key, value in context.items() if key[0] != "_"}, schema) is not bool(faults)


def test_outputs_are_checked_by_a_schema():
    """Outputs are those of a mapping or of a stage."""
    schema = {"required": ["pages", "title"]}

    assert [fault.path for fault in validate_outputs(STAGE, schema)] == ["$"]
    assert validate_outputs({"pages": [], "title": ""}, schema) == []


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"minimum": "3"}, {"properties": 5}], ids=str)
def test_wrong_schema_is_refused(schema: dict[str, Any]):
    """A schema that is none is refused when it is given."""
    with pytest.raises(ConfigError, match="no JSON schema"):
        SchemaValidator(schema)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/s.json", "file:///etc/passwd", "other.json"])
def test_schema_is_never_fetched(address: str):
    """A reference to another address is a fault of the schema, and nothing is loaded from there."""
    (fault,) = SchemaValidator({"properties": {"a": {"$ref": address}}}).validate({"a": 1})

    assert fault.message == f"the schema refers to {address!r}, which it does not have itself"


def test_data_that_is_nested_too_deep_is_a_fault():
    """Data as deep as no schema can follow is refused with a sentence."""
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    schema = {"$ref": "#/$defs/list", "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}}

    (fault,) = SchemaValidator(schema).validate(deep)

    assert "too deep" in fault.message
