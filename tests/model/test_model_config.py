"""The description of a network: checked, and the same after a trip through JSON."""

import pytest

from napari_sam.errors import ConfigError
from napari_sam.model.config import ConvConfig, SamConfig
from napari_sam.model.presets import PRESETS

CONFIGS = {**PRESETS, "conv": SamConfig(encoder=ConvConfig(), embedding_stride=8, position_scales=(1.0, 4.0))}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_described_in_json_is_the_same_network(name):
    assert SamConfig.from_json(CONFIGS[name].to_json()) == CONFIGS[name]


def test_an_image_size_that_the_stride_does_not_divide_is_named():
    with pytest.raises(ConfigError, match=r"multiple of embedding_stride = 16, got 1000"):
        SamConfig(encoder=ConvConfig(), image_size=1000)


def test_a_width_that_the_frequencies_do_not_divide_is_named():
    with pytest.raises(ConfigError, match=r"multiple of 6 .*3 position_scales.*got 256"):
        SamConfig(encoder=ConvConfig(), position_scales=(1.0, 2.0, 4.0))


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", "{}", '{"encoder": {"kind": "swin"}}', '{"encoder": {"kind": "vit", "colour": 1}}'],
    ids=["text", "a list", "empty", "unknown encoder", "unknown field"],
)
def test_other_text_is_not_taken_for_a_network(text):
    with pytest.raises(ConfigError, match="not the description of a network"):
        SamConfig.from_json(text)
