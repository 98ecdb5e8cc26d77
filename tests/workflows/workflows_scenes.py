"""What the tests of whole jobs share: a stand-in for the model that counts its calls, a tiny checkpoint, images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from skimage.measure import label

from napari_sam.geometry import Mask
from napari_sam.model import ConvConfig, SamConfig, SamModel, build_sam, save_checkpoint
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import planning, segmentation
from tiling import tiling_synthetic as synthetic

TINY = SamConfig(
    encoder=ConvConfig(widths=(4, 4, 4, 8, 8), depths=(1, 1, 1, 1, 1), centre_channels=8),
    image_size=64,
    embedding_stride=8,
    prompt_embed_dim=16,
    decoder_heads=2,
    decoder_mlp_dim=16,
    iou_head_hidden_dim=16,
    has_proposals=True,
)
KEEP_ALL = {
    "prompts": "grid",
    "points_per_side": 3,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "max_mask_fraction": 0.9,
}
"""With random weights no mask would pass the published filters."""
TILES = TilingConfig(core_px=64, halo_px=16)


def tiny_sam():
    """A tiny network with random weights, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_sam(TINY).eval()


def tiny_model() -> SamModel:
    """A tiny network as `load_model` gives one."""
    return SamModel(tiny_sam(), "tiny", "0" * 64, torch.device("cpu"), TINY, KEEP_ALL)


def tiny_checkpoint(path: Path) -> Path:
    """The same, as a file."""
    save_checkpoint(path, tiny_sam(), TINY, automatic_defaults=KEEP_ALL)
    return path


@dataclass
class StandIn:
    """Segments regions of equal value, and notes what it was asked."""

    segmented: int = 0
    reprompted: int = 0
    fail: set[int] = field(default_factory=set)
    """Numbers of the calls that fail, from 1 on."""
    stop: dict[int, BaseException] = field(default_factory=dict)
    """Raised at these calls."""
    settings: dict[str, object] = field(default_factory=dict)
    """With which a whole object was asked for."""

    def segment(self, model, image, config=None, precision="auto") -> list[Mask]:
        self.segmented += 1
        if self.segmented in self.stop:
            raise self.stop.pop(self.segmented)
        if self.segmented in self.fail:
            raise RuntimeError("this tile cannot be had")
        return synthetic.segment(image)

    def reprompt(self, model, image, fragment, **settings: object) -> Mask | None:
        self.reprompted += 1
        self.settings = settings
        return synthetic.reprompt(image, fragment)


def stand_in(monkeypatch, **behaviour) -> StandIn:
    """Puts a stand-in in the place of the model's two functions."""
    made = StandIn(**behaviour)
    monkeypatch.setattr(planning, "generate_masks", made.segment)
    monkeypatch.setattr(segmentation, "reprompt", made.reprompt)
    return made


def scene(size=(200, 230)) -> np.ndarray:
    """A colour image (its pixels reach the model unchanged) of snakes, rings, bars and blobs."""
    return np.repeat(synthetic.obstacles(size)[..., np.newaxis], 3, axis=2)


def squares(size=(128, 128), step=32, side=16) -> np.ndarray:
    """Bright squares on a dark ground, none of them on the border."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = ((rows - 8) % step < side) & ((columns - 8) % step < side)
    inside &= (rows >= 8) & (columns >= 8) & (rows < size[0] // step * step) & (columns < size[1] // step * step)
    return np.where(inside, 200, 10).astype(np.uint8)


def digest(path: Path) -> str:
    """One hash of a file, or of all files of a folder, names included."""
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        total.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def found(result) -> list:
    """What objects a result has, apart from their order."""
    return synthetic.canonical(mask for _, mask in result.objects.iter_masks())


def write_pairs(folder, count=3):
    """Images of squares with their labels, and a manifest that puts the last one into a group of its own."""
    image = squares((64, 64))
    rows = ["file,tissue"]
    for number in range(count):
        name = f"{number}.image.png"
        (folder / name).write_bytes(imagecodecs.png_encode(np.roll(image, number, axis=1)))
        labels = label(np.roll(image, number, axis=1) > 100).astype(np.uint16)
        (folder / f"{number}.labels.png").write_bytes(imagecodecs.png_encode(labels))
        rows.append(f"{name},{'lung' if number == count - 1 else 'skin'}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder
