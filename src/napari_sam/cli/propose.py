"""`napari-sam propose`: object proposals of an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_sam.cli.edges import WHOLE_HELP
from napari_sam.cli.options import DeviceFlag, ModelFlag, OutputFlag, given, settings_of
from napari_sam.cli.progress import Bars
from napari_sam.predict import ObjectProposalConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import SegmentConfig

if TYPE_CHECKING:
    from napari_sam.cli.options import Flags as ImageFlags
    from napari_sam.cli.options import Flags as ProposalFlags
    from napari_sam.cli.options import Flags as TileFlags
else:
    from napari_sam.cli.edges import ImageFlags, TileFlags

    ProposalFlags = settings_of(ObjectProposalConfig, group="Proposals")


def propose(
    image: str,
    *,
    output: OutputFlag,
    model: ModelFlag = "nano",
    device: DeviceFlag = "auto",
    crops: Path | None = None,
    whole: Annotated[bool | None, Parameter(help=WHOLE_HELP, negative="--tiled")] = None,
    settings: ProposalFlags = None,
    tiles: TileFlags = None,
    image_settings: ImageFlags = None,
) -> None:
    """Propose objects of an image: many masks, hardly filtered, the most likely first.

    A dense grid of points is asked for masks (Kirillov et al. 2023, section 7.3), which takes a while on a CPU:
    fewer points per side are faster.

    Parameters
    ----------
    image
        TIFF, OME-TIFF, SVS, GeoTIFF, PNG, JPEG, zarr or OME-Zarr.
    output
        NAME.json for COCO annotations with boxes, masks and scores, or NAME.csv for boxes and scores.
    crops
        A new folder for one PNG a proposal, numbered from the best.
    """
    from napari_sam.workflows.experiments.proposals import write_proposals

    with Bars() as bars:
        made = write_proposals(
            image,
            output,
            model,
            device=device,
            proposals=ObjectProposalConfig(**given(settings)),
            tiling=TilingConfig(**given(tiles)),
            config=SegmentConfig(**given(image_settings)),
            whole=whole,
            crops=crops,
            progress=bars.update,
        )
    print(f"{len(made.masks)} proposals in {output} ({made.seconds:.1f} s)")
