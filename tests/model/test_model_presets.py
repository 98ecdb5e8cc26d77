"""The published networks: sizes and state-dict layouts, without allocating them."""

import pytest
import torch

from napari_sam.model.presets import PRESETS
from napari_sam.model.sam import build_sam
from oracles.reference import import_mobile_sam, import_segment_anything


def layout(module: torch.nn.Module) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "millions"), [("vit_b", 93.7), ("vit_l", 312.3), ("vit_h", 641.1), ("vit_t", 10.1)], ids=str
)
def test_parameter_counts_are_the_published_ones(name, millions):
    with torch.device("meta"):
        sam = build_sam(PRESETS[name])
    assert round(sum(p.numel() for p in sam.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("name", PRESETS)
def test_state_dict_names_shapes_and_types_are_the_published_ones(name):
    reference = import_mobile_sam() if name == "vit_t" else import_segment_anything()
    with torch.device("meta"):
        ours = layout(build_sam(PRESETS[name]))
    with torch.device("cpu" if name == "vit_t" else "meta"):  # MobileSAM reads values while it is built
        theirs = layout(reference.sam_model_registry[name]())
    assert ours == theirs


def test_presets_cannot_be_changed_by_accident():
    with pytest.raises(TypeError, match="does not support item assignment"):
        PRESETS["vit_b"] = PRESETS["vit_l"]
