"""`stabilize-nb doctor` and `monitor` on a PostgreSQL server: what they find, and what they leave as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from stabilize_nb import Engine, Flow
from stabilize_nb.cli.main import main
from tests.postgres import Served, shared_server


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with shared_server() as started:
        yield started


def told(code: int, *arguments: str) -> Any:
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.output)


def test_server_is_looked_through(server: Served) -> None:
    """Who works is counted; a healthy store is; what somebody has deleted is told, and nothing is written."""
    url = server.url("doctor")
    flow, asked = Flow("good"), Flow("asked")
    flow.stage(name="a")(lambda: 1)
    asked.approval("Good?", name="ok")
    with Engine(url) as engine:
        run = engine.start(flow)
        run.wait(30)
        engine.start(asked).until_gate(30)
        healthy = told(0, "doctor", url)
        seen = told(0, "monitor", "--db-url", url)
        connection = engine.database.writer
        engine.database.call_write(
            lambda _: connection.raw.execute("DELETE FROM event WHERE workflow_id = %s AND sequence = 2", [run.id])
        )
    found = told(1, "doctor", "--db-url", url)

    assert (healthy["findings"], healthy["ended"], healthy["unfinished"], healthy["workers"]) == ([], 1, 1, 1)
    assert "waits for a decision" in healthy["waits"][0]
    assert healthy["size"] > 0
    assert seen["counts"] == {"RUNNING": 1, "SUCCEEDED": 1}
    assert [each["alive"] for each in seen["processors"]] == [True]
    assert [finding["kind"] for finding in found["findings"]] == ["log"]
    assert found["workers"] == 0


def test_schema_without_a_store_is_left_so(server: Served) -> None:
    """It is not made by looking."""
    url = server.url("nothing")
    found = told(1, "doctor", url)

    assert "stabilize-nb mg-up makes one" in found["findings"][0]["what"]
    with psycopg.connect(url.partition("?")[0]) as root:
        there = root.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%nothing'").fetchone()
    assert there == (0,)


def test_server_that_is_not_there_is_told() -> None:
    """With exit code 2, and without the password."""
    result = CliRunner().invoke(main, ["doctor", "postgresql://me:geheim@127.0.0.1:1/x"])

    assert result.exit_code == 2
    assert "cannot be opened" in result.output
    assert "geheim" not in result.output
