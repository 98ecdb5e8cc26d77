"""Embeddings are computed once, kept within bounds, and survive restarts, damage and other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from annotate_flood import FloodSegmenter, bright_image
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.annotate import disk_cache
from napari_sam.annotate.disk_cache import DiskCache
from napari_sam.annotate.embeddings import EmbeddingStore
from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.windows import Window
from napari_sam.errors import ConfigError, ImageError
from napari_sam.geometry import Box
from napari_sam.images import Normalisation

PIXELS = np.random.default_rng(0).random((64, 64)) < 0.5
WINDOWS = [Window((), Box(x, y, x + 16, y + 16), 1) for y in range(0, 49, 8) for x in range(0, 49, 8)]
WINDOW_BYTES = 256


class Unusable(FloodSegmenter):
    def embed(self, pixels):
        raise AssertionError("nothing may be embedded here")


def store_of(segmenter=None, **options) -> EmbeddingStore:
    return EmbeddingStore(segmenter or FloodSegmenter(), bright_image(PIXELS), **options)


def expected(window: Window) -> np.ndarray:
    return PIXELS[window.box.slices]


def test_a_window_asked_for_by_many_threads_at_once_is_embedded_once():
    class Slow(FloodSegmenter):
        def embed(self, pixels):
            time.sleep(0.05)
            return super().embed(pixels)

    store, ready = store_of(Slow()), threading.Barrier(8)

    def ask(_):
        ready.wait()
        return [store.get(window) for window in WINDOWS[:3]]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert len(store.segmenter.embedded) == 3
    for answer in answers:
        for found, window in zip(answer, WINDOWS, strict=False):
            np.testing.assert_array_equal(found, expected(window))


@settings(max_examples=40, deadline=None)
@given(asked=st.lists(st.integers(0, len(WINDOWS) - 1), max_size=60), room=st.integers(0, 6))
def test_memory_holds_the_last_used_windows_and_no_more_than_its_bound(asked, room):
    store = store_of(memory_bytes=room * WINDOW_BYTES)
    kept: list[int] = []  # the plain version: most recent last
    for index in asked:
        np.testing.assert_array_equal(store.get(WINDOWS[index]), expected(WINDOWS[index]))
        kept = [i for i in kept if i != index] + [index]
        kept = kept[-max(room, 1) :]
        assert store.memory_used == len(kept) * WINDOW_BYTES
    assert {i for i, window in enumerate(WINDOWS) if store.peek(window) is not None} == set(kept)


def test_peeking_computes_nothing(tmp_path):
    store_of(folder=tmp_path).get(WINDOWS[0])
    store = store_of(Unusable(), folder=tmp_path)
    assert store.peek(WINDOWS[0]) is None
    store.get(WINDOWS[0])
    np.testing.assert_array_equal(store.peek(WINDOWS[0]), expected(WINDOWS[0]))


def test_embeddings_survive_a_restart(tmp_path):
    first = store_of(folder=tmp_path)
    for window in WINDOWS:
        first.get(window)
    second = store_of(Unusable(), folder=tmp_path)
    for window in WINDOWS:
        np.testing.assert_array_equal(second.get(window), expected(window))


def test_what_memory_lets_go_is_read_from_disk(tmp_path):
    store = store_of(folder=tmp_path, memory_bytes=0)
    for window in [*WINDOWS[:4], *WINDOWS[:4]]:
        np.testing.assert_array_equal(store.get(window), expected(window))
    assert len(store.segmenter.embedded) == 4


@pytest.mark.parametrize(
    "other",
    [
        lambda folder: store_of(Unusable(fingerprint="flood 2"), folder=folder),
        lambda folder: EmbeddingStore(Unusable(), bright_image(~PIXELS), folder=folder),
        lambda folder: EmbeddingStore(
            Unusable(),
            AnnotatedImage.open(PIXELS.astype(np.uint8) * 255, normalisation=Normalisation((0.0,), (300.0,))),
            folder=folder,
        ),
    ],
    ids=["model", "image", "normalisation"],
)
def test_embeddings_of_another_model_image_or_normalisation_are_not_taken(tmp_path, other):
    store_of(folder=tmp_path).get(WINDOWS[0])
    with pytest.raises(AssertionError, match="nothing may be embedded"):
        other(tmp_path).get(WINDOWS[0])


@pytest.mark.parametrize("step", [1, 2])
def test_the_same_box_at_another_step_is_another_window(tmp_path, step):
    store = store_of(FloodSegmenter(32), folder=tmp_path)
    assert store.get(Window((), Box(0, 0, 32, 32), step)).shape == (32 // step, 32 // step)


DAMAGES = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "a byte changed": lambda data: data[:150] + bytes([data[150] ^ 255]) + data[151:],
    "not an archive": lambda data: b"x" * len(data),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_made_again(tmp_path, damage):
    store_of(folder=tmp_path).get(WINDOWS[0])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    store = store_of(folder=tmp_path)
    np.testing.assert_array_equal(store.get(WINDOWS[0]), expected(WINDOWS[0]))
    assert len(store.segmenter.embedded) == 1
    np.testing.assert_array_equal(store_of(Unusable(), folder=tmp_path).get(WINDOWS[0]), expected(WINDOWS[0]))


def test_a_file_that_would_run_code_is_refused_and_removed(tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    np.savez(tmp_path / "key.npz", bright=np.array([Trap()], dtype=object))
    assert DiskCache(tmp_path, 10**6).read("key") is None
    assert not (tmp_path / "key.npz").exists()


def test_a_file_of_other_arrays_is_made_again(tmp_path):
    store_of(folder=tmp_path).get(WINDOWS[0])
    (path,) = tmp_path.iterdir()
    np.savez(path, something=np.zeros(3))
    store = store_of(folder=tmp_path)
    np.testing.assert_array_equal(store.get(WINDOWS[0]), expected(WINDOWS[0]))


def test_the_disk_holds_the_last_used_files_within_its_bound(tmp_path):
    arrays = {"bright": np.zeros(1000, np.uint8)}
    cache = DiskCache(tmp_path, 10**6)
    cache.write("0", arrays)
    size = (tmp_path / "0.npz").stat().st_size
    cache = DiskCache(tmp_path, 3 * size)
    for key in "123":
        time.sleep(0.01)
        if key == "3":
            assert cache.read("1") is not None  # used again: "2" goes first
            time.sleep(0.01)
        cache.write(key, arrays)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.npz", "2.npz", "3.npz"]
    time.sleep(0.01)
    cache.write("4", arrays)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.npz", "3.npz", "4.npz"]


def test_a_file_larger_than_the_bound_is_not_kept(tmp_path):
    DiskCache(tmp_path, 100).write("0", {"bright": np.zeros(1000, np.uint8)})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_no_answer(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    store = store_of(folder=blocked)
    for window in WINDOWS[:2]:
        np.testing.assert_array_equal(store.get(window), expected(window))
    assert isinstance(store.disk_error, OSError)
    assert blocked.read_text() == "in the way"


def test_a_failure_reaches_everyone_who_waits_and_the_next_one_tries_again():
    class Failing(FloodSegmenter):
        def embed(self, pixels):
            if len(self.embedded) < 1:
                time.sleep(0.05)
                super().embed(pixels)
                raise ImageError("a tile is missing")
            return super().embed(pixels)

    store, ready = store_of(Failing()), threading.Barrier(3)

    def ask(_):
        ready.wait()
        try:
            store.get(WINDOWS[0])
        except ImageError as error:
            return str(error)
        return "answered"

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(ask, range(3))) == {"a tile is missing"}
    np.testing.assert_array_equal(store.get(WINDOWS[0]), expected(WINDOWS[0]))


SHARER = """
import sys
import numpy as np
from pathlib import Path
from napari_sam.annotate.disk_cache import DiskCache

