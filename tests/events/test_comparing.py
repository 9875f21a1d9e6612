"""Two runs side by side: paired by the names of their stages, with what is not the same."""

from __future__ import annotations

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.comparing import COMPARISON, compare
from stabilize_nb.errors import ConfigError
from stabilize_nb.run import Run

PATIENCE = 30


@pytest.fixture
def engine():
    """Return an engine in memory."""
    with Engine(":memory:") as made:
        yield made


def essay(*, fails=False, more=False):
    """Return a flow whose last stage may fail, and that may have a stage more."""
    flow = Flow("essay")

    @flow.stage
    def plan(question):
        return {"topics": [question, "ice"]}

    @flow.stage
    def draft(plan):
        return "about " + " and ".join(plan["topics"])

    if more:

        @flow.stage(after="draft")
        def extra():
            return "<more>"

    @flow.stage
    def review(draft, question):
        if fails:
            raise ValueError("no paper")
        return f"{draft}: {question}?"

    return flow


def ended(engine, flow, **inputs) -> Run:
    """Return a run that has ended."""
    run = engine.start(flow, **inputs)
    run.wait(PATIENCE)
    return run


def test_run_is_like_itself(engine):
    """Nothing differs, and the frame has the run and its stages, by the stated schema."""
    run = ended(engine, essay(), question="why")

    found = compare(run, run)

    assert found.differences == {}
    assert found.frame.stage.fillna("").tolist() == ["", "plan", "draft", "review"]
    assert {column.name: str(found.frame[column.name].dtype) for column in COMPARISON} == {
        column.name: column.dtype for column in COMPARISON
    }
    assert "no stage differs" in repr(found)


def test_fork_differs_in_what_it_has_run_again(engine):
    """What was taken over is said to be, and its tries and times are those of the parent; the rest counts anew."""
    run = ended(engine, essay(), question="why")
    fork = run.fork("review", inputs={"question": "how"})
    fork.wait(PATIENCE)

    found = compare(run, fork)

    assert found.differences == {"": ["inputs"], "review": ["outputs"]}
    frame = found.frame.set_index("stage")
    assert frame.taken_over.dropna().tolist() == [False, True, True, False]
    assert frame.loc["review", ["attempts_a", "attempts_b"]].tolist() == [1, 1]
    assert frame.loc["plan", "duration_a"] == frame.loc["plan", "duration_b"]
    assert frame.loc["review", "outputs_b"] == {"result": "about why and ice: how?"}
    assert f"B {fork.id}, forked from it at review · 1 stage differs" in repr(found)


def test_failure_and_a_stage_that_only_one_has_are_told(engine):
    """The error stands where the output would, and a stage without a partner has none of its values."""
    run = ended(engine, essay(), question="why")
    other = ended(engine, essay(fails=True, more=True), question="why")

    found = compare(run, other)

    assert found.differences == {"": ["status", "error"], "review": ["status", "outputs", "error"], "extra": ["there"]}
    assert found.frame.set_index("stage").loc["extra", "outputs_a"] is None
    text = repr(found)
    assert "✕ failed" in text
    assert "no paper" in text
    assert [line for line in text.splitlines() if "extra" in line and "—" in line]


def test_markup_in_values_is_text(engine):
    """What stages put out cannot become part of the page; what differs is set in bold."""
    run = ended(engine, essay(), question="<script>alert(1)</script>")
    other = ended(engine, essay(more=True), question="why")

    html = compare(run, other)._repr_mimebundle_()["text/html"]

    assert "<script" not in html
    assert "<b>{&#39;question&#39;: &#39;why&#39;}</b>" in html


def test_what_cannot_be_compared_as_text_is_cut(engine):
    """A long value is one line of a bounded width; the frame has all of it."""
    run = ended(engine, essay(), question="why " * 5_000)
    other = ended(engine, essay(), question="how")

    found = compare(run, other)

    assert max(map(len, repr(found).splitlines())) < 400
    assert found.frame.outputs_a[0] == {"question": "why " * 5_000}


@pytest.mark.parametrize("wrong", [3, "run-1", None])
def test_what_is_no_run_is_refused(engine, wrong):
    """Whichever of the two it is, a sentence says what is expected."""
    run = engine.start(essay(), question="why")
    for pair in ((run, wrong), (wrong, run)):
        with pytest.raises(ConfigError, match=r"two runs are expected, such as engine\.run\('RUN_ID'\) gives"):
            compare(*pair)
