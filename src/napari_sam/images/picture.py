"""PNG and JPEG files: they have no tiles, so they are decoded whole into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.images.arrays import reason

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"


def read_picture(path: Path) -> NDArray[Any]:
    """The pixels of a PNG (8 or 16 bit, palettes expanded) or JPEG file: (H, W) or (H, W, S)."""
    try:
        data = path.read_bytes()
        is_png = data.startswith(PNG_MAGIC)
        pixels = np.asarray(imagecodecs.png_decode(data) if is_png else imagecodecs.jpeg_decode(data))
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(
            f"{path} cannot be decoded ({reason(error)}): the file is damaged or truncated; copy or save it again."
        ) from error
    if not is_png and not _is_complete_jpeg(data):
        raise ImageError(f"{path} is truncated: a JPEG file without its end ({len(data)} bytes); copy it again.")
    if not is_png and pixels.shape[2:] == (4,):
        raise ImageError(f"{path} is a JPEG in CMYK colours, for printing; save it as RGB.")
    return pixels


def _is_complete_jpeg(data: bytes) -> bool:
    """Whether the end marker follows the compressed pixels; decoders fill a missing rest with gray and say nothing.

    Looked for behind the headers only, since a preview inside them has an end marker of its own.
    """
    at = 2
    while at + 4 <= len(data) and data[at + 1] != _START_OF_SCAN:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(_END_OF_IMAGE, at) >= 0
