"""
Writes down every connection that this process tries to make to another machine, and every name that it asks for.

Python imports it at its start when its folder is on PYTHONPATH: the JupyterLab of the tests and its kernels.
"""

import os
import socket
import sys

_FILE = os.environ.get("LAB_CONNECTIONS")
_HERE = {"", "127.0.0.1", "::1", "localhost", "0.0.0.0", "::", socket.gethostname()}


def _listen(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    if text not in _HERE:
        with open(_FILE, "a", encoding="utf-8") as file:  # noqa: PTH123 - every process of the tests would wait for pathlib
            file.write(f"process {os.getpid()} ({' '.join(sys.argv[:1])}): {text}\n")


if _FILE:
    sys.addaudithook(_listen)
