"""Embeddings of windows: computed when first needed, once, then kept in memory and on disk within bounds."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from napari_sam.annotate.disk_cache import DiskCache
from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.segmenter import Segmenter
from napari_sam.annotate.windows import Lattice, Window
from napari_sam.errors import ConfigError

MEMORY_BYTES = 512 * 2**20
DISK_BYTES = 4 * 2**30


class EmbeddingStore:
    """The embeddings of one image by one model; may be asked from several threads.

    Parameters
    ----------
    segmenter : Segmenter
    image : AnnotatedImage
    memory_bytes : int
        Of embeddings kept in memory; the least recently used go first. The last one is always kept.
    folder : Path, optional
        Where embeddings are kept beyond the end of the program; other processes may use it at the same time.
    disk_bytes : int
        Of all files in `folder`.

    Raises
    ------
    ConfigError
        If a number of bytes is negative.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        image: AnnotatedImage,
        *,
        memory_bytes: int = MEMORY_BYTES,
        folder: Path | None = None,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        if memory_bytes < 0 or disk_bytes < 0:
            raise ConfigError(f"the bytes of a cache must be at least 0, got {memory_bytes} and {disk_bytes}.")
        self.segmenter, self.image = segmenter, image
        self.lattice = Lattice(image.frame_size, segmenter.window_px)
        self.disk_error: OSError | None = None
        """Why nothing is written to disk any more; answers do not need it."""
        self._memory_bytes = memory_bytes
        self._disk = None if folder is None else DiskCache(folder, disk_bytes)
        self._kept: OrderedDict[Window, tuple[Any, int]] = OrderedDict()
        self._kept_bytes = 0
        self._awaited: dict[Window, Future[Any]] = {}
        self._lock = threading.Lock()

    @property
    def memory_used(self) -> int:
        """Bytes of the embeddings in memory."""
        return self._kept_bytes

    def peek(self, window: Window) -> Any | None:
        """The embedding of a window if it is in memory: at once, or not at all."""
        with self._lock:
            if window not in self._kept:
                return None
            self._kept.move_to_end(window)
            return self._kept[window][0]

    def get(self, window: Window) -> Any:
        """The embedding of a window: from memory, from disk, or computed.

        Whoever asks for a window that another thread is computing waits for that one.

        Raises
        ------
        ImageError
            If the pixels cannot be read.
        """
        with self._lock:
            if window in self._kept:
                self._kept.move_to_end(window)
                return self._kept[window][0]
            awaited = self._awaited.get(window)
            if awaited is None:
                mine = self._awaited[window] = Future()
        if awaited is not None:
            return awaited.result()
        try:
            embedding = self._find(window)
        except BaseException as error:
            with self._lock:
                del self._awaited[window]
            mine.set_exception(error)
            raise
        with self._lock:
            self._keep(window, embedding)
            del self._awaited[window]
        mine.set_result(embedding)
        return embedding

    def _keep(self, window: Window, embedding: Any) -> None:
        size = self.segmenter.nbytes(embedding)
        self._kept[window] = (embedding, size)
        self._kept_bytes += size
        while self._kept_bytes > self._memory_bytes and len(self._kept) > 1:
            _, (_, freed) = self._kept.popitem(last=False)
            self._kept_bytes -= freed

    def _find(self, window: Window) -> Any:
        """The embedding from disk, or computed and written there."""
        key = self._key(window)
        arrays = None if self._disk is None else self._disk.read(key)
        if arrays is not None and self._disk is not None:
            try:
                return self.segmenter.from_arrays(arrays)
            except (KeyError, ValueError):
                self._disk.remove(key)
        pixels = self.image.plane(window.plane).read(window.box, window.step)
        embedding = self.segmenter.embed(pixels)
        if self._disk is not None and self.disk_error is None:
            try:
                self._disk.write(key, self.segmenter.to_arrays(embedding))
            except OSError as error:  # a full or read-only disk: the cache is a convenience, the answer is not
                self.disk_error = error
        return embedding

    def _key(self, window: Window) -> str:
        """Names everything the embedding depends on."""
        record = {
            "image": self.image.identity,
            "normalisation": self.image.normalisation.to_dict(),
            "plane": list(window.plane),
            "box": window.box.as_xyxy().tolist(),
            "step": window.step,
            "model": self.segmenter.fingerprint,
        }
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
