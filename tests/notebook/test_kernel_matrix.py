"""What differs between kernels must not differ for people: the newest and the oldest kernel that are supported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernels import NEWEST_NAME, OLDEST_NAME, Kernel, OldestKernel, started_kernel

FLOW = """%%workflow matrix -q
import time
from IPython.display import display

@stage
def left(seconds=0.0):
    for number in range(5):
        print("left", number)
        time.sleep(seconds)
    display({"text/plain": "a picture of left"}, raw=True)
    return "left"

@stage
def right(seconds=0.0):
    for number in range(5):
        print("right", number)
        time.sleep(seconds)
    return "right"

@stage
def both(left, right):
    return left + " and " + right
"""


@pytest.fixture(scope="module", params=[NEWEST_NAME, OLDEST_NAME])
def kernel(request, tmp_path_factory, oldest_kernel: OldestKernel) -> Iterator[Kernel]:
    """Start a kernel with the extension and a definition; the tests of this file share it."""
    with started_kernel(tmp_path_factory.mktemp("matrix"), request.param, oldest_kernel.specs) as started:
        started.must("%load_ext stabilize_nb")
        started.must(FLOW)
        yield started


def test_kernel_is_the_one_that_was_asked_for(kernel, request):
    """The two kernels of this file have the versions between which every other one lies."""
    version = kernel.must("import ipykernel; print(ipykernel.__version__)").text

    assert version.startswith("6.29.5" if OLDEST_NAME in request.node.name else "7.")


def test_await_gives_the_result(kernel):
    """A cell that awaits a run shows what its last stage returned."""
    assert kernel.must("await matrix.run()").text.endswith("'left and right'")


@pytest.mark.parametrize("wait", ["await run", "run.wait()", "run.result()"])
def test_interrupt_ends_only_the_waiting(kernel, wait):
    """The cell ends within half a second with one line, and the run goes on to its end."""
    kernel.must("import threading\nrun = matrix.run(seconds=0.8)")
    tell = "threading.Timer(0.2, get_ipython().display_pub.publish, [{'text/plain': 'begun'}]).start()"
    message = kernel.send(f"{tell}\n{wait}")
    kernel.until_shown(message, "begun")  # the cell is in its last line by then
    struck = kernel.interrupt()
    reply = kernel.reply(message)

    assert reply.at - struck < 0.5
    assert reply.error in {"WaitInterrupted", "AwaitInterrupted"}
    assert "only the waiting was stopped" in reply.text
    assert "stabilize_nb/" not in reply.text
    assert kernel.must("(await run), run.status.name").text.endswith("('left and right', 'SUCCEEDED')")


def test_output_of_tasks_stays_with_the_run(kernel):
    """What tasks print and display lands in the log of their stage, and what a cell prints meanwhile in the cell."""
    reply = kernel.must("run = matrix.run(seconds=0.05)\nfor at in range(5): print('cell', at)\n_ = run.wait()")
    later = kernel.must("for at in range(5): print('later', at)")

    assert [line for line in reply.text.splitlines() if line] == [f"cell {at}" for at in range(5)]
    assert later.text.splitlines() == [f"later {at}" for at in range(5)]
    said = kernel.must("print(run.log('left'))").text
    assert [line for line in said.splitlines() if line.startswith("left")] == [f"left {at}" for at in range(5)]
    assert "a picture of left" in said
    assert "right" not in said
