"""Streamed answers, in both formats: what comes when, what is whole in the end, and what breaks."""

import asyncio
import json
import os
import signal
import threading
import time

import pytest

from stabilize_nb.errors import PreconditionError, TransientError
from stabilize_nb.llm import ChatMessage, ChatResponse, LLMClient, ToolCall
from stabilize_nb.queue.processor.loop import wait_on_loop
from stabilize_nb.testing import Failure, Reply, ScriptedModel

APIS = ["openai", "ollama"]
QUESTION = [ChatMessage("user", "What is the balance?")]
TEXT = "It is  12 EUR,\nas ever."


def streamed(script, api="openai", **options):
    with ScriptedModel(script) as model:
        *texts, whole = LLMClient("glm", base_url=model.url, api=api).stream(QUESTION, **options)
        return texts, whole, model


@pytest.mark.parametrize("api", APIS)
def test_words_come_one_by_one_and_the_whole_at_last(api):
    """The pieces are the text, and the last item is what `chat` would have returned."""
    texts, whole, model = streamed([TEXT], api)

    assert len(texts) == 6
    assert "".join(texts) == TEXT
    assert isinstance(whole, ChatResponse)
    assert whole.content == TEXT
    assert whole.usage["completion_tokens"] == 6
    assert whole.usage["prompt_tokens"] == model.calls[0].prompt_tokens
    assert json.loads(json.dumps(whole.raw)) == whole.raw


@pytest.mark.parametrize("api", APIS)
def test_streamed_answer_has_the_shape_of_a_whole_one(api):
    """What the pieces are together differs in nothing from the answer that is not streamed."""
    calls = [ToolCall(name="f", arguments={"text": "a" * 40}), ToolCall(name="g", arguments={})]
    reply = Reply(text="Let me see.", tool_calls=calls)
    with ScriptedModel([reply, reply]) as model:
        client = LLMClient("glm", base_url=model.url, api=api)
        *_, pieced = client.stream(QUESTION)
        whole = client.chat(QUESTION)

    assert pieced == whole
    assert [call.arguments for call in whole.tool_calls] == [{"text": "a" * 40}, {}]


def test_first_word_is_there_before_the_last_is_sent():
    """A word is handed on when it comes."""
    with ScriptedModel([Reply(text="one two", pace=60)]) as model:
        stream = LLMClient("glm", base_url=model.url).stream(QUESTION)

        assert next(stream) == "one "
        assert not model.calls[0].is_whole
        stream.close()


@pytest.mark.parametrize("api", APIS)
def test_stream_that_breaks_off_is_a_transient_error(api):
    """After a connection that breaks in mid-answer the words were given, and trying again may help."""
    with ScriptedModel([Reply(text="one two three", cut_after=2)]) as model:
        stream = LLMClient("glm", base_url=model.url, api=api).stream(QUESTION)
        given = [next(stream), next(stream)]
        with pytest.raises(TransientError, match="no answer from"):
            next(stream)

    assert given == ["one ", "two "]
    assert model.calls[0].completion_tokens == 2
    assert not model.calls[0].is_whole


@pytest.mark.parametrize("api", APIS)
def test_answer_that_breaks_off_is_a_transient_error(api):
    """An answer that is not streamed and of which half is missing is none."""
    with ScriptedModel([Reply(text="one", cut_after=0)]) as model, pytest.raises(TransientError, match="no answer"):
        LLMClient("glm", base_url=model.url, api=api).chat(QUESTION)


ODD = {
    "an answer that breaks off": {"choices": [{"delta": {"content": "one"}}]},
    "no message (too long)": {"error": {"message": "too long"}},
    "no message (no JSON)": None,
}


@pytest.mark.parametrize("says", ODD)
def test_stream_that_is_no_answer_is_a_transient_error(says):
    """A stream without an end, one that tells an error, and one that is garbage are told apart."""
    body = "{nonsense" if ODD[says] is None else json.dumps(ODD[says])

    with pytest.raises(TransientError) as caught:
        streamed([Failure(status=200, body=body)])

    assert f"answered with {says}; a chat completion is expected" in str(caught.value)


def test_server_that_does_not_stream_is_understood():
    """A server that ignores `stream` answers at once, and that is the stream."""
    message = {"role": "assistant", "content": "all of it"}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    texts, whole, _ = streamed([Failure(status=200, body=body)])

    assert texts == ["all of it"]
    assert whole.content == "all of it"


