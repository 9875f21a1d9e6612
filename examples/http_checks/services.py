"""Services of this machine that are not as they should be, as a server for the checks to ask."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Services(ThreadingHTTPServer):
    """The server: `asked` counts requests by path, `incidents` has one for each idempotency key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: Counter[str] = Counter()
        self.incidents: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    """What it answers: `search` is busy twice, `mail` is broken, and an incident is filed though the answer is lost."""

    server: Services

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        if self.path == "/health/search" and self.server.asked[self.path] <= 2:
            self.answer(503, {"state": "starting"}, {"Retry-After": "0"})
        elif self.path == "/health/mail":
            self.answer(500, {"state": "broken"})
        else:
            self.answer(200, {"state": "well"})

    def do_POST(self) -> None:
        self.server.asked[self.path] += 1
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        incidents = self.server.incidents
        filed = incidents.setdefault(self.headers["Idempotency-Key"], {"number": len(incidents) + 1, **report})
        if self.server.asked[self.path] == 1:
            self.answer(503, {"state": "busy"})  # it is filed, but nobody is told
        else:
            self.answer(201, filed)

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def services() -> Iterator[Services]:
    """Serve, at a free port."""
    with Services() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
