"""Adapters of other engines, each run in an environment of its own; none of them is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """An engine from PyPI. `stores` are those that it is measured on; `imports` what its import time is of."""

    script: str
    requires: tuple[str, ...]
    imports: str
    stores: tuple[str, ...] = ("full", "normal")

    def python(self, environments: Path) -> Path:
        """Return the interpreter of its environment."""
        return environments / self.script / "bin" / "python"


OTHERS = {
    "stabilize": Other(
        script="peer_stabilize", requires=("stabilize==0.33.1",), imports="stabilize", stores=("normal",)
    ),
    "dbos": Other(
        script="peer_dbos", requires=("dbos==3.4.0", "psycopg[binary]==3.3.9"), imports="dbos",
        stores=("full", "normal", "postgresql"),
    ),
    "langgraph": Other(
        script="peer_langgraph", imports="langgraph.graph", stores=("full", "normal", "postgresql"),
        requires=(
            "langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2", "langgraph-checkpoint-postgres==3.2.0",
            "psycopg[binary,pool]==3.3.9",
        ),
    ),
    "burr": Other(script="peer_burr", requires=("apache-burr[tracking]==0.43.0",), imports="burr.core"),
}  # fmt: skip
