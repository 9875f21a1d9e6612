"""StageGraphBuilder: stages put together one by one; the hooks of a StageDefinitionBuilder write into one."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.stage import StageExecution

if TYPE_CHECKING:
    from stabilize_nb.models.stage import SyntheticStageOwner


class StageGraphBuilder:
    """Collects stages and the order among them.

    With `parent` and `owner` every stage that is added becomes a synthetic stage of that parent and owner, whatever
    it was made as: it is the hook that decides. A ref_id that was told from the name follows the owner, and a ref_id
    that is taken gets a number.
    """

    def __init__(self, parent: StageExecution | None = None, owner: SyntheticStageOwner | None = None) -> None:
        if (parent is None) != (owner is None):
            msg = "a StageGraphBuilder for synthetic stages needs both parent and owner, another one neither"
            raise ConfigError(msg)
        self._parent = parent
        self._owner = owner
        self._stages: list[StageExecution] = []
        self._renamed: dict[str, str] = {}

    def add(self, stage: StageExecution) -> StageExecution:
        """Add a stage (once) and return it."""
        if not any(known is stage for known in self._stages):
            if self._parent is not None and self._owner is not None:
                self._adopt(stage, self._parent, self._owner)
            stage.ref_id = self._free(stage.ref_id)
            self._stages.append(stage)
        return stage

    def connect(self, before: StageExecution, after: StageExecution) -> StageExecution:
        """Let `after` wait for `before`, both of which are added, and return `after`."""
        self.add(before)
        self.add(after).requisite_stage_ref_ids.add(before.ref_id)
        return after

    def append(self, stage: StageExecution) -> StageExecution:
        """Add a stage that waits for the one that was added last, and return it."""
        return self.connect(self._stages[-1], stage) if self._stages else self.add(stage)

    def build(self) -> list[StageExecution]:
        """Return the stages in the order in which they were added."""
        for stage in self._stages:
            required = stage.requisite_stage_ref_ids
            stage.requisite_stage_ref_ids = {self._renamed.get(ref_id, ref_id) for ref_id in required}
        return list(self._stages)

    def _adopt(self, stage: StageExecution, parent: StageExecution, owner: SyntheticStageOwner) -> None:
        if stage.parent_stage_id not in (None, parent.id):
            msg = (
                f"stage {stage.ref_id!r} was made as a synthetic stage of another stage than {parent.ref_id!r}; "
                "give create_synthetic the stage that the hook was called with as parent"
            )
            raise ConfigError(msg)
        made_as = _told_from_name(stage, parent, stage.synthetic_stage_owner or owner)
        if stage.ref_id in ("", made_as):
            stage.ref_id = _told_from_name(stage, parent, owner)
            self._renamed[made_as] = stage.ref_id
        stage.parent_stage_id = parent.id
        stage.synthetic_stage_owner = owner

    def _free(self, ref_id: str) -> str:
        taken = {stage.ref_id for stage in self._stages}
        numbered = (f"{ref_id}_{number}" for number in count(2))
        return ref_id if ref_id not in taken else next(name for name in numbered if name not in taken)


def _told_from_name(stage: StageExecution, parent: StageExecution, owner: SyntheticStageOwner) -> str:
    return StageExecution.create_synthetic(stage.type, stage.name, parent, owner).ref_id
