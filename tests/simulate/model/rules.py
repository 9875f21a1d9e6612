"""The tables of patterns.md, as functions of nothing but their arguments."""

from __future__ import annotations

from tests.simulate.model.state import COMPLETE, HALT, LIVE
from tests.simulate.plan import Many, Stage


def verdict(stage: Stage, fan_in: int, outcomes: list[str]) -> str:
    """Say what a round does that has not fired: fire, fail, prune, block or wait (2.2)."""
    live, halt = outcomes.count(LIVE), outcomes.count(HALT)
    pending = fan_in - len(outcomes)
    needed = stage.threshold or fan_in
    match stage.join:
        case "DISCRIMINATOR" if live:
            return "fire"
        case "N_OF_M" if live >= needed:
            return "fire"
        case "N_OF_M" if live and live + pending < needed:
            return "block" if halt else "fail"
        case "OR" if live and not pending:
            return "fire"
        case "AND" if live and not pending and not halt:
            return "fire"
    if pending or (stage.join == "MULTI_MERGE" and live):
        return "wait"
    return "block" if halt else "prune"


def activity_verdict(many: Many, fan_in: int, outcomes: list[str], *, closed: bool) -> str:
    """Say what the join of an activity does that instances may be added to (WCP-15, WCP-36)."""
    live, halt = outcomes.count(LIVE), outcomes.count(HALT)
    if (many.threshold and live >= many.threshold) or is_satisfied(many.condition, live, fan_in):
        return "fire"
    if len(outcomes) < fan_in:
        return "wait"
    is_counted = bool(many.threshold or many.condition)
    if not closed and (is_counted or not fan_in):
        return "wait"
    if halt and not is_counted:
        return "block"
    return "fire" if live or closed else "block" if halt else "prune"


def is_satisfied(condition: str, completed: int, total: int) -> bool:
    """Judge the completion condition of an activity."""
    match condition:
        case "completed>=2":
            return completed >= 2
        case "half":
            return completed * 2 >= total
    return False


def is_true(condition: str, output: int | None) -> bool:
    """Judge a condition of a split; a name that is not defined compares as false (2.4)."""
    if condition in ("true", "false"):
        return condition == "true"
    if output is None:
        return False
    return output < 2 if condition == "pass<2" else output >= 2


def chosen(stage: Stage, below: list[str], output: int | None) -> list[str]:
    """Return the edges that a split takes (2.5)."""
    if stage.split == "AND":
        return below
    true = [ref for ref, condition in stage.when if is_true(condition, output)]
    if stage.split == "XOR":
        taken = true[:1]
    else:
        named = {ref for ref, _ in stage.when} | {stage.default}
        taken = true + [ref for ref in below if ref not in named]
    if not taken and stage.default:
        taken = [stage.default]
    return taken


def gate(wanted: str, status: str, *, is_blocked: bool, is_closed: bool) -> str:
    """Say whether a milestone is open, passed or to be waited for (WCP-18)."""
    if is_closed:
        return "passed"
    if status == wanted and not (is_blocked and wanted == "NOT_STARTED"):
        return "open"
    return "passed" if wanted == "NOT_STARTED" or status in COMPLETE or is_blocked else "wait"
