"""Which axis of an array is which: T time, C channel, Z depth, Y row, X column, S sample of a colour pixel."""

from __future__ import annotations

from napari_sam.errors import ImageError

AXES = "TCZYXS"
_MOST_CHANNELS_LAST = 16


def check_axes(axes: str, shape: tuple[int, ...], name: str) -> str:
    """`axes` in capitals, or an ImageError if they do not name every axis of `shape` once, Y and X among them."""
    axes = axes.upper()
    if len(axes) != len(shape):
        raise ImageError(
            f"axes {axes!r} name {len(axes)} axes, but {name} has {len(shape)} (shape {shape}); give one letter of "
            f"{AXES!r} for each."
        )
    if len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes) <= set(AXES):
        raise ImageError(
            f"axes {axes!r} of {name} cannot be used; allowed are letters of {AXES!r} (time, channel, depth, row, "
            "column, colour sample), each at most once, with Y and X among them."
        )
    return axes


def guess_axes(shape: tuple[int, ...], name: str) -> str:
    """Axes of a plain array from its shape, where only one reading is sensible.

    Two axes are rows and columns. A last axis of 1, 3 or 4 are samples of a colour pixel; leading axes before rows and
    columns are depth, then time (as the sliders of napari); channels among them have to be named. A short last axis of
    another length looks like channels and has to be named too.
    """
    if len(shape) == 2:
        return "YX"
    if len(shape) < 2:
        raise ImageError(f"{name} has shape {shape}; an image needs at least rows and columns.")
    has_samples = shape[-1] in (1, 3, 4)
    if len(shape) > (5 if has_samples else 4):
        raise ImageError(f"{name} has shape {shape}; say which axis is which, for example axes='TCZYX'.")
    if not has_samples and shape[-1] <= _MOST_CHANNELS_LAST and shape[-1] < min(shape[-3:-1]):
        raise ImageError(
            f"the last axis of {name} (shape {shape}) looks like {shape[-1]} channels; say so with "
            f"axes={'ZYXC'[-len(shape) :]!r}, or name the axes it has, for example axes={'TZYX'[-len(shape) :]!r}."
        )
    return "TZYXS"[-len(shape) :] if has_samples else "TZYX"[-len(shape) :]
