from types import SimpleNamespace

import pytest

from stabilize_nb.errors import ValueNotStorableError
from stabilize_nb.hitl import ApprovalTask, approve, get_signal, reject, send_signal
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import SignalStage


class Queue:
    def __init__(self):
        self.pushed = []

    def push(self, message):
        self.pushed.append(message)


def make_stage(signal=None, data=None, **context):
    if signal is not None:
        context |= {"_signal_name": signal, "_signal_data": data}
    return SimpleNamespace(ref_id="sign_off", context=context)


@pytest.mark.parametrize("signal", [None, "ping"])
def test_gate_waits_for_a_decision(signal):
    """Without a decision, and after a signal that is none, the gate is suspended."""
    assert ApprovalTask().execute(make_stage(signal, {})).status is WorkflowStatus.SUSPENDED


@pytest.mark.parametrize("data", [{"user": "alice"}, {}, None])
def test_approval_goes_on_with_its_data(data):
    """An approval is a success, with the data of the decision among the outputs."""
    result = ApprovalTask().execute(make_stage("approve", data))

    assert result.status is WorkflowStatus.SUCCEEDED
    assert result.outputs == {"approved": True, "approval": data or {}}


def test_rejection_fails_with_who_and_why():
    """A rejection ends the stage with a sentence that names the person and the reason."""
    result = ApprovalTask().execute(make_stage("reject", {"user": "bob", "reason": "too dear"}))

    assert result.status is WorkflowStatus.TERMINAL
    assert result.context["error"] == "approval 'sign_off' was rejected by bob: too dear"


def test_rejection_without_data_says_so():
    """A rejection by nobody for no reason is a whole sentence too."""
    result = ApprovalTask().execute(make_stage("reject"))

    assert result.context["error"] == ("approval 'sign_off' was rejected by somebody who gave no name: no reason given")


def test_rejection_may_let_the_workflow_go_on():
    """With approval_reject_continues what follows runs and finds approved False."""
    stage = make_stage("reject", {"user": "bob"}, approval_reject_continues=True)

    result = ApprovalTask().execute(stage)

    assert result.status is WorkflowStatus.FAILED_CONTINUE
    assert result.outputs == {"approved": False, "approval": {"user": "bob"}}


@pytest.mark.parametrize(("decide", "name"), [(approve, "approve"), (reject, "reject")])
def test_decision_is_a_persistent_signal(decide, name):
    """A decision is a signal to one stage that is kept until the gate is reached."""
    queue = Queue()

    decide(queue, "w1", "s1", {"user": "alice"})

    assert queue.pushed == [
        SignalStage(
            execution_id="w1",
            stage_id="s1",
            signal_name=name,
            signal_data={"user": "alice"},
            persistent=True,
        )
    ]


def test_decision_needs_no_data():
    """A decision without data carries an empty mapping."""
    queue = Queue()

    approve(queue, "w1", "s1")

    assert queue.pushed[0].signal_data == {}


def test_signal_may_be_transient():
    """A signal that is not persistent is sent as such."""
    queue = Queue()

    send_signal(queue, "w1", "s1", "ping", {"n": 1}, persistent=False)

    assert queue.pushed[0].signal_name == "ping"
    assert not queue.pushed[0].persistent


def test_data_that_json_cannot_hold_is_refused_at_once():
    """Data that cannot be stored is refused by the sender, with its path."""
    queue = Queue()

    with pytest.raises(ValueNotStorableError, match=r"data of signal 'approve'\.at"):
        approve(queue, "w1", "s1", {"at": object()})

    assert queue.pushed == []


def test_task_reads_the_signal_that_woke_it():
    """A task gets name and data of its signal, or None when it runs without one."""
    assert get_signal(make_stage("ping", {"n": 1})) == ("ping", {"n": 1})
    assert get_signal(make_stage()) is None
