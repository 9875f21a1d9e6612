"""Requests in a %%workflow cell."""

from stabilize_nb import Engine
from tests.tasks.http_server import Server

CELL = """%%workflow asking -q
import http as mine

weather = http(here + "/echo/{city}", parse_json=True, allow_private_urls=True)

@stage
def told(weather):
    return weather["body_json"]["path"]
"""


def test_request_has_the_name_of_its_variable(notebook):
    """`http(...)` is a stage of the cell; what the user has under that name is theirs again afterwards."""
    with Server() as server, Engine(":memory:") as engine:
        notebook.names["here"] = server.url("").rstrip("/")
        assert notebook.run(CELL).error is None
        run = engine.start(notebook.names["asking"], city="Oslo")
        assert run.result(20) == "/echo/Oslo"
    assert "http" not in notebook.names
