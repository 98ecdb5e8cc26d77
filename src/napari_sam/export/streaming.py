"""JSON files of many objects, written one object at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from napari_sam.tiling.functions import Progress
from napari_sam.tiling.writing import atomic_path


def write_json_list(
    path: str | os.PathLike[str],
    before: Mapping[str, Any],
    name: str,
    items: Iterable[Mapping[str, Any]],
    *,
    total: int,
    progress: Progress | None,
) -> Path:
    """Write `{...before, name: [items]}`, one item a line, never holding more than one item.

    Raises
    ------
    OutputError
        If the disk refuses; a file that was there before is then unchanged.
    """
    target = Path(path)
    head = json.dumps(dict(before), allow_nan=False).removesuffix("}")
    opening = f"{head}, " if before else "{"
    with atomic_path(target) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{opening}{json.dumps(name)}: [")
        for done, item in enumerate(items, start=1):
            file.write(",\n" if done > 1 else "\n")
            file.write(json.dumps(item, allow_nan=False))
            if progress is not None:
                progress(done, total)
        file.write("\n]}\n")
    return target


def finite_or_none(value: float) -> float | None:
    """`value`, or None where it is infinite or not a number: JSON knows neither."""
    number = float(value)
    return number if math.isfinite(number) else None
