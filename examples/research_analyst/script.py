"""
What the scripted model says: the first rule counts whose pattern is found in what it was told last.

$1 to $9 in an answer are what the groups of its pattern found, so the numbers of the report are those of the tools.
"""

from __future__ import annotations

import json
from typing import Any

FIRST = {
    "weight": "weight: how much heavier are males than females?",
    "flippers": "flippers: on which island do Adelie penguins have the longest?",
    "bills": "bills: which species has the longest?",
}
SECOND = {
    "weight": "weight, with an interval: males against females",
    "flippers": "flippers, with an interval: Adelie penguins of Torgersen against Biscoe",
    "bills": "bills, with an interval: Chinstrap against Adelie",
}


def call(name: str, **arguments: str) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def tool_said(**numbers: str) -> str:
    return ", ".join(f'"{name}": {number}' for name, number in numbers.items())


N = r"(-?[\d.]+)"
FOUND = r'"first": "{}", "second": "{}", "measure": "\w+", "low": ' + N + r', "high": ' + N

RULES: dict[str, Any] = {
    r"^PLAN .*had gaps": {"text": json.dumps(SECOND), "delay": 0.1},
    r"^PLAN ": {"text": json.dumps(FIRST), "delay": 0.1},
    r"^RESEARCH weight, with": call("interval", measure="body_mass_g", by="sex", first="male", second="female"),
    r"^RESEARCH weight": call("means", measure="body_mass_g", by="sex"),
    r"^RESEARCH flippers, with": call(
        "interval", measure="flipper_length_mm", by="island", first="Torgersen", second="Biscoe", species="Adelie"
    ),
    r"^RESEARCH flippers": call("means", measure="flipper_length_mm", by="island", species="Adelie"),
    # This researcher thinks for long: two of three are enough.
    r"^RESEARCH bills, with": {
        "tool_calls": [call("interval", measure="bill_length_mm", by="species", first="Chinstrap", second="Adelie")],
        "delay": 0.6,
    },
    r"^RESEARCH bills": {"tool_calls": [call("means", measure="bill_length_mm", by="species")], "delay": 0.6},
    # What the tools have said.
    tool_said(female=N, male=N): "Males weigh $2 g on average and females $1 g.",
    tool_said(Biscoe=N, Dream=N, Torgersen=N): "Adelie flippers are longest on Torgersen: $3 mm (Dream $2, Biscoe $1).",
    tool_said(Adelie=N, Chinstrap=N, Gentoo=N): "Bills are $1 mm long in Adelie, $2 in Chinstrap, $3 in Gentoo.",
    FOUND.format("male", "female"): "Males are heavier than females by $1 to $2 g (95% interval).",
    FOUND.format(
        "Torgersen", "Biscoe"
    ): "Adelie flippers are $1 to $2 mm longer on Torgersen than on Biscoe (95% interval).",
    FOUND.format(
        "Chinstrap", "Adelie"
    ): "Bills of Chinstrap are $1 to $2 mm longer than those of Adelie (95% interval).",
    # The text and what is thought of it.
    r"^WRITE about: ([^\n]*)\nFINDINGS\n(.*)": {"text": "# $1\n\n$2", "pace": 0.01},
    r"^REVIEW strictly.*95% interval": {"text": '{"enough": true, "gaps": ""}', "delay": 0.2},
    r"^REVIEW strictly": {"text": '{"enough": false, "gaps": "nobody says how sure this is"}', "delay": 0.2},
    r"^REVIEW gently.*95% interval": {"text": '{"enough": true, "gaps": ""}', "delay": 0.8},
    r"^REVIEW gently": {"text": '{"enough": false, "gaps": "intervals are missing"}', "delay": 0.8},
    r"^SUMMARISE": {"text": "Penguins differ, and two researchers say by how much.", "pace": 0.01},
}
