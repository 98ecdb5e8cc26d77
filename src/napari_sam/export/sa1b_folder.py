"""Whole data sets in the layout of SA-1B: shards (tar files) of pictures, each with a JSON file of its masks.

`sa_000000.tar` holds `sa_1.png` (or .jpg) and `sa_1.json`, `sa_2.png` and `sa_2.json`, and so on. A shard that was
unpacked, or a folder of loose files, is read as well. One image and its masks are in memory at a time.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError, ImageError, OutputError
from napari_sam.export.sa1b import Sa1bFile, parse_sa1b, write_sa1b
from napari_sam.tiling.labels import PaintableObjects
from napari_sam.tiling.writing import flush_to_disk, output_errors

PictureFormat = Literal["png", "jpg"]
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png")
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Sa1bImage:
    """One image of a data set."""

    place: str
    """Where its masks were read, for messages and tables."""
    file: Sa1bFile
    read_picture: Callable[[], NDArray[np.uint8]]
    """The pixels (H, W) or (H, W, 3), read now; ImageError if they are missing or damaged."""


class Sa1bWriter:
    """Writes a data set shard by shard: a shard appears under its name only when it is complete.

    Parameters
    ----------
    folder : path
        Made if missing; must not hold shards already.
    images_per_shard : int
    picture : "png" or "jpg"
        PNG loses nothing; JPEG is what SA-1B itself uses.

    Raises
    ------
    OutputError
        If there are shards already, or the disk refuses.
    ConfigError
        If `images_per_shard` is not positive.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, images_per_shard: int = 1000, picture: PictureFormat = "png"
    ) -> None:
        if images_per_shard < 1:
            raise ConfigError(f"images_per_shard must be at least 1, got {images_per_shard}; 1000 is usual.")
        self.folder = Path(folder)
        self.images = 0
        self.masks = 0
        self._per_shard = images_per_shard
        self._picture = picture
        self._tar: tarfile.TarFile | None = None
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.glob("sa_*.tar")):
            raise OutputError(f"{self.folder} holds shards of a data set already; choose an empty folder.")

    def add(self, pixels: NDArray[np.uint8], objects: PaintableObjects, file_name: str) -> int:
        """Write one image, (H, W) or (H, W, 3) uint8, and its masks; returns its number in the data set, from 1.

        The masks' file names the picture in the shard; `file_name`, what it was called, is kept beside it.
        """
        if tuple(pixels.shape[:2]) != tuple(objects.image_size):
            raise ImageError(
                f"{file_name} has {pixels.shape[:2]} pixels (H, W) and its masks lie in {objects.image_size}; give "
                "masks of this image."
            )
        number = self.images + 1
        name = f"sa_{number}.{self._picture}"
        with output_errors(self.folder), tempfile.TemporaryDirectory(dir=self.folder, prefix=".sa-") as scratch:
            tar = self._shard()
            place = Path(scratch)
            encode = imagecodecs.png_encode if self._picture == "png" else imagecodecs.jpeg_encode
            options: dict[str, Any] = {} if self._picture == "png" else {"level": _JPEG_QUALITY}
            (place / name).write_bytes(encode(np.ascontiguousarray(pixels), **options))
            write_sa1b(objects, place / "masks.json", file_name=name, image_id=number, source_name=file_name)
            _add(tar, place / name, name)
            _add(tar, place / "masks.json", f"sa_{number}.json")
        self.images = number
        self.masks += len(objects.table)
        if self.images % self._per_shard == 0:
            self._finish_shard()
        return number

    def close(self) -> None:
        """Complete the last shard."""
        with output_errors(self.folder):
            self._finish_shard()

    def _shard(self) -> tarfile.TarFile:
        if self._tar is None:
            self._tar = tarfile.open(self._shard_path(".partial"), "w")  # noqa: SIM115 - closed by _finish_shard
        return self._tar

    def _finish_shard(self) -> None:
        if self._tar is not None:
            partial = Path(str(self._tar.name))
            self._tar.close()
            self._tar = None
            flush_to_disk(partial)
            partial.rename(partial.with_suffix(""))

    def _shard_path(self, ending: str) -> Path:
        return self.folder / f"sa_{self.images // self._per_shard:06d}.tar{ending}"

    def __enter__(self) -> Sa1bWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._tar is not None:
            self._tar.close()
            Path(str(self._tar.name)).unlink(missing_ok=True)


