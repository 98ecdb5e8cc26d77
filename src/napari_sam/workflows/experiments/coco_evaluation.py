"""Object proposals and instances from boxes against known objects, by COCO's figures (paper, sections 7.3 and 7.4)."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import TrainingError
from napari_sam.evaluation.coco_scores import (
    ScoredImage,
    average_precision,
    average_recall,
    mean_over_categories,
)
from napari_sam.evaluation.protocols import size_ranges
from napari_sam.geometry import Mask
from napari_sam.model import SamModel, load_model
from napari_sam.predict import ObjectProposalConfig, proposal_score
from napari_sam.tiling.writing import output_errors, write_bytes
from napari_sam.workflows.evaluating.truth import TrueImage, coco_readers, pair_readers, read_coco
from napari_sam.workflows.experiments.box_windows import plan_windows
from napari_sam.workflows.experiments.boxes import clip_boxes, window_masks
from napari_sam.workflows.experiments.config import CocoEvaluationConfig
from napari_sam.workflows.experiments.proposals import find_proposals

RECALL_AT = (10, 100, 1000)
DETECTIONS_AT = 100
"""How many detections of an image COCO's AP looks at."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CocoReport:
    """Figures of one model on one set of images."""

    model: str
    model_sha256: str
    images: int
    objects: int
    figures: Mapping[str, float | None]
    """By name; None where there is no object to judge."""
    settings: Mapping[str, Any]

    def as_text(self) -> str:
        """A few lines for a terminal."""
        shown = (f"  {name:12} {'-' if value is None else f'{value:.4f}'}" for name, value in self.figures.items())
        return "\n".join([f"{self.model}: {self.objects} objects in {self.images} images", *shown])

    def write_json(self, path: Path) -> Path:
        """Write all of it; OutputError if that fails."""
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, (json.dumps(asdict(self), indent=1) + "\n").encode())
        return path


def evaluate_proposals(
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    annotations: str | os.PathLike[str] | None = None,
    device: str = "auto",
    config: CocoEvaluationConfig | None = None,
    proposals: ObjectProposalConfig | None = None,
    progress: Progress | None = None,
) -> CocoReport:
    """How many of the known objects the best 10, 100 and 1000 proposals of each image find (AR, masks).

    Parameters
    ----------
    folder : path
        Pairs of images and labels, as for :func:`napari_sam.evaluate`; or the images of `annotations`.
    model : str, path or SamModel
    annotations : path, optional
        COCO instances of the images in `folder`.
    device : str
    config : CocoEvaluationConfig, optional
    proposals : ObjectProposalConfig, optional
    progress : function (stage, done, total), optional

    Returns
    -------
    CocoReport
        ar@10, ar@100, ar@1000 and, at 1000, ar_small, ar_medium, ar_large; means over IoU 0.50 to 0.95.

    Raises
    ------
    TrainingError
        If the folder or the annotations cannot be used.
    """
    config, proposals = config or CocoEvaluationConfig(), proposals or ObjectProposalConfig()
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    scored = []
    for image in _iter_images(Path(folder), annotations, config, progress):
        found = find_proposals(image.plane, loaded, proposals, whole=config.whole)
        scored.append(_scored(image, found, [proposal_score(mask) for mask in found], range(len(image.masks))))
    figures = {f"ar@{most}": average_recall(scored, most=most) for most in RECALL_AT}
    ranges = size_ranges((config.small_px2, config.large_px2))
    most = max(RECALL_AT)
    figures |= {f"ar_{name}": average_recall(scored, size_px2=ranges[name], most=most) for name in list(ranges)[1:]}
    settings = {"folder": os.fspath(folder), **asdict(config), "proposals": asdict(proposals)}
    return _report(loaded, scored, figures, settings)


def evaluate_boxes(
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    annotations: str | os.PathLike[str] | None = None,
    detections: str | os.PathLike[str] | None = None,
    device: str = "auto",
    config: CocoEvaluationConfig | None = None,
    progress: Progress | None = None,
) -> CocoReport:
    """Mask AP, by COCO's definition, of the instances that boxes become.

    Parameters
    ----------
    folder, model, annotations, device, config, progress
        As for :func:`evaluate_proposals`.
    detections : path, optional
        COCO results (image_id, category_id, bbox, score) of a detector on the images of `annotations`. By default the
        boxes are the true ones, ranked by predicted IoU: what a perfect detector would leave to the model.

    Returns
    -------
    CocoReport
        ap (mean over IoU 0.50 to 0.95), ap50, ap75, ap_small, ap_medium, ap_large: means over the categories.

    Raises
    ------
    TrainingError
        If the folder, the annotations or the detections cannot be used.
    """
    config = config or CocoEvaluationConfig()
    if detections is not None and annotations is None:
        raise TrainingError("detections are matched to images by the ids of a COCO file; give its annotations as well.")
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    of_image = None if detections is None else _read_results(Path(detections))
    by_category: dict[str, list[ScoredImage]] = defaultdict(list)
    names = {} if annotations is None else _category_names(Path(annotations))
    everything = []
    for image in _iter_images(Path(folder), annotations, config, progress):
        boxes, scores, categories = _boxes_of(image, of_image, names)
        found = _masks_of(image, loaded, boxes)
        ranks = [mask.predicted_iou for mask in found] if scores is None else scores
        everything.append(_scored(image, found, ranks, range(len(image.masks))))
        for category in sorted({*categories, *image.categories}):
            mine = [i for i, name in enumerate(categories) if name == category]
            true_ones = [i for i, name in enumerate(image.categories) if name == category]
            scored = _scored(image, [found[i] for i in mine], [ranks[i] for i in mine], true_ones)
            by_category[category].append(scored)
    settings = {"folder": os.fspath(folder), **asdict(config), "detections": str(detections or "")}
    return _report(loaded, everything, _precisions(by_category, config), settings)


