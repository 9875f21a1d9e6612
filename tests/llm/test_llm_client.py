import json
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from stabilize_nb.errors import ConfigError, PermanentError, TransientError
from stabilize_nb.llm import ChatMessage, ChatResponse, LLMClient, ToolCall
from stabilize_nb.llm import http as http_module
from stabilize_nb.testing import Failure, Reply, ScriptedModel

APIS = ["openai", "ollama"]
KEY = "sk-very-secret-0123456789"
QUESTION = [ChatMessage("user", "What is the balance?")]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("OPENAI_API_KEY", "OLLAMA_API_KEY", "OPENAI_BASE_URL", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)


def ask(script, api="openai", messages=QUESTION, **options):
    with ScriptedModel(script) as model:
        answer = LLMClient("glm", base_url=model.url, api=api).chat(messages, **options)
    return answer, model.requests


@pytest.mark.parametrize("api", APIS)
def test_text_and_usage_arrive(api):
    """A text answer is the content of the response, with the tokens counted by the server."""
    answer, [request] = ask(["It is 12 EUR."], api)

    assert isinstance(answer, ChatResponse)
    assert answer.content == "It is 12 EUR."
    assert answer.tool_calls == ()
    assert answer.usage["completion_tokens"] == 4
    assert request.body["model"] == "glm"
    assert request.body["messages"] == [{"role": "user", "content": "What is the balance?"}]
    assert json.loads(json.dumps(answer.raw)) == answer.raw


@pytest.mark.parametrize("api", APIS)
def test_tool_calls_arrive_as_objects(api):
    """Tool calls have their name and their arguments as a mapping in either format."""
    call = ToolCall(name="account_balance", arguments={"user_id": "u_42"})

    answer, _ = ask([Reply(text="Let me see.", tool_calls=[call])], api)

    assert answer.content == "Let me see."
    assert answer.tool_calls == (ToolCall(name="account_balance", arguments={"user_id": "u_42"}, id="call_0"),)


def test_openai_request_holds_arguments_as_text():
    """A conversation with a tool call goes to an OpenAI server with JSON text and the id of the call."""
    call = ToolCall(name="f", arguments={"a": 1}, id="c1")
    turns = [*QUESTION, ChatMessage("assistant", "", [call]), ChatMessage("tool", "2", (), "c1", "f")]

    _, [request] = ask(["done"], messages=turns, temperature=0.5)

    assert request.path == "/v1/chat/completions"
    assert request.body["temperature"] == 0.5
    assert request.body["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
            ],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]


def test_ollama_request_holds_arguments_as_object():
    """A conversation with a tool call goes to Ollama with an object and the name of the tool."""
    call = ToolCall(name="f", arguments={"a": 1}, id="c1")
    turns = [*QUESTION, ChatMessage("assistant", "", [call]), ChatMessage("tool", "2", (), "c1", "f")]

    _, [request] = ask(["done"], "ollama", messages=turns, temperature=0.5)

    assert request.path == "/api/chat"
    assert request.body["stream"] is False
    assert request.body["options"] == {"temperature": 0.5}
    assert request.body["messages"][1]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": 1}}
    assert request.body["messages"][1]["content"] == ""
    assert request.body["messages"][2] == {
        "role": "tool",
        "content": "2",
        "tool_call_id": "c1",
        "tool_name": "f",
    }


def test_tools_and_another_model_are_sent():
    """Tool schemas go to the server as they are, and the model of one call replaces the client's."""
    schema = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}

    _, [request] = ask(["done"], tools=[schema], model="other")

    assert request.body["tools"] == [schema]
    assert request.body["model"] == "other"


def test_mappings_are_messages_too():
    """A message may be a mapping in OpenAI's form; what only the server knows is passed on."""
    messages = [{"role": "user", "content": "hi", "images": ["aGk="]}]

    _, [request] = ask(["done"], "ollama", messages=messages)

    assert request.body["messages"] == messages


