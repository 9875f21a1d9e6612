"""The notebook in a real kernel: awaiting, interrupting, deciding, and outputs that nbval finds unchanged."""

import subprocess
import sys
import time
from collections.abc import Iterator

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient

FLOW = """%%workflow research {options}
import time

@stage
def plan(question):
    return question.upper()

@stage
def draft(plan):
    time.sleep({seconds})
    return plan + "!"

sign_off = approval("Publish this?", after=draft, show="draft", form={{"note": str}})

@stage
def report(draft, sign_off):
    return f"{{draft}} {{sign_off['approval']['note']}}"
"""


def executed(tmp_path, *cells: str) -> nbformat.NotebookNode:
    """Run cells in a new kernel whose folder is `tmp_path`; an error of a cell is kept in its outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    client = NotebookClient(
        notebook,
        timeout=60,
        allow_errors=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    return client.execute()


def said(cell: nbformat.NotebookNode) -> str:
    """Return everything a cell says as text."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text", "") or "\n".join(output.get("traceback", [])))
        parts.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(filter(None, parts))


@pytest.fixture
def kernel(tmp_path) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """Start a kernel in an empty folder; it is asked to end, and its process waited for."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def test_run_is_awaited_decided_and_framed(tmp_path):
    """A whole session: define, run, approve while a cell awaits, look at the log."""
    notebook = executed(
        tmp_path,
        "%load_ext stabilize_nb",
        FLOW.format(options="", seconds=0.3),
        "run = research.run(question='why')\nrun",
        "try:\n    run.result()\nexcept Exception as error:\n    print(type(error).__name__)",
        "%workflow status last",
        "run.approve('sign_off', note='late')\nawait run",
        "run.events[['seq', 'type', 'stage']].tail(3)",
        "again = research.run(question='how')\nagain.wait",
        "import asyncio\nwhile not again.gates: await asyncio.sleep(0.05)\n_ = 0",
        "%workflow approve again/sign_off note='by magic'",
        "await again",
    )
    _, definition, start, stuck, status, awaited, events, _, _, approved, result = map(said, notebook.cells)

    assert definition.startswith("research: 4 stages · inputs: question")
    assert start.startswith("research · ")
    assert stuck == "NobodyToDecide\n"
    assert "stage 'sign_off' waits for a decision or signal" in status
    assert awaited == "'WHY! late'"
    assert "workflow.completed" in events
    assert "✓ succeeded · 4 of 4 stages" in approved
    assert result == "'HOW! by magic'"


def test_outputs_show_without_a_kernel(tmp_path):
    """What is saved has no widget and no script: HTML with the picture inside, SVG, and text."""
    notebook = executed(tmp_path, "%load_ext stabilize_nb", FLOW.format(options="", seconds=0))

    (output,) = notebook.cells[1].outputs
    assert output.output_type == "display_data"
    assert set(output.data) == {"text/html", "image/svg+xml", "text/plain"}
    assert "<script" not in output.data["text/html"]


def finish(client: BlockingKernelClient, message_id: str) -> tuple[dict, list[str]]:
    """Wait for the end of a cell and return its reply and the tracebacks it showed."""
    traces = []
    while True:
        message = client.get_iopub_msg(timeout=30)
        if message["parent_header"].get("msg_id") != message_id:
            continue
        if message["msg_type"] == "error":
            traces.append("\n".join(message["content"]["traceback"]))
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    return client.get_shell_msg(timeout=30)["content"], traces


@pytest.mark.parametrize(("wait", "error"), [("await run", "AwaitInterrupted"), ("run.wait()", "WaitInterrupted")])
def test_interrupt_stops_only_the_waiting(kernel, wait, error):
    """The stop button ends the cell at once with one line, and the run goes on."""
    manager, client = kernel
    for source in (
        "%load_ext stabilize_nb",
        FLOW.format(options="-q", seconds=0),
        "run = research.run(question='why')",
    ):
        client.execute_interactive(source, timeout=60, output_hook=lambda message: None)
    message_id = client.execute(wait)
    time.sleep(1)
    begin = time.monotonic()
    manager.interrupt_kernel()
    reply, traces = finish(client, message_id)

    assert time.monotonic() - begin < 5
    assert reply["ename"] == error
    assert len(traces) == 1
    assert "only the waiting was stopped: run " in traces[0]
    assert "stabilize_nb/" not in traces[0]

    message_id = client.execute("run.approve(note='after')\nassert (await run) == 'WHY! after'")

    assert finish(client, message_id)[0]["status"] == "ok"


def test_deterministic_notebook_passes_strict_nbval(tmp_path):
    """Saved outputs with ids, times, frames, pictures and errors are the same in the next kernel, nothing sanitised."""
    notebook = executed(
        tmp_path,
        "%load_ext stabilize_nb\n%config StabilizeNB.display = 'deterministic'",
        FLOW.format(options="", seconds=0),
        "run = research.run(question='why')\nrun",
        "# NBVAL_RAISES_EXCEPTION\nawait run",
        "%workflow approve last/sign_off note='good'",
        "await run",
        "run",
        "run.stages",
        "run.events",
        "%workflow list",
        "%workflow graph last --format mermaid",
        "%%workflow bad\n# NBVAL_RAISES_EXCEPTION\n@stage(after='nothing')\ndef only():\n    return 1\n",
    )
    path = tmp_path / "saved.ipynb"
    nbformat.write(notebook, path)

    assert "run-0001 waits for a decision" in said(notebook.cells[3])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--nbval"]
    done = subprocess.run([*command, "--nbval-current-env", str(path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert f"{len(notebook.cells)} passed" in done.stdout
