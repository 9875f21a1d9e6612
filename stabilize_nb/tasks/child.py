"""
Child workflows as plain data (WCP-22).

A stage's context may hold a `_sub_workflow_config` {name, application, stages, context}, whose stages are
StageExecution objects or mappings with the same field names. Before a context is stored the objects become such
mappings (`with_plain_stages`); when the child is started the mappings become a Workflow (`workflow_of`). Only what
the author of a stage writes travels. Every child has new ids, so a synthetic stage names its parent by ref_id.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from enum import Enum
from typing import Any

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.multi_instance import MultiInstanceConfig
from stabilize_nb.models.stage import JoinType, SplitType, StageExecution, SyntheticStageOwner
from stabilize_nb.models.task import TaskExecution
from stabilize_nb.models.workflow import Workflow

CONFIG = "_sub_workflow_config"
#: Children written inside children, at most; deeper ones are written by a task when their parent runs.
MAX_NESTING = 20

_STATE = {"outputs", "id", "status", "generation", "activation", "start_time", "end_time", "error", "runtime"}
_FIELDS = tuple(field.name for field in dataclasses.fields(StageExecution) if field.name not in _STATE)
_TASK_FIELDS = ("name", "implementing_class", "stage_start", "stage_end")
_CONFIG_FIELDS = ("name", "application", "stages", "context")
_ENUMS: dict[str, type[Enum]] = {
    "join_type": JoinType,
    "split_type": SplitType,
    "synthetic_stage_owner": SyntheticStageOwner,
}
_BLANK = StageExecution()


# -- to plain data ----------------------------------------------------------------------------------------------


def with_plain_stages(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a context whose `_sub_workflow_config`, if it has one, holds its stages as plain data.

    Raises ConfigError when configs are nested too deep, as one is that contains itself.
    """
    return _with_plain_stages(context, 0) if isinstance(context, dict) and CONFIG in context else context


def _with_plain_stages(context: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    config = context.get(CONFIG)
    stages = config.get("stages") if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(stages, list | tuple):
        return context
    if depth >= MAX_NESTING:
        msg = (
            f"{CONFIG} is nested more than {MAX_NESTING} deep, or contains itself: let a task of the child write the "
            f"config of its own child, as TaskResult.success(context={{{CONFIG!r}: ...}})"
        )
        raise ConfigError(msg)
    refs = {stage.id: stage.ref_id for stage in stages if isinstance(stage, StageExecution)}
    plain = [_plain_stage(stage, refs, depth) for stage in stages]
    inner = config.get("context")
    changed: dict[str, Any] = {**config, "stages": plain}
    if isinstance(inner, Mapping):
        changed["context"] = _with_plain_stages(inner, depth + 1)
    return {**context, CONFIG: changed}


def _plain_stage(stage: Any, refs: Mapping[str, str], depth: int) -> Any:
    if isinstance(stage, StageExecution):
        written = {name: getattr(stage, name) for name in _FIELDS if getattr(stage, name) != getattr(_BLANK, name)}
        parent = written.get("parent_stage_id")
        data = written if parent is None else {**written, "parent_stage_id": refs.get(parent, parent)}
    elif isinstance(stage, Mapping):
        data = dict(stage)
    else:
        return stage
    if isinstance(data.get("context"), Mapping):
        data["context"] = _with_plain_stages(data["context"], depth + 1)
    return {name: _plain_value(value) for name, value in data.items()}


def _plain_value(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case set() | frozenset():
            return sorted(value)
        case MultiInstanceConfig():
            return dataclasses.asdict(value)
        case TaskExecution():
            return {name: getattr(value, name) for name in _TASK_FIELDS}
        case list() | tuple():
            return [_plain_value(item) for item in value]
        case _:
            return value


# -- from plain data --------------------------------------------------------------------------------------------


def workflow_of(definition: Mapping[str, Any]) -> Workflow:
    """
    Return the workflow that a config in plain data describes; its graph is not checked here.

    Raises ConfigError that names the member that is wrong.
    """
    _check_known(definition, _CONFIG_FIELDS, CONFIG)
    name = definition.get("name") or ""
    given = definition.get("stages")
    if not isinstance(given, list | tuple) or not given:
        msg = f"{CONFIG} {name!r} has stages {given!r}; a list of at least one stage is expected"
        raise ConfigError(msg)
    stages = [_stage(entry, f"stages[{index}] of {CONFIG} {name!r}") for index, entry in enumerate(given)]
    ids = {stage.ref_id: stage.id for stage in stages}
    for stage in stages:
        if stage.parent_stage_id is not None:
            stage.parent_stage_id = ids.get(stage.parent_stage_id, stage.parent_stage_id)
    context = definition.get("context") or {}
    if not isinstance(context, Mapping):
        msg = f"{CONFIG} {name!r} has the context {context!r}; a mapping is expected"
        raise ConfigError(msg)
    application = definition.get("application") or ""
    return Workflow(application=str(application), name=str(name), stages=stages, context=dict(context))


def _stage(entry: Any, path: str) -> StageExecution:
    if not isinstance(entry, Mapping):
        msg = f"{path} is {entry!r}; a StageExecution or a mapping with its field names is expected"
        raise ConfigError(msg)
    _check_known(entry, _FIELDS, path)
    if not entry.get("ref_id"):
        msg = f"{path} has no ref_id"
        raise ConfigError(msg)
    path = f"{path} ({entry['ref_id']!r})"
    return StageExecution(**{name: _field(name, value, path) for name, value in entry.items()})


def _field(name: str, value: Any, path: str) -> Any:
    default = getattr(_BLANK, name)
    if value is None and default is None:
        return None
    if name in _ENUMS:
        return _member(_ENUMS[name], value, f"{name} of {path}")
    if name == "tasks":
        return [_task(entry, f"tasks of {path}") for entry in _typed(list, value, f"{name} of {path}")]
    if name == "mi_config":
        return _mi_config(value, f"{name} of {path}")
    if isinstance(default, set):
        return {_typed(str, item, f"{name} of {path}") for item in _typed(list, value, f"{name} of {path}")}
    kind = str if default is None else type(default)
    value = _typed(kind, value, f"{name} of {path}")
    return dict(value) if kind is dict else value


_WORDS = {str: "text", int: "an integer", bool: "true or false", list: "a list", dict: "a mapping"}


def _typed(kind: type, value: Any, path: str) -> Any:
    if type(value) is not kind:
        msg = f"{path} is {value!r}; {_WORDS[kind]} is expected"
        raise ConfigError(msg)
    return value


def _member(kind: type[Enum], value: Any, path: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        msg = f"{path} is {value!r}; one of {', '.join(member.value for member in kind)} is expected"
        raise ConfigError(msg) from None


def _task(entry: Any, path: str) -> TaskExecution:
    data = _typed(dict, entry, path)
    _check_known(data, _TASK_FIELDS, path)
    for name in ("name", "implementing_class"):
        _typed(str, data.get(name), f"{name} in {path}")
    return TaskExecution(**data)


def _mi_config(value: Any, path: str) -> MultiInstanceConfig:
    data = _typed(dict, value, path)
    _check_known(data, tuple(field.name for field in dataclasses.fields(MultiInstanceConfig)), path)
    return MultiInstanceConfig(**data)


def _check_known(data: Mapping[str, Any], known: tuple[str, ...], path: str) -> None:
    for name in data:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            msg = f"{path} has the unknown field {name!r}; {hint}"
            raise ConfigError(msg)
