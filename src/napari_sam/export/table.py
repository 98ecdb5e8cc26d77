"""The object table as CSV or Parquet, with physical units and intensities where they are known."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, ImageError, OutputError
from napari_sam.geometry import Box, Mask
from napari_sam.tiling.functions import Progress
from napari_sam.tiling.labels import PaintableObjects, check_pixel_size, pixels_in
from napari_sam.tiling.multiscale import iter_blocks
from napari_sam.tiling.objects import TABLE_DTYPES, ObjectTable
from napari_sam.tiling.writing import atomic_path

Columns = dict[str, NDArray[Any]]
TABLE_SUFFIXES = (".csv", ".parquet")

_ROWS_AT_ONCE = 1 << 16
_BLOCK_PX = 1024


def write_table(
    table: ObjectTable,
    path: str | os.PathLike[str],
    *,
    pixel_size_um: tuple[float, float] | None = None,
    intensities: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """Write one row an object, as CSV or Parquet by the end of the name.

    Parameters
    ----------
    table : ObjectTable
    path : path
        NAME.csv or NAME.parquet; an existing file is replaced when the new one is complete.
    pixel_size_um : (float, float), optional
        (y, x) size of a pixel in micrometres; adds area_um2, centroid_y_um and centroid_x_um. Centroids are measured
        from the centre of the first pixel, as in the columns in pixels.
    intensities : mapping of name to array of shape (N,), optional
        More columns, as :func:`measure_intensities` makes them.

    Raises
    ------
    OutputError
        If the name ends otherwise, pyarrow is needed and missing, or the disk refuses.
    ConfigError
        If a further column has another length than the table or a name that is taken.
    """
    target = Path(path)
    check_table_path(target)
    columns = table_columns(table, pixel_size_um=pixel_size_um, intensities=intensities)
    with atomic_path(target) as partial:
        if target.suffix.lower() == ".csv":
            _write_csv(columns, partial)
        else:
            _write_parquet(columns, partial)
    return target


def check_table_path(path: str | os.PathLike[str]) -> None:
    """Refuse a name :func:`write_table` could not write to; to be asked before a long run.

    Raises
    ------
    OutputError
        If the name does not end in .csv or .parquet, or pyarrow is needed and missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise OutputError(f"a table ends in {' or '.join(TABLE_SUFFIXES)}, got {path}; change the end of the name.")
    if suffix == ".parquet":
        _pyarrow(path)


def table_columns(
    table: ObjectTable,
    *,
    pixel_size_um: tuple[float, float] | None = None,
    intensities: Mapping[str, NDArray[Any]] | None = None,
) -> Columns:
    """The columns :func:`write_table` writes, by name and in order."""
    check_pixel_size(pixel_size_um)
    columns: Columns = dict(table.columns())
    further: Columns = {}
    if pixel_size_um is not None:
        size_y, size_x = pixel_size_um
        further["area_um2"] = table.area_px * (size_y * size_x)
        further["centroid_y_um"] = table.centroid_y * size_y
        further["centroid_x_um"] = table.centroid_x * size_x
    for name, values in {**further, **(intensities or {})}.items():
        if name in columns or np.shape(values) != (len(table),):
            raise ConfigError(
                f"a further column must have a name of its own and {len(table)} values, got {name!r} of shape "
                f"{np.shape(values)}; the table has {', '.join(columns)}."
            )
        columns[name] = np.asarray(values)
    return columns


