"""Tools of an MCP server that is a process of its own."""

import asyncio
import sys

import mcp
import pytest
from mcp.server.mcpserver import MCPServer

from stabilize_nb import Engine
from stabilize_nb.errors import ConfigError, PreconditionError
from stabilize_nb.llm import AgentLoopTask, LLMClient, ToolContext, ToolRegistry, tool
from stabilize_nb.llm.mcp import KEY, mcp_tools
from stabilize_nb.queue.processor.loop import wait_on_loop
from stabilize_nb.testing import ScriptedModel, ToolCall
from tests.makers import stage, workflow

SERVER = f'''
from pathlib import Path
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("notes")

@server.tool()
def note(text: str, context: Context, times: int = 1) -> str:
    """Write a note."""
    with Path("notes").open("a") as file:
        file.write(f"{{text}} {{(context.request_context.meta or {{}}).get({KEY!r}, '-')}}\\n" * times)
    return f"noted {{text}}"

@server.tool(name="strange.name")
def strange() -> list:
    raise ToolError("nothing there")

@server.tool()
def picture() -> Image:
    return Image(data=b"png", format="png")

server.run("stdio")
'''


@pytest.fixture
def server(tmp_path):
    """Return how the server is begun."""
    (tmp_path / "server.py").write_text(SERVER)
    return mcp.StdioServerParameters(command=sys.executable, args=["server.py"], cwd=str(tmp_path))


def test_tools_of_a_server_are_those_of_a_registry(server, tmp_path):
    """Names, words and schemas are the server's; results and what goes wrong are text for a model."""
    with mcp_tools(server) as tools:
        schema = tools.schemas()[0]["function"]
        assert (schema["name"], schema["description"]) == ("note", "Write a note.")
        assert set(schema["parameters"]["properties"]) == {"text", "times"}
        assert "$ref" not in str(tools.schemas("ollama"))

        assert tools.call("note", {"text": "one", "times": 2}) == "noted one"
        assert asyncio.run(tools.acall("note", {"text": "two"}, ToolContext(idempotency_key="k"))) == "noted two"
        assert "nothing there" in tools.call("strange_name", {})
        assert tools.call("strange_name", {}).startswith("ERROR: ")
        assert "times" in tools.call("note", {"text": "three", "times": "many"})
        assert tools.call("picture", {}) == "(image that is not shown)"
        assert tools.call("nothing", {}).startswith("ERROR: no tool is named 'nothing'")
    assert (tmp_path / "notes").read_text() == "one -\none -\ntwo k\n"


def test_agent_calls_tools_of_two_servers_and_its_own(server, tmp_path):
    """Registries are joined, a prefix tells servers apart, and calls have the idempotency key of the journal."""

    @tool
    def own(text: str) -> str:
        return text.upper()

    calls = [ToolCall(name=name, arguments={"text": "x"}) for name in ("note", "other_note", "own")]
    with (
        mcp_tools(server, ToolRegistry([own])) as tools,
        mcp_tools(server, tools, prefix="other_", on_crash="ask"),
        ScriptedModel([*calls, "done"]) as model,
        Engine(":memory:") as engine,
    ):
        engine.registry.register("agent", AgentLoopTask(LLMClient("any", base_url=model.url), tools))
        run = engine.start(workflow(stage("a", task="agent", context={"prompt": "Go."})))
        run.wait(30)
        outputs = run.workflow.stages[0].outputs

    assert outputs["answer"] == "done"
    assert [each["result"] for each in outputs["tool_invocations"]] == ["noted x", "noted x", "X"]
    keys = [line.split()[1] for line in (tmp_path / "notes").read_text().splitlines()]
    assert [key.rpartition(":")[2] for key in keys] == ["1", "2"]


def test_two_tools_of_one_name_are_refused():
    """The second server is not taken for the first; both are in this process."""
    servers = [MCPServer(name) for name in ("one", "two")]
    for each in servers:
        each.add_tool(lambda: "said", name="say", description="Say it.")

    with (
        mcp_tools(servers[0]) as tools,
        pytest.raises(ConfigError, match="two tools are named 'say'"),
        mcp_tools(servers[1], tools),
    ):
        pass
    with mcp_tools(servers[0]) as tools, mcp_tools(servers[1], tools, prefix="two_"):
        assert [tools.call(name, {}) for name in ("say", "two_say")] == ["said", "said"]


@pytest.mark.parametrize(
    ("command", "timeout_s", "said"),
    [
        (["no-such-program"], 30, "gives no tools: "),
        ([sys.executable, "-c", "pass"], 30, "gives no tools: "),
        (["sleep", "60"], 0.5, "has not answered within 0.5 s"),
    ],
    ids=["not there", "ends at once", "says nothing"],
)
def test_server_that_gives_no_tools_is_told_of(command, timeout_s, said):
    """What went wrong is one sentence."""
    server = mcp.StdioServerParameters(command=command[0], args=command[1:])

    with pytest.raises(ConfigError, match=said), mcp_tools(server, timeout_s=timeout_s):
        pass


def test_connecting_in_a_body_is_refused():
    """It would wait for the loop on which it runs."""

    async def body():
        with mcp_tools("http://127.0.0.1:9/mcp"):
            pass

    with pytest.raises(PreconditionError, match="connect outside of bodies"):
        wait_on_loop(body())