def test_message_without_role_is_refused():
    """A message that is none is refused before anything is sent."""
    with pytest.raises(PermanentError, match="'role' and 'content'"):
        LLMClient("glm").chat(["hello"])


def test_arguments_that_are_no_json_stay_text():
    """Arguments that the model garbled are kept as its own text, so that it can be told."""
    garbled = ToolCall(name="f", arguments='{"a": ')

    answer, _ = ask([garbled])

    assert answer.tool_calls[0].arguments == '{"a": '


@pytest.mark.parametrize("text", ["", "null", "{}"])
def test_missing_arguments_are_no_arguments(text):
    """Empty arguments in any spelling are an empty mapping."""
    answer, _ = ask([ToolCall(name="f", arguments=text)])

    assert answer.tool_calls[0].arguments == {}


def test_answer_can_be_stored_whatever_the_model_wrote():
    """Half a surrogate pair, a NUL and a huge number are replaced, so that a store takes the answer."""
    message = '{"role": "assistant", "content": "a\\ud83db\\u0000c"}'
    body = '{"choices": [{"message": ' + message + '}], "n": 1' + "0" * 30 + ', "x": NaN}'

    answer, _ = ask([Failure(status=200, body=body)])

    assert answer.content == "a\ufffdb\ufffdc"
    assert answer.raw["n"] == "1" + "0" * 30
    assert answer.raw["x"] is None


def test_parts_of_content_are_joined():
    """Content in parts, as some servers send it, is one text."""
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    body = json.dumps({"choices": [{"message": {"content": parts}}]})

    answer, _ = ask([Failure(status=200, body=body)])

    assert answer.content == "one two"


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    name: str
    failure: Failure
    code: int
    retry_after: float | None = None


PAST = "Mon, 01 Jan 2001 00:00:00 GMT"
BUSY = [
    Busy(name="limit", failure=Failure(status=429, retry_after=7), code=429, retry_after=7.0),
    Busy(name="limit without header", failure=Failure(status=429), code=429),
    Busy(name="broken", failure=Failure(status=500, body=""), code=500),
    Busy(name="overloaded", failure=Failure(status=503, retry_after="0.25"), code=503, retry_after=0.25),
    Busy(name="slow", failure=Failure(status=408), code=408),
    Busy(name="past", failure=Failure(retry_after=PAST), code=500, retry_after=0.0),
    Busy(name="no number", failure=Failure(retry_after="soon"), code=500),
    Busy(name="not finite", failure=Failure(retry_after="inf"), code=500),
    Busy(name="a year", failure=Failure(retry_after=31_536_000), code=500, retry_after=86_400.0),
]  # fmt: skip


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("case", BUSY, ids=lambda case: case.name)
def test_busy_server_is_a_transient_error(case, api):
    """A status that says "not now" is a TransientError with the seconds that the server asks to wait."""
    with pytest.raises(TransientError) as caught:
        ask([case.failure], api)

    assert caught.value.code == case.code
    assert caught.value.retry_after == case.retry_after


