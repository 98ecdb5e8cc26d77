"""What the tests of checkpoints share: tiny networks, a registry entry for any bytes, a web server that misbehaves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import torch

from napari_sam.model.config import ConvConfig, SamConfig, VitConfig
from napari_sam.model.registry import CheckpointEntry
from napari_sam.model.sam import Sam, build_sam

_SMALL = {
    "image_size": 64,
    "prompt_embed_dim": 16,
    "mask_in_channels": 4,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "decoder_mlp_dim": 8,
    "iou_head_hidden_dim": 8,
}
TINY_VIT_B = SamConfig(encoder=VitConfig(width=8, depth=2, heads=2, global_blocks=(1,), window_size=2), **_SMALL)
TINY_CONV = SamConfig(
    encoder=ConvConfig(widths=(4, 4, 4, 8, 8), depths=(1, 1, 1, 1, 1), centre_channels=8), has_proposals=True, **_SMALL
)


def tiny_sam(config: SamConfig) -> Sam:
    """A tiny network with weights that are the same each time."""
    torch.manual_seed(0)
    return build_sam(config).eval()


def entry_for(content: bytes, *urls: str, name="vit_b", file_name="tiny.pth", **changes) -> CheckpointEntry:
    """A registry entry whose published file is `content`."""
    fields = {
        "architecture": "vit_b",
        "hash_kind": "sha256",
        "digest": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "licence": "none",
        "good_at": "tests",
    }
    return CheckpointEntry(name=name, file_name=file_name, urls=urls, **{**fields, **changes})


def file_names(folder: Path) -> list[str]:
    """The names of all files anywhere under `folder`."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@dataclass
class Served:
    """How the server answers for one address."""

    content: bytes
    ranges: bool = True
    status: int = 200
    cuts: list[int] = field(default_factory=list)
    """One number a connection: it is closed after so many bytes, though the length of all was announced."""


@dataclass
class Server:
    address: str
    files: dict[str, Served] = field(default_factory=dict)
    """Path such as "/tiny.pth" to how it is answered."""
    log: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of each request."""

    def serve(self, path: str, content: bytes, **behaviour) -> str:
        self.files[path] = Served(content, **behaviour)
        return self.address + path


@contextmanager
def running_server() -> Iterator[Server]:
    """A web server on this machine, stopped at the end."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.files_of = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield httpd.files_of
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        server: Server = self.server.files_of
        asked = self.headers.get("Range")
        server.log.append((self.path, asked))
        served = server.files.get(self.path)
        if served is None or served.status != 200:
            self.send_error(404 if served is None else served.status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and served.ranges else 0
        if start and start >= len(served.content):
            self.send_error(416)
            return
        body = served.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        self.end_headers()
        self.wfile.write(body[: served.cuts.pop(0)] if served.cuts else body)
