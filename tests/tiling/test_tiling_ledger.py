"""Ledgers: files that are whole or not there, stages that follow their parameters, one run at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from napari_sam.errors import LedgerError, OutputError
from napari_sam.geometry import Mask
from napari_sam.tiling import Ledger, RunKey
from napari_sam.tiling.store import MaskCache, StoredMasks, TileStore, read_arrays, write_arrays

SIZE = (40, 50)
KEY = RunKey(
    image={"path": "a.tif", "shape": [40, 50]},
    model={"name": "nano", "fingerprint": "f00"},
    version="0.1",
    segment={"pred_iou_thresh": 0.88},
    merge={"merge_iou_thresh": 0.5},
    output={"chunk_px": 512},
)


def changed(**fields: object) -> RunKey:
    return RunKey(**{**{name: getattr(KEY, name) for name in RunKey.__dataclass_fields__}, **fields})


def masks() -> list[Mask]:
    first = np.zeros(SIZE, dtype=bool)
    first[3:9, 4:20] = True
    first[5, 6] = False
    second = np.zeros(SIZE, dtype=bool)
    second[39, 49] = True
    return [
        Mask.from_array(first, predicted_iou=0.9, stability_score=0.97, point_xy=(5.5, 4.0), prompt="proposal"),
        Mask.from_array(second, predicted_iou=0.3),
    ]


def test_masks_come_back_from_a_tile_file_as_they_were(tmp_path):
    store = TileStore(tmp_path, SIZE)
    store.write(3, masks())
    stored = store.read(3)
    assert [stored.mask(i) for i in range(len(stored))] == masks()
    assert stored.areas.tolist() == [95, 1]
    assert stored.centroids_xy[1].tolist() == [49.0, 39.0]


def test_a_tile_without_masks_is_finished_too(tmp_path):
    store = TileStore(tmp_path, SIZE)
    assert not store.is_finished(0)
    store.write(0, [])
    assert store.is_finished(0)
    assert len(store.read(0)) == 0


def test_equal_masks_give_equal_bytes_at_any_time(tmp_path, monkeypatch):
    store = TileStore(tmp_path, SIZE)
    store.write(0, masks())
    monkeypatch.setattr(time, "time", lambda: 2e9)
    store.write(1, masks())
    assert store.path(0).read_bytes() == store.path(1).read_bytes()
    before = store.digest([0, 1])
    store.write(1, masks()[:1])
    assert store.digest([0, 1]) != before


@pytest.mark.parametrize("keep", [0, 1, 100, 700, -1], ids="first_{}_bytes".format)
def test_a_cut_off_tile_file_counts_as_not_done(tmp_path, keep):
    store = TileStore(tmp_path, SIZE)
    store.write(0, masks())
    store.path(0).write_bytes(store.path(0).read_bytes()[:keep])
    assert not store.is_finished(0)
    with pytest.raises(LedgerError, match=r"tile-0000000.npz is damaged .* run the same again"):
        store.read(0)


def test_a_tile_file_with_flipped_bits_counts_as_not_done(tmp_path):
    store = TileStore(tmp_path, SIZE)
    store.write(0, masks())
    content = store.path(0).read_bytes()
    for at in range(60, len(content) - 22, 97):  # the last 22 bytes include the archive's comment length
        store.path(0).write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        if store.is_finished(0):  # a flag or date in a header: the content is unharmed
            assert [store.read(0).mask(i) for i in range(2)] == masks()


def test_garbage_and_other_archives_count_as_not_done(tmp_path):
    store = TileStore(tmp_path, SIZE)
    store.path(0).write_bytes(b"garbage" * 100)
    write_arrays(store.path(1), {"something": np.arange(3)})
    assert not store.is_finished(0)
    assert not store.is_finished(1)
    with pytest.raises(LedgerError, match="is damaged"):
        store.digest([0])


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", boxes=np.array([{}], dtype=object))
    with pytest.raises(LedgerError, match=r"damaged .*an array of objects is never read"):
        read_arrays(tmp_path / "evil.npz", ["boxes"])
    with pytest.raises(LedgerError, match=r"gone.npz is missing"):
        read_arrays(tmp_path / "gone.npz", ["boxes"])


def test_a_full_disk_leaves_the_earlier_file_and_says_what_to_do(tmp_path, monkeypatch):
    store = TileStore(tmp_path, SIZE)
    store.write(0, masks())
    before = store.path(0).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"tile-0000000.npz.*No space left.*free"):
        store.write(0, [])
    assert store.path(0).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tile-0000000.npz"]


def test_failures_are_listed_until_the_tile_is_finished(tmp_path):
    store = TileStore(tmp_path, SIZE)
    store.write_failure(7, "ValueError: kaputt")
    assert store.failures() == {7: "ValueError: kaputt"}
    store.write(7, [])
    assert store.failures() == {}


def test_the_cache_reads_again_only_what_it_had_to_let_go():
    loaded = []

    def load(key: str) -> StoredMasks:
        loaded.append(key)
        return StoredMasks.of(masks(), SIZE)

    size = StoredMasks.of(masks(), SIZE).nbytes
    cache = MaskCache(load, max_bytes=2 * size)
    for key in "abababcab":
        assert cache.get(key).mask(0) == masks()[0]
    assert "".join(loaded) == "abcab"


def test_each_stage_depends_on_its_own_settings_and_those_before():
    base = KEY.stage_hashes()
    stages = {
        "image": {"path": "b.tif"},
        "model": {"name": "vit_b"},
        "version": "0.2",
        "segment": {"pred_iou_thresh": 0.5},
        "merge": {"merge_iou_thresh": 0.6},
        "output": {"chunk_px": 256},
    }
    same = {
        name: [s for s, h in changed(**{name: value}).stage_hashes().items() if h == base[s]]
        for name, value in stages.items()
    }
    assert same == {
        "image": [],
        "model": [],
        "version": [],
        "segment": [],
        "merge": ["segment"],
        "output": ["segment", "merge"],
    }


def test_a_changed_setting_gets_its_own_folder_and_the_old_one_is_found_again(tmp_path):
    with Ledger.open(tmp_path, KEY, SIZE) as ledger:
        ledger.tiles.write(0, masks())
    with Ledger.open(tmp_path, changed(segment={"pred_iou_thresh": 0.5}), SIZE) as ledger:
        assert not ledger.tiles.is_finished(0)
    with Ledger.open(tmp_path, changed(merge={"merge_iou_thresh": 0.9}), SIZE) as ledger:
        assert ledger.tiles.is_finished(0)


def test_a_ledger_of_another_image_or_model_is_refused_and_says_what_differs(tmp_path):
    Ledger.open(tmp_path, KEY, SIZE).close()
    with pytest.raises(LedgerError, match=r"image path: 'a.tif' there, 'b.tif' now.*restart"):
        Ledger.open(tmp_path, changed(image={"path": "b.tif", "shape": [40, 50]}), SIZE)
    with pytest.raises(LedgerError, match=r"model fingerprint: 'f00' there, 'f01' now"):
        Ledger.open(tmp_path, changed(model={"name": "nano", "fingerprint": "f01"}), SIZE)
    Ledger.open(tmp_path, KEY, SIZE).close()


def test_restart_replaces_a_ledger_but_touches_no_other_file(tmp_path):
    with Ledger.open(tmp_path, KEY, SIZE) as ledger:
        ledger.tiles.write(0, masks())
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "tiles-of-mine").mkdir()
    other = changed(image={"path": "b.tif"})
    with Ledger.open(tmp_path, other, SIZE, restart=True) as ledger:
        assert not ledger.tiles.is_finished(0)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "tiles-of-mine").is_dir()
    assert len(list(tmp_path.glob("tiles-*"))) == 2
    with Ledger.open(tmp_path, KEY, SIZE, restart=True) as ledger:
        assert not ledger.tiles.is_finished(0)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "x"}'], ids=repr)
def test_a_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(LedgerError, match=r"manifest.json is damaged .*--restart"):
        Ledger.open(tmp_path, KEY, SIZE)
    Ledger.open(tmp_path, KEY, SIZE, restart=True).close()


def test_a_manifest_of_a_later_format_is_named(tmp_path):
    Ledger.open(tmp_path, KEY, SIZE).close()
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(LedgerError, match=r"has format 99, this version .* reads format 1"):
        Ledger.open(tmp_path, KEY, SIZE)


def test_what_is_not_json_is_refused(tmp_path):
    with pytest.raises(LedgerError, match=r"must be plain JSON values .*set"):
        Ledger.open(tmp_path, changed(segment={"a": {1, 2}}), SIZE)


def test_half_written_files_of_a_killed_run_are_swept_away(tmp_path):
    with Ledger.open(tmp_path, KEY, SIZE) as ledger:
        half = ledger.tiles.folder / "tile-0000003.npz.partial"
        half.write_bytes(b"PK")
    with Ledger.open(tmp_path, KEY, SIZE) as ledger:
        assert not half.exists()
        assert not ledger.tiles.is_finished(3)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write .*out"):
        Ledger.open(tmp_path / "out", KEY, SIZE)


def test_two_runs_on_one_ledger_are_refused(tmp_path):
    with (
        Ledger.open(tmp_path, KEY, SIZE),
        pytest.raises(LedgerError, match=rf"process {os.getpid()} is running on .*wait for it or stop it"),
    ):
        Ledger.open(tmp_path, KEY, SIZE)
    Ledger.open(tmp_path, KEY, SIZE).close()


def test_a_refused_ledger_is_not_left_locked(tmp_path):
    Ledger.open(tmp_path, KEY, SIZE).close()
    with pytest.raises(LedgerError, match="there"):
        Ledger.open(tmp_path, changed(image={}), SIZE)
    assert not (tmp_path / "lock").exists()


def write_lock(folder, **holder: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "lock").write_text(json.dumps(holder))


def is_held_by_us(folder) -> bool:
    """Whether the lock is this process's own while it has the ledger of a folder open, and gone afterwards."""
    with Ledger.open(folder, KEY, SIZE):
        holder = json.loads((folder / "lock").read_text())
    mine = holder["pid"] == os.getpid() and holder["started"] != "long before"
    return mine and not (folder / "lock").exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    write_lock(tmp_path, pid=process.pid, host=socket.gethostname(), started=None)
    assert is_held_by_us(tmp_path)


def test_the_lock_of_a_process_whose_number_was_given_away_is_taken_over(tmp_path):
    write_lock(tmp_path, pid=os.getpid(), host=socket.gethostname(), started="long before")
    assert is_held_by_us(tmp_path)


def test_the_lock_of_another_machine_is_respected(tmp_path):
    write_lock(tmp_path, pid=1, host="elsewhere", started=None)
    with pytest.raises(LedgerError, match=r"a run on elsewhere \(process 1\) holds .*lock; wait for it, or remove"):
        Ledger.open(tmp_path, KEY, SIZE)


def test_a_lock_cut_off_while_it_was_written_is_taken_over(tmp_path):
    (tmp_path / "lock").write_text('{"pid"')
    assert is_held_by_us(tmp_path)


def test_single_values_and_texts_come_back_as_they_were(tmp_path):
    write_arrays(tmp_path / "a.npz", {"text": np.array("grün"), "number": np.array(3), "none": np.empty((0, 4))})
    arrays = read_arrays(tmp_path / "a.npz", ["text", "number", "none"])
    assert (str(arrays["text"]), int(arrays["number"]), arrays["none"].shape) == ("grün", 3, (0, 4))
