"""
JSON schemas for what a stage gets and gives, by the jsonschema package (docs/verification.md).

A schema speaks of itself only: a reference to another address is a fault, never a download.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stabilize_nb.models.stage import StageExecution

_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class ValidationError:
    """One way in which data is not as a schema says; `path` is a JSON path such as `$.pages[0].n`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SchemaValidator:
    """A JSON schema that was found right; raises ConfigError for a wrong one, or where jsonschema is missing."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            import jsonschema  # noqa: PLC0415 - an optional dependency
            import referencing  # noqa: PLC0415 - comes with it
        except ImportError:
            msg = "a JSON schema needs jsonschema, which is not installed: pip install 'stabilize-nb[tasks]'"
            raise ConfigError(msg) from None
        self.schema = dict(schema)
        kind = jsonschema.validators.validator_for(self.schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(self.schema)
        except jsonschema.SchemaError as error:
            msg = f"schema is no JSON schema: {error.message}"
            raise ConfigError(msg) from error
        self._validator = kind(self.schema, registry=referencing.Registry())
        self._unknown = referencing.exceptions.Unresolvable

    def validate(self, data: Any) -> list[ValidationError]:
        """Return everything that is wrong with the data, in the order of its paths; nothing when it is right."""
        try:
            found = sorted(self._faults(data), key=lambda fault: fault.path)
        except self._unknown as error:
            return [ValidationError("$", f"the schema refers to {error.ref!r}, which it does not have itself")]
        except RecursionError:
            return [ValidationError("$", "the data is nested too deep to be looked at")]
        return found

    def _faults(self, data: Any) -> Iterator[ValidationError]:
        for fault in self._validator.iter_errors(data):
            text = fault.message
            yield ValidationError(fault.json_path, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def validate_context(context: Mapping[str, Any] | StageExecution, schema: Mapping[str, Any]) -> list[ValidationError]:
    """Return what is wrong with a context, or with that of a stage; the engine's own keys, `_...`, are left out."""
    return _validate(context if isinstance(context, Mapping) else context.context, schema)


def validate_outputs(outputs: Mapping[str, Any] | StageExecution, schema: Mapping[str, Any]) -> list[ValidationError]:
    """Return what is wrong with outputs, or with those of a stage."""
    return _validate(outputs if isinstance(outputs, Mapping) else outputs.outputs, schema)


def is_valid(data: Any, schema: Mapping[str, Any]) -> bool:
    """Whether data is as a schema says."""
    return not SchemaValidator(schema).validate(data)


def _validate(data: Mapping[str, Any], schema: Mapping[str, Any]) -> list[ValidationError]:
    return SchemaValidator(schema).validate({key: data[key] for key in data if not key.startswith("_")})


_SECONDS: Final = {"type": "number", "exclusiveMinimum": 0}

#: The context of a ShellTask (docs/tasks.md has what the keys mean).
SHELL_TASK_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["command"],
    "properties": {
        "command": {"anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ]},
        "timeout": _SECONDS,
        "cwd": {"type": "string", "minLength": 1},
        "env": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "object"]}},
        "shell": {"type": ["boolean", "string"]},
        "stdin": {"type": "string"},
        "max_output_size": {"type": "integer", "minimum": 1},
        "expected_codes": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        "secrets": {"type": "array", "items": {"type": "string"}},
        "binary": {"type": "boolean"},
        "continue_on_failure": {"type": "boolean"},
        "restart_on_failure": {"type": "boolean"},
    },
}  # fmt: skip
#: The context of a WaitTask.
WAIT_TASK_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["waitTime"],
    "properties": {"waitTime": {"type": "number", "minimum": 0}},
}
