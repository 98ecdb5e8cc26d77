"""Lazy arrays of any library behind one way of reading, whose failures name the image and the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, NapariSamError
from napari_sam.images.urls import without_credentials

Key = tuple[int | slice, ...]

# An array in memory is identified by all its bytes up to this size, beyond it by rows spread over it.
_HASHED_BYTES = 2**30
_HASHED_ROWS = 4096


class LazyArray(Protocol):
    """What is read from: numpy, dask and zarr arrays and our own TIFF levels are of this kind."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


def is_array(value: object) -> bool:
    """Whether `value` can be read from lazily."""
    return all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__"))


def read_region(level: LazyArray, key: Key, name: str) -> NDArray[Any]:
    """`level[key]` as a numpy array in native byte order; whatever fails becomes an ImageError that names `name`."""
    try:
        region = np.asarray(level[key])
    except (NapariSamError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything from zlib.error to RuntimeError
        raise ImageError(
            f"a part of {name} cannot be read ({key_text(key)}): {reason(error)}. The data are damaged or incomplete; "
            "check the file or copy it again."
        ) from error
    return region if region.dtype.isnative else region.astype(region.dtype.newbyteorder("="))


def key_text(key: Key) -> str:
    """A key as one writes it: `0, 10:20, 30:40`."""
    return ", ".join(f"{part.start}:{part.stop}" if isinstance(part, slice) else str(part) for part in key)


def reason(error: BaseException) -> str:
    """An error of another library in one line."""
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text[:300]}"


def array_identity(levels: Sequence[LazyArray]) -> dict[str, Any]:
    """What identifies arrays cheaply: a hash of pixels in memory, the name of a dask graph, the place of a zarr array.

    A numpy array of up to 1 GiB is hashed whole, a larger one by 4096 rows spread over it.
    """
    first = levels[0]
    identity: dict[str, Any] = {"shape": list(first.shape), "dtype": str(first.dtype), "levels": len(levels)}
    if isinstance(first, np.ndarray):
        return identity | {"kind": "numpy", "sha256": _hash(first)}
    if hasattr(first, "dask"):
        return identity | {"kind": "dask", "name": str(getattr(first, "name", ""))}
    store = without_credentials(str(getattr(first, "store_path", "")))
    return identity | {"kind": type(first).__name__, "store": store}


def _hash(array: NDArray[Any]) -> str:
    """SHA-256 of the array's bytes, or of some of its rows where it is very large."""
    digest = hashlib.sha256()
    rows = array.reshape(-1, array.shape[-1]) if array.flags.c_contiguous else array
    if array.nbytes > _HASHED_BYTES:
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _HASHED_ROWS)).astype(int)]
    for start in range(0, len(rows), 256):
        digest.update(np.ascontiguousarray(rows[start : start + 256]).tobytes())
    return digest.hexdigest()
