"""Slips of somebody who starts a run, or gives it an order, are answered with what to write."""

from __future__ import annotations

import pytest

from stabilize_nb import Flow
from stabilize_nb.errors import ConfigError, StageNotFoundError


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
        with pytest.raises(StageNotFoundError, match=r"has no stage 'sign_of'; its stages are: .*sign_off; did you mean 'sign_off'\?$"):
            ask("sign_of")
