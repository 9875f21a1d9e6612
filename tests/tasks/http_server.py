"""A real HTTP server whose paths do what servers do, well or badly; it remembers what it was asked."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
BROTLI = bytes.fromhex("5bffff0300")  # how a stream that unpacks to a lot may begin


class Handler(BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        size = self.headers.get("content-length")
        self.body = self.rfile.read(int(size)) if size else b""
        with self.server.heard:
            self.server.asked.append({
                "method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()},
                "body": self.body,
            })  # fmt: skip
            self.server.heard.notify_all()
        kind = self.path.split("?")[0].split("/")[1].replace("-", "_")
        try:
            getattr(self, f"_do_{kind}")()
        except OSError:
            self.server.broken_off.set()
            self.close_connection = True

    def _reply(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        given = {"content_type": "text/plain; charset=utf-8", "content_length": str(len(content)), **headers}
        for name, value in given.items():
            if value:
                self.send_header(name.replace("_", "-").title(), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _raw(self, text: bytes) -> None:
        self.wfile.write(text)
        self.wfile.flush()
        self.close_connection = True

    def _do_echo(self) -> None:
        asked = self.server.asked[-1]
        self._reply(
            json.dumps({**asked, "body": asked["body"].decode("latin-1")}).encode(), content_type="application/json"
        )

    def _do_text(self) -> None:
        self._reply("Grüße".encode(), set_cookie="session=s3cret", x_kind="plain")

    def _do_latin(self) -> None:
        self._reply("Grüße".encode("latin-1"), content_type="text/plain; charset=iso-8859-1")

    def _do_odd_charset(self) -> None:
        self._reply(b"fine", content_type="text/plain; charset=hex")

    def _do_not_json(self) -> None:
        self._reply(b"<html>")

    def _do_nan(self) -> None:
        self._reply(b'{"x": NaN}')

    def _do_deep(self) -> None:
        self._reply(b"[" * 100_000)

    def _do_status(self) -> None:
        self._reply(b"no luck", int(self.path.split("/")[2]))

    def _do_busy(self) -> None:
        """503 until the given number of requests has come, and then what was asked."""
        times = sum(asked["path"] == self.path for asked in self.server.asked)
        if times <= int(self.path.split("/")[2]):
            self._reply(b"", 503, retry_after=self.path.split("/")[3])
        else:
            self._do_echo()

    def _do_redirect(self) -> None:
        """/redirect/STATUS/URL, the URL quoted."""
        _, _, status, url = self.path.split("/", 3)
        self._reply(b"", int(status), location=unquote(url))

    def _do_hops(self) -> None:
        """/hops/N: N redirects, then an answer."""
        left = int(self.path.split("/")[2])
        if left:
            self._reply(b"", 302, location=f"/hops/{left - 1}")
        else:
            self._reply(b"arrived")

    def _do_big(self) -> None:
        self._reply(b"x" * int(self.path.split("/")[2]))

    def _do_endless(self) -> None:
        self._reply(b"", content_length="", connection="close")
        while True:
            self.wfile.write(b"x" * 65_536)

    def _do_slow_body(self) -> None:
        self._reply(b"", content_length="1000000")
        while not self.server.closing.wait(0.02):
            self.wfile.write(b"x")
            self.wfile.flush()
        self.close_connection = True

    def _do_slow_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.closing.wait(0.02):
            self.wfile.write(b"X-More: 1\r\n")
            self.wfile.flush()

    def _do_many_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            self.wfile.write(b"X-More: " + b"1" * 1_000 + b"\r\n")

    def _do_continue_forever(self) -> None:
        while not self.server.closing.wait(0.005):
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            self.wfile.flush()

    def _do_packed(self) -> None:
        packed = {"gzip": gzip.compress, "deflate": zlib.compress}[self.path.split("/")[2]](b"hello")
        self._reply(packed, content_encoding=self.path.split("/")[2])

    def _do_bomb(self) -> None:
        self._reply(self.server.bomb(self.path.split("/")[2]), content_encoding=self.path.split("/")[2])

    def _do_broken_gzip(self) -> None:
        self._reply(gzip.compress(b"hello" * 100)[:-9], content_encoding="gzip")

    def _do_short(self) -> None:
        self._raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    def _do_length(self) -> None:
        """/length/TEXT: an answer whose Content-Length is that text."""
        self._raw(f"HTTP/1.1 200 OK\r\nContent-Length: {unquote(self.path.split('/')[2])}\r\n\r\nhello".encode())

    def _do_noise(self) -> None:
        self._raw(b"SSH-2.0-OpenSSH_9.6\r\n")

    def _do_hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(Handler, f"do_{_method}", Handler.answer)


class Server(ThreadingHTTPServer):
    """The server on a free port of this machine; `tls`: with which certificate it says who it is."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.heard = threading.Condition()
        self.closing = threading.Event()
        self.broken_off = threading.Event()
        self._bombs: dict[str, bytes] = {}
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.server_port}/{path}"

    def await_request(self, count: int = 1) -> None:
        """Return when that many requests have come."""
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.asked) >= count, 20)

    def bomb(self, kind: str) -> bytes:
        """Return a small answer that unpacks to 64 MiB."""
        if kind not in {"gzip", "deflate"}:
            return BROTLI
        if kind not in self._bombs:
            packer = zlib.compressobj(9, zlib.DEFLATED, {"gzip": 31, "deflate": 15}[kind])
            self._bombs[kind] = b"".join(packer.compress(bytes(MIB)) for _ in range(64)) + packer.flush()
        return self._bombs[kind]

    def handle_error(self, *_: Any) -> None:
        """Clients go away."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        with suppress(OSError):
            self.server_close()


def authority(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate authority, and for a server of these names a context with its certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def certificate(name: str, key: Any, issuer: Any, issuer_key: Any, *extensions: Any) -> Any:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )  # fmt: skip
        for extension in extensions:
            made = made.add_extension(extension, critical=False)
        return made.sign(issuer_key, hashes.SHA256())

    def written(name: str, *parts: bytes) -> Path:
        path = folder / names[0] / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(parts))
        return path

    pem = serialization.Encoding.PEM
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("test authority", root_key, None, root_key, x509.BasicConstraints(ca=True, path_length=None))
    alternatives = [
        x509.IPAddress(ip_address(name)) if name.replace(".", "").isdigit() else x509.DNSName(name) for name in names
    ]
    leaf = certificate(names[0], key, root.subject, root_key, x509.SubjectAlternativeName(alternatives))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(written("server.pem", secret, leaf.public_bytes(pem)))
    return written("authority.pem", root.public_bytes(pem)), context
