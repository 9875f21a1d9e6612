"""How many instances a stage has, and when they count as done (WCP-12 to 15, 26, 27, 34 to 36)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: In the context of instances and of their join: the ref_id of the parent.
PARENT_REF_ID: Final = "_mi_parent_ref_id"
#: In the context of instances: which one it is, from 0, and how many were made with it.
INSTANCE_INDEX: Final = "_mi_instance_index"
INSTANCE_COUNT: Final = "_mi_instance_count"
#: The type of the join of an activity.
JOIN_TYPE: Final = "mi_join"
_JOIN_SUFFIX: Final = f"_{JOIN_TYPE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiInstanceConfig:
    """Multi-instance settings of a stage, the parent of its instances. The builders in `stages` fill it in.

    `instance` is what an instance that is made while the workflow runs looks like: `type`, `name` (a prefix), `tasks`
    (a list of [name, implementing class]) and `context`. The join is the stage `<parent>_mi_join`.
    """

    count: int = 0
    count_from_context: str | None = None  # the number is read when the parent completes
    collection_from_context: str | None = None  # one instance for each item, read when the parent completes
    item_context_key: str = "item"
    allow_dynamic: bool = False  # AddMultiInstance is accepted while the activity is open
    sync_on_complete: bool = True
    join_threshold: int = 0  # 0: all
    cancel_remaining: bool = False
    completion_condition: str | None = None  # over completed, total, outputs and what the parent sees (WCP-36)
    instance: dict[str, Any] = field(default_factory=dict)


def join_ref(parent: str) -> str:
    """Return the ref_id of the join of an activity."""
    return f"{parent}{_JOIN_SUFFIX}"


def parent_of_join(ref: str) -> str:
    """Return the ref_id of the parent whose join a stage has the name of; nothing for other names."""
    return ref.removesuffix(_JOIN_SUFFIX) if ref.endswith(_JOIN_SUFFIX) else ""


def instance_ref(parent: str, index: int) -> str:
    """Return the ref_id of an instance."""
    return f"{parent}_instance_{index}"


def is_instance(context: Mapping[str, Any]) -> bool:
    """Whether a stage with this context is an instance, and not the join of an activity."""
    return INSTANCE_INDEX in context
