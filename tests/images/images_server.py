"""A web server on this machine that sends the files of a folder, and on purpose some of them badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """What it does with each path, and what it was asked."""

    folder: Path
    port: int = 0
    status: dict[str, list[int]] = field(default_factory=dict)
    """Answers to give before the file itself; the last one for ever if it is negative."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long to wait before the answer."""
    cut: set[str] = field(default_factory=set)
    """Files of which only a half is sent."""
    sends_ranges: bool = True
    password: str | None = None
    """What is asked for, as HTTP's basic authentication encodes it."""
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next_status(self, path: str) -> int:
        planned = self.status.get(path, [])
        if not planned:
            return 200
        return -planned[0] if planned[0] < 0 else planned.pop(0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.strip("/")
        if with_body:
            self.plan.asked.append(path)
        time.sleep(self.plan.seconds.get(path, 0.0))
        file = self.plan.folder / path
        status = self.plan.next_status(path) if with_body else 200
        if self.plan.password is not None and self.headers.get("Authorization") != f"Basic {self.plan.password}":
            status = 401
        content = file.read_bytes() if file.is_file() else None
        if status == 200 and content is None:
            status = 404
        if status != 200 or content is None:
            self._send(status, b"", with_body=with_body)
            return
        wanted = self.headers.get("Range")
        if wanted and self.plan.sends_ranges:
            first, last = wanted.removeprefix("bytes=").split("-")
            start = int(first) if first else len(content) - int(last)
            content = content[start : int(last) + 1 if first and last else None]
            status = 206
        self._send(status, content, with_body=with_body, cut=path in self.plan.cut)

    def _send(self, status: int, content: bytes, *, with_body: bool, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            with suppress(BrokenPipeError):  # who asked has lost patience
                self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut


@contextmanager
def serving(folder: Path, **plan: object) -> Iterator[Server]:
    """A server of `folder` while the block runs."""
    server = Server(folder, **plan)
    handler = type("Handler", (_Handler,), {"plan": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        server.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
