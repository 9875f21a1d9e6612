"""Bodies and signals: how a task goes (2.7, 2.9, WCP-23, WCP-24)."""

from __future__ import annotations

from tests.simulate.model.ends import bypass, end, fail, withdraw
from tests.simulate.model.gates import choose, finish_well, offer
from tests.simulate.model.state import ATTEMPTS, COMPLETE, HALT, OPEN, Case, Run

CHILD_ENDED = "_child_ended"
STATUS = {"ok": "SUCCEEDED", "soft": "FAILED_CONTINUE", "skip": "SKIPPED", "stop": "STOPPED"}


def call(case: Case, name: str, generation: int | None, task: int) -> None:
    """A task is due: its body is begun, or parked while the workflow is paused."""
    run = case.find(name, generation)
    if run is None or run.status != "RUNNING" or task != run.task:
        return
    if case.status == "PAUSED":
        run.at_work = False
        case.say("paused", name)
        case.move(run, "PAUSED")
        return
    run.attempt += 1
    run.at_work, run.polling = True, False
    case.say("called", name, task, run.attempt)


def wants(case: Case, name: str, generation: int, task: int, attempt: int) -> bool:
    """Whether a body is the one whose answer is waited for."""
    run = case.find(name, generation)
    return run is not None and run.status == "RUNNING" and (run.task, run.attempt, run.at_work) == (task, attempt, True)


def finish(case: Case, name: str, generation: int, task: int, attempt: int, answer: str, number: int) -> bool:
    """A body ends; return whether its answer counts."""
    run = case.find(name, generation)
    if run is None or not wants(case, name, generation, task, attempt):
        case.say("discarded", name)
        return False
    run.at_work = False
    kind, _, target = answer.partition(":")
    if kind != "wait":
        choose(case, run)
    if case.ending and kind in ("poll", "wait", "jump", "loop", "call"):
        withdraw(case, run, "workflow_failed")
        return True
    match kind:
        case "poll":
            run.polling = True
            case.say("polled", name)
        case "wait":
            suspend(case, run)
        case "call":
            case.say("calls", name)
            case.say("suspended", name)
            case.move(run, "SUSPENDED")
        case "retry" if run.retries + 1 < ATTEMPTS:
            run.retries += 1
            case.say("retried", name)
        case "jump" | "loop":
            run.target, run.is_counted = target, kind == "jump"
            case.say("task", name, task, "REDIRECT")
            case.move(run, "REDIRECT")
        case _:
            task_over(case, run, kind, number)
    return True


def task_over(case: Case, run: Run, kind: str, number: int) -> None:
    """A task has ended, and with the last one its run."""
    case.say("task", run.name, run.task, STATUS.get(kind, "TERMINAL"))
    run.task += 1
    run.attempt = run.retries = 0
    if kind in ("ok", "soft"):
        run.output = number
        run.soft = run.soft or kind == "soft"
        if run.task == case.plan(run).tasks:
            finish_well(case, run)
    elif kind == "skip":
        bypass(case, run)
    elif kind == "stop":
        end(case, run, "STOPPED", HALT)
    else:
        fail(case, run)


def time_out(case: Case, name: str, generation: int | None) -> None:
    """The time of a run is over."""
    run = case.find(name, generation)
    if run is None or run.status not in OPEN or run.is_late:
        return
    if run.status != "RUNNING":
        case.say("resumed", name)
    task = run.task + (run.status == "REDIRECT")
    if task < case.plan(run).tasks:
        case.say("task", name, task, "TERMINAL")
    run.task = task + 1
    run.status = "RUNNING"
    run.attempt = 0
    run.at_work = run.polling = False
    run.is_late = True
    for ref in case.parts(run, run.phase):
        for part in case.runs_of(ref):
            if part.status in OPEN:
                withdraw(case, part, "workflow_failed")
    fail(case, run)


def child_ended(case: Case, name: str, generation: int | None) -> None:
    """The end of a child workflow comes as a signal (WCP-22)."""
    told = [caller for caller in case.store.calls if (caller.case, caller.run) == (case.name, name)]
    told = [caller for caller in told if caller.generation == generation]
    if told:
        case.store.calls.remove(told[0])
        signal(case, name, CHILD_ENDED, persistent=True, generation=generation)


def signal(case: Case, name: str, signal_name: str, *, persistent: bool, generation: int | None = None) -> None:
    """A signal comes: it resumes its run, is kept for later, or is lost."""
    run = case.find(name, generation)
    if run is None:
        return
    if run.status == "SUSPENDED":
        run.child = ""
        choose(case, run)
        case.say("delivered", name, signal_name)
        case.move(run, "RUNNING")
    elif persistent and run.status not in COMPLETE and case.status not in COMPLETE:
        case.kept.setdefault(box(run), []).append(signal_name)
        case.say("kept", name, signal_name)
    else:
        case.say("dropped", name, signal_name)


def suspend(case: Case, run: Run) -> None:
    """A body waits for a signal; the oldest that was kept for it resumes it at once."""
    case.say("suspended", run.name)
    kept = case.kept.get(box(run))
    if kept:
        choose(case, run)
        case.say("delivered", run.name, kept.pop(0))
        case.move(run, "RUNNING")
    else:
        case.move(run, "SUSPENDED")
        offer(case, run)


def box(run: Run) -> tuple[str, int]:
    """Signals of a stage outlive its resets, those of further activations do not."""
    return run.name, 0 if run.is_first else run.generation
