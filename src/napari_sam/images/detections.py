"""Boxes of a detector, read from the files that detectors and viewers write: COCO JSON, CSV, GeoJSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.errors import ImageError, PromptError
from napari_sam.geometry import as_boxes
from napari_sam.images.arrays import reason
from napari_sam.images.geo import GeoReference

BOX_SUFFIXES = (".json", ".geojson", ".csv")
_CORNER_COLUMNS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZE_COLUMNS = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
_SCORE_COLUMNS = ("score", "confidence")
_NAME_COLUMNS = ("category", "class", "name")


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Boxes in one image, with what a detector said of them."""

    boxes_xyxy: NDArray[np.float64]
    """(N, 4) half-open, in pixels of the image; (0, 0) is the corner of the first pixel."""
    scores: NDArray[np.float64]
    """(N,) how sure the detector is; 1 where it does not say."""
    categories: tuple[str, ...]
    """What each is; "" where it is not said."""

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(
        cls, boxes_xyxy: ArrayLike, scores: ArrayLike | None = None, categories: Sequence[str] | None = None
    ) -> Detections:
        """Boxes from memory, checked; PromptError if the numbers of boxes, scores and categories differ."""
        boxes = as_boxes(boxes_xyxy)
        weights = np.ones(len(boxes)) if scores is None else np.asarray(scores, dtype=np.float64)
        names = ("",) * len(boxes) if categories is None else tuple(categories)
        if weights.shape != (len(boxes),) or len(names) != len(boxes):
            raise PromptError(
                f"one score and one category a box are wanted, got {len(boxes)} boxes, scores of shape {weights.shape} "
                f"and {len(names)} categories; leave out what is not known."
            )
        return cls(boxes, weights, names)


_Found = tuple[Sequence[float], float, str]
"""(x0, y0, x1, y1), score, category."""


