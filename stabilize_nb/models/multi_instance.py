"""How many instances a stage has, and when they count as done (WCP-12 to 15, 26, 27, 34 to 36)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
