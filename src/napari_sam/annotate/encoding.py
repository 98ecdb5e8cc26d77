"""Values of a session as JSON objects, and back; never pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import numpy as np

from napari_sam.annotate.objects import PlaneMask
from napari_sam.annotate.patches import Patch
from napari_sam.annotate.prompts import BoxPrompt, Click, MaskPrompt, Plane, Prompt, Scribble
from napari_sam.geometry import Box, Mask, Rle, counts_from_text, counts_to_text

Json = Any


@singledispatch
def encode(value: Any) -> Json:
    """A value as JSON: numbers, texts and objects as they are, our own types as objects."""
    return value


@encode.register(tuple)
@encode.register(list)
def _(value: Any) -> Json:
    return [encode(item) for item in value]


@encode.register
def _(value: Box) -> Json:
    return [value.x0, value.y0, value.x1, value.y1]


@encode.register
def _(value: Mask) -> Json:
    stored = {
        "frame": list(value.frame_size),
        "box": encode(value.box),
        "counts": counts_to_text(value.rle.counts),
        "predicted_iou": float(value.predicted_iou),
        "stability_score": float(value.stability_score),
        "prompt": value.prompt,
    }
    return stored if value.point_xy is None else stored | {"point_xy": [float(c) for c in value.point_xy]}


@encode.register
def _(value: PlaneMask) -> Json:
    return {
        "plane": list(value.plane),
        "mask": encode(value.mask),
        "predicted_iou": float(value.predicted_iou),
        "unsure": bool(value.unsure),
    }


@encode.register
def _(value: Patch) -> Json:
    columns = {name: counts_to_text(getattr(value, name)) for name in ("starts", "lengths", "old", "new")}
    return {"plane": list(value.plane), "box": encode(value.box), **columns}


@encode.register
def _(value: Click) -> Json:
    return {"click": list(value.xy), "positive": value.positive}


@encode.register
def _(value: Scribble) -> Json:
    return {"scribble": [list(point) for point in value.path_xy], "positive": value.positive}


@encode.register
def _(value: BoxPrompt) -> Json:
    return {"box": list(value.box_xyxy)}


@encode.register
def _(value: MaskPrompt) -> Json:
    return {"mask": encode(value.mask)}


def decode(name: str, stored: Json) -> Any:
    """The value of a field that `encode` wrote; what is decoded how follows from the field's name."""
    return _DECODERS[name](stored) if name in _DECODERS else stored


def decode_mask(stored: Mapping[str, Any]) -> Mask:
    """The mask that `encode` wrote."""
    box = Box(*stored["box"])
    point = stored.get("point_xy")
    return Mask(
        Rle(box.height, box.width, counts_from_text(stored["counts"]).astype(np.uint32)),
        box,
        (stored["frame"][0], stored["frame"][1]),
        predicted_iou=float(stored["predicted_iou"]),
        stability_score=float(stored["stability_score"]),
        point_xy=None if point is None else (float(point[0]), float(point[1])),
        prompt=str(stored["prompt"]),
    )


def decode_prompt(stored: Mapping[str, Any]) -> Prompt:
    """The prompt that `encode` wrote."""
    if "click" in stored:
        return Click((stored["click"][0], stored["click"][1]), stored["positive"])
    if "scribble" in stored:
        return Scribble(tuple((x, y) for x, y in stored["scribble"]), stored["positive"])
    if "box" in stored:
        x0, y0, x1, y1 = stored["box"]
        return BoxPrompt((x0, y0, x1, y1))
    return MaskPrompt(decode_mask(stored["mask"]))


def decode_patch(stored: Mapping[str, Any]) -> Patch:
    """The patch that `encode` wrote."""
    columns = (counts_from_text(stored[name]) for name in ("starts", "lengths", "old", "new"))
    return Patch(_whole(stored["plane"]), Box(*stored["box"]), *columns)


def _decode_plane_mask(stored: Mapping[str, Any]) -> PlaneMask:
    return PlaneMask(
        _whole(stored["plane"]), decode_mask(stored["mask"]), float(stored["predicted_iou"]), bool(stored["unsure"])
    )


def _whole(stored: Json) -> Plane:
    if not all(isinstance(number, int) for number in stored):
        raise TypeError(f"whole numbers are wanted, got {stored!r:.100}")
    return tuple(stored)


def _each(one: Callable[[Any], Any]) -> Callable[[Json], tuple[Any, ...]]:
    return lambda stored: tuple(one(item) for item in stored)


_DECODERS: dict[str, Callable[[Json], Any]] = {
    "prompt": decode_prompt,
    "plane": _whole,
    "labels": _whole,
    "new_labels": _whole,
    "masks": _each(decode_mask),
    "scores": _each(float),
    "patches": _each(decode_patch),
    "found": _each(_decode_plane_mask),
}
