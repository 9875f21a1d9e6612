"""What orders cannot change: how a graph of AND and OR joins ends, read off the graph in one pass.

A second, still smaller model: no queue, no rounds, no time. It speaks only of plans whose end does not depend on the
order of messages; every run of such a plan has to end with exactly these statuses.
"""

from __future__ import annotations

from tests.simulate.model.rules import chosen
from tests.simulate.model.state import ATTEMPTS, DEAD, HALT, LIVE
from tests.simulate.plan import Flow, Plan, Stage

STATUS = {"ok": "SUCCEEDED", "soft": "FAILED_CONTINUE", "skip": "SKIPPED", "stop": "STOPPED"}
POLICY = {"continue": "FAILED_CONTINUE", "stop": "STOPPED", "late": "STOPPED"}
#: Fields of a stage that must be as usual, since others decide by who comes first.
USUAL = (
    "timeout", "thread_split", "thread_merge", "choice", "milestone", "region", "cancels", "cancels_regions",
    "ends", "parent", "many",
)  # fmt: skip
BLANK = Stage("")


def foretell(plan: Plan) -> dict[str, dict[str, str]] | None:
    """Return the statuses at the end by workflow and ref ("": the workflow); None when the order may change them."""
    if any(flow.child for flow in plan.flows):
        return None
    if any(act.kind not in ("signal", "keep", "pause", "resume") for act in plan.acts):
        return None
    told = {flow.name: _statuses(flow) for flow in plan.flows}
    return {name: statuses for name, statuses in told.items() if statuses} if all(told.values()) else None


def _statuses(flow: Flow) -> dict[str, str] | None:
    said: dict[tuple[str, str], str] = {}
    statuses = {"": "SUCCEEDED"}
    for stage in flow.stages:
        if stage.join not in ("AND", "OR") or any(getattr(stage, name) != getattr(BLANK, name) for name in USUAL):
            return None
        status, outcome, output = _end(stage, [said[above, stage.ref] for above in stage.after])
        if status in ("TERMINAL", "JUMP"):
            return None
        if status == "STOPPED" and stage.on_failure == "late":
            statuses[""] = "TERMINAL"
        statuses[stage.ref] = status
        below = [other.ref for other in flow.stages if stage.ref in other.after]
        taken = chosen(stage, below, output) if outcome == LIVE else below
        said |= {(stage.ref, ref): outcome if ref in taken else DEAD for ref in below}
    return statuses


def _end(stage: Stage, words: list[str]) -> tuple[str, str, int | None]:
    """Return how a stage ends, what its edges then say, and what it put out."""
    if words and set(words) == {DEAD}:
        return "SKIPPED", DEAD, None
    if words and (LIVE not in words or (stage.join == "AND" and HALT in words)):
        return "NOT_STARTED", HALT, None
    if not stage.enabled:
        return "SKIPPED", LIVE, None
    status, output = _course(stage)
    return status, HALT if status == "STOPPED" else LIVE, output


def _course(stage: Stage) -> tuple[str, int | None]:
    """Return how the bodies of a stage end it, and the number of the last answer with an output."""
    soft, output, task, retries = False, None, 0, 0
    for number in range(1, 100):
        if task == stage.tasks:
            return STATUS["soft" if soft else "ok"], output
        kind = stage.does[min(number, len(stage.does)) - 1].partition(":")[0]
        retries = retries + 1 if kind == "retry" else retries
        if kind in ("ok", "soft"):
            soft, output, task, retries = soft or kind == "soft", number, task + 1, 0
        elif kind in STATUS:
            return STATUS[kind], output
        elif kind == "fail" or retries == ATTEMPTS:
            return POLICY.get(stage.on_failure, "TERMINAL"), output
        elif kind not in ("wait", "poll", "retry"):
            break
    return "JUMP", output
