"""
One question to a language model over HTTP, in the wire format of OpenAI or of Ollama.

The client retries nothing: what another try may mend is a TransientError, and the engine waits and runs the
task again. The key is read from the environment when a call is made, and appears in no repr and in no error.
"""

from __future__ import annotations

import functools
import json
import math
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

from stabilize_nb.errors import ConfigError, PermanentError, TransientError
from stabilize_nb.llm.tools import Api, ToolCall, storable

if TYPE_CHECKING:
    import httpx2

#: Where a client without base_url goes, and the variable that says otherwise.
ADDRESSES: dict[Api, tuple[str, str]] = {
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "ollama": ("OLLAMA_HOST", "http://127.0.0.1:11434"),
}
KEYS: dict[Api, str] = {"openai": "OPENAI_API_KEY", "ollama": "OLLAMA_API_KEY"}

#: Statuses below 500 that say "not now".
BUSY = frozenset({408, 425, 429})
ADVICE = {
    401: "set {key} to a valid API key",
    403: "check what the API key in {key} may use",
    404: "check base_url and the name of the model",
}
LONGEST_RETRY_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation.

    `role` is system, user, assistant or tool. A tool's turn carries its result in `content`, and
    `tool_call_id` and `name` of the call. `extra` holds what only one server knows, such as `images`.
    """

    role: str
    content: Any = None
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    name: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, source: Any) -> ChatMessage:
        """Return the message that a mapping in OpenAI's form describes."""
        if isinstance(source, ChatMessage):
            return source
        if not isinstance(source, Mapping) or "role" not in source:
            msg = f"a message is {source!r:.80}; a mapping with 'role' and 'content' is expected"
            raise PermanentError(msg)
        known = {key: source[key] for key in ("role", "content", "tool_call_id", "name") if key in source}
        extra = {key: value for key, value in source.items() if key not in known and key != "tool_calls"}
        return cls(**known, tool_calls=ToolCall.read_all(source.get("tool_calls")), extra=extra)

    def as_wire(self, api: Api) -> dict[str, Any]:
        """Return the message as the server of that format expects it."""
        empty = None if self.tool_calls and api == "openai" else ""
        wire: dict[str, Any] = {"role": self.role, "content": self.content or empty, **self.extra}
        if self.tool_calls:
            wire["tool_calls"] = [call.as_wire(api) for call in ToolCall.read_all(self.tool_calls)]
        if self.tool_call_id:
            wire["tool_call_id"] = self.tool_call_id
        if self.name and self.role != "tool":
            wire["name"] = self.name
        elif self.name and api == "ollama":
            wire["tool_name"] = self.name
        return wire


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """What a model answered.

    `usage` counts tokens: prompt_tokens and completion_tokens, empty where the server does not say. `raw` is
    the whole answer of the server as JSON data that can be stored.
    """

    content: str = ""
    tool_calls: Sequence[ToolCall] = ()
    usage: Mapping[str, int] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)


