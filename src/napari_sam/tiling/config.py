"""How an image is tiled and merged, as a user may set it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from napari_sam.errors import TilingError


@dataclass(frozen=True, slots=True, kw_only=True)
class TilingConfig:
    """How a huge image is cut into tiles, and when masks of two tiles are one object."""

    core_px: int | None = None
    """Side of a tile without its halo, in pixels of the image as stored; by default what the model sees at once less
    two halos."""
    halo_px: int | None = None
    """What a tile reads besides on each side, at least, in pixels; by default an eighth of the model's input. Objects
    wider than this may be cut in every tile and are then prompted again on a larger window."""
    merge_iou_thresh: float = 0.5
    """Masks of two tiles are the same object above this mask IoU."""
    fragment_cover_thresh: float = 0.5
    """A cut mask outside its tile's core is dropped when a mask of another tile covers more than this part of it."""
    object_cover_thresh: float | None = None
    """Drop an object of which better ones of any tile together cover more than this part; by default what automatic
    masks do inside a tile (cover_thresh); 1 keeps all."""
    max_object_px: int = 2048
    """Objects up to this long, in pixels, are also looked for in tiles read at a 4th, 16th, ... of the resolution,
    where one tile shows them whole; 0 looks at full resolution alone."""
    edge_tolerance_px: int = 2
    """A mask that ends this close to the edge of what was read counts as cut by it, in pixels."""
    prompted_px: int | None = None
    """Half the side of the first window in which a cut object is prompted again; images of more pixels are also looked
    at in coarse tiles. By default what a tile reads, or the model's input if a tile is larger than that because the
    model sees more without prompts."""
    max_window_px: int = 4096
    """Largest side read at full resolution to prompt a cut object again; larger windows are read reduced."""

    def __post_init__(self) -> None:
        if self.core_px is not None and self.core_px < 1:
            raise TilingError(f"core_px must be at least 1 pixel, got {self.core_px}; 768 is usual, or leave it out.")
        if self.halo_px is not None and not 0 <= self.halo_px < (self.core_px or math.inf):
            raise TilingError(
                f"halo_px must lie in [0, core_px = {self.core_px}), got {self.halo_px}; an eighth of core_px is usual."
            )
        for name in ("merge_iou_thresh", "fragment_cover_thresh"):
            if not 0 <= getattr(self, name) < 1:
                raise TilingError(f"{name} must lie in [0, 1), got {getattr(self, name)}; 0.5 is usual.")
        if self.object_cover_thresh is not None and not 0 <= self.object_cover_thresh <= 1:
            raise TilingError(
                f"object_cover_thresh must lie in [0, 1], got {self.object_cover_thresh}; "
                "1 keeps all objects, or leave it out."
            )
        if self.max_object_px < 0:
            raise TilingError(
                f"max_object_px must be at least 0, got {self.max_object_px}; 2048 is usual, 0 leaves out coarse tiles."
            )
        if self.edge_tolerance_px < 0:
            raise TilingError(f"edge_tolerance_px must be at least 0, got {self.edge_tolerance_px}; 2 is usual.")
        if self.prompted_px is not None and self.prompted_px < 1:
            raise TilingError(f"prompted_px must be at least 1 pixel, got {self.prompted_px}; or leave it out.")
        if self.max_window_px < 16:
            raise TilingError(f"max_window_px must be at least 16, got {self.max_window_px}; 4096 is usual.")

    def resolve(
        self, model_input_px: int, cover_thresh: float | None = None, *, read_px: int | None = None
    ) -> TilingConfig:
        """This configuration with the sizes that were left open set from the model's input size.

        A tile then reads just as many pixels as the model sees, so nothing is resized.

        Parameters
        ----------
        model_input_px : int
            Side of what the model sees when it is prompted.
        read_px : int, optional
            Side of what it sees without prompts, where that may be more.
        cover_thresh : float, optional
            The setting of that name of the automatic masks, for `object_cover_thresh` if that was left open.

        Raises
        ------
        TilingError
            If a size that was given leaves no room for the other one.
        """
        halo = self.halo_px
        if halo is None:
            halo = model_input_px // 8 if self.core_px is None else min(model_input_px // 8, self.core_px - 1)
        read_px = max(model_input_px, read_px or 0)
        core = self.core_px if self.core_px is not None else read_px - 2 * halo
        if core <= halo:
            raise TilingError(
                f"halo_px = {halo} leaves a core of {core} pixels in a model input of {read_px}; "
                "give a smaller halo_px or set core_px as well."
            )
        cover = cover_thresh if self.object_cover_thresh is None else self.object_cover_thresh
        prompted = self.prompted_px
        if prompted is None:
            prompted = min(core + 2 * halo, model_input_px) if read_px > model_input_px else core + 2 * halo
        return replace(self, core_px=core, halo_px=halo, object_cover_thresh=cover, prompted_px=prompted)

    def merge_settings(self) -> dict[str, Any]:
        """The settings on which only the merge depends, for the ledger; the tiles stay valid when these change."""
        settings = asdict(self)
        del settings["core_px"], settings["halo_px"], settings["max_object_px"], settings["prompted_px"]
        return settings
