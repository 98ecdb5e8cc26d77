"""Many images in one job: each segmented for itself, finished ones skipped, one table of what became of them all."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from napari_sam import __version__
from napari_sam.errors import ConfigError, ImageError, NapariSamError, OutputError, RunInterrupted
from napari_sam.images import open_image
from napari_sam.images.ome_zarr import is_zarr
from napari_sam.images.urls import local_path
from napari_sam.model import SamModel, load_model
from napari_sam.tiling.writing import output_errors, write_bytes
from napari_sam.workflows.formats import AlsoFormat, LabelFormat
from napari_sam.workflows.segmentation import segment
from napari_sam.workflows.settings import SegmentConfig, SegmentPaths
from napari_sam.workflows.stages import StageProgress

IMAGE_SUFFIXES = (".tif", ".tiff", ".svs", ".png", ".jpg", ".jpeg", ".zarr")
_RESULTS: dict[str, tuple[str, str]] = {
    "csv": ("table", ".csv"),
    "parquet": ("table", ".parquet"),
    "geojson": ("geojson", ".geojson"),
    "sa1b": ("sa1b", ".json"),
    "overlay": ("overlay", ".png"),
}
"""Argument of `segment` and end of the file's name."""
SUMMARY = "summary.csv"
_WHERE_ONLY = ("workers", "executor", "scheduler", "torch_threads", "tiles_per_batch")
"""Settings that say where the work is done, not what."""

