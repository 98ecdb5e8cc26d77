"""The image of a session: planes of a 2-D image, a stack or a time series, with one normalisation for all of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from napari_sam.annotate.prompts import Plane as PlaneIndex
from napari_sam.errors import AnnotationError, ImageError, JournalError
from napari_sam.images import ImageSource, Normalisation, Plane, open_image
from napari_sam.images.source import ImageInput

Channels = Sequence[int | str] | int | str | None

_NOT_OF_THE_PIXELS = {"path", "mtime_ns", "store"}
"""Parts of an identity that change when a file is moved or copied."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """An opened image as a session sees it; nothing but a sample for the normalisation has been read."""

    source: ImageSource
    channels: tuple[int, ...]
    """One to three, as chosen by the user or as the image leaves no doubt about."""
    normalisation: Normalisation
    """Of the whole image, for each of its planes and windows."""

    @classmethod
    def open(
        cls,
        image: ImageInput,
        *,
        axes: str | None = None,
        series: int = 0,
        pixel_size_um: float | tuple[float, float] | None = None,
        channels: Channels = None,
        normalisation: Normalisation | None = None,
    ) -> AnnotatedImage:
        """Open a path, an array or the levels of a pyramid; see :func:`napari_sam.images.open_image`."""
        source = open_image(image, axes=axes, series=series, pixel_size_um=pixel_size_um)
        return cls.from_source(source, channels, normalisation=normalisation)

    @classmethod
    def from_source(
        cls, source: ImageSource, channels: Channels = None, *, normalisation: Normalisation | None = None
    ) -> AnnotatedImage:
        """A session's image of an opened one.

        Computes the normalisation if none is given, from a sample of up to 2^22 pixels: call it off the GUI thread.

        Raises
        ------
        ImageError
            If the channels do not exist, or pixels cannot be read.
        """
        plane = source.plane(channels=channels, normalisation=normalisation)
        return cls(source, plane.channels, plane.normalisation)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def leading_axes(self) -> str:
        """Letters of the axes before rows and columns, in the order of the image: of T and Z those that it has."""
        return "".join(axis for axis in self.source.axes if axis in "TZ")

    @property
    def shape(self) -> tuple[int, ...]:
        """(leading..., H, W): the shape of its labels."""
        return (*(self.source.size(axis) for axis in self.leading_axes), *self.source.shape)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.source.shape

    @property
    def n_leading(self) -> int:
        return len(self.leading_axes)

    @property
    def n_planes(self) -> int:
        return math.prod(self.shape[:-2])

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """(y, x); None where it is not known."""
        return self.source.pixel_size_um

    @property
    def identity(self) -> dict[str, Any]:
        """Tells this image, with these channels, from another; a JSON object."""
        return self.source.identity | {"channels": list(self.channels)}

    @property
    def key(self) -> str:
        """A short text of the identity, fit for a file name."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:32]

    def plane(self, index: PlaneIndex = ()) -> Plane:
        """One plane, readable box by box at any step.

        Raises
        ------
        AnnotationError
            If the image has no such plane.
        """
        check_plane(index, self.shape)
        at = dict(zip(self.leading_axes, index, strict=True))
        return Plane(self.source, at.get("T", 0), at.get("Z", 0), self.channels, self.normalisation)

    def plane_indices(self) -> list[PlaneIndex]:
        """Index of every plane, in order."""
        return list(product(*(range(n) for n in self.shape[:-2])))

    def to_record(self) -> dict[str, Any]:
        """All that a journal has to know to find, open and check this image again; a JSON object."""
        path = self.source.identity.get("path")
        return {
            "name": self.name,
            "path": path if isinstance(path, str) and self.source.reopen is not None else None,
            "axes": self.source.axes,
            "series": int(self.source.identity.get("series", 0)),
            "pixel_size_um": self.pixel_size_um and list(self.pixel_size_um),
            "channels": list(self.channels),
            "shape": list(self.shape),
            "leading_axes": self.leading_axes,
            "identity": self.identity,
            "normalisation": self.normalisation.to_dict(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], image: AnnotatedImage | None = None) -> AnnotatedImage:
        """The image of a journal, with the journal's normalisation.

        Parameters
        ----------
        record : mapping
            As `to_record` wrote it.
        image : AnnotatedImage, optional
            The same image, already open; needed for arrays, which no path leads to. A moved or copied file is the same
            image.

        Raises
        ------
        JournalError
            If `image` is another one, or is missing and cannot be opened again.
        """
        normalisation = Normalisation.from_dict(dict(record["normalisation"]))
        found = image.source if image is not None else _reopened(record)
        channels = tuple(int(c) for c in record["channels"])
        candidate = cls(found, channels, normalisation)
        differing = _differences(record["identity"], candidate.identity)
        if differing:
            raise JournalError(
                f"the journal is of the image {record['name']}, and {candidate.name} is another one ("
                f"{', '.join(differing)}); open the image that the journal is of."
            )
        return candidate


def check_plane(index: PlaneIndex, shape: tuple[int, ...]) -> None:
    """Refuse the index of a plane that an image of `shape` (leading..., H, W) does not have."""
    leading = shape[:-2]
    if len(index) != len(leading) or not all(0 <= i < n for i, n in zip(index, leading, strict=True)):
        raise AnnotationError(
            f"plane {index} is not in this image, which has {leading or 'no'} planes before its rows and columns; "
            f"give {len(leading)} whole numbers within these."
        )


def _reopened(record: Mapping[str, Any]) -> ImageSource:
    if record["path"] is None:
        raise JournalError(
            f"the journal is of {record['name']}, which was in memory and not in a file; open it first and continue "
            "with it."
        )
    size = record["pixel_size_um"]
    try:
        return open_image(
            record["path"], axes=record["axes"], series=record["series"], pixel_size_um=tuple(size) if size else None
        )
    except ImageError as error:
        raise JournalError(
            f"the image of this journal cannot be opened: {error} If it was moved, open it from its new place first."
        ) from error


def _differences(stored: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    names = sorted((set(stored) | set(found)) - _NOT_OF_THE_PIXELS)
    here = json.loads(json.dumps(found))
    return [f"{n}: {stored.get(n)} there, {here.get(n)} here" for n in names if stored.get(n) != here.get(n)]
