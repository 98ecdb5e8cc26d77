"""Make the pictures of edges.md, proposals.md and boxes.md from scikit-image's own images, with nano.

python docs/pictures_paper.py [edges] [proposals] [boxes]
"""

from __future__ import annotations

import sys
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from skimage import data, filters, measure, morphology, segmentation, util

import napari_sam
from napari_sam import EdgeConfig, ObjectProposalConfig
from napari_sam.predict.edges import thin_edges

FOLDER = Path(__file__).parent / "images"
Picture = NDArray[np.uint8]
YELLOW = np.array([255, 220, 0], dtype=np.uint8)
SHOWN = 12
"""Proposals that are drawn; more cover the picture."""


def beside(*pictures: Picture) -> Picture:
    """Pictures in a row, with a white line between them."""
    gap = np.full((pictures[0].shape[0], 6, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)


def colours(gray: NDArray[np.generic]) -> Picture:
    return np.repeat(util.img_as_ubyte(gray)[..., np.newaxis], 3, axis=2)


def with_boxes(picture: Picture, boxes: NDArray[np.integer]) -> Picture:
    drawn = picture.copy()
    for x0, y0, x1, y1 in boxes.tolist():
        drawn[[y0, y1 - 1], x0:x1] = drawn[y0:y1, [x0, x1 - 1]] = YELLOW
    return drawn


def edges(model: napari_sam.SamModel) -> Picture:
    image = data.coins()
    strength = napari_sam.detect_edges(model, image, EdgeConfig(thin=False))
    thin = thin_edges(strength)
    return beside(colours(image), *(colours(1 - np.clip(1.5 * edge / edge.max(), 0, 1)) for edge in (strength, thin)))


def proposals(model: napari_sam.SamModel) -> Picture:
    image = data.coins()
    found = napari_sam.propose_objects(model, image, ObjectProposalConfig(points_per_side=16))
    boxes = np.array([mask.box_xyxy for mask in found])
    return beside(*(with_boxes(colours(image), boxes[:number]) for number in (SHOWN, 3 * SHOWN)))


def boxes(model: napari_sam.SamModel) -> Picture:
    image = data.coins()
    bright = filters.gaussian(image, 2) > filters.threshold_local(filters.gaussian(image, 2), 151)
    regions = measure.regionprops(measure.label(morphology.opening(bright, morphology.disk(6))))
    given = np.array([(r.bbox[1], r.bbox[0], r.bbox[3], r.bbox[2]) for r in regions if r.area > 600 and r.bbox[0] > 0])
    masks = napari_sam.masks_from_boxes(model, image, given)
    outlined = colours(image)
    for mask in masks:
        outlined[segmentation.find_boundaries(mask.to_array())] = YELLOW
    return beside(with_boxes(colours(image), given), outlined)


PICTURES = {"edges": edges, "proposals": proposals, "boxes": boxes}


if __name__ == "__main__":
    nano = napari_sam.load_model("nano", device="cpu")
    for name in sys.argv[1:] or PICTURES:
        path = FOLDER / f"paper-{name}.png"
        path.write_bytes(imagecodecs.png_encode(PICTURES[name](nano)))
        print(path)
