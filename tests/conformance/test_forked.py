"""A body's program may fork: the child ends as programs do, and touches nothing that its parent works with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys, threading
from stabilize_nb import Engine, Task, TaskResult
from stabilize_nb.errors import StoreError
from tests.makers import stage, workflow

begun, go_on = threading.Event(), threading.Event()

class Work(Task):
    def execute(self, stage):
        print("attempt", stage.tasks[0].attempt, flush=True)
        begun.set()
        assert go_on.wait(20)
        return TaskResult.success()

engine = Engine(sys.argv[1])
engine.registry.register("work", Work())
run = engine.start(workflow(stage("only", task="work")))
assert begun.wait(20)
if os.fork() == 0:
    for use in (engine.database.write, engine.database.read):
        try:
            use(lambda connection: connection.one("workflow_exists", {"workflow_id": run.id}))
        except StoreError as error:
            assert "before this process was forked" in str(error), error
        else:
            os._exit(9)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
go_on.set()
print(run.wait(20), flush=True)
engine.close()
"""


def test_end_of_a_forked_child_gives_back_nothing_of_its_parent(tmp_path: Path) -> None:
    """The body is at work in the parent, so it is not begun again; and the child uses no connection of the parent."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "runs.db")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=Path.cwd())

    assert (found.returncode, found.stdout.split("\n")) == (0, ["attempt 1", "SUCCEEDED", ""]), found.stderr[-3000:]
