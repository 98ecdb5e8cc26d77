"""The flags that are made from config dataclasses."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import SegmentConfig, SegmentPaths


def test_no_two_settings_of_segment_have_one_flag():
    configs = AutoMaskConfig, TilingConfig, SegmentConfig, SegmentPaths
    names = Counter(field.name for config in configs for field in fields(config))
    assert [name for name, n in names.items() if n > 1] == []
