"""A worker that is killed while its agent waits for a model: what the server and the tool see of it."""

import subprocess
import sys
import threading

from stabilize_nb.testing import Reply, ScriptedModel, ToolCall, by_turn

#: Runs the agent to its end; begun again on the same store, it goes on.
WORKER = """
import sys
from pathlib import Path
from stabilize_nb import Engine
from stabilize_nb.llm import AgentLoopTask, LLMClient, ToolContext, ToolRegistry
from tests.makers import stage, workflow

def note(text: str, call: ToolContext) -> str:
    with Path("notes").open("a") as file:
        file.write(f"{text} {call.idempotency_key}\\n")
    return "noted"

with Engine("runs.db") as engine:
    engine.registry.register("agent", AgentLoopTask(LLMClient("any", base_url=sys.argv[1]), ToolRegistry([note])))
    runs = engine.resume()
    run = runs[0] if runs else engine.start(workflow(stage("a", task="agent", context={"prompt": "Go."})))
    run.wait(30)
    print(run.workflow.stages[0].outputs["answer"], end="")
"""


def test_killed_agent_goes_on_at_the_call_that_was_in_flight(tmp_path):
    """SIGKILL during the third question: it alone is asked again, and each tool was called once."""
    asked = threading.Event()
    answers = by_turn([*(ToolCall(name="note", arguments={"text": word}) for word in ("one", "two", "three")), "done"])

    def answer(request):
        if request.turn == 2 and not asked.is_set():
            asked.set()
            return Reply(text="late", delay=60)
        return answers(request)

    with ScriptedModel(answer) as model:
        command = [sys.executable, "-c", WORKER, model.url]
        with subprocess.Popen(command, cwd=tmp_path) as killed:
            assert asked.wait(30)
            killed.kill()
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)

    notes = (tmp_path / "notes").read_text().splitlines()
    assert done.stdout == "done"
    assert [request.turn for request in model.requests] == [0, 1, 2, 2, 3]
    assert [note.split()[0] for note in notes] == ["one", "two", "three"]
    assert [note[-1] for note in notes] == ["1", "2", "3"]
    assert len({note.split()[1].rpartition(":")[0] for note in notes}) == 1
