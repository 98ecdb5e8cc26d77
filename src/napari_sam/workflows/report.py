"""What a run of `segment` reports, as data and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_sam.tiling.writing import output_errors, write_bytes
from napari_sam.workflows.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport:
    """Counts, times and the settings of one run; the names are those of the JSON file."""

    objects: int
    tiles: int
    """Tiles of the plan that were to be segmented."""
    tiles_failed: dict[int, str]
    """Why each failed tile failed."""
    tiles_skipped: int
    """Tiles without foreground or outside the region of interest."""
    tiles_reused: int
    """Tiles that an earlier, interrupted run had finished."""
    cut_objects_reprompted: int
    reprompts_failed: dict[str, str]
    """Why cut objects could not be prompted again, by tile and mask; their fragments are kept."""
    fragments: int
    """Objects of which only a part could be had; `touches_seam` marks them in the table."""
    seam_cuts: int
    """Contours that run straight along a seam."""
    seconds: dict[str, float]
    """By stage."""
    peak_rss_mb: float
    predicted: Estimate | None
    """From its first two tiles; None for a run of few tiles, or one that finished from its ledger."""
    model: str
    model_sha256: str
    config: Mapping[str, Any]
    version: str

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self), indent=1)

    def write(self, path: Path) -> None:
        """Write the JSON; OutputError if that fails."""
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, self.to_json().encode())
