"""Damaged and malicious image files: pixels or an error of ours, soon, and nothing is written or run."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from images.images_damaged import FILES, damage_json, damaged, write_zarr
from napari_sam.errors import ImageError, NapariSamError
from napari_sam.geometry import Box
from napari_sam.images import open_image

ROUNDS = 60


def read_all(path: Path) -> str:
    """Open an image and look at all of it: what came of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn of what they then read or refuse
            source = open_image(path)
            plane = source.plane(channels=(0,))
            height, width = plane.shape
            plane.read(Box(0, 0, min(width, 300), min(height, 300)))
    except NapariSamError as error:
        return "refused" if path.name in str(error) else f"a refusal that does not name the file: {error}"
    return "read"


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_or_refused_in_our_own_words(tmp_path, kind):
    path = tmp_path / "image"
    FILES[kind](path)
    whole = path.read_bytes()
    assert read_all(path) == "read"
    rng = np.random.default_rng(11)
    outcomes = set()
    for _ in range(ROUNDS):
        path.write_bytes(damaged(whole, rng))
        outcomes.add(read_all(path))
        assert list(tmp_path.iterdir()) == [path]
    assert outcomes <= {"read", "refused"}
    assert "refused" in outcomes


@pytest.mark.parametrize("version", [2, 3])
def test_damaged_zarr_folders_are_read_or_refused_in_our_own_words(tmp_path, version):
    folder, rng = tmp_path / "image.zarr", np.random.default_rng(5)
    outcomes = set()
    for _ in range(ROUNDS):
        write_zarr(folder, version)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        metadata = folder / ("zarr.json" if version == 3 else ".zarray")
        if rng.integers(3):
            damage_json(metadata, rng)
        else:
            chunk = next(path for path in files if path.name not in ("zarr.json", ".zarray", ".zattrs"))
            chunk.write_bytes(damaged(chunk.read_bytes(), rng))
        outcomes.add(read_all(folder))
        assert list(tmp_path.iterdir()) == [folder]
    assert outcomes == {"read", "refused"}


class Malicious:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_zarr_array_whose_chunks_are_pickles_is_refused_and_nothing_runs(tmp_path, place):
    folder = tmp_path / "image.zarr"
    write_zarr(folder, 2)
    metadata = json.loads((folder / ".zarray").read_text())
    codec = {"id": "pickle", "protocol": 5}
    metadata |= {"filters": [codec], "compressor": None} if place == "filters" else {"compressor": codec}
    (folder / ".zarray").write_text(json.dumps(metadata))
    for chunk in folder.glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Malicious(tmp_path / "owned")))
    with pytest.raises(ImageError, match=r"image.zarr cannot be read: .*pickle"):
        open_image(folder).plane().read(Box(0, 0, 9, 9))
    assert not (tmp_path / "owned").exists()


def test_a_zarr_array_of_objects_is_refused(tmp_path):
    folder = tmp_path / "image.zarr"
    write_zarr(folder, 2)
    metadata = json.loads((folder / ".zarray").read_text())
    (folder / ".zarray").write_text(
        json.dumps(metadata | {"dtype": "|O", "filters": [{"id": "pickle"}], "fill_value": 0})
    )
    with pytest.raises(ImageError, match=r"image\.zarr"):
        open_image(folder)


def test_a_level_outside_of_its_folder_is_refused(tmp_path):
    secret = zarr.create_array(tmp_path / "secret", data=np.ones((9, 9), np.uint8))
    assert secret.shape == (9, 9)
    group = zarr.open_group(tmp_path / "image.zarr", mode="w", zarr_format=3)
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    levels = [{"path": "../secret", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    with pytest.raises(ImageError, match=r"image\.zarr"):
        open_image(tmp_path / "image.zarr")
