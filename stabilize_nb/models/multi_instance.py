"""How many instances a stage has, and when they count as done (WCP-12 to 15, 26, 27, 34 to 36)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiInstanceConfig:
    """Multi-instance settings of a stage, as the reference documents name them."""

    count: int = 0
    count_from_context: str | None = None
    collection_from_context: str | None = None
    item_context_key: str = "item"
    allow_dynamic: bool = False
    sync_on_complete: bool = True
    join_threshold: int = 0
    cancel_remaining: bool = False