def test_retry_after_may_be_a_date():
    """A date in Retry-After becomes the seconds until then."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)

    with pytest.raises(TransientError) as caught:
        ask([Failure(status=503, retry_after=date)])

    assert 60 < caught.value.retry_after <= 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    status: int
    says: tuple[str, ...]
    body: str = field(default='{"error": {"message": "that is not so", "type": "invalid_request_error"}}')


REFUSED = [
    Refused(status=400, says=("answered 400", "'glm'", "that is not so", "correct the request")),
    Refused(status=401, says=("that is not so", "_API_KEY")),
    Refused(status=404, says=("no such model", "base_url"), body='{"error": "no such model"}'),
    Refused(status=307, says=("answered 307",), body=""),
    Refused(status=422, says=("<b>odd</b> page",), body="<b>odd</b>\n   page"),
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.status)
def test_refused_request_is_a_permanent_error(case, api):
    """A refusal is a PermanentError whose one line says what, where and what to do."""
    with pytest.raises(PermanentError) as caught:
        ask([Failure(status=case.status, body=case.body)], api)

    text = str(caught.value)
    assert "http://127.0.0.1:" in text
    assert "\n" not in text
    for words in case.says:
        assert words in text


@pytest.mark.parametrize("body", ["<html>", "", '{"choices": []}', '{"message": "hi"}', "[1]", '{"error": "full"}'])
@pytest.mark.parametrize("api", APIS)
def test_answer_that_is_no_completion_is_transient(body, api):
    """A success without a completion in it is a TransientError."""
    with pytest.raises(TransientError, match="a chat completion is expected"):
        ask([Failure(status=200, body=body)], api)


def test_unreachable_server_is_a_transient_error():
    """A server that does not listen is a TransientError that names the address and the model."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = LLMClient("glm", base_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(TransientError, match=r"no answer from http://127\.0\.0\.1:\d+ for model 'glm'"):
            client.chat(QUESTION)


def test_silent_server_is_a_transient_error():
    """A server that accepts and says nothing is given up after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = LLMClient("glm", base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        with pytest.raises(TransientError, match="Timeout"):
            client.chat(QUESTION)


def test_nothing_is_retried():
    """The client asks once; trying again is the engine's work."""
    with ScriptedModel([Failure(status=503), "fine"]) as model:
        with pytest.raises(TransientError):
            LLMClient("glm", base_url=model.url).chat(QUESTION)
        assert len(model.requests) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    name: str
    api: str
    variable: str
    given: str | None = None
    sent: str | None = None


KEYS = [
    Key(name="openai", api="openai", variable="OPENAI_API_KEY", sent=f"Bearer {KEY}"),
    Key(name="ollama", api="ollama", variable="OLLAMA_API_KEY", sent=f"Bearer {KEY}"),
    Key(name="given", api="openai", variable="OPENAI_API_KEY", given="mine", sent="Bearer mine"),
    Key(name="of the other api", api="ollama", variable="OPENAI_API_KEY"),
]


@pytest.mark.parametrize("case", KEYS, ids=lambda case: case.name)
def test_key_is_sent(case, monkeypatch):
    """The key that was given, or the one in the environment when the call is made, is sent."""
    with ScriptedModel(["fine"]) as model:
        client = LLMClient("glm", base_url=model.url, api=case.api, api_key=case.given)
        monkeypatch.setenv(case.variable, KEY)
        client.chat(QUESTION)

    assert model.requests[0].headers.get("authorization") == case.sent


@pytest.mark.parametrize("status", [401, 429, 200])
@pytest.mark.parametrize("filler", [0, 270, 295])
def test_key_is_in_no_error(status, filler):
    """Not even a server that repeats the key gets it into an error, nor into its causes."""
    body = json.dumps({"error": {"message": "x" * filler + f" wrong key {KEY}"}})
    with ScriptedModel([Failure(status=status, body=body)]) as model:
        client = LLMClient("glm", base_url=model.url, api_key=KEY)
        with pytest.raises((TransientError, PermanentError)) as caught:
            client.chat(QUESTION)

    shown = repr(caught.value) + str(caught.value) + repr(caught.value.__cause__)
    assert KEY[:8] not in shown