def _precisions(by_category: Mapping[str, Sequence[ScoredImage]], config: CocoEvaluationConfig) -> dict[str, float]:
    ranges = size_ranges((config.small_px2, config.large_px2))
    kinds: dict[str, dict[str, Any]] = {
        "ap": {},
        "ap50": {"thresholds": np.array([0.5])},
        "ap75": {"thresholds": np.array([0.75])},
        **{f"ap_{name}": {"size_px2": ranges[name]} for name in list(ranges)[1:]},
    }
    return {
        kind: mean_over_categories(
            {name: average_precision(images, most=DETECTIONS_AT, **options) for name, images in by_category.items()}
        )
        for kind, options in kinds.items()
    }


def _iter_images(
    folder: Path, annotations: str | os.PathLike[str] | None, config: CocoEvaluationConfig, progress: Progress | None
) -> Iterator[TrueImage]:
    readers = (
        pair_readers(folder, max_images=config.max_images)
        if annotations is None
        else coco_readers(folder, annotations, max_images=config.max_images)
    )
    for done, read in enumerate(readers):
        if progress is not None:
            progress("images", done, len(readers))
        yield read()
    if progress is not None:
        progress("images", len(readers), len(readers))


def _scored(image: TrueImage, found: Sequence[Mask], scores: Sequence[float], rows: Sequence[int]) -> ScoredImage:
    """`found` against some of the true objects of an image."""
    return ScoredImage.of_masks(
        found,
        scores,
        [image.masks[i] for i in rows],
        is_crowd=[bool(image.is_crowd[i]) for i in rows],
        true_areas=[float(image.areas[i]) for i in rows],
    )


def _masks_of(image: TrueImage, model: SamModel, boxes: Sequence[Sequence[float]]) -> list[Mask]:
    clipped = clip_boxes(np.asarray(boxes, dtype=np.float64).reshape(-1, 4), image.plane.shape)
    found: dict[int, Mask] = {}
    for window in plan_windows(clipped, image.plane.shape, model.config.image_size):
        masks = window_masks(model, image.plane, window, clipped)
        found |= dict(zip(window.rows.tolist(), masks, strict=True))
    return [found[row] for row in range(len(clipped))]


def _boxes_of(
    image: TrueImage, of_image: Mapping[Any, Sequence[Mapping[str, Any]]] | None, names: Mapping[Any, str]
) -> tuple[list[list[float]], list[float] | None, list[str]]:
    """Boxes, scores and categories: the detector's, or the true ones of single objects without scores."""
    if of_image is None:
        single = np.flatnonzero(~image.is_crowd).tolist()
        return image.boxes_xyxy[single].tolist(), None, [image.categories[i] for i in single]
    mine = of_image.get(image.image_id, ())
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (map(float, d["bbox"]) for d in mine)]
    categories = [names.get(d["category_id"], str(d["category_id"])) for d in mine]
    return boxes, [float(d["score"]) for d in mine], categories


def _read_results(path: Path) -> dict[Any, list[Mapping[str, Any]]]:
    """COCO results by image id."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read as JSON ({error}); give a file of COCO results.") from error
    needed = {"image_id", "category_id", "bbox", "score"}
    of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for item in content if isinstance(content, list) else [content]:
        if not isinstance(item, dict) or not needed <= item.keys():
            raise TrainingError(f"{path} is no list of COCO results: each needs {', '.join(sorted(needed))}.")
        of_image[item["image_id"]].append(item)
    return of_image


def _category_names(annotations: Path) -> dict[Any, str]:
    return {c["id"]: str(c["name"]) for c in read_coco(annotations)["categories"]}


def _report(
    model: SamModel, scored: Sequence[ScoredImage], figures: Mapping[str, float], settings: dict[str, Any]
) -> CocoReport:
    objects = sum(int((~image.is_crowd).sum()) for image in scored)
    known = {name: None if np.isnan(value) else value for name, value in figures.items()}
    return CocoReport(model.name, model.fingerprint, len(scored), objects, known, settings)
