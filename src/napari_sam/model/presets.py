"""The published networks by name (paper, appendix A; MobileSAM for `vit_t`): data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from napari_sam.model.config import ConvConfig, SamConfig, TinyVitConfig, VitConfig

PRESETS: Mapping[str, SamConfig] = MappingProxyType(
    {
        "vit_b": SamConfig(encoder=VitConfig(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))),
        "vit_l": SamConfig(encoder=VitConfig(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))),
        "vit_h": SamConfig(encoder=VitConfig(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))),
        "vit_t": SamConfig(encoder=TinyVitConfig()),
    }
)
"""Architecture name to configuration; a checkpoint in SAM's layout needs no more than this name to be loaded."""

NANO = SamConfig(
    encoder=ConvConfig(),
    image_size=512,
    embedding_stride=8,
    prompt_embed_dim=96,
    decoder_heads=4,
    decoder_mlp_dim=256,
    iou_head_hidden_dim=128,
    position_scales=(1.0, 2.0, 4.0, 8.0),
    has_proposals=True,
    has_instances=True,
)
"""What `napari-sam train` builds anew, small enough for laptops without a GPU; the weights carry it in their header."""
