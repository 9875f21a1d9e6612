"""Answers that follow a schema: what is asked for, and what is made of the text that comes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from stabilize_nb.errors import ConfigError, TransientVerificationError
from stabilize_nb.llm.calls import storable
from stabilize_nb.validation import SchemaValidator

#: Some models wrap what they were asked for in Markdown.
_FENCE = re.compile(r"\s*```\w*\n(.*?)\n?```\s*", re.DOTALL)
#: Faults of an answer that its model is told.
_NAMED = 5
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")


class Form:
    """What an answer has to look like: a type that pydantic knows, such as a model, or a JSON schema.

    Raises ConfigError for anything else.
    """

    def __init__(self, source: Any) -> None:
        is_schema = isinstance(source, Mapping)
        self.schema, self._check = (_of_schema if is_schema else _of_type)(source)
        title = str(self.schema.get("title") or "answer")
        self.name = _NO_NAME.sub("_", title)[:64]

    @property
    def is_strict(self) -> bool:
        """Whether every object in the schema is closed and needs all its members, which OpenAI's strict mode wants."""
        return _is_closed(self.schema)

    def read(self, text: str) -> Any:
        """
        Return the answer as an instance of the type, or as the data that the schema describes.

        Raises TransientVerificationError, since the next answer may fit.
        """
        fenced = _FENCE.fullmatch(text)
        try:
            return self._check(storable(json.loads(fenced[1] if fenced else text)))
        except (ValueError, RecursionError) as error:
            msg = f"the model's answer {text!r:.80} does not fit the schema {self.name!r}: {_faults(error)}"
            raise TransientVerificationError(msg) from error


def _of_type(source: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    import pydantic  # noqa: PLC0415 - slow to import, and only those who ask for a form need it

    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(source)
        return adapter.json_schema(), adapter.validate_python
    except (pydantic.PydanticUserError, TypeError) as error:
        msg = f"schema is {source!r:.80}; a pydantic model, another type that JSON holds or a JSON schema is expected"
        raise ConfigError(msg) from error


def _of_schema(source: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    validator = SchemaValidator(source)

    def check(data: Any) -> Any:
        faults = validator.validate(data)
        if faults:
            raise ValueError("; ".join(map(str, faults[:_NAMED])))
        return data

    return validator.schema, check


def _is_closed(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object":
        members = set(schema.get("properties", ()))
        if schema.get("additionalProperties") is not False or members != set(schema.get("required", ())):
            return False
    return all(map(_is_closed, schema.values()))


def _faults(error: Exception) -> str:
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in listed())
