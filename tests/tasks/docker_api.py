"""
A stand-in of the Docker Engine API: a real HTTP server at a unix socket, with containers that are threads.

It has what DockerTask asks for: images that are pulled layer by layer, containers with states, logs that are followed
with the framing of two streams in one, exec, build, and errors. What a container runs is one of the small programs
below, chosen by the first argument; nothing of the machine is run. Written after the public reference of the API.
"""

from __future__ import annotations

import json
import re
import struct
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlparse

KILLED = 137
#: Seconds that a command takes to begin in a container. The SDK loses what comes in one piece with the answer's head.
START = 0.05


@dataclass
class Container:
    """One container: what it was made with, what it has printed, how it stands."""

    name: str
    config: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex * 2)
    status: str = "created"
    code: int = 0
    printed: list[tuple[int, bytes]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    killed: threading.Event = field(default_factory=threading.Event)
    starts: int = 0

    @property
    def argv(self) -> list[str]:
        return [*(self.config.get("Entrypoint") or []), *(self.config.get("Cmd") or [])]

    def write(self, stream: int, text: str) -> None:
        with self.changed:
            self.printed.append((stream, text.encode()))
            self.changed.notify_all()

    def start(self) -> None:
        self.status, self.starts = "running", self.starts + 1
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        code = run(self.argv, self.write, self.killed, self.config.get("Env") or [])
        with self.changed:
            self.code = KILLED if self.killed.is_set() else code
            self.status = "exited"
            self.changed.notify_all()

    def kill(self) -> None:
        self.killed.set()
        with self.changed:
            self.changed.wait_for(lambda: self.status != "running", 5)

    def follow(self, streams: set[int], *, follow: bool, cut: threading.Event) -> Iterator[bytes]:
        sent = 0
        while True:
            with self.changed:
                self.changed.wait_for(lambda n=sent: len(self.printed) > n or self.is_over(cut), 10)
                parts, over = self.printed[sent:], not follow or self.is_over(cut)
            sent += len(parts)
            yield from (framed(stream, data) for stream, data in parts if stream in streams)
            if over:
                return

    def is_over(self, cut: threading.Event) -> bool:
        return self.status != "running" or cut.is_set()

    def as_data(self) -> dict[str, Any]:
        return {
            "Id": self.id, "Name": f"/{self.name}", "Image": f"sha256:{self.config['Image']}",
            "Config": {"Labels": self.config.get("Labels"), "Tty": False},
            "State": {
                "Status": self.status, "Running": self.status == "running", "ExitCode": self.code,
                "OOMKilled": self.argv[:1] == ["eat"],
            },
        }  # fmt: skip


def framed(stream: int, data: bytes) -> bytes:
    """Return a frame of several streams in one."""
    return struct.pack(">BxxxL", stream, len(data)) + data


def run(argv: list[str], write: Any, killed: threading.Event, variables: list[str]) -> int:
    """Run one of the programs."""
    match argv:
        case ["echo", *words]:
            write(1, " ".join(words) + "\n")
        case ["env"]:
            write(1, "".join(f"{each}\n" for each in variables))
        case ["complain", text, code]:
            write(2, f"{text}\n")
            return int(code)
        case ["eat"]:
            return KILLED
        case ["count", number]:
            for line in range(int(number)):
                write(1, f"line {line}\n")
                write(2, f"warning {line}\n")
        case ["hang", *words]:
            write(1, " ".join(["hanging", *words]) + "\n")
            killed.wait(30)
            return KILLED
        case ["until", path]:  # a file that the test makes
            write(1, "waiting\n")
            while not Path(path).exists() and not killed.wait(0.01):
                pass
            write(1, "done\n")
        case _:
            write(2, f"{argv!a} is no program\n")
            return 127
    return 0


class Engine:
    """What the server knows, and what it was asked for."""

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        self.images: set[str] = {"tools:latest"}
        self.registry: set[str] = {"tools:latest", "big:latest"}
        self.execs: dict[str, tuple[Container, dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.built: list[str] = []
        self.cut = threading.Event()  # logs break off
        self.fails = 0  # requests that are answered with an error of the server
        self.lock = threading.Lock()

    def container(self, key: str) -> Container | None:
        return next((each for each in self.containers.values() if key == each.name or each.id.startswith(key)), None)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    engine: ClassVar[Engine]

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def address_string(self) -> str:
        return "socket"

    def handle_any(self) -> None:
        url = urlparse(self.path)
        path = re.sub(r"^/v1\.\d+", "", url.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        with self.engine.lock:
            self.engine.asked.append(f"{self.command} {path}")
            fails = self.engine.fails > 0 and path != "/version"
            self.engine.fails -= fails
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fails:
            self.answer(500, {"message": "the engine has a bad day"})
            return
        for method, pattern, does in ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, path)):
                does(self, *map(unquote, found.groups()))
                return
        self.answer(404, {"message": f"no such thing: {path}"})

    do_GET = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - the names of the standard library

    def answer(self, status: int, data: Any = None) -> None:
        text = b"" if data is None else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, parts: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def found(self, key: str) -> Container | None:
        container = self.engine.container(key)
        if container is None:
            self.answer(404, {"message": f"No such container: {key}"})
        return container

    # -- what is asked --------------------------------------------------------------------------------

    def version(self) -> None:
        self.answer(200, {"ApiVersion": "1.47", "Version": "27", "MinAPIVersion": "1.24"})

    def create(self) -> None:
        config, name = json.loads(self.body), self.query.get("name") or uuid.uuid4().hex
        image = config["Image"] if ":" in config["Image"] else f"{config['Image']}:latest"
        with self.engine.lock:
            self.engine.sent.append(config)
            if image not in self.engine.images:
                self.answer(404, {"message": f"No such image: {image}"})
            elif self.engine.container(name) is not None:
                self.answer(409, {"message": f"Conflict. The name {name!r} is in use"})
            else:
                made = Container(name, config)
                self.engine.containers[made.id] = made
                self.answer(201, {"Id": made.id, "Warnings": []})

    def inspect(self, key: str) -> None:
        if container := self.found(key):
            self.answer(200, container.as_data())

    def start(self, key: str) -> None:
        if container := self.found(key):
            if container.status == "created":
                container.start()
            self.answer(204)

    def kill(self, key: str) -> None:
        if container := self.found(key):
            if container.status != "running":
                self.answer(409, {"message": f"container {key} is not running"})
                return
            container.kill()
            self.answer(204)

    def halt(self, key: str) -> None:
        if container := self.found(key):
            container.kill()
            self.answer(204)

    def remove(self, key: str) -> None:
        if container := self.found(key):
            if container.status == "running":
                container.kill()
            self.engine.containers.pop(container.id, None)
            self.answer(204)

    def logs(self, key: str) -> None:
        if container := self.found(key):
            streams = {number for number, name in ((1, "stdout"), (2, "stderr")) if self.query.get(name) == "1"}
            self.stream(container.follow(streams, follow=self.query.get("follow") == "1", cut=self.engine.cut))

    def listed(self) -> None:
        labels = json.loads(self.query.get("filters") or "{}").get("label", [])
        found = [
            each
            for each in self.engine.containers.values()
            if all(label in (each.config.get("Labels") or {}) for label in labels)
        ]
        self.answer(
            200,
            [
                {"Id": each.id, "Names": [f"/{each.name}"], "Image": each.config["Image"], "State": each.status}
                for each in found
            ],
        )

    def images(self) -> None:
        self.answer(
            200, [{"Id": f"sha256:{name}", "RepoTags": [name], "Size": 5} for name in sorted(self.engine.images)]
        )

    def image(self, name: str) -> None:
        self.answer(200, {"Id": f"sha256:{name}"})

    def pull(self) -> None:
        name = f"{self.query['fromImage']}:{self.query.get('tag', 'latest')}"
        lines: list[dict[str, Any]] = [{"status": "Pulling", "id": "latest"}]
        if name not in self.engine.registry:
            lines.append({"error": f"manifest for {name} not found"})
        else:
            for part in (0, 50, 100):
                for layer in ("a", "b"):
                    detail = {"current": part, "total": 100}
                    lines.append({"status": "Downloading", "id": layer, "progressDetail": detail})
            self.engine.images.add(name)
        self.stream(f"{json.dumps(line)}\r\n".encode() for line in lines)

    def build(self) -> None:
        with tarfile.open(fileobj=BytesIO(self.body)) as archive:
            self.engine.built = sorted(archive.getnames())
            dockerfile = archive.extractfile(self.query.get("dockerfile") or "Dockerfile").read().decode()
        lines: list[dict[str, Any]] = [{"stream": f"Step 1 : {dockerfile}\n"}]
        if "broken" in dockerfile:
            lines.append({"error": "the command returned a non-zero code: 1"})
        else:
            lines.append({"aux": {"ID": "sha256:built"}})
            self.engine.images.add(self.query.get("t") or "built")
        self.stream(f"{json.dumps(line)}\r\n".encode() for line in lines)

    def exec_create(self, key: str) -> None:
        if container := self.found(key):
            id_ = uuid.uuid4().hex
            self.engine.execs[id_] = (container, json.loads(self.body))
            self.answer(201, {"Id": id_})

    def exec_start(self, id_: str) -> None:
        container, config = self.engine.execs[id_]
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        time.sleep(START)
        write = lambda stream, text: self.wfile.write(framed(stream, text.encode()))  # noqa: E731 - one line of a program
        config["code"] = run(config["Cmd"], write, container.killed, config.get("Env") or [])
        self.close_connection = True

    def exec_inspect(self, id_: str) -> None:
        self.answer(200, {"ExitCode": self.engine.execs[id_][1].get("code")})


KEY = r"([^/]+)"
ROUTES = [
    ("GET", r"/version", Handler.version),
    ("POST", r"/containers/create", Handler.create),
    ("GET", r"/containers/json", Handler.listed),
    ("GET", rf"/containers/{KEY}/json", Handler.inspect),
    ("POST", rf"/containers/{KEY}/start", Handler.start),
    ("POST", rf"/containers/{KEY}/kill", Handler.kill),
    ("POST", rf"/containers/{KEY}/stop", Handler.halt),
    ("DELETE", rf"/containers/{KEY}", Handler.remove),
    ("GET", rf"/containers/{KEY}/logs", Handler.logs),
    ("POST", rf"/containers/{KEY}/exec", Handler.exec_create),
    ("POST", rf"/exec/{KEY}/start", Handler.exec_start),
    ("GET", rf"/exec/{KEY}/json", Handler.exec_inspect),
    ("GET", r"/images/json", Handler.images),
    ("GET", r"/images/(.+)/json", Handler.image),
    ("POST", r"/images/create", Handler.pull),
    ("POST", r"/build", Handler.build),
]


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that has gone."""


class DockerApi:
    """The server, at a socket in a folder; `engine` is what it knows."""

    def __init__(self, folder: Path) -> None:
        self.engine = Engine()
        path = folder / "docker.sock"
        self.url = f"http+unix://{path}"
        handler = type("OwnHandler", (Handler,), {"engine": self.engine})
        self._server = _Server(str(path), handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        for container in [*self.engine.containers.values()]:
            container.killed.set()
        self._server.shutdown()
        self._server.server_close()
