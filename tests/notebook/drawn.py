"""Workflows in one line, and what a drawing of them contains."""

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from stabilize_nb.models.stage import StageExecution
from stabilize_nb.models.workflow import Workflow

NAMESPACE = "{http://www.w3.org/2000/svg}"


def stage(ref: str, *requisites: str, **settings) -> StageExecution:
    return StageExecution(ref_id=ref, requisite_stage_ref_ids=set(requisites), **settings)


def flow(*stages: StageExecution, **settings) -> Workflow:
    return Workflow(name="analysis", stages=list(stages), **settings)


def jump(source: str, target: str, number: int) -> dict:
    return {"from_stage": source, "to_stage": target, "jump_number": number, "context_keys": []}


def elements(svg: str) -> Iterator[ET.Element]:
    return ET.fromstring(svg).iter()


def titles(svg: str) -> list[str]:
    return [element.text or "" for element in elements(svg) if element.tag == f"{NAMESPACE}title"]


def words(svg: str) -> list[str]:
    return [element.text or "" for element in elements(svg) if element.tag == f"{NAMESPACE}text"]


def size(svg: str) -> tuple[float, float]:
    root = ET.fromstring(svg)
    return float(root.get("width", "")), float(root.get("height", ""))
