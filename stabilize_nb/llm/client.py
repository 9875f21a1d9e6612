"""
Questions to a language model over HTTP, in the wire format of OpenAI or of Ollama.

The client retries nothing: what another try may mend is a TransientError, and the engine waits, holding neither a
thread nor a connection, and runs the task again. The key is read from the environment, or looked up as a secret, when a
call is made, and appears in no repr, in no error, and in nothing that the engine stores.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from stabilize_nb.egress.retry_after import seconds
from stabilize_nb.errors import ConfigError, PermanentError, TransientError
from stabilize_nb.llm.address import KEYS, check_address, default_address, endpoint, shown
from stabilize_nb.llm.calls import Api, storable
from stabilize_nb.llm.forms import Form
from stabilize_nb.llm.http import connection, detail, library, one_line
from stabilize_nb.llm.messages import ChatMessage, ChatResponse
from stabilize_nb.llm.wire import Pieces, question, response
from stabilize_nb.models.calls import RefusedError, RefusedForNowError
from stabilize_nb.models.secret import Secret
from stabilize_nb.queue.processor.loop import iterate_on_loop, wait_on_loop
from stabilize_nb.secrets.hiding import HIDDEN
from stabilize_nb.secrets.resolving import resolved

if TYPE_CHECKING:
    import httpx2

#: Characters of a key that is none of those that servers without keys are given, such as "not-needed".
REAL = 16
#: Statuses below 500 that say "not now".
BUSY = frozenset({408, 425, 429})
ADVICE = {
    401: "set {key} to a valid API key",
    403: "check what the API key in {key} may use",
    404: "check base_url and the name of the model",
}


class LLMClient:
    """Asks one model at one address; `timeout` is in seconds and counts from one sign of life to the next.

    Without `base_url` the address comes from OPENAI_BASE_URL or OLLAMA_HOST, without `api_key` the key comes
    from OPENAI_API_KEY or OLLAMA_API_KEY, as `api` says. An OpenAI address without a path gets `/v1`.

    `achat` and `astream` are for coroutines; `chat` and `stream` do the same for a thread that waits. All take:
    `messages`; `tools`, as `ToolRegistry.schemas` describes them; `temperature`; `model`, which replaces the client's
    for this call; `schema`, a pydantic model or a JSON schema that the answer has to follow.

    All raise TransientError when the server is busy, failing or not reached, or answers with something else than a
    completion (`retry_after` is what the server asked for), or than the schema says; PermanentError when it refuses.

    Raises ConfigError for an unknown `api` or an address that is none.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api: Api = "openai",
        api_key: str | Secret | None = None,
        timeout: float = 120.0,
    ) -> None:
        if api not in get_args(Api):
            msg = f"LLMClient got api={api!r}; one of {', '.join(map(repr, get_args(Api)))} is expected"
            raise ConfigError(msg)
        self.model = model
        self.api: Api = api
        self.base_url = (base_url or default_address(api)).rstrip("/")
        self.timeout = timeout
        self._api_key = api_key
        check_address(self.base_url)

    def __repr__(self) -> str:
        return f"LLMClient(model={self.model!r}, base_url={shown(self.base_url)!r}, api={self.api!r})"

    def chat(
        self,
        messages: Iterable[ChatMessage | Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        model: str | None = None,
        schema: Any = None,
        max_tokens: int | None = None,
    ) -> ChatResponse:
        """Send the conversation and return the model's answer."""
        return wait_on_loop(self.achat(messages, tools, temperature, model, schema, max_tokens))

    async def achat(
        self,
        messages: Iterable[ChatMessage | Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        model: str | None = None,
        schema: Any = None,
        max_tokens: int | None = None,
    ) -> ChatResponse:
        """Send the conversation and return the model's answer."""
        form = None if schema is None else Form(schema)
        body = self._question(messages, tools, temperature, model, form, max_tokens, stream=False)
        async with self._asked(body) as answer:
            data = _json(await answer.aread())
        return self._response(data, form)

    def stream(
        self,
        messages: Iterable[ChatMessage | Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        model: str | None = None,
        schema: Any = None,
        max_tokens: int | None = None,
    ) -> Iterator[str | ChatResponse]:
        """Yield the text of the answer piece by piece as it comes, and at last the whole ChatResponse."""
        return iterate_on_loop(self.astream(messages, tools, temperature, model, schema, max_tokens))

    async def astream(
        self,
        messages: Iterable[ChatMessage | Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        model: str | None = None,
        schema: Any = None,
        max_tokens: int | None = None,
    ) -> AsyncIterator[str | ChatResponse]:
        """Yield the text of the answer piece by piece as it comes, and at last the whole ChatResponse."""
        form = None if schema is None else Form(schema)
        pieces = Pieces(self.api)
        body = self._question(messages, tools, temperature, model, form, max_tokens, stream=True)
        async with self._asked(body) as answer:
            async for data in self._data(answer):
                if text := pieces.add(self._piece(data)):
                    yield text
        if not pieces.is_complete:
            raise self._no_completion("an answer that breaks off")
        yield self._response(pieces.whole(), form)

    def _question(
        self,
        messages: Iterable[Any],
        tools: Any,
        temperature: Any,
        model: Any,
        form: Form | None,
        max_tokens: int | None,
        *,
        stream: bool,
    ) -> dict[str, Any]:
        schema = None if form is None else (form.name, form.schema, form.is_strict)
        turns = [ChatMessage.read(message) for message in messages]
        return question(self.api, model or self.model, turns, tools, temperature, schema, max_tokens, stream=stream)

    @asynccontextmanager
    async def _asked(self, body: Mapping[str, Any]) -> AsyncIterator[httpx2.Response]:
        """Send a request and give its answer, of which nothing was read yet; errors of the way are told in words."""
        httpx2, key, url = library(), self._key(), endpoint(self.api, self.base_url)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            async with (
                connection() as client,
                client.stream("POST", url, json=body, headers=headers, timeout=self.timeout) as answer,
            ):
                if not answer.is_success:
                    raise self._refusal(answer, await answer.aread(), body["model"], key)
                yield answer
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
            msg = f"{shown(self.base_url)} is no address that can be asked: correct base_url"
            raise PermanentError(msg) from None
        except httpx2.HTTPError as error:
            why = one_line(f"{type(error).__name__} {error}", key)
            msg = f"no answer from {shown(self.base_url)} for model {body['model']!r}: {why}"
            raise TransientError(msg) from error

    async def _data(self, answer: httpx2.Response) -> AsyncIterator[Any]:
        """Yield the pieces of a streamed answer: events, lines, or the whole from a server that does not stream."""
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            async for event in library().EventSource(answer):
                yield _DONE if event.data.strip() == "[DONE]" else _json(event.data)
        elif self.api == "ollama":
            async for line in answer.aiter_lines():
                if line.strip():
                    yield _json(line)
        else:
            yield _json(await answer.aread())

    def _piece(self, data: Any) -> Mapping[str, Any]:
        if not isinstance(data, dict) or data.get("error"):
            raise self._no_completion(f"no message ({self._said(data)})")
        return data

    def _key(self) -> str:
        key = str(resolved(self._api_key) or os.environ.get(KEYS[self.api], "")).strip()
        if len(key) >= REAL:
            HIDDEN.add(KEYS[self.api], key)
        if not (key.isascii() and key.isprintable()):
            msg = f"the API key for {shown(self.base_url)} is no plain text: correct {KEYS[self.api]}"
            raise PermanentError(msg)
        return key

    def _refusal(self, answer: httpx2.Response, said: bytes, model: str, key: str) -> TransientError | PermanentError:
        status, why = answer.status_code, detail(said, key)
        what = f"{shown(self.base_url)} answered {status} {answer.reason_phrase} for model {model!r}: {why}"
        if status in BUSY or status >= 500:  # noqa: PLR2004 - the class of server errors
            return RefusedForNowError(what, code=status, retry_after=seconds(answer.headers.get("retry-after")))
        advice = ADVICE.get(status, "correct the request or the address").format(key=KEYS[self.api])
        return RefusedError(f"{what}; {advice}")

    def _response(self, data: Any, form: Form | None) -> ChatResponse:
        found = None if data is _NO_JSON else response(self.api, data)
        if found is None:
            raise self._no_completion(f"no message ({self._said(data)})")
        if form is None or found.tool_calls:
            return found
        return replace(found, parsed=form.read(found.content))

    def _said(self, data: Any) -> str:
        return "no JSON" if data is _NO_JSON else detail(json.dumps(data).encode(), self._key())

    def _no_completion(self, what: str) -> TransientError:
        return TransientError(f"{shown(self.base_url)} answered with {what}; a chat completion is expected")


#: Stands for what is no JSON; and what OpenAI's last word means to a reader that has not heard of an end before.
_NO_JSON = object()
_DONE = {"choices": [{"finish_reason": "stop"}]}


def _json(text: str | bytes) -> Any:
    try:
        return storable(json.loads(text))
    except (ValueError, RecursionError):
        return _NO_JSON
