"""Edge maps of a model against human boundaries, by the BSDS protocol (Kirillov et al. 2023, section 7.2)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from napari_sam.errors import TrainingError
from napari_sam.evaluation.boundaries import (
    BoundaryCounts,
    BoundaryScores,
    count_boundaries,
    label_boundaries,
    score_boundaries,
)
from napari_sam.evaluation.protocols import boundary_thresholds
from napari_sam.geometry import Box
from napari_sam.images import open_image
from napari_sam.model import SamModel, load_model
from napari_sam.predict import EdgeConfig
from napari_sam.tiling.writing import output_errors, write_bytes
from napari_sam.training.data import find_pairs
from napari_sam.workflows.experiments.config import EdgeEvaluationConfig
from napari_sam.workflows.experiments.edges import edges_of_array

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class BoundaryPair:
    """An image and the file with its boundaries."""

    name: str
    image: Path
    truth: Path
    """A .mat file of BSDS, or a label image."""


@dataclass(frozen=True, slots=True)
class EdgeReport:
    """Figures of one model on one set of images."""

    model: str
    model_sha256: str
    figures: BoundaryScores
    images: Mapping[str, float]
    """The best F-measure of each image, by name."""
    settings: Mapping[str, Any]

    def as_text(self) -> str:
        """A few lines for a terminal."""
        f = self.figures
        return (
            f"{self.model}: edges of {len(self.images)} images\n"
            f"  ODS {f.ods:.4f} (threshold {f.ods_threshold:.2f})\n  OIS {f.ois:.4f}\n  AP  {f.ap:.4f}\n"
            f"  R50 {f.r50:.4f}"
        )

    def write_json(self, path: Path) -> Path:
        """Write all of it; OutputError if that fails."""
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, (json.dumps(asdict(self), indent=1) + "\n").encode())
        return path


def evaluate_edges(
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    config: EdgeEvaluationConfig | None = None,
    edges: EdgeConfig | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> EdgeReport:
    """ODS, OIS, AP and R50 of a model's edges; each image is shown to it whole.

    Parameters
    ----------
    folder : path
        BSDS500 as it is distributed (images, and a .mat file of the same name for each, anywhere below), or pairs of
        images and label images as for :func:`napari_sam.evaluate`, whose outlines are the boundaries.
    model : str, path or SamModel
    device : str
    config : EdgeEvaluationConfig, optional
    edges : EdgeConfig, optional
    progress : function (stage, done, total), optional

    Raises
    ------
    TrainingError
        If the folder or a file in it cannot be used.
    """
    config, edges = config or EdgeEvaluationConfig(), edges or EdgeConfig()
    pairs = find_boundary_pairs(Path(folder), split=config.split, max_images=config.max_images)
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    thresholds = boundary_thresholds(config.thresholds)
    counts: dict[str, BoundaryCounts] = {}
    for done, pair in enumerate(pairs):
        if progress is not None:
            progress("images", done, len(pairs))
        found = edges_of_array(pair.image, loaded, edges=edges, whole=True)
        truths = read_boundaries(pair.truth)
        counts[pair.name] = count_boundaries(found, truths, thresholds, max_distance=config.max_distance)
    if progress is not None:
        progress("images", len(pairs), len(pairs))
    best = {name: score_boundaries([image], thresholds).ois for name, image in counts.items()}
    settings = {"folder": os.fspath(folder), **asdict(config), "edges": asdict(edges)}
    figures = score_boundaries(list(counts.values()), thresholds)
    return EdgeReport(loaded.name, loaded.fingerprint, figures, best, settings)


def find_boundary_pairs(folder: Path, *, split: str | None = None, max_images: int | None = None) -> list[BoundaryPair]:
    """Images with boundaries, by name; TrainingError if there are none or an image has none."""
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder; give one with images and their boundaries.")
    mats = {path.stem: path for path in sorted(folder.rglob("*.mat"))}
    if mats:
        pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        pairs = [BoundaryPair(path.stem, path, mats[path.stem]) for path in pictures if path.stem in mats]
    else:
        pairs = [BoundaryPair(pair.name, pair.image, pair.labels) for pair in find_pairs(folder)]
    chosen = [pair for pair in pairs if split is None or split in pair.image.relative_to(folder).parts[:-1]]
    if not chosen:
        where = f" in a folder named {split!r}" if split is not None else ""
        raise TrainingError(
            f"{folder} holds no image{where} that has boundaries; expected NAME.jpg and NAME.mat of BSDS, or pairs of "
            "images and labels."
        )
    if max_images is not None and max_images < len(chosen):
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, max_images).astype(int)]
    return chosen


def read_boundaries(path: Path) -> list[NDArray[np.bool_]]:
    """The boundary maps (H, W) of all annotators in a .mat file of BSDS; of a label image its outlines, one map."""
    if path.suffix.lower() != ".mat":
        plane = open_image(path).plane(channels=0)
        return [label_boundaries(plane.read_raw(Box.of_size(plane.shape))[..., 0])]
    try:
        annotators = loadmat(path)["groundTruth"].ravel()
        return [np.asarray(one["Boundaries"][0, 0]) > 0 for one in annotators]
    except (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise TrainingError(
            f"{path} is no ground truth of BSDS ({type(error).__name__}: {error}); it needs groundTruth.Boundaries."
        ) from error