def read_boxes(path: str | Path, *, image_name: str | None = None, geo: GeoReference | None = None) -> Detections:
    """The boxes of a file, in its order.

    Parameters
    ----------
    path : path
        COCO JSON (annotations, or a bare list of results), CSV with named columns, or GeoJSON, of whose shapes the
        bounding boxes are taken.
    image_name : str, optional
        Which image's boxes, for a COCO file of several: its file name, or the number that is its `image_id`.
    geo : GeoReference, optional
        Of the image: a GeoJSON file in map coordinates, which names its coordinate system, is brought to pixels by it.

    Raises
    ------
    ImageError
        If the file cannot be read, or does not say which boxes are meant.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in BOX_SUFFIXES:
        raise ImageError(
            f"boxes are read from {', '.join(BOX_SUFFIXES)} files, got {path}; export them as one of these."
        )
    try:
        if suffix == ".csv":
            found = list(_iter_csv(path))
        else:
            content = json.loads(path.read_text(encoding="utf-8"))
            is_map = (isinstance(content, dict) and "type" in content) or _is_feature_list(content)
            found = list(_iter_geojson(content, geo, path) if is_map else _iter_coco(content, image_name, path))
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {error.strerror}. Check the name and its permissions.") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path} holds no boxes that can be read ({reason(error)}); export them again.") from error
    boxes = np.array([box for box, _, _ in found], dtype=np.float64).reshape(-1, 4)
    return Detections(
        boxes, np.array([score for _, score, _ in found], dtype=np.float64), tuple(n for _, _, n in found)
    )


def _iter_csv(path: Path) -> Iterator[_Found]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        corners = next((c for c in _CORNER_COLUMNS if set(c) <= set(columns)), None)
        sizes = next((c for c in _SIZE_COLUMNS if set(c) <= set(columns)), None)
        named = corners or sizes
        if named is None:
            wanted = "; ".join(", ".join(c) for c in (*_CORNER_COLUMNS, *_SIZE_COLUMNS))
            raise ImageError(f"{path} has the columns {', '.join(columns)}; boxes need one of: {wanted}.")
        score = next((c for c in _SCORE_COLUMNS if c in columns), None)
        category = next((c for c in _NAME_COLUMNS if c in columns), None)
        for row in reader:
            a, b, c, d = (float(row[name]) for name in named)
            box = (a, b, c, d) if corners else (a, b, a + c, b + d)
            yield box, float(row[score]) if score else 1.0, row[category] if category else ""


def _iter_coco(content: Any, image_name: str | None, path: Path) -> Iterator[_Found]:
    annotations = content if isinstance(content, list) else content["annotations"]
    images = {} if isinstance(content, list) else {i["id"]: str(i.get("file_name", "")) for i in content["images"]}
    names = {} if isinstance(content, list) else {c["id"]: str(c["name"]) for c in content.get("categories", ())}
    wanted = _wanted_image({a["image_id"] for a in annotations} | set(images), images, image_name, path)
    for a in annotations:
        if a["image_id"] == wanted:
            x, y, width, height = map(float, a["bbox"])
            category = names.get(a.get("category_id"), str(a.get("category_id", "")))
            yield (x, y, x + width, y + height), float(a.get("score", 1.0)), category


def _wanted_image(ids: set[Any], images: Mapping[Any, str], image_name: str | None, path: Path) -> Any:
    """The id of the image that is meant: the one of that name or number, or the only one."""
    if image_name is not None:
        named = [i for i in ids if Path(images.get(i, "")).name == Path(image_name).name or str(i) == image_name]
        if len(named) == 1:
            return named[0]
    if len(ids) == 1:
        return next(iter(ids))
    shown = ", ".join(sorted(images.get(i, "") or str(i) for i in ids)[:5])
    raise ImageError(
        f"{path} holds boxes of {len(ids)} images ({shown}{', ...' if len(ids) > 5 else ''}), none of them named "
        f"{image_name!r}; name the one that is meant (--image-name)."
    )


def _is_feature_list(content: Any) -> bool:
    """QuPath also writes a bare list of features."""
    return isinstance(content, list) and bool(content) and content[0].get("type") == "Feature"


def _iter_geojson(content: Any, geo: GeoReference | None, path: Path) -> Iterator[_Found]:
    on_map = isinstance(content, dict) and "crs" in content
    if on_map and geo is None:
        raise ImageError(f"{path} is in map coordinates, but the image has no georeference; export boxes in pixels.")
    for feature in content if isinstance(content, list) else content.get("features", [content]):
        points = np.array(list(_iter_points(feature.get("geometry", feature))), dtype=np.float64)
        if not len(points):
            raise ImageError(f"{path} holds a shape without points; remove it, or export again.")
        if on_map and geo is not None:
            points = geo_to_pixels(geo, points)
        properties = feature.get("properties") or {}
        score = next((float(properties[c]) for c in _SCORE_COLUMNS if c in properties), 1.0)
        named = properties.get("classification") or {}
        category = named.get("name") or next((str(properties[c]) for c in _NAME_COLUMNS if c in properties), "")
        yield (*points.min(axis=0).tolist(), *points.max(axis=0).tolist()), score, category


def _iter_points(node: Any) -> Iterator[Sequence[float]]:
    """All points (x, y) below a geometry or list of coordinates."""
    if isinstance(node, dict):
        for part in node.get("geometries", [node.get("coordinates", [])]):
            yield from _iter_points(part)
    elif node and isinstance(node[0], int | float):
        yield node[:2]
    else:
        for part in node:
            yield from _iter_points(part)


def geo_to_pixels(geo: GeoReference, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map coordinates (N, 2) as pixels whose (0, 0) is the corner of the first pixel."""
    a, b, c, d, e, f = geo.affine
    on_centres: NDArray[np.float64] = np.linalg.solve(np.array([[a, b], [d, e]]), (points_xy - (c, f)).T).T
    return on_centres + 0.5