def measure_intensities(
    objects: PaintableObjects,
    read_raw: Callable[[Box], NDArray[Any]],
    *,
    channel_names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Columns:
    """Mean, minimum and maximum of each channel in each object.

    The image is read once, block by block. Each object is measured on its own mask, also where others lie over it.

    Parameters
    ----------
    objects : PaintableObjects
    read_raw : callable
        From a Box of whole-image pixels to (h, w) or (h, w, C) values as stored, for instance `Plane.read_raw`.
    channel_names : sequence of C str, optional
        "0", "1", ... by default.
    progress : callable, optional
        Called with (blocks done, blocks in all).

    Returns
    -------
    dict of name to ndarray of shape (N,), float64
        intensity_mean_NAME, intensity_min_NAME, intensity_max_NAME for each channel, in the order of the table;
        NaN for objects without pixels.

    Raises
    ------
    ConfigError
        If there are not as many names as channels.
    """
    labels = objects.table.label
    order = np.argsort(labels)
    blocks = list(iter_blocks(objects.image_size, _BLOCK_PX))
    sums: _Sums | None = None
    for done, block in enumerate(blocks, start=1):
        pixels = np.asarray(read_raw(block))
        pixels = pixels.reshape(block.area, -1)
        sums = sums or _Sums(len(labels), pixels.shape[1])
        for labelled in _batches(objects.masks_in(block), block):
            rows = order[np.searchsorted(labels, [label for label, _ in labelled], sorter=order)]
            owner, places = pixels_in([mask for _, mask in labelled], block)
            sums.add(rows[owner], pixels[places])
        if progress is not None:
            progress(done, len(blocks))
    return sums.columns(channel_names) if sums is not None else {}


def _batches(labelled: Sequence[tuple[int, Mask]], block: Box) -> Iterator[list[tuple[int, Mask]]]:
    """Pieces of `labelled` whose boxes have at most as many pixels as `block`, so that memory stays at some 50 MB."""
    batch: list[tuple[int, Mask]] = []
    area = 0
    for label, mask in labelled:
        part = mask.box.clipped(block)
        if batch and area + part.area > block.area:
            yield batch
            batch, area = [], 0
        batch.append((label, mask))
        area += part.area
    if batch:
        yield batch


class _Sums:
    """Running sums of N objects in C channels."""

    def __init__(self, n: int, channels: int) -> None:
        self.count = np.zeros(n, dtype=np.int64)
        self.total = np.zeros((n, channels))
        self.lowest = np.full((n, channels), np.inf)
        self.highest = np.full((n, channels), -np.inf)

    def add(self, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Take in `values` (K, C) of pixels that belong to the objects `rows` (K,), the pixels of each together."""
        starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))[: len(rows)]
        seen = rows[starts]
        if len(seen):
            self.count[seen] += np.diff(np.append(starts, len(rows)))
            self.total[seen] += np.add.reduceat(values, starts, axis=0, dtype=np.float64)
            self.lowest[seen] = np.minimum(self.lowest[seen], np.minimum.reduceat(values, starts, axis=0))
            self.highest[seen] = np.maximum(self.highest[seen], np.maximum.reduceat(values, starts, axis=0))

    def columns(self, names: Sequence[str] | None) -> Columns:
        channels = self.total.shape[1]
        names = [str(c) for c in range(channels)] if names is None else names
        if len(names) != channels:
            raise ConfigError(f"channel_names must have one name for each of {channels} channels, got {list(names)}.")
        seen = self.count > 0
        columns: Columns = {}
        for c, name in enumerate(names):
            columns[f"intensity_mean_{name}"] = np.where(seen, self.total[:, c] / np.maximum(self.count, 1), np.nan)
            columns[f"intensity_min_{name}"] = np.where(seen, self.lowest[:, c], np.nan)
            columns[f"intensity_max_{name}"] = np.where(seen, self.highest[:, c], np.nan)
        return columns


def read_table(path: str | os.PathLike[str]) -> Columns:
    """Read a table :func:`write_table` wrote: all columns by name, with the types they had.

    `ObjectTable(**{name: columns[name] for name in ObjectTable.column_names()})` makes a table of them again.

    Raises
    ------
    ImageError
        If the file is missing, is no such table or lacks a column.
    OutputError
        If the name ends in neither .csv nor .parquet, or pyarrow is needed and missing.
    """
    source = Path(path)
    check_table_path(source)
    try:
        columns = _read_csv(source) if source.suffix.lower() == ".csv" else _read_parquet(source)
        missing = [name for name in TABLE_DTYPES if name not in columns]
        if missing:
            raise ImageError(f"{path} is not an object table: it lacks {', '.join(missing)}; write it again.")
        return {name: _typed(values, TABLE_DTYPES.get(name, np.float64)) for name, values in columns.items()}
    except OSError as error:
        raise ImageError(f"cannot read the table {path}: {error.strerror or error}.") from error
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path} is not a complete object table: {error}; write it again.") from error


def _write_csv(columns: Columns, path: Path) -> None:
    rows = len(next(iter(columns.values())))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for start in range(0, rows, _ROWS_AT_ONCE):
            part = [values[start : start + _ROWS_AT_ONCE].astype(str).tolist() for values in columns.values()]
            writer.writerows(zip(*part, strict=True))


def _read_csv(path: Path) -> Columns:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        rows = list(reader)
    if any(len(row) != len(names) for row in rows):
        raise ImageError(f"{path} is not a complete object table: a row has not {len(names)} values; write it again.")
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: np.array(column, dtype=np.str_) for name, column in zip(names, values, strict=True)}


def _typed(values: NDArray[Any], dtype: type | str) -> NDArray[Any]:
    if dtype is np.bool_ and values.dtype.kind == "U":
        return np.asarray(values == "True")
    return values.astype(dtype)


def _write_parquet(columns: Columns, path: Path) -> None:
    pa, parquet = _pyarrow(path)
    parquet.write_table(
        pa.table({name: _for_arrow(pa, values) for name, values in columns.items()}), path, compression="zstd"
    )


def _for_arrow(pa: Any, values: NDArray[Any]) -> Any:
    if values.dtype.kind != "U":
        return values
    # pyarrow takes numpy's fixed-width texts only as Python ones, which take five times the memory.
    parts = [values[start : start + _ROWS_AT_ONCE] for start in range(0, len(values), _ROWS_AT_ONCE)]
    return pa.chunked_array([pa.array(part.tolist(), pa.string()) for part in parts], pa.string())


def _read_parquet(path: Path) -> Columns:
    _, parquet = _pyarrow(path)
    content = parquet.read_table(path)
    return {name: np.asarray(content.column(name).to_numpy(zero_copy_only=False)) for name in content.column_names}


def _pyarrow(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """The optional library behind Parquet."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise OutputError(
            f"{path}: Parquet needs pyarrow, which is not installed; run `pip install 'napari-sam-tiles[parquet]'` "
            "or choose a name that ends in .csv."
        ) from error
    return pa, parquet
