"""What the tests of locks at URLs share."""

from __future__ import annotations

import fsspec
import pytest

from napari_sam.tiling import remote_lock


@pytest.fixture
def no_pause(monkeypatch):
    """A lock is read again at once after it was written."""
    monkeypatch.setattr(remote_lock, "SETTLE_SECONDS", 0.0)


@pytest.fixture
def fs():
    """A file system in memory, empty again afterwards."""
    made = fsspec.filesystem("memory", use_listings_cache=False)
    yield made
    if made.exists("/locked"):
        made.rm("/locked", recursive=True)
