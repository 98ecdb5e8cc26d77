"""A layer whose axes napari cannot line labels up with is shown once more: channels first, rows and columns last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_sam.ui.interactive.placing import (
    STORED,
    PlacedImage,
    Stored,
    check_axes,
    lined_up,
    placement_of,
    stored_pixels,
)
from napari_sam.ui.interactive.session_layers import camera_of

if TYPE_CHECKING:
    import napari.viewer

LOOKS = ("contrast_limits", "colormap", "gamma", "opacity", "blending", "interpolation2d")
"""Properties that the arranged layer has of the one it shows."""


def placed_image(viewer: napari.viewer.Viewer, layer: Image, axes: str) -> PlacedImage:
    """A layer that labels can lie on: `layer` itself, or one beside it with its axes in another order.

    The other layer holds no pixels of its own. It is made once, and `layer` is hidden then.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Image
    axes : str
        One letter of TCZYX for each axis of the layer.

    Raises
    ------
    ImageError
        If the axes cannot be those of the layer.
    """
    check_axes(layer, axes)
    order = lined_up(axes)
    if axes == order:
        return PlacedImage(layer, axes)
    stored = stored_pixels(layer, axes)
    for known in viewer.layers:
        if isinstance(known, Image) and _shows(known, stored):
            return PlacedImage(known, order)
    turned = [axes.index(axis) for axis in order]
    before = np.asarray(viewer.dims.point)[-layer.ndim :]
    arranged = viewer.add_layer(_arranged(layer, stored, turned))
    layer.visible = False
    _look_at(viewer, before[turned])
    if not axes.endswith("YX"):  # the camera looked at something else until now
        viewer.reset_view()
        # That is the middle of all layers, of hidden ones too.
        camera_of(viewer).center = tuple(arranged.extent.world.mean(axis=0)[-2:])
    return PlacedImage(arranged, order)


def _look_at(viewer: napari.viewer.Viewer, point: NDArray[np.float64]) -> None:
    """Show rows and columns of the arranged layer, in the plane that was shown before."""
    n = viewer.dims.ndim
    if set(viewer.dims.displayed) != {n - 2, n - 1}:
        viewer.dims.order = tuple(range(n))
    sliders = range(n - len(point), n - 2)
    viewer.dims.set_point(list(sliders), point[: len(sliders)].tolist())


def _arranged(layer: Image, stored: Stored, order: Sequence[int]) -> Image:
    samples = [layer.ndim] if layer.rgb else []
    levels = stored.pixels if layer.multiscale else [stored.pixels]
    turned = [_transposed(level, [*order, *samples]) for level in levels]
    name = "".join(stored.axes[i] for i in order)
    return Image(
        turned if layer.multiscale else turned[0],
        name=f"{layer.name} ({name})",
        rgb=layer.rgb,
        multiscale=layer.multiscale,
        metadata={STORED: stored},
        **{look: getattr(layer, look) for look in LOOKS},
        **{**placement_of(layer, order), "axis_labels": tuple(name.lower())},
    )


def _transposed(level: Any, order: Sequence[int]) -> Any:
    lazy = level if isinstance(level, np.ndarray | da.Array) else da.from_array(level)
    return lazy.transpose(*order)


def _shows(layer: Image, stored: Stored) -> bool:
    """Whether a layer was made of these very pixels with these axes."""
    known = layer.metadata.get(STORED)
    if not isinstance(known, Stored) or known.axes != stored.axes:
        return False
    here, there = (pixels if isinstance(pixels, list) else [pixels] for pixels in (known.pixels, stored.pixels))
    return len(here) == len(there) and all(a is b for a, b in zip(here, there, strict=True))
