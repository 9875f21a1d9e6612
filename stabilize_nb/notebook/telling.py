"""What a fact of the log says, as a sentence for people, and whom it names.

A fact of a kind that is not known here, of another version of the package, is told by its type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stabilize_nb.events.history import Entry, Names
from stabilize_nb.explain_stage import why
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.looks import LOOKS, shorten

#: Columns of a sentence.
COLUMNS: Final = 200
_PASSIVE: Final = frozenset({"CANCELED", "SKIPPED", "STOPPED"})
_FAILED: Final = frozenset({"task.failed", "task.retried", "stage.failed"})


def sentence_of(entry: Entry, names: Names) -> str:
    """Return what happened."""
    told = _Told(entry.data, entry.stage_id, names)
    say = _SENTENCES.get(entry.data["fact"])
    words = say(told) if say else ": ".join(filter(None, (told.stage, entry.type.replace(".", " "))))
    return shorten(words, COLUMNS)


def who_of(entry: Entry) -> str:
    """Return who ordered or decided it; nothing when the engine did."""
    data = entry.data.get("data")
    user = entry.data.get("user") or (data.get("user") if isinstance(data, dict) else None)
    return shorten(user) if isinstance(user, str) else ""


def failures_in(entries: Iterable[Entry]) -> list[int]:
    """Return the numbers of the facts at which something went wrong; a stage that fails with its task counts once."""
    found: list[Entry] = []
    for entry in entries:
        if entry.type in _FAILED and not (
            entry.type == "stage.failed" and found and (found[-1].stage_id, found[-1].at) == (entry.stage_id, entry.at)
        ):
            found.append(entry)
    return [entry.sequence for entry in found]


@dataclass(frozen=True, slots=True)
class _Told:
    """A fact, with the names of what it is about."""

    data: Mapping[str, Any]
    stage_id: str | None
    names: Names

    def __getitem__(self, field: str) -> Any:
        return self.data.get(field)

    @property
    def stage(self) -> str:
        return self.ref(self.stage_id)

    def ref(self, stage_id: str | None) -> str:
        return self.names.refs.get(stage_id or "", stage_id or "")

    @property
    def task(self) -> str:
        """The stage, with its task when that is called otherwise."""
        task = self.names.task(self.stage_id or "", self["position"])
        return self.stage if task is None or task == self.stage else f"{self.stage} ({task})"

    @property
    def attempt(self) -> str:
        return f", attempt {self['attempt']}" if (self["attempt"] or 0) > 1 else ""

    def word(self, status: str) -> str:
        known = WorkflowStatus.__members__.get(status)
        return LOOKS[known].word if known else status

    def because(self, field: str) -> str:
        return f": {self[field]}" if self[field] else ""


def _said(mapping: Any) -> str:
    """Say what somebody decided or put out, but for who it was."""
    if not isinstance(mapping, dict):
        return ""
    parts = [f"{key}={value!r}" for key, value in mapping.items() if key != "user"]
    return f" with {', '.join(parts)}" if parts else ""


def _token(told: _Told) -> str:
    via, stage = told.ref(told["via"]), told.stage
    words = {"LIVE": f"{via} led to {stage}", "DEAD": f"{via} does not lead to {stage}"}
    return words.get(told["token"], f"{via} was broken off before {stage}") + (
        ", kept for a restart" if told["held"] else ""
    )


def _fired(told: _Told) -> str:
    triggers = ", ".join(told.ref(each) for each in told["triggers"] or ())
    return f"{told.ref(told['row'])} can start" + (f" after {triggers}" if triggers else "")


def _passed(told: _Told) -> str:
    return f"{told.stage} is not run this time"


def _ended(told: _Told) -> str:
    reason = f": {why(told['reason'])}" if told["reason"] else told.because("error")
    was = "was " if told["status"] in _PASSIVE else ""
    return f"{told.stage} {was}{told.word(told['status'])}{reason}"


def _task_ended(told: _Told) -> str:
    if told["status"] == "REDIRECT":
        return f"{told.task} asks to jump"
    outputs = list(told["outputs"] or ())
    gave = f", put out {', '.join(map(str, outputs))}" if outputs else ""
    return f"task of {told.task} {told.word(told['status'])}{told.attempt}{told.because('error')}{gave}"


def _retried(told: _Told) -> str:
    return f"attempt {told['attempt']} of {told.task} failed and will be repeated{told.because('error')}"


def _delivered(told: _Told) -> str:
    words = {"approve": "was approved", "reject": "was rejected", "deadline": "ran out of time"}
    name = told["name"]
    return f"{told.stage} {words.get(name, f'got the signal {name!r}')}{_said(told['data'])}"


def _waits(told: _Told) -> str:
    kind, _, name = (told["waits"] or "").partition(":")
    words = {
        "": "waits no longer", "mutex": f"waits for the lock {name}", "milestone": "waits for its milestone",
        "additions": "waits for further instances",
    }  # fmt: skip
    return f"{told.stage} {words.get(kind, 'waits for its turn')}"


def _released(told: _Told) -> str:
    if told["to_stage"]:
        return f"{told.stage} gave {_claim(told)} on to {told.ref(told['to_stage'])}"
    return f"{told.stage} gave {_claim(told)} back"


def _claim(told: _Told) -> str:
    kind, _, name = told["claim"].partition(":")
    return f"the lock {name}" if kind == "mutex" else f"its turn in the choice {name.rpartition(':')[2]}"


_PHASES: Final = {
    "STAGE_BEFORE": "begins with what runs before it", "STAGE_AFTER": "goes on with what runs after it",
    "STAGE_FAILURE": "goes on with what runs when it failed",
}  # fmt: skip

#: By the name of the fact.
_SENTENCES: Final[Mapping[str, Callable[[_Told], str]]] = {
    "WorkflowCreated": lambda _: "the run was stored",
    "WorkflowStarted": lambda _: "the run started",
    "WorkflowPaused": lambda _: "the run was paused",
    "WorkflowResumed": lambda _: "the run went on after a pause",
    "WorkflowEnding": lambda told: f"the run is going to end as {told.word(told['status'])}{told.because('reason')}",
    "WorkflowEnded": lambda told: f"the run {told.word(told['status'])}{told.because('error')}",
    "WorkflowRestarted": lambda _: "the run goes on after its end",
    "WorkflowForked": lambda told: f"forked from fact {told['until']} of run {told['run']}",
    "OutputsReplaced": lambda told: f"{told.stage} counts as having put out something else",
    "WorkflowBuffered": lambda _: "the run waits for a slot",
    "TokenArrived": _token,
    "JoinFired": _fired,
    "JoinPassed": _passed,
    "StageStarted": lambda told: f"{told.stage} started",
    "StageEnded": _ended,
    "StageSuspended": lambda told: f"{told.stage} waits",
    "StagePaused": lambda told: f"{told.stage} rests while the run is paused",
    "StageResumed": lambda told: f"{told.stage} went on",
    "StageReset": lambda told: f"{told.stage} was reset for round {(told['generation'] or 0) + 1}",
    "StageRetired": lambda told: f"{told.stage} was taken away by a reset",
    "StageWaits": _waits,
    "PhaseEntered": lambda told: f"{told.stage} {_PHASES.get(told['phase'] or '', 'goes on with its own tasks')}",
    "ContextUpdated": lambda told: f"{told.stage} was told {', '.join(told['context'] or ())}",
    "TaskStarted": lambda told: f"task of {told.task} began{told.attempt}",
    "TaskEnded": _task_ended,
    "TaskRetried": _retried,
    "TaskLost": lambda told: f"{told.task} waits for somebody to say what became of it: {told['error']}",
    "TaskSettled": lambda told: f"what became of {told.task} was settled{_said(told['data'])}",
    "TaskPrinted": lambda told: f"{told.task} printed or displayed something",
    "TaskPolled": lambda told: f"{told.task} asked to be called again",
    "SignalBuffered": lambda told: f"the signal {told['name']!r} is kept for {told.stage}{_said(told['data'])}",
    "SignalDelivered": _delivered,
    "SignalDropped": lambda told: f"the signal {told['name']!r} for {told.stage} found nobody waiting",
    "SignalRefused": lambda told: f"the decision {told['name']!r} had no effect on {told.stage}: {told['reason']}",
    "JumpExecuted": lambda told: f"{told.stage} jumped to {told.ref(told['target'])}",
    "Claimed": lambda told: f"{told.stage} took {_claim(told)}",
    "Released": _released,
    "ChoiceMade": lambda told: f"the choice fell on {told.stage}",
    "PermitTaken": lambda told: f"{told.stage} has its turn under the limit {told['limit']}",
    "AttributesSet": lambda told: f"{told.stage} set" + _said(told["attributes"]).removeprefix(" with"),
    "SlotTaken": lambda _: "the run took a slot",
    "SlotReleased": lambda _: "the run gave its slot back",
    "SlotDeclined": lambda _: "the run waits for a slot no longer",
    "InstanceAdded": lambda told: f"{told.ref(told['row'])} was added",
    "InstanceRefused": lambda told: f"{told.stage} took no further instance{told.because('reason')}",
    "ActivityClosed": lambda told: f"{told.stage} takes no further instances",
    "ConditionFailed": lambda told: f"a condition of {told.stage} counts as false: {told['error']}",
    "CodeReplaced": lambda told: f"{told.stage} runs other code from now on",
    "ChildStarted": lambda told: f"{told.stage} started the run {told['child']}",
    "ResultDiscarded": lambda told: f"a result of {told.task} came too late{told.because('reason')}",
}