Status = Literal["done", "incomplete", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutcome:
    """What became of one image: a row of the summary."""

    image: str
    labels: str
    status: Status
    """"incomplete": some tiles failed; "failed": there are no labels."""
    objects: int = 0
    tiles: int = 0
    tiles_failed: int = 0
    seconds: float = 0.0
    problem: str = ""
    """Why it failed, or its first failed tile."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch came to."""

    outcomes: tuple[ImageOutcome, ...]
    """In the order of the images."""
    skipped: int
    """Images that an earlier call had finished."""
    summary: Path

    @property
    def is_complete(self) -> bool:
        """Whether every image is done."""
        return all(outcome.status == "done" for outcome in self.outcomes)


def find_images(given: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The images that files, folders, patterns and tables name, each once, in a fixed order.

    Parameters
    ----------
    given : sequence of path
        An image; a folder of images; a pattern such as "plate/*.tif"; or a table NAME.csv with a column `image`, whose
        relative paths start at the table's folder.

    Raises
    ------
    ImageError
        If one of them names no image.
    """
    found: dict[Path, None] = {}
    for name in given:
        images = _images_of(local_path(name))
        if not images:
            raise ImageError(f"{name} names no image; allowed are {', '.join(IMAGE_SUFFIXES)} files and zarr folders.")
        found |= dict.fromkeys(path.absolute() for path in images)
    return list(found)


def segment_batch(
    images: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    label_format: LabelFormat = "ome.zarr",
    also: Sequence[AlsoFormat] = ("csv",),
    device: str = "auto",
    config: SegmentConfig | None = None,
    restart: bool = False,
    progress: Callable[[int, int, Path], StageProgress] | None = None,
    **job: Any,
) -> BatchResult:
    """Segment many images; an image that fails costs no other one.

    The same call skips what is finished, goes on inside the image that was interrupted, and tries failed ones again.
    An image counts as finished while it, the model and the settings are as they were.

    Parameters
    ----------
    images : sequence of path
        See :func:`find_images`.
    folder : path
        Gets NAME.ome.zarr (or NAME.tif) for each image, with its record, and `summary.csv`.
    model : str, path or SamModel
    label_format : "ome.zarr" or "tif"
    also : sequence of str
        Further results of each image: "csv", "parquet" (table), "geojson", "sa1b", "overlay".
    device : str
    config : SegmentConfig, optional
    restart : bool
        Do finished images again as well.
    progress : function (number, images, path) that returns a function (stage, done, total), optional
    **job
        As of :func:`napari_sam.segment`: `preset`, `automatic`, `tiling`, `roi`, `should_stop`.

    Raises
    ------
    ImageError, ConfigError, CheckpointError
        If there is no image, two results would have one name, or model and settings cannot be used.
    OutputError
        If the summary cannot be written.
    RunInterrupted
        After Ctrl-C or `should_stop`.
    """
    paths, target, config = find_images(images), local_path(folder), config or SegmentConfig()
    unknown = set(also) - set(get_args(AlsoFormat))
    if unknown or label_format not in get_args(LabelFormat):
        raise ConfigError(
            f"labels can be {', '.join(get_args(LabelFormat))} and other results {', '.join(get_args(AlsoFormat))}, "
            f"got {label_format!r} and {', '.join(map(repr, also))}."
        )
    names = _names(paths)
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    by_workers = config.uses_local_cluster or config.scheduler is not None
    with output_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    settings = {**job, "config": config, "also": sorted(also), "model": loaded.fingerprint}
    outcomes: list[ImageOutcome] = []
    skipped = 0
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        output, record = target / f"{name}.{label_format}", target / f"{name}.done.json"
        known = None if restart else _finished(record, output, path, settings)
        skipped += known is not None
        step = progress(number, len(paths), path) if progress is not None and known is None else None
        outcomes.append(
            known
            or _segment_one(
                path,
                output,
                record,
                model if by_workers else loaded,
                settings,
                {**job, "config": config, "device": device, "restart": restart, "progress": step},
                SegmentPaths(**{_RESULTS[kind][0]: target / f"{name}{_RESULTS[kind][1]}" for kind in also}),
            )
        )
        write_bytes(target / SUMMARY, _as_csv(outcomes).encode())
    return BatchResult(tuple(outcomes), skipped, target / SUMMARY)


def _segment_one(
    image: Path,
    output: Path,
    record: Path,
    model: str | os.PathLike[str] | SamModel,
    settings: Mapping[str, Any],
    job: dict[str, Any],
    paths: SegmentPaths,
) -> ImageOutcome:
    """Segment one image, and write down that it is done if it is."""
    try:
        result = segment(image, output, model, paths=paths, **job)
    except RunInterrupted:
        raise
    except NapariSamError as error:
        return ImageOutcome(image=str(image), labels="", status="failed", problem=f"{type(error).__name__}: {error}")
    report = result.report
    problems = [*report.tiles_failed.values(), *report.reprompts_failed.values(), ""]
    outcome = ImageOutcome(
        image=str(image),
        labels=output.name,
        status="done" if result.is_complete else "incomplete",
        objects=report.objects,
        tiles=report.tiles,
        tiles_failed=len(report.tiles_failed),
        seconds=round(sum(report.seconds.values()), 3),
        problem=problems[0],
    )
    if result.is_complete:
        content = {"key": _key(image, settings), "outcome": asdict(outcome)}
        write_bytes(record, json.dumps(content, indent=1).encode())
    return outcome


def _finished(record: Path, output: Path, image: Path, settings: Mapping[str, Any]) -> ImageOutcome | None:
    """What an earlier call wrote down of an image, if nothing has changed since."""
    try:
        content = json.loads(record.read_text("utf-8"))
        outcome = ImageOutcome(**content["outcome"])
        same = content["key"] == _key(image, settings)
    except (OSError, ValueError, KeyError, TypeError, NapariSamError):
        return None
    return outcome if same and output.exists() else None


def _key(image: Path, settings: Mapping[str, Any]) -> str:
    """Says whether image, model and settings are the same as at another time."""
    config = {name: value for name, value in asdict(settings["config"]).items() if name not in _WHERE_ONLY}
    asked = {name: _plain(value) for name, value in settings.items() if name not in ("config", "should_stop")}
    text = json.dumps([__version__, open_image(image).identity, config, asked], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _images_of(path: Path) -> list[Path]:
    if path.suffix.lower() == ".csv":
        return _images_of_table(path)
    if path.is_dir() and not is_zarr(path):
        return sorted(child for child in path.iterdir() if _is_image(child))
    if path.exists():
        return [path]
    return sorted(match for match in map(Path, glob.glob(str(path))) if _is_image(match))


def _is_image(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return is_zarr(path) if path.is_dir() else path.suffix.lower() in IMAGE_SUFFIXES


def _images_of_table(path: Path) -> list[Path]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{path} cannot be read as a table ({error}); save it as CSV in UTF-8.") from error
    if rows and "image" not in rows[0]:
        raise ImageError(f"{path} has the columns {', '.join(map(str, rows[0]))}; one must be called image.")
    images = [path.parent / str(row["image"]) for row in rows if row["image"]]
    missing = [image for image in images if not image.exists()]
    if missing:
        raise ImageError(
            f"{path} names {missing[0]}, which does not exist, and {len(missing) - 1} more; mend the table."
        )
    return images


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each image: its file's, with its folder's before it where two are equal."""
    stems = [_stem(path) for path in paths]
    names = [
        stem if stems.count(stem) == 1 else f"{path.parent.name}_{stem}"
        for stem, path in zip(stems, paths, strict=True)
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OutputError(
            f"several images would have the results {twice[0]!r}; give them different names, or call it once a folder."
        )
    return names


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".ome.zarr", ".zarr", ".ome.tiff", ".ome.tif", path.suffix):
        if suffix and name.lower().endswith(suffix.lower()):
            return name[: -len(suffix)] or name
    return name


def _as_csv(outcomes: Sequence[ImageOutcome]) -> str:
    buffer = io.StringIO()
    names = [column.name for column in fields(ImageOutcome)]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(outcome) for outcome in outcomes)
    return buffer.getvalue()
