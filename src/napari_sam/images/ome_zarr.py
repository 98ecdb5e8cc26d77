"""Zarr arrays and groups (versions 2 and 3), OME-Zarr images (0.1 to 0.5) among them; nothing but metadata is read.

They are folders of this machine, or at a URL."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import zarr

from napari_sam.errors import ImageError, NapariSamError
from napari_sam.images.arrays import reason
from napari_sam.images.axes import AXES
from napari_sam.images.contents import Contents, length_um, pixel_size
from napari_sam.images.remote import METADATA_FILES, RemoteStore, fetch, open_store, time_of_change
from napari_sam.images.urls import RemotePath

_UNNAMED_AXES = "TCZYX"


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((path / name).is_file() for name in METADATA_FILES)


def open_zarr(path: Path | RemotePath, series: int) -> Contents:
    """Levels and metadata of a zarr array, a group of one array, or an OME-Zarr image; of a folder or at a URL.

    `series` counts the images of a group that holds several (as bioformats2raw writes them).

    Raises
    ------
    ImageError
        If the metadata are damaged, or name no image that can be read; if there is no zarr at a URL, or it is out of
        reach.
    """
    store = open_store(path) if isinstance(path, RemotePath) else str(path)
    try:
        node = zarr.open(store=store, mode="r")
        if isinstance(node, zarr.Array):
            return Contents(levels=(node,), axes=_array_axes(node), identity=_identity(path, node))
        return _group_contents(node, path, series)
    except NapariSamError:
        raise
    except Exception as error:  # bad JSON, missing keys and wrong types all mean damaged metadata
        if isinstance(store, RemoteStore) and isinstance(error, FileNotFoundError):
            raise store.refusal or _nothing_at(path) from error
        raise ImageError(f"the zarr metadata of {path} cannot be read: {reason(error)}.") from error


def _nothing_at(path: Path | RemotePath) -> ImageError:
    return ImageError(
        f"there is no zarr array or OME-Zarr image at {path}; check the name. Images of other formats are not read by "
        "URL: copy the file to this machine, or convert it to OME-Zarr."
    )


def _group_contents(group: zarr.Group, path: Path | RemotePath, series: int) -> Contents:
    attributes: dict[str, Any] = dict(group.attrs)
    ome: dict[str, Any] = attributes.get("ome", attributes)
    images = ome.get("multiscales")
    if images:
        return _multiscale(group, path, images[0], ome)
    has_series = isinstance(group.get(str(series)), zarr.Group)  # asked by name: web servers list no folders
    if has_series:
        return open_zarr(path / str(series), 0)
    if "bioformats2raw.layout" in ome:
        raise ImageError(f"{path} has no series {series}; it has: {', '.join(sorted(group.group_keys()))}.")
    arrays = sorted(group.array_keys())
    if len(arrays) != 1:
        raise ImageError(
            f"{path} is a zarr group without OME-Zarr metadata and with {len(arrays)} arrays "
            f"({', '.join(arrays[:10]) or 'none'}); give the path of one array, such as {path / (arrays or ['0'])[0]}."
        )
    return open_zarr(path / arrays[0], 0)


def _multiscale(group: zarr.Group, path: Path | RemotePath, image: dict[str, Any], ome: dict[str, Any]) -> Contents:
    levels: list[zarr.Array[Any]] = []
    for dataset in image["datasets"]:
        level = group.get(dataset["path"])
        if not isinstance(level, zarr.Array):
            raise ImageError(f"{path} lists the level {dataset['path']!r} but has no such array; copy it again.")
        levels.append(level)
    listed = image.get("axes")
    axes = [{"name": a} if isinstance(a, str) else a for a in listed] if listed else None
    letters = "".join(str(axis["name"])[:1].upper() for axis in axes) if axes else _UNNAMED_AXES[-levels[0].ndim :]
    channels = ome.get("omero", {}).get("channels", [])
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return Contents(
        levels=tuple(levels),
        axes=letters,
        identity=_identity(path, levels[0]),
        pixel_size_um=_pixel_size_um(image, axes),
        depth_um=_depth_um(image, axes),
        channel_names=names if any(names) else (),
    )


def _pixel_size_um(image: dict[str, Any], axes: list[dict[str, Any]] | None) -> tuple[float, float] | None:
    """(y, x) of the finest level, where the axes name a unit of length."""
    if axes is None:
        return None
    scales = _scales(image, axes)
    (y, y_unit), (x, x_unit) = scales["y"], scales["x"]
    return pixel_size((y, x), (y_unit, x_unit))


def _depth_um(image: dict[str, Any], axes: list[dict[str, Any]] | None) -> float | None:
    """Distance of planes along z, where that axis is there and names a unit of length."""
    return length_um(*_scales(image, axes).get("z", (0.0, None))) if axes is not None else None


def _scales(image: dict[str, Any], axes: list[dict[str, Any]]) -> dict[str, tuple[float, str | None]]:
    """Size and unit of a step along each axis of the finest level: its scale times that of the whole image."""
    steps = [*image["datasets"][0].get("coordinateTransformations", []), *image.get("coordinateTransformations", [])]
    scale = [1.0] * len(axes)
    for step in steps:
        if step.get("type") == "scale":
            scale = [a * float(b) for a, b in zip(scale, step["scale"], strict=True)]
    return {str(axis["name"]).lower(): (size, axis.get("unit")) for axis, size in zip(axes, scale, strict=True)}


def _array_axes(array: zarr.Array[Any]) -> str | None:
    """Axes from dimension names (zarr 3, or xarray's attribute in zarr 2), where each is one of our letters."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and len(name) == 1 for name in names):
        return None
    letters = "".join(str(name) for name in names).upper()
    return letters if {"Y", "X"} <= set(letters) <= set(AXES) and len(set(letters)) == len(letters) else None


def _identity(path: Path | RemotePath, array: zarr.Array[Any]) -> dict[str, Any]:
    """Place, metadata and times of last change; rewriting a chunk in a subfolder does not show in it."""
    if isinstance(path, RemotePath):
        return {"kind": "zarr", "path": str(path)} | _remote_state(array)
    folders = (path, path / array.path) if array.path else (path,)
    found = [folder / name for folder in folders for name in METADATA_FILES if (folder / name).is_file()]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in found)).hexdigest()
    changed = max(file.stat().st_mtime_ns for file in [*found, *folders[-1:]] if file.exists())
    return {"kind": "zarr", "path": str(path.resolve()), "metadata_sha256": digest, "mtime_ns": changed}


def _remote_state(array: zarr.Array[Any]) -> dict[str, Any]:
    store = array.store
    if not isinstance(store, RemoteStore):
        return {}
    prefixes = ("", f"{array.path}/") if array.path else ("",)
    found = {key: fetch(store, key) for key in (f"{prefix}{name}" for prefix in prefixes for name in METADATA_FILES)}
    there = {key: content for key, content in found.items() if content is not None}
    digest = hashlib.sha256(b"".join(there.values())).hexdigest()
    return {"metadata_sha256": digest, "changed": time_of_change(store, max(there, key=len))}
