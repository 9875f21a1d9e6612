"""Locks and choices: who holds them, who stands in line, and whose turn is next (WCP-16, 17, 39)."""

from __future__ import annotations

from tests.simulate.model.state import OPEN, Case, Choice, Holder, Lock, Run


def lock_of(case: Case, run: Run) -> Lock:
    return case.store.locks.setdefault(case.plan(run).mutex, Lock())


def choice_of(case: Case, run: Run) -> Choice:
    return case.choices.setdefault(case.plan(run).choice, Choice())


def holder_for(case: Case, run: Run) -> Holder:
    """Return who holds a lock for a run: itself, or its section."""
    section = case.plan(run).section
    if section:
        return (case.name, section, -1)
    return (case.name, run.name, 0 if run.is_first else run.generation)


def take_lock(case: Case, run: Run) -> bool:
    lock, holder = lock_of(case, run), holder_for(case, run)
    if lock.holder in (None, holder):
        lock.holder = holder
        return True
    lock.line.append((run, holder))
    return False


def take_turn(case: Case, run: Run) -> bool:
    """Become the member of a choice that begins."""
    choice = choice_of(case, run)
    if choice.beginner in (None, run):
        choice.beginner = run
        return True
    choice.line.append(run)
    return False


def leave(case: Case, run: Run) -> None:
    """Leave every line, and give back what is not needed any more."""
    leave_lines(case, run)
    if case.plan(run).choice:
        choice = choice_of(case, run)
        if choice.beginner is run and choice.winner is None:
            next_turn(choice)
    give_back(case, run)


def leave_lines(case: Case, run: Run) -> None:
    """Wait for nothing any more."""
    stage = case.plan(run)
    run.waits = ""
    if stage.mutex:
        lock = lock_of(case, run)
        lock.line = [each for each in lock.line if each[0] is not run]
    if stage.choice:
        choice = choice_of(case, run)
        choice.line = [each for each in choice.line if each is not run]


def give_back(case: Case, run: Run) -> None:
    """Give the lock of a run back, unless others of its section need it."""
    if case.plan(run).mutex:
        lock = lock_of(case, run)
        if lock.holder == holder_for(case, run) and not lock.kept and not _is_needed(case, run):
            pass_on(lock)


def pass_on(lock: Lock) -> None:
    """Let whoever has waited longest hold the lock, with the others of its section."""
    lock.holder = lock.line[0][1] if lock.line else None
    lock.line = [each for each in lock.line if each[1] != lock.holder]


def next_turn(choice: Choice) -> None:
    choice.beginner = choice.line.pop(0) if choice.line else None


def is_next(case: Case, run: Run) -> bool:
    """Whether a run that waited in a line was passed what it waited for."""
    if run.waits == "lock":
        lock = lock_of(case, run)
        return lock.holder == holder_for(case, run) and all(each is not run for each, _ in lock.line)
    return run.waits == "choice" and choice_of(case, run).beginner is run


def _is_needed(case: Case, run: Run) -> bool:
    """Whether a section is under way: one of its stages has begun, and one of them is not over."""
    stage = case.plan(run)
    if not stage.section:
        return False
    mates = [mate for mate in case.runs.values() if _is_mate(stage.section, stage.mutex, case, mate)]
    waiting = any(mate.waits == "lock" and is_next(case, mate) for mate in mates)
    begun = any(mate.begun for mate in mates)
    return waiting or (begun and not all(case.is_over(mate) for mate in mates))


def _is_mate(section: str, mutex: str, case: Case, mate: Run) -> bool:
    stage = case.plan(mate)
    return stage.section == section and stage.mutex == mutex


def give_all_back(case: Case) -> None:
    """The workflow has ended: it holds nothing any more."""
    for lock in case.store.locks.values():
        if lock.holder is not None and lock.holder[0] == case.name:
            pass_on(lock)


def is_alive(case: Case, holder: Holder) -> bool:
    """Whether a holder of a lock has something to hold it for."""
    _, name, generation = holder
    if generation >= 0:
        run = case.find(name, generation or None)
        return run is not None and (run.status in OPEN or run.waits == "choice" or is_next(case, run))
    return any(case.plan(run).section == name and _is_needed(case, run) for run in case.runs.values())
