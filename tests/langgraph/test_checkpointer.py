"""The published conformance suite of LangGraph's checkpointers."""

import asyncio

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES

from stabilize_nb.langgraph import StoreSaver


@pytest.mark.parametrize("url", [":memory:", "graphs.db"])
def test_conformance(url, tmp_path, monkeypatch):
    """All tests of all capabilities, required and optional, pass on a file and in memory."""
    monkeypatch.chdir(tmp_path)

    @checkpointer_test(name=url)
    async def saver():
        with StoreSaver(url) as saver:
            yield saver

    report = asyncio.run(validate(saver))

    assert {name: result.failures for name, result in report.results.items() if result.failures} == {}
    assert {name for name, result in report.results.items() if result.passed} == {
        each.value for each in ALL_CAPABILITIES
    }
    assert sum(result.tests_passed for result in report.results.values()) >= 79
