"""Slips of somebody who starts a run, or gives it an order, are answered with what to write."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import ConfigError, RunFailedError, StageNotFoundError, WaitTimeoutError


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


def test_dict_of_inputs_is_told_by_the_engine_too(engine):
    """`engine.start(flow, {...})` is what other libraries take."""
    with pytest.raises(ConfigError, match=r"^inputs are given by their names: start\(flow, topic=\.\.\.\)"):
        engine.start(Flow("trip"), {"topic": "bags"})


def test_name_close_to_a_field_of_a_form_is_suggested(engine):
    """What was said would be lost, and an approval is not taken back; a name that is like no field is kept."""
    flow = Flow("letter")
    flow.approval("Send it?", name="sign_off", form={"note": "str?"})
    run = engine.start(flow)
    run.until_gate()

    with pytest.raises(ConfigError, match=r"^gate 'sign_off' has no field 'nota'; did you mean 'note'\?$"):
        run.approve(nota="gladly")
    run.approve(note="gladly", weather="fair")
    assert run.result(20)["approval"] == {"note": "gladly", "weather": "fair"}


def test_cancelled_run_is_said_to_be_cancelled(engine):
    """There is no failure that a stage would give a reason for."""
    flow = Flow("letter")
    flow.approval("Send it?", name="sign_off")
    run = engine.start(flow)
    run.until_gate()
    run.cancel()
    run.wait(20)
    with pytest.raises(RunFailedError, match=r"ended CANCELED \(somebody cancelled it\)$"):
        run.result()


def test_second_stage_of_a_name_in_one_file_is_warned_of(caplog):
    """A loop that makes stages of one name leaves the last one alone; in cells a stage is written again on purpose."""
    flow = Flow("trip")
    for place in ("oslo", "rome"):

        @flow.stage
        def fetch(place=place):
            return place

    assert [each.message.partition(" (line ")[0] for each in caplog.records] == ["stage 'fetch'"]
    assert "takes the place of the one in line" in caplog.text
    caplog.clear()
    cell = "@flow.stage\ndef fetch():\n    return 1\n"
    for _ in range(2):
        exec(compile(cell, "<cell>", "exec"), {"flow": flow})
    assert not caplog.records


def test_run_of_a_closed_engine_can_be_looked_at():
    """Its repr says why it says no more, and never raises."""
    with Engine(":memory:") as engine:
        run = engine.start(packing())
        run.wait(20)
    assert repr(run).startswith(f"Run({run.id}: database ")


def packing() -> Flow:
    """Make a flow of one stage."""
    flow = Flow("trip")
    flow.stage(name="pack")(lambda: "bags")
    return flow
