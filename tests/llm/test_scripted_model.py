import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from stabilize_nb.errors import ConfigError, PermanentError, PreconditionError, TransientError
from stabilize_nb.llm import ChatMessage, LLMClient, ToolCall
from stabilize_nb.testing import Failure, Reply, ScriptedModel, by_turn
from stabilize_nb.testing.model import script_of

QUESTION = [ChatMessage("user", "hi")]


def post(url, body):
    request = urllib.request.Request(url, data=body, method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read())


def test_answers_come_in_the_order_of_the_script():
    """Each request gets the next line, whichever format it speaks."""
    with ScriptedModel(["one", "two"]) as model:
        first = LLMClient("glm", base_url=model.url).chat(QUESTION)
        second = LLMClient("glm", base_url=model.url, api="ollama").chat(QUESTION)

    assert (first.content, second.content) == ("one", "two")
    assert [request.api for request in model.requests] == ["openai", "ollama"]


def test_line_may_be_a_function_of_the_request():
    """A function in the script sees the request and returns the answer."""
    with ScriptedModel([lambda request: request.body["messages"][0]["content"].upper()]) as model:
        assert LLMClient("glm", base_url=model.url).chat(QUESTION).content == "HI"


def test_request_beyond_the_script_is_refused():
    """A request after the last line fails for good, so that a test ends at once."""
    with ScriptedModel(["one"]) as model:
        client = LLMClient("glm", base_url=model.url)
        client.chat(QUESTION)
        with pytest.raises(PermanentError, match="no answer left after 1"):
            client.chat(QUESTION)


@pytest.mark.parametrize(("path", "body", "status"), [("/nowhere", b"{}", 404), ("/api/chat", b"hi", 400)])
def test_what_is_no_request_uses_no_line(path, body, status):
    """A request to another path, or without a JSON object, is refused and not counted."""
    with ScriptedModel(["one"]) as model:
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(model.url + path, body)
        caught.value.close()

        assert caught.value.code == status
        assert model.requests == []


def test_every_line_is_used_once_by_requests_at_the_same_time():
    """Requests that come together get different lines."""
    names = [str(number) for number in range(20)]
    with ScriptedModel(names) as model, ThreadPoolExecutor(8) as pool:
        url = f"{model.url}/api/chat"
        answers = list(pool.map(lambda _: post(url, b'{"stream": false}')["message"]["content"], names))

    assert sorted(answers) == sorted(names)


def test_server_can_be_started_and_closed_by_hand():
    """A server that is started by hand listens until it is closed, and leaves no thread."""
    model = ScriptedModel(["one"])
    with pytest.raises(PreconditionError, match="not running"):
        _ = model.url
    before = threading.active_count()

    assert model.start() is model
    assert model.start().url == model.url
    model.close()
    model.close()

    for thread in threading.enumerate():
        if thread.name == "scripted-model":
            thread.join(5)
    assert threading.active_count() == before


def test_client_that_goes_away_leaves_no_noise(capfd):
    """A client that gives up waiting makes the server print nothing."""
    waiting = threading.Event()

    def slow(request):
        waiting.wait(5)
        return Failure(body="x" * 10_000_000)

    with ScriptedModel([slow]) as model:
        client = LLMClient("glm", base_url=model.url, timeout=0.05)
        with pytest.raises(Exception, match="Timeout"):
            client.chat(QUESTION)
        waiting.set()
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(5)

    assert capfd.readouterr().err == ""


def test_answers_of_rules_have_what_their_patterns_found():
    """$1 to $9 in texts and arguments are what the groups found; other dollars stay."""
    rules = {
        r"add (\d+) (\d+)": ToolCall(name="add", arguments={"numbers": ["$1", "$2"], "of": {"unit": "$3"}}),
        r"cost (\d+)": Reply(text="It costs $1, not $2."),
        "plain": "Only $1.",
    }
    with ScriptedModel(rules) as model:
        client = LLMClient("glm", base_url=model.url)
        said = [client.chat([ChatMessage("user", text)]) for text in ("add 2 3", "cost 7", "plain")]

    assert said[0].tool_calls[0].arguments == {"numbers": ["2", "3"], "of": {"unit": "$3"}}
    assert [each.content for each in said[1:]] == ["It costs 7, not $2.", "Only $1."]