def iter_sa1b(path: str | os.PathLike[str]) -> Iterator[Sa1bImage]:
    """The images of a data set in SA-1B's layout, in the order of their places, one at a time.

    Parameters
    ----------
    path : path
        A folder with shards or loose files in it or below it, one shard, or one JSON file.

    Raises
    ------
    ImageError
        If there is no such data set, or a file of it is damaged.
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(found for found in source.rglob("*") if _is_part(found))
    else:
        files = [source] if source.is_file() and _is_part(source) else []
    if not files:
        raise ImageError(f"{path} is no data set in SA-1B's layout: there are no sa_*.tar and no sa_*.json in it.")
    for file in files:
        yield from _iter_shard(file) if file.suffix == ".tar" else _iter_loose(file)


def is_sa1b(path: str | os.PathLike[str]) -> bool:
    """Whether something is there that :func:`iter_sa1b` reads."""
    source = Path(path)
    return any(_is_part(found) for found in source.rglob("*")) if source.is_dir() else _is_part(source)


def _is_part(path: Path) -> bool:
    return path.name.startswith("sa_") and path.suffix in (".tar", ".json")


def _iter_loose(path: Path) -> Iterator[Sa1bImage]:
    try:
        file = parse_sa1b(path.read_bytes(), str(path))
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}.") from error

    def read() -> NDArray[np.uint8]:
        picture = path.with_name(PurePosixPath(file.file_name).name)
        try:
            return _decoded(picture.read_bytes(), str(picture), file.image_size)
        except OSError as error:
            raise ImageError(f"the picture of {path} cannot be read: {picture}: {error.strerror or error}.") from error

    yield Sa1bImage(str(path), file, read)


def _iter_shard(path: Path) -> Iterator[Sa1bImage]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = {PurePosixPath(member.name).name: member for member in tar if member.isfile()}
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ImageError(f"{path} is no complete shard of a data set: {error}; copy or write it again.") from error
    for name in sorted((n for n in members if n.endswith(".json")), key=_number):
        file = parse_sa1b(_content(path, members[name]), f"{path}/{name}")
        picture = members.get(PurePosixPath(file.file_name).name)
        yield Sa1bImage(f"{path}/{name}", file, partial(_read_member, path, picture, file))


def _read_member(shard: Path, member: tarfile.TarInfo | None, file: Sa1bFile) -> NDArray[np.uint8]:
    if member is None:
        raise ImageError(f"the picture {file.file_name} is not in its shard {shard}.")
    return _decoded(_content(shard, member), f"{shard}/{file.file_name}", file.image_size)


def _content(shard: Path, member: tarfile.TarInfo) -> bytes:
    """The bytes of a file in a shard, which need not be open."""
    try:
        with shard.open("rb") as file:
            file.seek(member.offset_data)
            content = file.read(member.size)
    except OSError as error:
        raise ImageError(f"cannot read {shard}: {error.strerror or error}.") from error
    if len(content) < member.size:
        raise ImageError(
            f"{shard} is no complete shard of a data set: {member.name} is cut off; copy or write it again."
        )
    return content


def _decoded(content: bytes, name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    decode = imagecodecs.png_decode if name.lower().endswith(".png") else imagecodecs.jpeg_decode
    try:
        pixels = np.asarray(decode(content))
    except (RuntimeError, ValueError) as error:
        raise ImageError(f"the picture {name} is damaged: {error}.") from error
    if pixels.shape[:2] != size:
        raise ImageError(f"the picture {name} has {pixels.shape[:2]} pixels (H, W), its masks lie in {size}.")
    return pixels


def _number(name: str) -> tuple[int, str]:
    """Sorts sa_2 before sa_10."""
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits or 0), name)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)  # without time and owner: the same data give the same bytes
    entry.size = path.stat().st_size
    with path.open("rb") as file:
        tar.addfile(entry, file)