def test_key_and_password_are_in_no_repr(monkeypatch):
    """The repr of a client shows model and address, and neither a key nor a password in the address."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    client = LLMClient("glm", base_url="https://me:hidden@example.org/v1?token=hidden", api_key=KEY)

    assert repr(client) == "LLMClient(model='glm', base_url='https://example.org/v1', api='openai')"


def test_garbled_key_is_refused_without_showing_it(monkeypatch):
    """A key that no header can carry is refused by a sentence that names the variable only."""
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}")

    with pytest.raises(PermanentError, match="OPENAI_API_KEY") as caught:
        LLMClient("glm", base_url="http://127.0.0.1:1").chat(QUESTION)

    assert KEY not in str(caught.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    name: str
    api: str
    expected: str
    variables: dict[str, str] = field(default_factory=dict)


ADDRESSES = [
    Address(name="openai", api="openai", expected="https://api.openai.com/v1"),
    Address(name="ollama", api="ollama", expected="http://127.0.0.1:11434"),
    Address(
        name="gateway",
        api="openai",
        variables={"OPENAI_BASE_URL": "https://gate.example/x/"},
        expected="https://gate.example/x",
    ),
    Address(
        name="host", api="ollama", variables={"OLLAMA_HOST": "gpu.local"}, expected="http://gpu.local:11434"
    ),
    Address(name="port", api="ollama", variables={"OLLAMA_HOST": "gpu:80"}, expected="http://gpu:80"),
    Address(
        name="url", api="ollama", variables={"OLLAMA_HOST": "https://gpu"}, expected="https://gpu"
    ),
    Address(name="empty", api="ollama", variables={"OLLAMA_HOST": " "}, expected="http://127.0.0.1:11434"),
]  # fmt: skip


@pytest.mark.parametrize("case", ADDRESSES, ids=lambda case: case.name)
def test_default_address(case, monkeypatch):
    """Without base_url the environment says where the model is, or the usual address does."""
    for name, value in case.variables.items():
        monkeypatch.setenv(name, value)

    assert LLMClient("glm", api=case.api).base_url == case.expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    api: str
    suffix: str
    path: str


PATHS = [
    Path(api="openai", suffix="", path="/v1/chat/completions"),
    Path(api="openai", suffix="/v1", path="/v1/chat/completions"),
    Path(api="openai", suffix="/api/v1/", path="/api/v1/chat/completions"),
    Path(api="ollama", suffix="", path="/api/chat"),
    Path(api="ollama", suffix="/api", path="/api/chat"),
    Path(api="ollama", suffix="/proxy", path="/proxy/api/chat"),
]


@pytest.mark.parametrize("case", PATHS, ids=lambda case: case.api + case.suffix)
def test_path_of_the_request(case):
    """The path of the format is appended to the address; an OpenAI address without a path gets /v1."""
    with ScriptedModel(["fine"]) as model:
        LLMClient("glm", base_url=model.url + case.suffix, api=case.api).chat(QUESTION)

    assert model.requests[0].path == case.path


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "http://", "http://a:0", "http://a:x", "http://["])
def test_unusable_address_is_refused(url):
    """An address that no request can go to is refused when the client is made."""
    with pytest.raises(ConfigError, match="base_url"):
        LLMClient("glm", base_url=url)


@pytest.mark.parametrize("url", ["me:hidden@example.org", "https://me:hid/den@example.org", "x://me:hidden@a"])
def test_unusable_address_is_refused_without_its_password(url):
    """The refusal of an address shows no password that stands in it."""
    with pytest.raises(ConfigError, match="base_url") as caught:
        LLMClient("glm", base_url=url)

    assert "hid" not in str(caught.value)


def test_unknown_api_is_refused():
    """An api that is neither of the two is refused with the list of both."""
    with pytest.raises(ConfigError, match="'openai', 'ollama'"):
        LLMClient("glm", api="anthropic")


def test_import_loads_neither_http_client_nor_pydantic():
    """Importing the package of language models loads no HTTP client and no pydantic."""
    code = "import stabilize_nb.llm, sys; print({'httpx2', 'httpcore2', 'pydantic'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_missing_http_client_is_named(monkeypatch):
    """Without httpx2 the error says what to install."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    http_module.library.cache_clear()

    with pytest.raises(ConfigError, match=r"pip install 'stabilize-nb\[llm\]'"):
        LLMClient("glm").chat(QUESTION)