class LLMClient:
    """Asks one model at one address; `timeout` is in seconds and counts from one sign of life to the next.

    Without `base_url` the address comes from OPENAI_BASE_URL or OLLAMA_HOST, without `api_key` the key comes
    from OPENAI_API_KEY or OLLAMA_API_KEY, as `api` says. An OpenAI address without a path gets `/v1`.

    Raises ConfigError for an unknown `api` or an address that is none.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api: Api = "openai",
        api_key: str | None = None,
        timeout: float = 120.0,
    ) -> None:
        if api not in get_args(Api):
            msg = f"LLMClient got api={api!r}; one of {', '.join(map(repr, get_args(Api)))} is expected"
            raise ConfigError(msg)
        self.model = model
        self.api: Api = api
        self.base_url = (base_url or _default_address(api)).rstrip("/")
        self.timeout = timeout
        self._api_key = api_key
        _check_address(self.base_url)

    def __repr__(self) -> str:
        return f"LLMClient(model={self.model!r}, base_url={_shown(self.base_url)!r}, api={self.api!r})"

    def chat(
        self,
        messages: Iterable[ChatMessage | Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        model: str | None = None,
    ) -> ChatResponse:
        """
        Send the conversation and return the model's answer; `model` replaces the client's for this call.

        Raises TransientError when the server is busy, failing or not reached, or answers with something else
        than a completion; `retry_after` is what the server asked for. Raises PermanentError when it refuses.
        """
        body: dict[str, Any] = {"model": model or self.model, "stream": False}
        body["messages"] = [ChatMessage.read(message).as_wire(self.api) for message in messages]
        if tools:
            body["tools"] = list(tools)
        if temperature is not None and self.api == "ollama":
            body["options"] = {"temperature": temperature}
        elif temperature is not None:
            body["temperature"] = temperature
        return self._response(self._post(body))

    def _post(self, body: Mapping[str, Any]) -> Any:
        httpx2, tls = _http()
        key, url = self._key(), _endpoint(self.api, self.base_url)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            answer = httpx2.post(url, json=body, headers=headers, timeout=self.timeout, verify=tls)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
            msg = f"{_shown(self.base_url)} is no address that can be asked: correct base_url"
            raise PermanentError(msg) from None
        except httpx2.HTTPError as error:
            why = _one_line(f"{type(error).__name__} {error}", key)
            msg = f"no answer from {_shown(self.base_url)} for model {body['model']!r}: {why}"
            raise TransientError(msg) from error
        if not answer.is_success:
            raise self._refusal(answer, body["model"], key)
        try:
            return storable(json.loads(answer.content))
        except (ValueError, RecursionError) as error:
            raise self._no_completion("no JSON") from error

    def _key(self) -> str:
        key = (self._api_key or os.environ.get(KEYS[self.api], "")).strip()
        if not (key.isascii() and key.isprintable()):
            msg = f"the API key for {_shown(self.base_url)} is no plain text: correct {KEYS[self.api]}"
            raise PermanentError(msg)
        return key

    def _refusal(self, answer: httpx2.Response, model: str, key: str) -> TransientError | PermanentError:
        status = answer.status_code
        said = _detail(answer.content, key)
        what = f"{_shown(self.base_url)} answered {status} {answer.reason_phrase} for model {model!r}: {said}"
        if status in BUSY or status >= 500:  # noqa: PLR2004 - the class of server errors
            return TransientError(what, code=status, retry_after=_seconds(answer.headers.get("retry-after")))
        advice = ADVICE.get(status, "correct the request or the address").format(key=KEYS[self.api])
        return PermanentError(f"{what}; {advice}")

    def _response(self, data: Any) -> ChatResponse:
        choices = [data] if self.api == "ollama" else _get(data, "choices")
        message = _get(choices[0], "message") if isinstance(choices, list) and choices else None
        if not isinstance(message, dict):
            raise self._no_completion(f"no message ({_detail(json.dumps(data).encode(), self._key())})")
        return ChatResponse(
            content=_text(message.get("content")),
            tool_calls=ToolCall.read_all(message.get("tool_calls")),
            usage=_usage(self.api, data),
            raw=data,
        )

    def _no_completion(self, what: str) -> TransientError:
        return TransientError(f"{_shown(self.base_url)} answered with {what}; a chat completion is expected")


@functools.cache
def _http() -> tuple[Any, ssl.SSLContext]:
    """Return httpx2 and the certificates it trusts, which take longer to load than a short answer takes."""
    try:
        import httpx2  # noqa: PLC0415 - an optional dependency, and slow to import
    except ImportError:
        msg = "LLMClient needs httpx2, which is not installed: pip install 'stabilize-nb[llm]'"
        raise ConfigError(msg) from None
    return httpx2, httpx2.create_ssl_context()


def _default_address(api: Api) -> str:
    variable, usual = ADDRESSES[api]
    given = os.environ.get(variable, "").strip()
    if api == "openai" or not given or "://" in given:
        return given or usual
    # Ollama itself takes the address without scheme and without port.
    return f"http://{given}" if given.rpartition(":")[2].isdigit() else f"http://{given}:11434"


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        msg = f"LLMClient got base_url={_shown(url)!r}; an address such as https://host/v1 is expected"
        raise ConfigError(msg)


def _endpoint(api: Api, base_url: str) -> str:
    if api == "ollama":
        return base_url.removesuffix("/api") + "/api/chat"
    return base_url + ("" if urlsplit(base_url).path else "/v1") + "/chat/completions"


def _shown(url: str) -> str:
    """Return the address without user, password and query."""
    plain = url.partition("?")[0]
    scheme, mark, _ = plain.partition("://") if "://" in plain else ("", "", plain)
    return scheme + mark + plain.removeprefix(scheme + mark).rpartition("@")[2]


def _one_line(text: str, key: str) -> str:
    """Return at most 300 characters of a text, in one line and without the key."""
    return " ".join((text.replace(key, "***") if key else text).split())[:300]


def _detail(content: bytes, key: str) -> str:
    """Return what a server says about an error."""
    text = content.decode("utf-8", "replace")
    try:
        error = _get(json.loads(text), "error")
    except (ValueError, RecursionError):
        error = None
    said = _get(error, "message") or error or text
    return _one_line(str(said), key) or "no reason given"


def _seconds(header: str | None) -> float | None:
    """Return the seconds in a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    try:
        wait = float(header)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # a date without zone cannot be compared
            return None
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER_S) if math.isfinite(wait) else None


def _usage(api: Api, data: Any) -> dict[str, int]:
    names = ("prompt_tokens", "completion_tokens")
    told, keys = (data, ("prompt_eval_count", "eval_count")) if api == "ollama" else (_get(data, "usage"), names)
    counts = [_get(told, key) for key in keys]
    return {name: count for name, count in zip(names, counts, strict=True) if isinstance(count, int)}


def _text(content: Any) -> str:
    """Return the text of a message; some servers send a list of parts."""
    if isinstance(content, list):
        return "".join(str(_get(part, "text") or "") for part in content)
    return "" if content is None else str(content)


def _get(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None
