"""SpatialData: what can be judged without the package, which is too heavy for the tests (docs/exports.md)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from export.scenes import blobs, flattened, squares
from napari_sam.errors import OutputError
from napari_sam.export import spatialdata, write_spatialdata


def test_the_lazy_label_image_is_the_one_that_is_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spatialdata, "_BLOCK_PX", 64)
    objects = blobs((150, 170), 20)
    lazy = spatialdata._lazy_labels(objects)
    assert lazy.chunksize == (64, 64)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), flattened(objects))


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(OutputError, match=r"needs the package spatialdata.*napari-sam-tiles\[spatialdata\]"):
        write_spatialdata(squares((9, 9), [(1, 1)]), tmp_path / "a.zarr")


def test_a_name_that_is_taken_or_ends_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(OutputError, match=r"already exists; choose another name"):
        write_spatialdata(squares((9, 9), []), tmp_path / "a.zarr")
    with pytest.raises(OutputError, match=r"let the name end in \.spatialdata\.zarr"):
        write_spatialdata(squares((9, 9), []), tmp_path / "a.json")