def test_rules_answer_what_was_said_last():
    """The first pattern that is found in the last message says the answer, as often as it is asked."""
    rules = {"balance": "12 EUR", r"EUR$": ToolCall(name="note"), ".": lambda request: request.last.upper()}
    with ScriptedModel(rules) as model:
        client = LLMClient("glm", base_url=model.url)
        answers = [
            client.chat([*QUESTION, ChatMessage("user", text)]) for text in ("my BALANCE?", "12 EUR", "?!", "bye")
        ]
        with pytest.raises(PermanentError, match="no rule of this ScriptedModel fits"):
            client.chat([ChatMessage("user", "")])

    assert [answer.content for answer in answers] == ["12 EUR", "", "?!", "BYE"]
    assert answers[1].tool_calls[0].name == "note"


def test_turns_answer_the_same_question_in_the_same_way():
    """What is asked again after a crash gets the same answer, whatever was asked in between."""
    with ScriptedModel(by_turn(["one", "two"])) as model:
        client = LLMClient("glm", base_url=model.url)
        talk = [*QUESTION, ChatMessage("assistant", "one"), ChatMessage("user", "and?")]
        answers = [client.chat(asked).content for asked in (QUESTION, talk, QUESTION, talk)]
        with pytest.raises(PermanentError, match="no answer for turn 2"):
            client.chat([*talk, ChatMessage("assistant", "two")])

    assert answers == ["one", "two", "one", "two"]


def test_log_tells_when_and_how_much():
    """Each call is noted with its time, its tokens and how it was answered."""
    began = time.time()
    with ScriptedModel([Failure(status=503), "one two", Reply(text="a b c", cut_after=1)]) as model:
        client = LLMClient("glm", base_url=model.url)
        for ask in (client.chat, client.chat, lambda asked: list(client.stream(asked))):
            try:
                ask(QUESTION)
            except Exception:
                continue
        with urllib.request.urlopen(f"{model.url}/log", timeout=5) as answer:
            log = json.load(answer)

    assert [(call["status"], call["completion_tokens"], call["is_whole"]) for call in log] == [
        (503, 0, True), (200, 2, True), (200, 1, False),
    ]  # fmt: skip
    assert all(began <= call["at"] <= time.time() for call in log)
    assert [call["messages"] for call in log] == [[{"role": "user", "content": "hi"}]] * 3
    assert [call.as_data() for call in model.calls] == log


def test_closing_breaks_what_is_being_answered():
    """Closing the server does not wait for a slow answer, and leaves no thread."""
    asked = threading.Event()

    def slow(request):
        asked.set()
        return Reply(text="late", delay=60)

    model = ScriptedModel([slow]).start()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(LLMClient("glm", model.url).chat, QUESTION)
        assert asked.wait(5)
        model.close()

        with pytest.raises(TransientError, match="no answer from"):
            asking.result(5)


def test_script_may_be_json():
    """Every form of a script and of an answer can be written as JSON."""
    listed = script_of(
        ["one", {"name": "f"}, {"status": 429, "retry_after": 3}, {"text": "a", "tool_calls": [{"name": "g"}]}]
    )
    with (
        ScriptedModel(script_of({"turns": ["one"]})) as turns,
        ScriptedModel(script_of({"rules": {"h": "two"}})) as rules,
    ):
        answers = [LLMClient("glm", model.url).chat(QUESTION).content for model in (turns, rules)]

    assert listed == [
        "one", ToolCall(name="f"), Failure(status=429, retry_after=3), Reply(text="a", tool_calls=[ToolCall(name="g")]),
    ]  # fmt: skip
    assert answers == ["one", "two"]


@pytest.mark.parametrize("data", [42, {"turn": []}, [42], [{"words": "one"}], [{"tool_calls": [{"nam": "f"}]}]])
def test_odd_script_is_refused(data):
    """What is no script is refused with what stands there and what is expected."""
    with pytest.raises(ConfigError, match=r"expected|is no answer"):
        script_of(data)


def test_server_in_a_process_of_its_own(tmp_path):
    """The command prints the address, answers until it is ended, and shows its log to whoever asks."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"turns": ["from elsewhere"]}))
    command = [sys.executable, "-W", "error", "-m", "stabilize_nb.testing.model", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        answers = [LLMClient("glm", base_url=url).chat(QUESTION).content for _ in range(2)]
        with urllib.request.urlopen(f"{url}/log", timeout=5) as answer:
            log = json.load(answer)
        server.send_signal(signal.SIGTERM)
        server.wait(10)

    assert answers == ["from elsewhere"] * 2
    assert len(log) == 2
    assert server.returncode == 0
