"""The object table: CSV, Parquet, units, intensities."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from export.scenes import Relabelled, blobs, grid_of_squares, squares
from napari_sam.errors import ConfigError, ImageError, OutputError
from napari_sam.export import check_table_path, measure_intensities, read_table, write_table
from napari_sam.export import table as table_module
from napari_sam.geometry import Mask
from napari_sam.tiling.objects import MergedObjects, ObjectTable

COLUMNS = [
    "label",
    "y0",
    "x0",
    "y1",
    "x1",
    "area_px",
    "centroid_y",
    "centroid_x",
    "predicted_iou",
    "stability_score",
    "tile",
    "touches_seam",
    "prompt",
    "verified",
]
SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".parquet"])


@SUFFIXES
def test_a_table_comes_back_exactly(suffix: str, tmp_path: Path) -> None:
    table = Relabelled(blobs(), by=2**63).table
    columns = read_table(write_table(table, tmp_path / f"a{suffix}"))
    assert list(columns) == COLUMNS
    for name, values in ObjectTable(**columns).columns().items():
        np.testing.assert_array_equal(values, getattr(table, name), strict=True)


@SUFFIXES
def test_an_empty_table_comes_back_empty(suffix: str, tmp_path: Path) -> None:
    table = MergedObjects.from_masks([], (5, 5)).table
    columns = read_table(write_table(table, tmp_path / f"a{suffix}"))
    assert list(columns) == COLUMNS
    assert len(ObjectTable(**columns)) == 0


@SUFFIXES
def test_physical_units_are_added_where_the_pixel_size_is_known(suffix: str, tmp_path: Path) -> None:
    table = squares((50, 60), [(10, 20)]).table
    columns = read_table(write_table(table, tmp_path / f"a{suffix}", pixel_size_um=(0.5, 0.25)))
    assert list(columns) == [*COLUMNS, "area_um2", "centroid_y_um", "centroid_x_um"]
    assert columns["area_um2"].tolist() == [16 * 0.125]
    assert columns["centroid_y_um"].tolist() == [21.5 * 0.5]
    assert columns["centroid_x_um"].tolist() == [11.5 * 0.25]


def test_pandas_reads_the_same_from_both_kinds(tmp_path: Path) -> None:
    table = blobs().table
    from_csv = pd.read_csv(write_table(table, tmp_path / "a.csv"))
    from_parquet = pd.read_parquet(write_table(table, tmp_path / "a.parquet"))
    pd.testing.assert_frame_equal(from_csv, from_parquet, check_dtype=False)
    assert from_csv["touches_seam"].dtype == bool
    assert from_csv["predicted_iou"].tolist() == table.predicted_iou.tolist()


@pytest.mark.parametrize("block_px", [1024, 37], ids=["one block", "objects over several blocks"])
def test_intensities_equal_those_of_each_mask_alone(block_px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_BLOCK_PX", block_px)
    objects = Relabelled(blobs(), by=1000)
    image = np.random.default_rng(1).integers(0, 60_000, (300, 420, 2), dtype=np.uint16)
    seen: list[tuple[int, int]] = []
    measured = measure_intensities(
        objects, lambda box: image[box.slices], channel_names=("DAPI", "GFP"), progress=lambda *step: seen.append(step)
    )
    assert list(measured) == [f"intensity_{what}_{c}" for c in ("DAPI", "GFP") for what in ("mean", "min", "max")]
    for row, (_, mask) in enumerate(objects.iter_masks()):
        for channel, name in enumerate(("DAPI", "GFP")):
            pixels = image[mask.to_array(), channel]
            assert measured[f"intensity_mean_{name}"][row] == pytest.approx(pixels.mean(), rel=1e-12)
            assert measured[f"intensity_min_{name}"][row] == pixels.min()
            assert measured[f"intensity_max_{name}"][row] == pixels.max()
    assert seen[-1][0] == seen[-1][1] == len(seen)


def test_intensities_of_a_gray_image_go_into_the_table(tmp_path: Path) -> None:
    masks = [Mask.from_array(np.eye(4)), Mask.from_array(np.zeros((4, 4)))]
    objects = MergedObjects.from_masks(masks, (4, 4))
    measured = measure_intensities(objects, lambda box: np.full((box.height, box.width), 7, np.uint8))
    columns = read_table(write_table(objects.table, tmp_path / "a.csv", intensities=measured))
    assert list(columns)[-3:] == ["intensity_mean_0", "intensity_min_0", "intensity_max_0"]
    np.testing.assert_array_equal(columns["intensity_mean_0"], [7, np.nan])


def test_the_sum_of_large_values_does_not_overflow() -> None:
    objects = squares((10, 10), [(0, 0)], side=10)
    measured = measure_intensities(objects, lambda box: np.full((box.height, box.width), 255, np.uint8))
    assert measured["intensity_mean_0"].tolist() == [255.0]


def test_wrong_channel_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"one name for each of 1 channels, got \['a', 'b'\]"):
        measure_intensities(squares((9, 9), []), lambda box: np.zeros((9, 9)), channel_names="ab")


@pytest.mark.parametrize("name", ["label", "mean"], ids=["name taken", "wrong length"])
def test_a_further_column_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    values = np.zeros(1 if name == "label" else 2)
    with pytest.raises(ConfigError, match=rf"a name of its own and 1 values, got '{name}' of shape"):
        write_table(squares((9, 9), [(0, 0)]).table, tmp_path / "a.csv", intensities={name: values})


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a table ends in \.csv or \.parquet, got .*a\.xlsx; change the end"):
        write_table(squares((9, 9), []).table, tmp_path / "a.xlsx")


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        OutputError, match=r"pip install 'napari-sam-tiles\[parquet\]'` or choose a name that ends in .csv"
    ):
        check_table_path("a.parquet")
    check_table_path("a.csv")


def test_an_impossible_pixel_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"two positive numbers \(y, x\)"):
        write_table(squares((9, 9), []).table, tmp_path / "a.csv", pixel_size_um=(-1.0, 1.0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lacks label, y0"),
        ("label,y0\n1,2\n", r"a\.csv is not an object table: it lacks x0, y1"),
        (",".join(COLUMNS) + "\n1,2\n", "a row has not 14 values"),
        (",".join(COLUMNS) + "\n" + ",".join(["x"] * 14) + "\n", r"is not a complete object table: .*; write it again"),
    ],
    ids=["empty", "columns missing", "cut off", "no numbers"],
)
def test_a_damaged_csv_is_explained(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ImageError, match=message):
        read_table(tmp_path / "a.csv")


def test_a_damaged_parquet_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ImageError, match=r"a\.parquet is not a complete object table"):
        read_table(tmp_path / "a.parquet")


@SUFFIXES
def test_a_missing_table_is_named(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=rf"cannot read the table .*a\{suffix}"):
        read_table(tmp_path / f"a{suffix}")


def test_a_hundred_thousand_rows_are_written_in_seconds(tmp_path: Path) -> None:
    table = grid_of_squares(317).table
    started = time.process_time()
    path = write_table(table, tmp_path / "a.csv", pixel_size_um=(0.5, 0.5))
    assert time.process_time() - started < 10
    assert len(read_table(path)["label"]) == 317**2
