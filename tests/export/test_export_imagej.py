"""ROI zips, read back by roifile and filled by shapely."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
import shapely

from export.scenes import Relabelled, blobs, squares
from napari_sam.errors import OutputError
from napari_sam.export import write_roi_zip
from napari_sam.geometry import Box, Mask
from napari_sam.tiling.objects import MergedObjects


def filled(roi: roifile.ImagejRoi, size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie inside an odd number of the ROI's rings: how ImageJ fills."""
    columns, rows = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    rings = roi.coordinates(multi=True)
    inside = np.zeros(size, dtype=bool)
    for ring in rings if isinstance(rings, list) else [rings]:
        inside ^= shapely.contains_xy(shapely.Polygon(ring), columns, rows)
    return inside


def test_every_roi_holds_just_the_pixels_of_its_object(tmp_path: Path) -> None:
    objects = blobs((120, 160), 25)
    rois = roifile.roiread(write_roi_zip(objects, tmp_path / "a.roi.zip"))
    assert len(rois) == 25
    assert {roi.roitype for roi in rois} == {roifile.ROI_TYPE.TRACED, roifile.ROI_TYPE.RECT}
    for roi, (label, mask) in zip(rois, objects.iter_masks(), strict=True):
        assert int(roi.name) == label
        assert (roi.left, roi.top, roi.right, roi.bottom)[:2] == (mask.box.x0, mask.box.y0)
        np.testing.assert_array_equal(filled(roi, objects.image_size), mask.to_array())


def test_names_are_labels_that_sort_as_numbers(tmp_path: Path) -> None:
    objects = Relabelled(squares((30, 30), [(1, 1), (9, 9), (20, 20)]), by=8)
    with zipfile.ZipFile(write_roi_zip(objects, tmp_path / "a.zip")) as archive:
        assert archive.namelist() == ["09.roi", "10.roi", "11.roi"]


def test_an_object_far_out_in_a_huge_image_stands_where_it_is(tmp_path: Path) -> None:
    size = (200_000, 200_000)
    near = Mask.from_window(np.ones((3, 4), bool), Box(61_000, 2, 61_004, 5), size)
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    far = Mask.from_window(ring, Box(150_000, 190_000, 150_005, 190_005), size)
    wide = Mask.from_window(np.ones((1, 40_000), bool), Box(0, 9, 40_000, 10), size)
    path = write_roi_zip(MergedObjects.from_masks([near, far, wide], size), tmp_path / "a.zip")
    for roi, mask in zip(roifile.roiread(path), (near, far, wide), strict=True):
        corners = np.concatenate([np.asarray(c) for c in roi.coordinates(multi=True)])
        np.testing.assert_array_equal([*corners.min(axis=0), *corners.max(axis=0)], mask.box_xyxy)


def test_the_same_objects_give_the_same_bytes_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    masks = [Mask.from_array(np.zeros((4, 4))), Mask.from_array(np.eye(4))]
    objects = MergedObjects.from_masks(masks, (4, 4))
    seen: list[tuple[int, int]] = []
    first = write_roi_zip(objects, tmp_path / "a.zip", progress=lambda *step: seen.append(step))
    second = write_roi_zip(objects, tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    assert [roi.name for roi in roifile.roiread(first)] == ["2"]
    assert seen == [(1, 2), (2, 2)]


def test_a_name_that_does_not_end_in_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"zip file, got .*a\.roi; let the name end in \.roi\.zip"):
        write_roi_zip(squares((9, 9), []), tmp_path / "a.roi")


def test_without_roifile_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(OutputError, match=r"need roifile.*napari-sam-tiles\[imagej\]"):
        write_roi_zip(squares((9, 9), []), tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []
