"""A name server on this machine whose answers may change from one question to the next, and a resolver that asks it."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections import Counter
from ipaddress import ip_address
from typing import Any, Self

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset


class Handler(socketserver.BaseRequestHandler):
    """Answers one question by the table of the server."""

    server: NameServer

    def handle(self) -> None:
        data, sock = self.request
        asked = dns.message.from_wire(data)
        reply = dns.message.make_response(asked)
        reply.flags |= dns.flags.RA
        question = asked.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        answers = self.server.answer(question.name.to_text().rstrip(".").lower(), kind)
        if answers is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        for name, record, value in answers or ():
            reply.answer.append(dns.rrset.from_text(f"{name}.", 0, "IN", record, value))
        sock.sendto(reply.to_wire(), self.client_address)


class NameServer(socketserver.ThreadingUDPServer):
    """Leads a name to addresses: `turns[name]` is a list of lists, one for each lookup, of which the last stays.

    An address that is a name is an alias (CNAME) of it. `lookups` counts questions for addresses of version 4.
    """

    daemon_threads = True

    def __init__(self, turns: dict[str, list[list[str]]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.turns = turns
        self.lookups: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def answer(self, name: str, kind: str) -> list[tuple[str, str, str]] | None:
        if name not in self.turns:
            return None
        with self._lock:
            turn = self.lookups[name]
            if kind == "A":  # asked last
                self.lookups[name] += 1
        turns = self.turns[name]
        return [found for value in turns[min(turn, len(turns) - 1)] for found in self._records(name, kind, value)]

    def _records(self, name: str, kind: str, value: str) -> list[tuple[str, str, str]]:
        try:
            record = {4: "A", 6: "AAAA"}[ip_address(value).version]
        except ValueError:
            behind = [found for other in self.turns[value][0] for found in self._records(value, kind, other)]
            return [(name, "CNAME", f"{value}."), *behind]
        return [(name, record, value)] if record == kind else []

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        """Do what the system's function does, with this server as the one that the system is told to ask."""
        try:
            ip_address(host)
        except ValueError:
            found = self._resolved(host)
            if not found:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        else:
            found = [host]
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(families[ip_address(each).version], socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    def _resolved(self, host: str) -> list[str]:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port, resolver.search = ["127.0.0.1"], self.server_address[1], []
        found: list[str] = []
        for kind in ("AAAA", "A"):
            try:
                found += [record.address for record in resolver.resolve(host, kind, lifetime=5)]
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
        return found

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
