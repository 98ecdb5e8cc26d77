"""`napari-sam replay`: the labels of an annotation session from its journal."""

from __future__ import annotations

import sys
from pathlib import Path

from napari_sam.cli.options import OutputFlag


def replay(
    journal: Path,
    *,
    output: OutputFlag,
    table: Path | None = None,
) -> int:
    """Write the labels of an annotation session from its journal, pixel for pixel as they were.

    Parameters
    ----------
    journal
        As the session wrote it; the session may have been killed, or go on.
    output
        NAME.ome.zarr, or NAME.tif for images up to a gigapixel.
    table
        One row an object: NAME.csv or NAME.parquet; by default NAME.csv beside the output.
    """
    from napari_sam.workflows.annotating.replay import replay_journal

    result = replay_journal(journal, output, table=table)
    if result.dropped:
        print(f"napari-sam: {result.dropped}", file=sys.stderr)
    print(f"{result.objects} objects in {result.labels}, table in {result.table}")
    return 0
