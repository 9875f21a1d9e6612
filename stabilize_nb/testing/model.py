"""
A language model that answers from a script.

It is a real HTTP server on this machine, so the client and its errors are the real ones; neither a key nor a network
is needed.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import PreconditionError
from stabilize_nb.llm.tools import Api, ToolCall

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: End of the path of a request, and the wire format spoken there.
_FORMATS: dict[str, Api] = {"/chat/completions": "openai", "/api/chat": "ollama"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of the model: text, calls of tools, or both."""

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Any other answer of the server; `retry_after` becomes the header of that name (seconds, or a date)."""

    status: int = 500
    body: str = "a scripted failure"
    retry_after: float | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A request that the server got; names of headers are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def api(self) -> Api | None:
        """The wire format of the path; None: no model answers there."""
        return next((api for end, api in _FORMATS.items() if self.path.endswith(end)), None)


Answer = str | ToolCall | Reply | Failure
Line = Answer | Callable[[ModelRequest], Answer]


class ScriptedModel:
    """A model server that gives the answers of a script, one a request, and notes the requests.

    A line of the script is a text, a ToolCall, a Reply, a Failure, or a function that gets the ModelRequest
    and returns one of these. A request after the last line is refused with status 400.

        with ScriptedModel([ToolCall(name="clock"), "It is noon."]) as model:
            client = LLMClient("any", base_url=model.url)
    """

    def __init__(self, script: Iterable[Line]) -> None:
        self.requests: list[ModelRequest] = []
        self._script = list(script)
        self._lock = threading.Lock()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The address to give to a client, of either format."""
        if self._server is None:
            msg = "this ScriptedModel is not running: enter it with 'with', or call start()"
            raise PreconditionError(msg)
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> Self:
        """Listen at a free port of this machine; a server that listens already goes on."""
        if self._server is None:
            self._server = _Server(self)
            threading.Thread(
                target=self._server.serve_forever, args=(0.01,), name="scripted-model", daemon=True
            ).start()
        return self

    def close(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, request: ModelRequest) -> Answer:
        """Note the request and return the next answer of the script."""
        with self._lock:
            at = len(self.requests)
            self.requests.append(request)
        if at >= len(self._script):
            return Failure(status=400, body=f"this ScriptedModel has no answer left after {at}")
        line = self._script[at]
        return line(request) if callable(line) else line


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent about clients that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Answer with the next line of the script."""
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            request = ModelRequest(path=self.path, headers=headers, body=dict(json.loads(content)))
        except (ValueError, TypeError):
            self._send(400, "the request is no JSON object")
            return
        if request.api is None:
            self._send(404, "no model answers at this path")
            return
        answer = self.server.model.answer(request)
        if isinstance(answer, Failure):
            self._send(answer.status, answer.body, answer.retry_after)
        else:
            self._send(200, json.dumps(_completion(request.api, request.body, _reply(answer))))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep silent."""

    def _send(self, status: int, body: str, retry_after: float | str | None = None) -> None:
        content = body.encode()
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _reply(answer: str | ToolCall | Reply) -> Reply:
    match answer:
        case str():
            return Reply(text=answer)
        case ToolCall():
            return Reply(tool_calls=[answer])
        case Reply():
            return answer


def _completion(api: Api, asked: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """Return the answer as that wire format says it; a word counts as a token."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = [
            replace(call, id=call.id or f"call_{at}").as_wire(api) for at, call in enumerate(reply.tool_calls)
        ]
    read, written = len(json.dumps(asked.get("messages")).split()), len(reply.text.split())
    if api == "ollama":
        end = {"done": True, "done_reason": "stop", "prompt_eval_count": read, "eval_count": written}
        return {"model": asked.get("model"), "message": message, **end}
    reason = "tool_calls" if reply.tool_calls else "stop"
    return {
        "object": "chat.completion",
        "model": asked.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }
