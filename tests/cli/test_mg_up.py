"""`mg-up` is all or nothing: killed before any statement, the same command does the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.upgrades import STEPS
from tests.postgres import shared_server


def killed(template: str) -> dict[str, int]:
    """Return for each earlier version how many deaths were survived."""
    command = [sys.executable, "-m", "tests.cli.upgrades", template]
    told = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert told.returncode == 0, told.stderr
    found: dict[str, int] = json.loads(told.stdout)
    assert [*found] == [str(version) for version in range(len(STEPS))]
    return found


def test_file_is_brought_up_whenever_the_command_was_killed(tmp_path: Path) -> None:
    """From nothing and from every earlier schema, with the runs that are there."""
    deaths = killed(f"sqlite:///{tmp_path}/{{}}.db")

    assert deaths["0"] > 40
    assert min(deaths.values()) > 8


def test_schema_of_a_server_is_brought_up_whenever_the_command_was_killed() -> None:
    """The same on PostgreSQL."""
    with shared_server() as server:
        deaths = killed(server.url("up") + "{}")

    assert min(deaths.values()) > 8
