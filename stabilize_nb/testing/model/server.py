"""The server of a scripted model."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import PreconditionError
from stabilize_nb.llm.calls import Api
from stabilize_nb.testing.model.answers import (
    Answer,
    Failure,
    Line,
    ModelCall,
    ModelRequest,
    Reply,
    Script,
    by_rule,
    reply_of,
    said,
)
from stabilize_nb.testing.model.wire import completion, pieces, prompt_tokens, tokens_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: Where the log of the server can be read as JSON.
LOG = "/log"


class ScriptedModel:
    """A model server that gives the answers of a script and notes its calls; any number of threads may ask.

    A script is a list of answers, one a request; a mapping of pattern to answer, of which the first counts whose
    pattern is found in what was said last, with $1 to $9 for what its groups found; or a function of the ModelRequest.
    An answer is a text, a ToolCall, a Reply,
    a Failure, or a function that gets the ModelRequest and returns one of these. A request to which no answer is left
    is refused with status 400. `pace`: seconds between the words of a streamed answer. `port` 0: any that is free.

        with ScriptedModel([ToolCall(name="clock"), "It is noon."]) as model:
            client = LLMClient("any", base_url=model.url)

    For example:

        >>> from stabilize_nb.llm import ChatMessage, LLMClient
        >>> from stabilize_nb.testing import ScriptedModel
        >>> with ScriptedModel({"time|clock": "It is noon.", "weather in (.*)": "Rain in $1."}) as model:
        ...     client = LLMClient("any", base_url=model.url)
        ...     print(client.chat([ChatMessage("user", "weather in Oslo")]).content, len(model.calls))
        Rain in Oslo. 1
    """

    def __init__(self, script: Script, *, pace: float = 0.0, port: int = 0) -> None:
        self.calls: list[ModelCall] = []
        self.pace = pace
        self.closing = threading.Event()
        self._port = port
        self._lock = threading.Lock()
        self._server: _Server | None = None
        if isinstance(script, Mapping):
            self._rule: Any = by_rule(script)
        else:
            self._rule = script if callable(script) else _in_order(script)

    @property
    def requests(self) -> list[ModelRequest]:
        """The requests that came, in order."""
        return [call.request for call in self.calls]

    @property
    def url(self) -> str:
        """The address to give to a client, of either format."""
        if self._server is None:
            msg = "this ScriptedModel is not running: enter it with 'with', or call start()"
            raise PreconditionError(msg)
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> Self:
        """Listen at a port of this machine; a server that listens already goes on."""
        if self._server is None:
            self.closing.clear()
            self._server = _Server(self, self._port)
            threading.Thread(
                target=self._server.serve_forever, args=(0.01,), name="scripted-model", daemon=True
            ).start()
        return self

    def close(self) -> None:
        """Stop listening, and break what is being answered."""
        server, self._server = self._server, None
        if server is not None:
            self.closing.set()
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, request: ModelRequest) -> tuple[ModelCall, Answer]:
        """Note a request and return its line in the log, and the answer of the script."""
        call = ModelCall(request=request, at=time.time(), prompt_tokens=prompt_tokens(request.body))
        with self._lock:
            self.calls.append(call)
            line = self._rule(request)
        return call, said(line, request)


def _in_order(lines: Iterable[Line]) -> Any:
    listed = list(lines)
    left = iter(listed)
    return lambda _: next(left, Failure(status=400, body=f"this ScriptedModel has no answer left after {len(listed)}"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1_024

    def __init__(self, model: ScriptedModel, port: int) -> None:
        self.model = model
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Close the connections too, on which clients would ask again."""
        super().server_close()
        for each in list(self._open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent about clients that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Show the log."""
        if self.path == LOG:
            self._send(200, json.dumps([call.as_data() for call in list(self.server.model.calls)]))
        else:
            self._send(404, "no model answers at this path")

    def do_POST(self) -> None:
        """Answer as the script says."""
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            request = ModelRequest(path=self.path, headers=headers, body=dict(json.loads(content)))
        except (ValueError, TypeError):
            self._send(400, "the request is no JSON object")
            return
        api = request.api
        if api is None:
            self._send(404, "no model answers at this path")
            return
        call, answer = self.server.model.answer(request)
        if isinstance(answer, Failure):
            self._wait(answer.delay)
            call.status = answer.status
            self._send(answer.status, answer.body, answer.retry_after)
            call.ended, call.is_whole = time.time(), True
        else:
            self._complete(api, call, reply_of(answer))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep silent."""

    def _complete(self, api: Api, call: ModelCall, reply: Reply) -> None:
        self._wait(reply.delay)
        call.status = 200
        body = call.request.body
        if body.get("stream", api == "ollama"):
            self._stream(api, call, reply)
            return
        text = json.dumps(completion(api, body, reply))
        if reply.cut_after is None:
            self._send(200, text)
            call.ended, call.completion_tokens, call.is_whole = time.time(), tokens_of(reply), True
        else:
            self._send(200, text, length=2 * len(text))

    def _stream(self, api: Api, call: ModelCall, reply: Reply) -> None:
        """Send an answer piece by piece."""
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson" if api == "ollama" else "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at, (piece, tokens) in enumerate(pieces(api, call.request.body, reply)):
            if at == reply.cut_after:
                self.close_connection = True
                return
            if at:
                self._wait(self.server.model.pace if reply.pace is None else reply.pace)
            call.completion_tokens += tokens
            self._send_chunk(piece)
        self._send_chunk("")
        call.ended, call.is_whole = time.time(), True

    def _send_chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))

    def _send(self, status: int, body: str, retry_after: float | str | None = None, length: int | None = None) -> None:
        """Send an answer at once; one that is told to be longer than it is ends the connection."""
        content = body.encode()
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.close_connection or length is not None

    def _wait(self, seconds: float) -> None:
        """Wait, unless the server closes."""
        if seconds > 0 and self.server.model.closing.wait(seconds):
            raise ConnectionAbortedError
