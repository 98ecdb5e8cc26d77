"""Makes the pictures of docs/exports.md, docs/datasets.md and docs/text.md from generated images and skimage's coins.

python docs/make_data_pictures.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import tifffile

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.session import AnnotationSession
from napari_sam.export import write_label_tiff
from napari_sam.geometry import Box, Mask
from napari_sam.images import Normalisation
from napari_sam.predict.text import TextConfig
from napari_sam.tiling.objects import MergedObjects
from napari_sam.training.generated import generate_image
from napari_sam.workflows.datasets.mask_quality import mask_quality, write_quality
from napari_sam.workflows.datasets.plots import write_statistics
from napari_sam.workflows.datasets.statistics import dataset_statistics
from napari_sam.workflows.experiments.text_masks import segment_by_text
from napari_sam.workflows.exporting import export_objects
from napari_sam.workflows.segmentation import segment

IMAGES = Path(__file__).parent / "images"
KINDS = {"nuclei": "fluorescent_nuclei", "membranes": "membranes", "fields": "fields"}
PICTURES = {"centres", "masks_per_image", "relative_size", "concavity"}


class ColourClip:
    """Stands in for a CLIP model: it sees mean colours and knows three words."""

    name = "colours"
    logit_scale = 10.0

    def embed_images(self, images):
        return np.stack([image.reshape(-1, 3).mean(axis=0) for image in images])

    def embed_texts(self, texts):
        return np.array([[float(word in text) for word in ("red", "green", "blue")] for text in texts])


def show_export(place: Path) -> None:
    """The overlay of `napari-sam export`."""
    tifffile.imwrite(place / "coins.tif", skimage.data.coins())
    segment(place / "coins.tif", place / "coins.ome.zarr", device="cpu", restart=True)
    export_objects(place / "coins.ome.zarr", [IMAGES / "export-overlay.png"], image=place / "coins.tif")


def show_statistics(place: Path) -> None:
    """The plots of `napari-sam dataset stats` of three kinds of generated images."""
    for name, kind in KINDS.items():
        folder = place / name
        folder.mkdir()
        for seed in range(12):
            made = generate_image(seed, (256, 384), kind)
            tifffile.imwrite(folder / f"{seed}.image.tif", made.image)
            tifffile.imwrite(folder / f"{seed}.labels.tif", made.labels.astype(np.uint16))
    for path in write_statistics([dataset_statistics(place / name) for name in KINDS], place / "statistics"):
        if path.stem in PICTURES and path.suffix == ".svg":
            (IMAGES / f"dataset-{path.stem}.svg").write_bytes(path.read_bytes())


def show_quality(place: Path) -> None:
    """The histogram of `napari-sam dataset quality`: discs from which more or less was cut by hand."""
    rng, size = np.random.default_rng(0), (400, 400)
    rows, columns = np.indices((30, 30))
    disc = (rows - 14.5) ** 2 + (columns - 14.5) ** 2 < 14**2
    masks = [
        Mask.from_window(disc, Box(x, y, x + 30, y + 30), size) for y in range(0, 390, 40) for x in range(0, 390, 40)
    ]
    image = AnnotatedImage.open(np.zeros(size, np.uint8), normalisation=Normalisation((0.0,), (255.0,)))
    with AnnotationSession(image, place / "session.jsonl", model="nano", fingerprint="f") as session:
        session.prefill(masks)
        for label, mask in enumerate(masks, start=1):
            cut = int(rng.exponential(1.5))
            session.labels[mask.box.y0 : mask.box.y0 + cut, mask.box.x0 : mask.box.x1] = 0
            session.record_painting()
            session.review(label, "fixed" if cut else "accepted")
    write_quality(mask_quality([place / "session.jsonl"]), place)
    (IMAGES / "dataset-quality.svg").write_bytes((place / "iou.svg").read_bytes())


def show_text(place: Path) -> None:
    """Which of generated discs a text keeps, by the stand-in above."""
    rng, size = np.random.default_rng(1), (200, 320)
    pixels = rng.integers(30, 60, (*size, 3)).astype(np.uint8)
    rows, columns = np.indices((30, 30))
    disc = (rows - 14.5) ** 2 + (columns - 14.5) ** 2 < 13**2
    masks = []
    for i, (y, x) in enumerate((y, x) for y in range(8, 170, 40) for x in range(8, 290, 40)):
        box = Box(x, y, x + 30, y + 30)
        pixels[box.slices][disc] = np.eye(3)[(i * 7) % 3] * 180 + rng.integers(0, 60, 3)
        masks.append(Mask.from_window(disc, box, size))
    tifffile.imwrite(place / "discs.tif", pixels, photometric="rgb")
    write_label_tiff(MergedObjects.from_masks(masks, size), place / "discs.labels.tif")
    segment_by_text(
        place / "discs.tif",
        "a red disc",
        place / "red.tif",
        clip=ColourClip(),
        objects=place / "discs.labels.tif",
        config=TextConfig(against=("green", "blue")),
    )
    export_objects(place / "red.tif", [IMAGES / "text-red.png"], image=place / "discs.tif")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for show in (show_export, show_statistics, show_quality, show_text):
            show(Path(folder))
            print(show.__name__)
