import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from stabilize_nb.errors import PermanentError, PreconditionError
from stabilize_nb.llm import ChatMessage, LLMClient
from stabilize_nb.testing import Failure, ScriptedModel

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
        answers = list(pool.map(lambda _: post(url, b"{}")["message"]["content"], names))

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
