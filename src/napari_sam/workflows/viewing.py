"""A written label image as a viewer shows it: in memory where it is small, else read where it is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_sam.images import open_image

IN_MEMORY_PX = 2048 * 2048
"""Results of up to so many pixels can be painted on; larger ones are read where they are looked at."""


def read_viewable(output: Path) -> list[NDArray[Any] | da.Array]:
    """The levels of a label image, finest first: one array in memory if it is small, else lazy ones.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    levels = open_image(output).levels
    height, width = levels[0].shape[-2:]
    if height * width <= IN_MEMORY_PX:
        return [np.array(levels[0][:])]
    return [da.from_array(level, chunks=(1024, 1024), name=False) for level in levels]
