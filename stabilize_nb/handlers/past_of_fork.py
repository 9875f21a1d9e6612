"""The past of a fork: the log of another run, told of rows of its own.

Every id of a row of that run becomes one of the fork; what people and tasks wrote stays as it is. Locks, slots and
permits are the store's, so what the other run did with them is left out: whatever waited for one is not finished,
and will ask for it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.core import facts as f
from stabilize_nb.core.draft import Draft, Env
from stabilize_nb.core.evolve import evolve, genesis
from stabilize_nb.core.rows import ADDITIONS, MILESTONE, activation_id
from stabilize_nb.core.view import ArrivalKey, Arrivals, Everything, StageKey
from stabilize_nb.handlers.ending import send_tokens
from stabilize_nb.handlers.instances import instance_id
from stabilize_nb.models.ids import derived_id
from stabilize_nb.queue.messages import StartStage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stabilize_nb.core.view import View

#: Fields of facts that hold ids of rows, alone or inside lists and mappings.
_IDS = ("stage", "row", "via", "source", "triggers", "inherited", "signal", "heirs", "holder")
#: What happened to things of the store.
_SHARED = {kind.__name__ for kind in (f.SlotTaken, f.SlotReleased, f.SlotDeclined, f.WorkflowBuffered, f.PermitTaken)}
_CLAIMS = {kind.__name__ for kind in (f.Claimed, f.Released, f.ChoiceMade)}
#: What makes rows.
_MAKERS = {kind.__name__ for kind in (f.JoinFired, f.InstanceAdded, f.SignalBuffered)}
#: Rows that are the workflow's own.
_ROWS = {"stage", "task", "round", "arrival", "signal"}
#: Under which key a definition says which run it was forked from.
FORKED_FROM = "forked_from"
#: Keys by which the context of a child workflow names its parent.
PARENT_KEYS = ("_parent_workflow_id", "_parent_stage_id", "_parent_generation")


class Told(NamedTuple):
    """A fact of a fork's past, its data, and when it happened (ms since the epoch)."""

    fact: f.Fact
    data: dict[str, Any]
    at: int


class ForkedPast:
    """Tells the facts of a run of a fork. `view` is what they come to, and complete.

    `ids`: row of the run -> row of the fork, and the same of the run itself; `definition` is what the fork is created
    with, and `origin` what that says about where it comes from.
    """

    def __init__(self, definition: Mapping[str, Any], ids: Mapping[str, str], origin: Mapping[str, Any]) -> None:
        self.ids = dict(ids)
        self.origin = dict(origin)
        self.definition = self._define(definition)
        self.view: View = genesis(self.definition)
        self.told: list[Told] = []
        self._choices = f"choice:{definition['id']}:"
        self._given: list[StartStage] = []

    def tell(self, data: Mapping[str, Any], at: int) -> None:
        """Take over the next fact."""
        created = self.view.head.sequence == 0
        own = f.to_data(f.WorkflowCreated(self.definition)) if created else self._translated(data)
        if own is None:
            return
        fact = f.from_data(own)
        evolve(self.view, fact, at)
        self.told.append(Told(fact, own, at))
        self._note_outcomes(fact)

    def known(self) -> dict[Any, Any]:
        """Return all rows, and what a store with them answers: which there are, and which outcomes each stage has."""
        rows = {key: row for key, row in self.view.changed.items() if row is not None and key.kind in _ROWS}
        stages = sorted((row for key, row in rows.items() if key.kind == "stage"), key=lambda row: row.ordinal)
        found: dict[Any, list[Any]] = {Arrivals(row.id, row.generation, 0): [] for row in stages}
        for key, row in rows.items():
            if key.kind == "arrival" and (sort := Arrivals(row.stage_id, row.generation, 0)) in found:
                found[sort].append(key)
        outcomes = {sort: tuple(keys) for sort, keys in found.items()}
        return {**rows, **outcomes, Everything(): tuple(StageKey(row.id) for row in stages)}

    def owed(self) -> Iterable[StartStage]:
        """Return the outcomes of edges that were given and have not arrived."""
        for message in self._given:
            target = self.view.get(StageKey(message.stage_id))
            if target.via == message.via and message.number == 1:
                continue
            key = ArrivalKey(message.stage_id, target.generation, message.number, str(message.via))
            source = self.view.get(StageKey(str(message.via)))
            if self.view.get(key) is None and source.generation == message.via_generation:
                yield message

    def _define(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        context = {key: value for key, value in definition["context"].items() if key not in PARENT_KEYS}
        stages = [self._define_stage(stage) for stage in definition["stages"]]
        own = {"id": self.ids[definition["id"]], "context": context, "stages": stages, FORKED_FROM: self.origin}
        return {**definition, **own}

    def _define_stage(self, stage: Mapping[str, Any]) -> dict[str, Any]:
        spec = dict(stage["spec"])
        if "parent_stage_id" in spec:
            spec["parent_stage_id"] = self.ids[spec["parent_stage_id"]]
        return {**stage, "id": self.ids[stage["id"]], "spec": spec}

    def _translated(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the data of a fact as the fork tells it; None for what it leaves out."""
        name = data["fact"]
        if name in _SHARED:
            return None
        if name == f.StageWaits.__name__ and data["waits"] not in ("", MILESTONE, ADDITIONS):
            return None
        if name in _CLAIMS and not data["claim"].startswith(self._choices):
            return None
        if name in _MAKERS:
            self._learn(f.from_data({**data}))
        fields = {key: self._renamed(data[key]) for key in _IDS if key in data}
        if "claim" in data:
            fields["claim"] = f"choice:{self.view.head.id}:{data['claim'].removeprefix(self._choices)}"
        return {**data, **fields}

    def _learn(self, fact: f.Fact) -> None:
        """Know the row that a fact makes by the name that the fork would give it."""
        match fact:
            case f.JoinFired(stage=stage, row=row, activation=activation) if row not in self.ids:
                self.ids[row] = activation_id(self.view.get(StageKey(self.ids[stage])), activation)
            case f.InstanceAdded(stage=stage, row=row, index=index):
                self.ids[row] = instance_id(self.view.get(StageKey(self.ids[stage])), index)
            case f.SignalBuffered(stage=stage, signal=signal):
                self.ids[signal] = derived_id(self.ids[stage], "signal", self.view.head.sequence)
            case _:
                pass

    def _renamed(self, value: Any) -> Any:
        match value:
            case str():
                return self.ids.get(value, value)
            case list():
                return [self._renamed(each) for each in value]
            case dict():
                return {key: self._renamed(each) for key, each in value.items()}
            case _:
                return value

    def _note_outcomes(self, fact: f.Fact) -> None:
        if not isinstance(fact, f.StageEnded | f.JoinPassed):
            return
        draft = Draft(self.view, Env(now=0))
        match fact:
            case f.StageEnded(stage=stage, token=token, not_taken=not_taken) if token is not None:
                send_tokens(draft, draft.stage(draft.stage(stage).base_id), stage, token, not_taken)
            case f.JoinPassed(stage=stage, token=token):
                send_tokens(draft, draft.stage(stage), stage, token)
            case _:
                return
        self._given.extend(send.message for send in draft.sends if isinstance(send.message, StartStage))
