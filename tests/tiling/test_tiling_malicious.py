"""Records of a run that somebody else made: nothing in them is run, and nothing outside of the output is touched."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiling_synthetic import Picture, blobs, key_of, reprompt, segment

from napari_sam.errors import LedgerError, OutputError
from napari_sam.tiling import Ledger, TilingConfig, merge_tiles, plan_tiles, run_tiles
from napari_sam.tiling.store import read_arrays, write_arrays

PICTURE = Picture(blobs((60, 70), 5, n=10))
CONFIG = TilingConfig(core_px=40, halo_px=8)
PLAN = plan_tiles(PICTURE.size, CONFIG)


class Malicious:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def npz_of_objects(owned: Path) -> bytes:
    """An archive whose arrays hold objects, as numpy writes them."""
    content = io.BytesIO()
    np.savez(
        content, areas=np.array([Malicious(owned)], dtype=object), boxes=np.array([Malicious(owned)], dtype=object)
    )
    return content.getvalue()


def bare_pickle(owned: Path) -> bytes:
    return pickle.dumps(Malicious(owned))


def climbing_archive(owned: Path) -> bytes:
    """An archive whose members would lie outside of the folder it is unpacked to."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"../../{owned.name}", b"x")
        archive.writestr(str(owned), b"x")
    return content.getvalue()


EVIL = [npz_of_objects, bare_pickle, climbing_archive]


def opened(folder: Path) -> Ledger:
    return Ledger.open(folder, key_of(PICTURE, PLAN, CONFIG), PICTURE.size)


@pytest.mark.parametrize("make", EVIL)
def test_malicious_tile_and_object_files_are_made_again_and_never_run(tmp_path, make):
    owned = tmp_path / "owned"
    with opened(tmp_path / "run") as ledger:
        run_tiles(PICTURE.read, PLAN, segment, ledger)
        whole = merge_tiles(ledger, PLAN, PICTURE.read, reprompt, CONFIG)
        ledger.tiles.path(0).write_bytes(make(owned))
        (ledger.stage_folder("merge") / "objects.npz").write_bytes(make(owned))
        assert run_tiles(PICTURE.read, PLAN, segment, ledger).reused == len(PLAN.tiles) - 1
        again = merge_tiles(ledger, PLAN, PICTURE.read, reprompt, CONFIG)
    assert list(again.iter_masks()) == list(whole.iter_masks())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("make", EVIL)
def test_a_malicious_archive_is_refused(tmp_path, make):
    (tmp_path / "a.npz").write_bytes(make(tmp_path / "owned"))
    with pytest.raises(LedgerError, match=r"a\.npz is damaged"):
        read_arrays(tmp_path / "a.npz", ["areas"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_objects_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="Object arrays cannot be saved when allow_pickle=False"):
        write_arrays(tmp_path / "a.npz", {"a": np.array([Malicious(tmp_path)], dtype=object)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"format": 1}', '{"format": "x", "image": 3, "model": {}}', "\x00"]
)
def test_a_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(LedgerError, match=r"manifest.json is damaged .*--restart"):
        opened(tmp_path)


def test_a_restart_removes_what_a_ledger_makes_and_follows_no_link(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep")
    with opened(tmp_path / "run") as ledger:
        name = ledger.stage_folder("segment").name
    (tmp_path / "run" / "notes").mkdir()
    (tmp_path / "run" / name.replace(name[-4:], "ffff")).symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="symbolic link"):
        Ledger.open(tmp_path / "run", key_of(PICTURE, PLAN, CONFIG), PICTURE.size, restart=True)
    assert (tmp_path / "precious" / "file").read_text() == "keep"
    assert (tmp_path / "run" / "notes").is_dir()
