"""Completion in a %%stage cell: its options, flows and stages on the first line, and where jump may lead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from stabilize_nb.flow import Flow
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.notebook.stage_cell import OPTIONS

_HEAD: Final = re.compile(r"^%%stage[ \t]+(?P<flow>\w+)\.\w+")
_NAME: Final = re.compile(r"^%%stage[ \t]+(?P<part>[\w.]*)$")
_REFS: Final = re.compile(r"--(?:after|before)[ =](?:[\w\[]*,)*(?P<part>\w*)$")
_EACH: Final = re.compile(r"--each[ =](?P<part>\w*)$")
_OPTION: Final = re.compile(r"\s(?P<part>-[\w-]*)$")
_JUMP: Final = re.compile(r"\bjump\([\"'](?P<part>\w*)$")

Found = tuple[str, Iterable[str]]


def in_stage_cell(before: str, text: str, line: int, names: Mapping[str, Any]) -> Found | None:
    """Return what is being written in a %%stage cell and what it may become."""
    flows = _flows(names)
    head = _HEAD.match(text)
    flow = flows.get(head["flow"]) if head else None
    stages = [*flow.nodes] if flow is not None else []
    if line > 0:
        jump = _JUMP.search(before)
        return (jump["part"], stages) if jump else None
    if name := _NAME.match(before):
        return name["part"], [*(f"{each}." for each in flows), *_named(flows)]
    if refs := _REFS.search(before):
        return refs["part"], stages
    if each := _EACH.search(before):
        return each["part"], [*stages, *(flow.inputs if flow is not None else ())]
    option = _OPTION.search(before)
    return (option["part"], OPTIONS) if option else None


def _named(flows: Mapping[str, Flow]) -> list[str]:
    return [f"{name}.{stage}" for name, flow in flows.items() for stage in flow.stages]


def _flows(names: Mapping[str, Any]) -> dict[str, Flow]:
    bound = {name: value for name, value in names.items() if isinstance(value, Flow) and name[:1] != "_"}
    defined = {name: each.work for name, each in RUNTIME.definitions.items()}
    return {**{name: work for name, work in defined.items() if isinstance(work, Flow)}, **bound}
