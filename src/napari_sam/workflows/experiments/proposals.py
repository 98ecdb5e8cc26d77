"""Object proposals of an image of any size, as boxes, masks or crops (Kirillov et al. 2023, section 7.3)."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from napari_sam import __version__
from napari_sam.errors import OutputError, TilingError
from napari_sam.export.streaming import write_json_list
from napari_sam.geometry import Box, Mask
from napari_sam.images import Plane, has_foreground
from napari_sam.images.source import ImageInput
from napari_sam.images.urls import local_path
from napari_sam.model import SamModel, load_model
from napari_sam.predict import (
    ObjectProposalConfig,
    generate_masks,
    proposal_score,
    propose_objects,
    ranked_proposals,
    reprompt,
)
from napari_sam.tiling import Ledger, RunKey, TilingConfig, merge_tiles, plan_tiles, run_tiles
from napari_sam.tiling.writing import atomic_path, output_errors
from napari_sam.workflows.experiments.image_choice import is_seen_whole, open_plane
from napari_sam.workflows.settings import SegmentConfig
from napari_sam.workflows.stages import StageProgress, Stages, not_resumable

STAGE = "proposals"
PROPOSAL_SUFFIXES = (".json", ".csv")
CROP_DIGITS = 6
HIGHEST_MERGE_THRESH = 0.99
CSV_COLUMNS = ("x0", "y0", "x1", "y1", "score", "predicted_iou", "stability_score", "area_px")


@dataclass(frozen=True, slots=True)
class ProposalResult:
    """What `write_proposals` found."""

    masks: tuple[Mask, ...]
    """Best first, in pixels of the image."""
    seconds: float


def write_proposals(
    image_or_path: ImageInput,
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    device: str = "auto",
    proposals: ObjectProposalConfig | None = None,
    tiling: TilingConfig | None = None,
    config: SegmentConfig | None = None,
    whole: bool | None = None,
    crops: str | os.PathLike[str] | None = None,
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ProposalResult:
    """Propose objects of an image: :func:`napari_sam.propose_objects` for any size.

    Parameters
    ----------
    image_or_path : path, array, or list of arrays
        See :func:`napari_sam.open_image`.
    output : path
        NAME.json for COCO annotations with boxes, masks and scores, or NAME.csv for boxes and scores; an existing file
        is replaced. Either can be given to :func:`napari_sam.segment_boxes`.
    model : str, path or SamModel
    device : str
    proposals : ObjectProposalConfig, optional
        Its number holds for the whole image.
    tiling : TilingConfig, optional
        Of it `core_px` and `halo_px`.
    config : SegmentConfig, optional
        Which plane and channels.
    whole : bool, optional
        Show the image to the model in one piece, reduced, as in the paper, or tile by tile. By default whole if its
        longer side is at most twice the model's input.
    crops : path, optional
        A folder for one PNG a proposal, as the model sees it, numbered from the best.
    progress : function (stage, done, total), optional
    should_stop : function, optional
        Asked between tiles.

    Raises
    ------
    ImageError, ConfigError, CheckpointError, OutputError
        If something cannot be used or written.
    TilingError
        If a tile fails.
    RunInterrupted
        After `should_stop`.
    """
    output, folder = local_path(output), None if crops is None else Path(crops)
    _check_paths(output, folder)
    plane = open_plane(image_or_path, config or SegmentConfig())
    loaded = model if isinstance(model, SamModel) else load_model(model, device=device)
    stages = Stages(progress, should_stop)
    with not_resumable(), stages.stage(STAGE) as step:
        masks = find_proposals(plane, loaded, proposals, tiling=tiling, whole=whole, step=step)
    if output.suffix.lower() == ".csv":
        _write_csv(masks, output)
    else:
        _write_coco(masks, output, plane)
    if folder is not None:
        _write_crops(masks, folder, plane)
    return ProposalResult(tuple(masks), stages.seconds[STAGE])


def proposals_of_array(
    image: ImageInput,
    model: str | os.PathLike[str] | SamModel = "nano",
    *,
    proposals: ObjectProposalConfig | None = None,
    progress: StageProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Mask]:
    """The proposals of an image, best first, without files; parameters and errors as for :func:`write_proposals`."""
    plane = open_plane(image, SegmentConfig())
    loaded = model if isinstance(model, SamModel) else load_model(model)
    with not_resumable(), Stages(progress, should_stop).stage(STAGE) as step:
        return find_proposals(plane, loaded, proposals, step=step)


def find_proposals(
    plane: Plane,
    model: SamModel,
    config: ObjectProposalConfig | None = None,
    *,
    tiling: TilingConfig | None = None,
    whole: bool | None = None,
    step: Callable[[int, int], None] | None = None,
) -> list[Mask]:
    """The proposals of a plane, best first; parameters and errors as for :func:`write_proposals`."""
    config = config or ObjectProposalConfig()
    if not is_seen_whole(plane.shape, model.config.image_size, whole):
        return ranked_proposals(_tiled_masks(plane, model, config, tiling or TilingConfig(), step), config.proposals)
    whole_box = Box.of_size(plane.shape)
    is_blank = not has_foreground(plane.read_raw(whole_box), plane.normalisation)
    masks = [] if is_blank else propose_objects(model, plane.read(whole_box), config)
    if step is not None:
        step(1, 1)
    return masks


def _tiled_masks(
    plane: Plane,
    model: SamModel,
    config: ObjectProposalConfig,
    tiling: TilingConfig,
    step: Callable[[int, int], None] | None,
) -> list[Mask]:
    """The masks of all tiles, each object once; records pass through a temporary folder."""
    sizes = TilingConfig(
        core_px=tiling.core_px,
        halo_px=tiling.halo_px,
        # Parts and wholes are proposals of their own, so only near duplicates are one object, as inside a tile.
        merge_iou_thresh=min(config.box_nms_thresh, HIGHEST_MERGE_THRESH),
    ).resolve(model.config.image_size)
    plan = plan_tiles(plane.shape, sizes, lambda tile: has_foreground(plane.read_raw(tile.read), plane.normalisation))
    key = RunKey(image={}, model={}, version=__version__, segment={}, merge={}, output={})
    with (
        tempfile.TemporaryDirectory(prefix="napari-sam-") as folder,
        Ledger.open(folder, key, plane.shape) as ledger,
    ):
        segment = partial(generate_masks, model, config=config.automatic())
        summary = run_tiles(plane.read, plan, segment, ledger, progress=step)
        if summary.failed:
            first = next(iter(summary.failed.values()))
            raise TilingError(f"{len(summary.failed)} tiles failed, the first with: {first}")
        objects = merge_tiles(ledger, plan, plane.read, partial(reprompt, model), sizes)
        return [mask for _, mask in objects.iter_masks()]


def _check_paths(output: Path, crops: Path | None) -> None:
    if output.suffix.lower() not in PROPOSAL_SUFFIXES:
        raise OutputError(f"proposals are written to NAME.json or NAME.csv, got {output}; change the end of the name.")
    if crops is not None and crops.exists() and (not crops.is_dir() or any(crops.iterdir())):
        raise OutputError(f"{crops} is no empty folder; crops go into a new one, so that nothing is mixed up.")


def _row(mask: Mask) -> dict[str, Any]:
    values = (*mask.box_xyxy.tolist(), proposal_score(mask), mask.predicted_iou, mask.stability_score, mask.area)
    return dict(zip(CSV_COLUMNS, values, strict=True))


def _write_csv(masks: Sequence[Mask], path: Path) -> None:
    with atomic_path(path) as partial_path, partial_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(_row, masks))


def _write_coco(masks: Sequence[Mask], path: Path, plane: Plane) -> None:
    (height, width), name = plane.shape, Path(plane.source.name).name
    before = {
        "info": {"description": f"Object proposals of {name}"},
        "images": [{"id": 1, "width": width, "height": height, "file_name": name}],
        "categories": [{"id": 1, "name": "object", "supercategory": ""}],
    }
    write_json_list(path, before, "annotations", _annotations(masks), total=len(masks), progress=None)


def _annotations(masks: Sequence[Mask]) -> Iterator[dict[str, Any]]:
    for number, mask in enumerate(masks, start=1):
        box = mask.box
        yield {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "bbox": [box.x0, box.y0, box.width, box.height],
            "area": mask.area,
            "iscrowd": 0,
            "score": proposal_score(mask),
            "predicted_iou": mask.predicted_iou,
            "stability_score": mask.stability_score,
            "segmentation": mask.to_coco_rle(),
        }


def _write_crops(masks: Sequence[Mask], folder: Path, plane: Plane) -> None:
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number, mask in enumerate(masks, start=1):
            name = f"{number:0{CROP_DIGITS}d}.png"
            pixels = np.ascontiguousarray(plane.read(mask.box))
            (folder / name).write_bytes(imagecodecs.png_encode(pixels))
