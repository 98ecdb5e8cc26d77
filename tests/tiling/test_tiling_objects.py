"""Tables of objects, their masks in painting order, and the certificate of their seams."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import disk

from napari_sam.errors import TilingError
from napari_sam.geometry import Box, Mask
from napari_sam.tiling import MergedObjects, ObjectTable, TilingConfig, plan_tiles, seam_cut_labels

SIZE = (60, 80)


def rectangle(x0: int, y0: int, x1: int, y1: int, iou: float = 0.9) -> Mask:
    return Mask.from_window(np.ones((y1 - y0, x1 - x0), dtype=bool), Box(x0, y0, x1, y1), SIZE, predicted_iou=iou)


def test_a_table_of_masks_has_their_boxes_areas_and_centroids():
    table = ObjectTable.from_masks([rectangle(3, 10, 8, 14)])
    assert table.box(0) == Box(3, 10, 8, 14)
    assert (table.area_px[0], table.centroid_x[0], table.centroid_y[0]) == (20, 5.0, 11.5)
    assert table.column_names() == (
        *("label", "y0", "x0", "y1", "x1", "area_px", "centroid_y", "centroid_x", "predicted_iou"),
        *("stability_score", "tile", "touches_seam", "prompt", "verified"),
    )
    assert {name: column.dtype.kind for name, column in table.columns().items()}["prompt"] == "U"
    assert table.label.dtype == np.uint64


def test_a_table_cannot_be_written_to():
    table = ObjectTable.from_masks([rectangle(3, 10, 8, 14)])
    with pytest.raises(ValueError, match="read-only"):
        table.label[0] = 7


def test_columns_of_other_lengths_or_shapes_are_named():
    columns = dict(ObjectTable.from_masks([rectangle(3, 10, 8, 14)]).columns())
    with pytest.raises(TilingError, match=r"equally long, got .*'y0': 2"):
        ObjectTable(**{**columns, "y0": np.array([1, 2])})
    with pytest.raises(TilingError, match=r"column 'tile' .* must be 1-D, got shape \(1, 1\)"):
        ObjectTable(**{**columns, "tile": np.zeros((1, 1))})


def test_masks_in_a_box_are_those_that_meet_it_with_the_most_trusted_last():
    masks = [rectangle(0, 0, 10, 10, 0.9), rectangle(5, 5, 20, 20, 0.8), rectangle(40, 40, 50, 50, 0.1)]
    masks.append(rectangle(9, 0, 15, 15, 0.8))
    objects = MergedObjects.from_masks(masks, SIZE)
    assert [label for label, _ in objects.masks_in(Box(0, 0, 10, 10))] == [2, 4, 1]
    assert [label for label, _ in objects.masks_in(Box(10, 10, 40, 40))] == [2, 4]
    assert objects.masks_in(Box(9, 3, 10, 4))[-1] == (1, masks[0])
    assert objects.masks_in(Box(5, 5, 5, 9)) == []


def test_masks_are_read_only_when_asked_for():
    masks, asked = [rectangle(0, 0, 10, 10), rectangle(40, 40, 50, 50)], []

    def load(row: int) -> Mask:
        asked.append(row)
        return masks[row]

    objects = MergedObjects(ObjectTable.from_masks(masks), SIZE, load)
    assert len(objects) == 2
    objects.masks_in(Box(45, 45, 46, 46))
    assert asked == [1]
    assert list(objects.iter_masks()) == [(1, masks[0]), (2, masks[1])]


PLAN = plan_tiles(SIZE, TilingConfig(core_px=40, halo_px=5))
# Cores end at column 40 and row 30, reads at columns 30 and 50 and rows 10 and 50.


@pytest.mark.parametrize(
    "mask",
    [rectangle(22, 2, 40, 20), rectangle(40, 2, 48, 20), rectangle(2, 10, 20, 25), rectangle(60, 35, 75, 50)],
    ids=["left_of_core", "right_of_core", "above_read", "below_read"],
)
def test_an_object_straight_along_a_seam_is_counted(mask):
    objects = MergedObjects.from_masks([rectangle(1, 1, 3, 3), mask], SIZE)
    assert seam_cut_labels(objects, PLAN).tolist() == [2]


def test_edges_of_the_image_and_lines_between_seams_are_no_seams():
    masks = [rectangle(0, 5, 20, 20), rectangle(60, 40, 80, 60), rectangle(52, 2, 62, 20)]
    assert seam_cut_labels(MergedObjects.from_masks(masks, SIZE), PLAN).tolist() == []


def test_short_straight_ends_are_not_counted():
    assert seam_cut_labels(MergedObjects.from_masks([rectangle(33, 10, 40, 17)], SIZE), PLAN).tolist() == []


@pytest.mark.parametrize("radius", [2, 3, 5, 8, 9, 12, 16, 20])
def test_no_disc_that_ends_on_a_seam_is_counted(radius):
    for offset in (0.0, 0.3, 0.5, 0.8):
        pixels = np.zeros((100, 100), dtype=bool)
        pixels[disk((50, 40 + offset), radius)] = True
        mask = Mask.from_array(pixels)
        plan = plan_tiles((100, 100), TilingConfig(core_px=40, halo_px=2))
        assert plan.column_edges.tolist() == [0, 33, 67, 100]
        moved = mask.shifted(67 - mask.box.x1, 0, (100, 100))
        assert seam_cut_labels(MergedObjects.from_masks([moved], (100, 100)), plan).tolist() == []


def test_a_disc_cut_in_half_on_a_seam_is_counted():
    pixels = np.zeros((100, 100), dtype=bool)
    pixels[disk((50, 67), 12)] = True
    pixels[:, 67:] = False
    plan = plan_tiles((100, 100), TilingConfig(core_px=40, halo_px=2))
    assert seam_cut_labels(MergedObjects.from_masks([Mask.from_array(pixels)], (100, 100)), plan).tolist() == [1]
