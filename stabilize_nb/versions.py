"""
Code that has changed since a run was started.

A run names the code of each of its stages with its print (tasks/prints.py), so it goes on with what it was started
with: while this process knows that version, in the background as always; where it does not, it waits for code.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from stabilize_nb.core.rows import tasks_of
from stabilize_nb.queue.processor.presence import takers
from stabilize_nb.tasks.prints import is_marked, plain_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stabilize_nb.core.rows import StageSpec
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.run_record import RunRecord
    from stabilize_nb.store.connection import Connection
    from stabilize_nb.tasks.registry import TaskRegistry


def newer_code(run: RunRecord, workflow: Workflow | None = None) -> dict[str, str]:
    """Return what a run names as the code of its stages where other code is defined now, with what that is named."""
    stages = (workflow or run.workflow).stages
    return _newer(run.engine.registry, (code for stage in stages for code in _codes(stage)))


def newer_code_of(registry: TaskRegistry, specs: Iterable[StageSpec]) -> dict[str, str]:
    """Return the same for the definitions of stages."""
    return _newer(registry, (code for spec in specs for _, code in tasks_of(spec) if is_marked(code)))


def _newer(registry: TaskRegistry, codes: Iterable[str]) -> dict[str, str]:
    latest = {code: registry.latest(code) for code in codes}
    return {code: newer for code, newer in latest.items() if newer is not None and newer != code}


def missing_code(run: RunRecord) -> list[str]:
    """Return what a run waits for and neither this process nor a worker at work knows, with prints."""
    names, taken = run.engine.database.call_read(lambda connection: queued_code(run, connection))
    return sorted(name for name in names if name not in run.engine.registry and name not in taken)


def queued_code(run: RunRecord, connection: Connection) -> tuple[set[str], Counter[str]]:
    """Return the code that a run waits for, with prints, and how many processors run what is not run here."""
    names = {row[0] for row in connection.all("waiting_for_code_of", {"workflow_id": run.id})}
    processor = run.engine.processor
    if all(name in processor.registry and processor.takes(name) for name in names):
        return names, Counter()
    others = takers(run.engine.database, connection)
    others.pop(processor.owner, None)
    return names, Counter(name for taken in others.values() for name in taken)


def changed_code(run: RunRecord) -> list[str]:
    """Return the tasks that a run waits for and for which only other code is defined here."""
    return sorted({plain_name(code) for code in missing_code(run) if run.engine.registry.latest(code) is not None})


def _codes(stage: StageExecution) -> Iterable[str]:
    inside = stage.mi_config.instance.get("tasks", ()) if stage.mi_config is not None else ()
    return filter(is_marked, [*(task.implementing_class for task in stage.tasks), *(code for _, code in inside)])
