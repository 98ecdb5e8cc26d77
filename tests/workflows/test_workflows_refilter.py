"""Choosing among the objects of a finished run: limits, look-up tables, and what is written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sam.errors import ConfigError
from napari_sam.export.table import read_table
from napari_sam.geometry import Mask
from napari_sam.images import open_image
from napari_sam.tiling import MergedObjects
from napari_sam.workflows.refilter import KeptObjects, ObjectFilterConfig, label_lookup, look_up, write_kept
from tiling import tiling_synthetic as synthetic

FEATURES = {
    "label": np.array([1, 2, 3, 4]),
    "predicted_iou": np.array([0.5, 0.7, 0.9, 0.9]),
    "stability_score": np.array([0.9, 0.8, 0.9, 0.6]),
    "area_px": np.array([10, 100, 1000, 50]),
}


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, [1, 2, 3, 4]),
        ({"min_predicted_iou": 0.7}, [2, 3, 4]),
        ({"min_stability_score": 0.8}, [1, 2, 3]),
        ({"min_area_px": 50, "max_area_px": 100}, [2, 4]),
        ({"min_predicted_iou": 0.9, "min_stability_score": 0.9, "max_area_px": 999}, []),
    ],
    ids=str,
)
def test_objects_at_a_limit_stay_and_those_beyond_go(limits, kept):
    assert FEATURES["label"][ObjectFilterConfig(**limits).keeps(FEATURES)].tolist() == kept


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"min_predicted_iou": -0.1}, "min_predicted_iou must be at least 0, which keeps all, got -0.1"),
        ({"min_stability_score": float("nan")}, "min_stability_score must be at least 0.*got nan"),
        ({"min_area_px": 9, "max_area_px": 8}, "max_area_px must be at least min_area_px = 9, got 8; None sets no"),
    ],
    ids=["score", "nan", "area"],
)
def test_limits_that_make_no_sense_are_named(limits, message):
    with pytest.raises(ConfigError, match=message):
        ObjectFilterConfig(**limits)


@given(
    hnp.arrays(np.uint32, (6, 7), elements=st.integers(0, 9)),
    hnp.arrays(np.bool_, 6),
)
def test_a_looked_up_image_lacks_just_the_dropped_labels(image, kept):
    labels = np.arange(1, 7, dtype=np.uint64)  # 7 to 9 were drawn by hand
    shown = look_up(image, label_lookup(labels, kept))
    np.testing.assert_array_equal(shown, np.where(np.isin(image, labels[~kept]), 0, image))
    assert shown.dtype == image.dtype


def test_of_no_objects_nothing_is_dropped():
    lookup = label_lookup(np.empty(0, np.uint64), np.empty(0, np.bool_))
    assert look_up(np.array([[0, 3]], np.uint32), lookup).tolist() == [[0, 3]]


def nested() -> MergedObjects:
    """A large mask under a small one of higher predicted IoU, and one apart from them."""
    large, small, apart = (np.zeros((40, 40), bool) for _ in range(3))
    large[5:25, 5:25] = small[10:15, 10:15] = apart[30:35, 30:35] = True
    masks = [Mask.from_array(pixels, predicted_iou=iou) for pixels, iou in ((large, 0.6), (small, 0.9), (apart, 0.7))]
    return MergedObjects.from_masks(masks, (40, 40))


def written_labels(written: KeptObjects) -> np.ndarray:
    return np.asarray(open_image(written.labels).levels[0][:])


def test_what_a_dropped_object_covered_appears_in_what_is_written(tmp_path):
    objects = nested()
    written = write_kept(objects, np.array([True, False, True]), tmp_path / "cells.ome.zarr")
    assert written.labels == tmp_path / "cells.kept.ome.zarr"
    labels = written_labels(written)
    expected = np.zeros((40, 40))
    expected[5:25, 5:25], expected[30:35, 30:35] = 1, 2
    np.testing.assert_array_equal(labels, expected)
    table = read_table(written.table)
    assert table["label"].tolist() == [1, 2]
    assert table["area_px"].tolist() == [400, 25]
    assert written.objects == 2


def test_nothing_that_was_written_before_is_replaced(tmp_path):
    names = [write_kept(nested(), np.ones(3, bool), tmp_path / "a.ome.zarr").labels.name for _ in range(3)]
    assert names == ["a.kept.ome.zarr", "a.kept-2.ome.zarr", "a.kept-3.ome.zarr"]
    assert len(list(tmp_path.glob("*.csv"))) == 3


def test_a_choice_of_nothing_or_of_another_length_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="none of the 3 objects passes; lower the limits"):
        write_kept(nested(), np.zeros(3, bool), tmp_path / "a.ome.zarr")
    with pytest.raises(ConfigError, match=r"3 objects to choose from, got a choice of shape \(2,\)"):
        write_kept(nested(), np.ones(2, bool), tmp_path / "a.ome.zarr")
    assert not list(tmp_path.iterdir())


def test_the_look_up_and_what_is_written_agree_where_nothing_overlaps(tmp_path):
    masks = synthetic.segment(np.repeat(synthetic.blobs((60, 70), 3, n=20)[..., None], 3, axis=2))
    objects = MergedObjects.from_masks(masks, (60, 70))
    kept = ObjectFilterConfig(min_area_px=40).keeps(objects.table.columns())
    assert 0 < kept.sum() < len(kept)
    whole = written_labels(write_kept(objects, np.ones(len(kept), bool), tmp_path / "w.ome.zarr"))
    part = written_labels(write_kept(objects, kept, tmp_path / "p.ome.zarr"))
    np.testing.assert_array_equal(look_up(whole, label_lookup(objects.table.label, kept)) > 0, part > 0)