@pytest.mark.parametrize("api", APIS)
def test_busy_server_is_a_transient_error_before_any_word(api):
    """A refusal of a stream says what one of a chat says."""
    with pytest.raises(TransientError) as caught:
        streamed([Failure(status=429, retry_after=7)], api)

    assert caught.value.retry_after == 7


def test_slow_first_byte_ends_at_the_timeout():
    """The timeout counts from one sign of life to the next, not over the whole answer."""
    with ScriptedModel([Reply(text="one two three four five", pace=0.05), Reply(text="late", delay=60)]) as model:
        client = LLMClient("glm", base_url=model.url, timeout=0.2)
        *_, whole = client.stream(QUESTION)
        with pytest.raises(TransientError, match="Timeout"):
            next(client.stream(QUESTION))

    assert whole.content == "one two three four five"


def test_calls_share_a_connection():
    """One connection serves calls that come one after the other, streamed or not, and of several clients."""
    ports = set()
    with ScriptedModel(["one", "two", "three"]) as model:
        model._server.verify_request = lambda request, address: ports.add(address) or True
        LLMClient("glm", base_url=model.url).chat(QUESTION)
        list(LLMClient("glm", base_url=model.url).stream(QUESTION))
        LLMClient("glm", base_url=model.url, api="ollama").chat(QUESTION)

    assert len(ports) == 1


def test_cookies_are_not_kept():
    """What a server wants to be told again is not told: another client of the process may have another account."""
    with ScriptedModel(["one", "two"]) as model:
        handler = model._server.RequestHandlerClass
        send = handler.end_headers
        try:
            handler.end_headers = lambda self: (self.send_header("Set-Cookie", "who=me"), send(self))
            for _ in range(2):
                LLMClient("glm", base_url=model.url).chat(QUESTION)
        finally:
            handler.end_headers = send
        headers = [request.headers for request in model.requests]

    assert [each.get("cookie") for each in headers] == [None, None]


def test_many_wait_at_once():
    """Sixty calls that wait for a slow server take as long as one."""

    async def all_of_them(client):
        return await asyncio.gather(*(client.achat(QUESTION) for _ in range(60)))

    with ScriptedModel(lambda _: Reply(text="late", delay=0.5)) as model:
        began = time.monotonic()
        answers = wait_on_loop(all_of_them(LLMClient("glm", base_url=model.url)))

    assert {answer.content for answer in answers} == {"late"}
    assert time.monotonic() - began < 10


def test_client_works_on_a_loop_of_the_user():
    """On another event loop the calls work too, and leave nothing open when it ends."""

    async def ask(client):
        answer = await client.achat(QUESTION)
        *_, whole = [item async for item in client.astream(QUESTION)]
        return answer.content, whole.content

    with ScriptedModel(["one", "two"]) as model:
        assert asyncio.run(ask(LLMClient("glm", base_url=model.url))) == ("one", "two")


@pytest.mark.parametrize("call", ["chat", "stream"])
def test_sync_call_on_the_loop_is_refused(call):
    """A call that would wait on the loop for the loop says so, in place of hanging."""
    client = LLMClient("glm", base_url="http://127.0.0.1:1")

    async def body():
        return list(getattr(client, call)(QUESTION))

    with pytest.raises(PreconditionError, match="asynchronous form"):
        wait_on_loop(body())


def test_forked_child_asks_by_itself():
    """After a fork, parent and child ask on connections of their own."""
    with ScriptedModel(lambda request: f"answer to {request.last}") as model:
        client = LLMClient("glm", base_url=model.url)
        client.chat(QUESTION)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, client.chat([ChatMessage("user", "child")]).content.encode())
            finally:
                os._exit(0)
        mine = client.chat([ChatMessage("user", "parent")]).content
        os.waitpid(pid, 0)
        theirs = os.read(read, 1_000).decode()
        os.close(read)
        os.close(write)

    assert (mine, theirs) == ("answer to parent", "answer to child")


@pytest.mark.parametrize("call", ["chat", "stream"])
def test_interrupt_ends_the_wait_and_the_call(call):
    """Ctrl-C ends the wait for a model at once and breaks the call off; the next call works."""

    def interrupt(request):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return Reply(text="one " * 4_000, pace=0.05, delay=0.05)

    with ScriptedModel([interrupt, "fine"]) as model:
        client = LLMClient("glm", base_url=model.url)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(getattr(client, call)(QUESTION))

        assert client.chat(QUESTION).content == "fine"
    assert time.monotonic() - began < 10