cache, own = DiskCache(Path(sys.argv[1]), 6000), np.random.default_rng(int(sys.argv[2]))
for i in own.integers(0, 12, 300).tolist():
    arrays = cache.read(str(i))
    if arrays is None:
        cache.write(str(i), {"values": np.full(1000, i, np.uint8)})
    elif not (arrays["values"] == i).all() or len(arrays["values"]) != 1000:
        sys.exit(f"read the wrong arrays for {i}")
"""


def test_processes_that_share_a_folder_do_not_break_each_other(tmp_path):
    source = str(Path(disk_cache.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": source}
    commands = [[sys.executable, "-c", SHARER, str(tmp_path), str(i)] for i in range(2)]
    sharers = [subprocess.Popen(command, env=environment) for command in commands]
    assert [sharer.wait(timeout=120) for sharer in sharers] == [0, 0]
    left = list(tmp_path.iterdir())
    assert left
    assert all(path.suffix == ".npz" for path in left)
    # Each makes room after it wrote, so together they may be one file over.
    assert sum(path.stat().st_size for path in left) <= 6000 + 1300


@pytest.mark.parametrize("sizes", [{"memory_bytes": -1}, {"disk_bytes": -1}], ids=["memory", "disk"])
def test_a_negative_bound_is_refused(sizes):
    with pytest.raises(ConfigError, match="at least 0, got"):
        store_of(**sizes)
