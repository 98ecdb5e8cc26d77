"""Memory that was freed: kept for the next tile, as mapping it again costs up to a third of the time of a run, and
given back between two stages."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import MutableMapping
from typing import Any

MEGABYTE = 2**20
MMAP_THRESHOLD_BYTES = 32 * MEGABYTE
"""Blocks below this come from the heap and not from a mapping of their own; it is the most that glibc allows."""
TRIM_THRESHOLD_BYTES = 64 * MEGABYTE
"""Free memory at the heap's end above this goes back to the system. Kept without bound, a run on 16 384 x 16 384 pixels
peaked at 1.7 GB instead of 0.65 GB; with this, nothing that matters was gained or lost."""
ARENAS = 2
"""Heaps that all threads share. By default threads that read or decode get heaps of their own, and each keeps what was
freed in it: a run that reads its next tile ahead needed 67 MB more."""

# (what mallopt calls it, the variable that glibc reads when a process starts, value)
_SETTINGS = (
    (-3, "MALLOC_MMAP_THRESHOLD_", MMAP_THRESHOLD_BYTES),
    (-1, "MALLOC_TRIM_THRESHOLD_", TRIM_THRESHOLD_BYTES),
    (-8, "MALLOC_ARENA_MAX", ARENAS),
)


def keep_freed_memory(environment: MutableMapping[str, str] | None = None, libc: Any = None) -> bool:
    """Set glibc's allocator for large arrays that come and go, in this process and in those it starts.

    The command line calls it before torch is loaded; a program that uses the library may do the same. What the user has
    set in the environment stays.

    Parameters
    ----------
    environment : mapping, optional
        Where child processes find their settings; left out, `os.environ`.
    libc : object with `mallopt`, optional
        Left out, the C library of this process.

    Returns
    -------
    bool
        Whether all settings are in force; False without glibc, where nothing was changed.
    """
    environment = os.environ if environment is None else environment
    if libc is None:
        if not sys.platform.startswith("linux"):
            return False
        libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    accepted = True
    for parameter, variable, value in _SETTINGS:
        if variable not in environment:
            environment[variable] = str(value)
            accepted &= libc.mallopt(parameter, value) == 1
    return accepted


def give_back_freed_memory(libc: Any = None) -> bool:
    """Hand all memory that was freed back to the system; False where the C library has no such call.

    The pieces that one stage leaves are too small for the arrays of the next: the peaks of both would add up.

    Parameters
    ----------
    libc : object with `malloc_trim`, optional
        Left out, the C library of this process.
    """
    if libc is None:
        if not sys.platform.startswith("linux"):
            return False
        libc = ctypes.CDLL(None)
    return hasattr(libc, "malloc_trim") and libc.malloc_trim(0) == 1
