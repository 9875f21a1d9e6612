"""Cells that are run again: a run that such a cell began is gone on with, not begun a second time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernels import Kernel, started_kernel

FLOW = """%%workflow paper -q
begun = []

@stage
def draft(topic="tides"):
    begun.append(topic)
    return topic.upper()

good = approval("Good?", after=draft)

@stage(after=good)
def publish(draft):
    return draft + "!"
"""
START = "run = paper.run()\nprint(run.id)"


def in_cell(kernel: Kernel, cell: str, source: str) -> str:
    """Run a cell that has an id, as a front end does, and return what it said."""
    content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    client = kernel.client
    message = client.session.msg("execute_request", content, metadata={"cellId": cell})
    client.shell_channel.send(message)
    reply = kernel.reply(message["header"]["msg_id"])
    assert reply.is_ok, reply.text
    return reply.text


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> Iterator[Kernel]:
    """Start a kernel that the tests of this file share; each has cells of its own."""
    with started_kernel(tmp_path_factory.mktemp("attaching")) as started:
        started.must("%load_ext stabilize_nb")
        started.must(FLOW)
        yield started


def test_cell_that_is_run_again_attaches(kernel):
    """One run, one line that says so; another cell, other inputs or "new" begin another."""
    first = in_cell(kernel, "a", START).strip()
    again = in_cell(kernel, "a", START)

    assert again.splitlines()[-1] == first
    assert f"attached to run {first[-7:]} (unfinished); %workflow run paper … --new" in again
    assert in_cell(kernel, "b", START).strip() != first
    assert in_cell(kernel, "a", 'run = paper.run(topic="winds")\nprint(run.id)').strip() != first
    assert in_cell(kernel, "a", 'run = paper.run("new")\nprint(run.id)').strip() != first
    assert "attached" in in_cell(kernel, "a", "run = %workflow run paper topic=winds")
    assert "attached" not in in_cell(kernel, "a", "run = %workflow run paper topic=winds --new")


def test_loop_of_a_cell_attaches_to_its_own_runs(kernel):
    """Several runs with the same inputs in one cell are several runs, and the same ones when it is run again."""
    cell = "print(*(paper.run().id for _ in range(3)))"
    first = in_cell(kernel, "loop", cell).split()
    again = in_cell(kernel, "loop", cell).splitlines()[-1].split()

    assert len(set(first)) == 3
    assert again == first


def test_ended_run_is_not_attached_to_unless_once_or_its_key_is_asked_for(kernel):
    """A finished run is begun anew; "once" gives the one that has succeeded, and its key gives it too."""
    start = 'run = paper.run(topic="once")\nprint(run.id)\n'
    end = "run.until_gate()\nrun.approve()\n_ = run.result()"
    first = in_cell(kernel, "end", start + end).strip()
    kept = in_cell(kernel, "key", 'run = paper.run(topic="k", key="tides-1")\nprint(run.id)\n' + end).strip()

    assert in_cell(kernel, "end", 'print(paper.run("once", topic="once").id)').splitlines()[-1] == first
    assert in_cell(kernel, "end", start).strip() != first
    by_key = in_cell(kernel, "other", 'print(paper.run(topic="k", key="tides-1").id)')
    assert "(ended)" in by_key
    assert by_key.splitlines()[-1] == kept


def test_attaches_after_a_restart(tmp_path):
    """The next kernel goes on with the run that the same cell began in the last one; nothing is run twice."""
    with started_kernel(tmp_path) as kernel:
        kernel.must("%load_ext stabilize_nb")
        kernel.must(FLOW)
        first = in_cell(kernel, "a", START + "\n_ = run.until_gate()").strip()
    with started_kernel(tmp_path) as kernel:
        assert "1 unfinished run" in kernel.must("%load_ext stabilize_nb").text
        kernel.must(FLOW)

        assert in_cell(kernel, "a", START).splitlines()[-1] == first
        kernel.must("run.approve()")
        assert kernel.must("print(run.result(), begun)").text.strip() == "TIDES! []"


def test_start_without_a_cell_is_always_new(kernel):
    """Where a front end gives cells no ids there is nothing to attach to."""
    assert kernel.must(START).text != kernel.must(START).text
