"""Slips of somebody who starts a run, or gives it an order, are answered with what to write."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stabilize_nb import Flow
from stabilize_nb.errors import ConfigError, StageNotFoundError, WaitTimeoutError


def test_dict_of_inputs_is_told_how_inputs_are_given(engine):
    """A newcomer gives a run the dict of its inputs; the sentence has what to write."""
    flow = Flow("trip")
    flow.engine = lambda: engine
    flow.stage(name="pack")(lambda topic: topic)

    with pytest.raises(
        ConfigError, match=r"^inputs are given by their names: run\(topic=\.\.\.\), or run\(\*\*inputs\)"
    ):
        flow.run({"topic": "bags"})


def test_name_close_to_a_stage_is_suggested(engine):
    """Whatever of a run is asked for by a stage that it does not have."""
    flow = Flow("letter")
    flow.approval("Send it?", name="sign_off")
    run = engine.start(flow)

    for ask in (run.approve, run.reject, run.log, run.cancel):
        with pytest.raises(
            StageNotFoundError, match=r"has no stage 'sign_of'; its stages are: .*sign_off; did you mean 'sign_off'\?$"
        ):
            ask("sign_of")


def test_waiting_takes_a_time_as_text_or_timedelta(engine):
    """As gates and tasks do; so the error does not come from where the text is added to a clock."""
    flow = Flow("letter")
    flow.approval("Send it?", name="sign_off")
    run = engine.start(flow)

    assert [gate.name for gate in run.until_gate("1 min")] == ["sign_off"]
    for patience in (timedelta(milliseconds=1), "0.001s", 0.001, 0):
        with pytest.raises(WaitTimeoutError):
            run.wait(patience)


def test_name_close_to_a_stage_is_suggested_for_a_moment(engine):
    """The sentence ends with what may have been meant, after what there is."""
    flow = Flow("letter")
    flow.approval("Send it?", name="sign_off")
    run = engine.start(flow)
    run.until_gate()

    near = r"its stages (were|are): .*sign_off; did you mean 'sign_off'\?$"
    for ask in (run.at(2).stage, run.explain, run.fork, run.workflow.stage_by_ref_id):
        with pytest.raises(StageNotFoundError, match=near):
            ask("sign_of")
