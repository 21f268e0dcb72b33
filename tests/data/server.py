"""A web server on 127.0.0.1 that serves bytes from memory, and can be told to misbehave."""

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Server(ThreadingHTTPServer):
    """files: what it serves, by path; parts: it honors Range; failing: that many answers are 503 first; stalled: paths
    that are never answered in time; cut: paths whose body ends early; asked: "METHOD path" of each request so far."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.parts, self.failing = True, 0
        self.stalled: set[str] = set()
        self.cut: set[str] = set()
        self.asked: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away in the middle of an answer are what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.asked.append(f"{self.command} {path}")
        if self.server.failing > 0:
            self.server.failing -= 1
            return self.send_error(503)
        if path == "/private":
            return self.send_error(403)
        if path not in self.server.files:
            return self.send_error(404)
        if path in self.server.stalled:
            time.sleep(1.0)
        return self.deliver(path, self.server.files[path])

    def deliver(self, path: str, data: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        code = 206 if asked and self.server.parts else 200
        if code == 206:
            first, last = map(int, asked.groups())
            if first >= len(data):
                return self.send_error(416)
            data = data[first : last + 1]
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if path in self.server.cut else data)
        return None

    def log_message(self, *words: object) -> None:
        """Nothing: tests read what they ask for."""


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
