"""Stacks plane by plane, their masks linked: one label an object, resumed where stopped, refused where it must be."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import fields

import dask.array as da
import numpy as np
import pytest
import tifffile

from napari_sam.cli import main
from napari_sam.errors import ConfigError, OutputError, RunInterrupted
from napari_sam.images import open_image
from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import planning, segmentation
from napari_sam.workflows.stack import LinkConfig, segment_stack
from tiling import tiling_synthetic as synthetic
from workflows.workflows_scenes import TILES, tiny_checkpoint, tiny_model

DEPTH, SIDE = 5, 96
Z, Y, X = np.indices((DEPTH, SIDE, SIDE))


def tubes() -> np.ndarray:
    """Three objects with their numbers: one through all planes that shifts, two that end and begin above each other."""
    labels = np.zeros((DEPTH, SIDE, SIDE), np.uint8)
    labels[(Y - 20 - 2 * Z) ** 2 + (X - 30) ** 2 <= 100] = 1
    labels[((Y - 70) ** 2 + (X - 70) ** 2 <= 144) & (Z < 2)] = 2
    labels[((Y - 70) ** 2 + (X - 70) ** 2 <= 100) & (Z > 2)] = 3
    return labels


def colours(labels: np.ndarray) -> np.ndarray:
    """(Z, Y, X, 3): regions of equal value, which the stand-in for the model segments."""
    return np.repeat((labels * 60)[..., None], 3, axis=-1)


class Tiles:
    """Counts the tiles that the model was asked for."""

    def __init__(self, monkeypatch) -> None:
        self.count = 0
        monkeypatch.setattr(planning, "generate_masks", self._segment)
        monkeypatch.setattr(segmentation, "reprompt", lambda model, image, fragment, **_: None)

    def _segment(self, model, image, config=None, precision="auto"):
        self.count += 1
        return synthetic.segment(image)


@pytest.fixture
def tiles(monkeypatch):
    return Tiles(monkeypatch)


def run(stack, output, **options):
    config = planning.SegmentConfig(axes="ZYXS")
    return segment_stack(stack, output, tiny_model(), tiling=TILES, **({"config": config} | options))


def same_up_to_names(found: np.ndarray, expected: np.ndarray) -> bool:
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    return len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


def test_an_object_has_one_label_in_all_of_its_planes(tiles, tmp_path):
    result = run(colours(tubes()), tmp_path / "out.ome.zarr")
    found = np.asarray(result.labels)
    assert same_up_to_names(found, tubes())
    assert result.is_complete
    assert open_image(tmp_path / "out.ome.zarr").axes == "ZYX"


def test_the_table_has_a_row_an_object_with_its_extent_in_all_axes(tiles, tmp_path):
    result = run(colours(tubes()), tmp_path / "out.ome.zarr")
    found = np.asarray(result.labels)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == [1, 2, 3]
    for row in rows:
        z, y, x = np.nonzero(found == int(row["label"]))
        assert int(row["area_px"]) == len(z)
        assert (int(row["z0"]), int(row["z1"])) == (z.min(), z.max() + 1)
        assert [int(row[name]) for name in ("y0", "y1", "x0", "x1")] == [y.min(), y.max() + 1, x.min(), x.max() + 1]
        middle = [float(row[f"centroid_{axis}"]) for axis in "zyx"]
        np.testing.assert_allclose(middle, [z.mean(), y.mean(), x.mean()], atol=1e-5)


def test_other_linking_segments_nothing_again(tiles, tmp_path):
    run(colours(tubes()), tmp_path / "out.ome.zarr")
    segmented = tiles.count
    strict = run(colours(tubes()), tmp_path / "out.ome.zarr", link=LinkConfig(link_iou_thresh=1.0))
    assert tiles.count == segmented
    assert len(strict.table) == DEPTH + 2  # the one that shifts is another object in each plane
    few = run(colours(tubes()), tmp_path / "out.ome.zarr", link=LinkConfig(least_planes=3))
    assert same_up_to_names(np.asarray(few.labels), np.where(tubes() == 1, 1, 0))


def test_a_stopped_run_goes_on_where_it_ended(tiles, tmp_path):
    asked = iter([False] * 6 + [True] * 100)
    with pytest.raises(RunInterrupted):
        run(colours(tubes()), tmp_path / "out.ome.zarr", should_stop=lambda: next(asked))
    before = tiles.count
    assert 0 < before < DEPTH
    result = run(colours(tubes()), tmp_path / "out.ome.zarr")
    assert tiles.count == DEPTH
    assert same_up_to_names(np.asarray(result.labels), tubes())


def test_a_film_is_linked_along_time_and_written_as_tiff(tiles, tmp_path):
    told = []
    result = run(
        colours(tubes()),
        tmp_path / "out.tif",
        config=planning.SegmentConfig(axes="TYXS"),
        link=LinkConfig(along="t"),
        progress=lambda *step: told.append(step),
    )
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), np.asarray(result.labels))
    assert {"t0", "t1", "centroid_t"} == set(result.extents)
    assert ("planes", DEPTH, DEPTH) in told


def test_an_image_without_such_planes_is_refused(tiles, tmp_path):
    with pytest.raises(ConfigError, match=r"no planes along t to link: the axes of .* are ZYXS; .*use segment"):
        run(colours(tubes()), tmp_path / "out.ome.zarr", link=LinkConfig(along="t"))
    assert list(tmp_path.iterdir()) == []


def test_labels_of_others_are_not_replaced(tiles, tmp_path):
    (tmp_path / "out.tif").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        run(colours(tubes()), tmp_path / "out.tif")


def test_a_stack_that_no_tiff_can_hold_is_refused_before_the_work(tiles, tmp_path):
    huge = da.zeros((3, 20_000, 20_000), dtype=np.uint8)
    with pytest.raises(OutputError, match=r"3 x 20000 x 20000 pixels are too many for one TIFF.*\.ome\.zarr"):
        run(huge, tmp_path / "out.tif", config=planning.SegmentConfig(axes="ZYX"))
    assert (tiles.count, list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"along": "c"}, "along must be one of z, t, got 'c'"),
        ({"link_iou_thresh": 1.5}, r"link_iou_thresh must lie in \[0, 1\], got 1.5"),
        ({"least_planes": 0}, "least_planes must be at least 1, got 0"),
    ],
    ids=["along", "iou", "planes"],
)
def test_impossible_settings_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        LinkConfig(**fields)


def test_the_command_line_does_the_same(tiles, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    tifffile.imwrite("stack.tif", colours(tubes()), photometric="rgb")
    flags = ["--axes", "ZYXS", "--core-px", "64", "--halo-px", "16", "--least-planes", "2"]
    assert main(["segment-stack", "stack.tif", "-o", "out.ome.zarr", "--model", "tiny.safetensors", *flags]) == 0
    assert "3 objects in 5 planes, labels in out.ome.zarr" in capsys.readouterr().out
    assert same_up_to_names(np.asarray(open_image("out.ome.zarr").levels[0][:]), tubes())


def test_no_two_settings_of_segment_stack_have_one_flag():
    configs = AutoMaskConfig, TilingConfig, planning.SegmentConfig, LinkConfig
    names = Counter(field.name for config in configs for field in fields(config))
    assert [name for name, n in names.items() if n > 1] == []
