"""A corpus of damaged image files, generated: whole ones of each kind, and what bit rot and cuts make of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import zarr

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)


def plain_tiff(path: Path) -> None:
    tifffile.imwrite(path, PIXELS, photometric="rgb")


def tiled_tiff(path: Path) -> None:
    tifffile.imwrite(path, PIXELS, tile=(32, 32), compression="zlib", photometric="rgb", bigtiff=True)


def ome_tiff(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        options = {"tile": (32, 32), "compression": "lzw", "predictor": True}
        writer.write(PIXELS[..., 0], subifds=1, metadata={"axes": "YX", "PhysicalSizeX": 0.5}, **options)
        writer.write(PIXELS[::2, ::2, 0], subfiletype=1, **options)


def png(path: Path) -> None:
    path.write_bytes(imagecodecs.png_encode(PIXELS))


def jpeg(path: Path) -> None:
    path.write_bytes(imagecodecs.jpeg8_encode(PIXELS))


FILES: dict[str, Callable[[Path], None]] = {
    "plain TIFF": plain_tiff,
    "tiled TIFF": tiled_tiff,
    "OME-TIFF": ome_tiff,
    "PNG": png,
    "JPEG": jpeg,
}


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, most of them where a file describes itself; or its end cut off; or a part doubled."""
    data = bytearray(content)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        start = int(rng.integers(len(data)))
        return bytes(data[:start] + data[start // 2 :])
    region = len(data) if kind == 2 else min(len(data), 600)
    at_end = rng.integers(2)
    for _ in range(int(rng.integers(1, 12))):
        where = int(rng.integers(region))
        data[-1 - where if at_end else where] = int(rng.choice([0, 1, 2, 127, 255, rng.integers(256)]))
    return bytes(data)


def write_zarr(folder: Path, version: int) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    zarr.create_array(folder, data=PIXELS[..., 0], chunks=(32, 32), zarr_format=version)


def damage_json(path: Path, rng: np.random.Generator) -> None:
    """Change one value of a JSON file to something else, or cut the file."""
    if rng.integers(4) == 0:
        path.write_bytes(damaged(path.read_bytes(), rng))
        return
    content = json.loads(path.read_text())
    node, key = content, rng.choice(sorted(content))
    while isinstance(node[key], dict) and node[key] and rng.integers(3):
        node = node[key]
        key = rng.choice(sorted(node))
    others = [None, -1, 0, 3, 2**70, "", "nonsense", [], [0], [7, -1], {}, {"name": "nonsense"}, True, 1e308]
    node[key] = others[int(rng.integers(len(others)))]
    path.write_text(json.dumps(content))
