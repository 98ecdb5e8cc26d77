"""The image encoders as benchmark cases: beside the public reference, and beside their arithmetic alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.measuring import Case, Way
from torch.nn import functional as F

from napari_sam.model.config import SamConfig, VitConfig
from napari_sam.model.presets import PRESETS
from napari_sam.model.sam import Sam, build_sam

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracles.reference import build_reference_preset, build_reference_sam

TOLERANCE = 1e-4
ARITHMETIC = "its arithmetic alone"
PRODUCTS = "its arithmetic in torch.mm"
GIGAFLOP = {"vit_b": 972.0, "vit_t": 77.5}
"""Of the encoders as published, windows' padding included."""
SMALL_VIT = VitConfig(width=192, depth=3, heads=3, global_blocks=(2,))


def encoder_vit_case(*, small: bool) -> Case:
    """ViT-B's encoder on one image of 1024 x 1024."""

    @cache
    def reference() -> Any:
        if not small:
            return build_reference_preset("vit_b")
        return build_reference_sam(
            image_size=1024,
            encoder_width=SMALL_VIT.width,
            encoder_depth=SMALL_VIT.depth,
            encoder_heads=SMALL_VIT.heads,
            global_attention_blocks=SMALL_VIT.global_blocks,
            window_size=SMALL_VIT.window_size,
            embedding_width=256,
        )

    return _encoder_case(
        "small ViT encoder, 1024 x 1024" if small else "ViT-B encoder, 1024 x 1024",
        reference,
        SamConfig(encoder=SMALL_VIT) if small else PRESETS["vit_b"],
        gigaflop=None if small else GIGAFLOP["vit_b"],
        least_ratios={"ours": 1.8},
        most_megabytes={"ours": 1000},
    )


def encoder_tiny_case(*, small: bool) -> Case:
    """MobileSAM's encoder."""
    reference = cache(partial(build_reference_preset, "vit_t"))
    return _encoder_case(
        "MobileSAM's encoder, 1024 x 1024",
        reference,
        PRESETS["vit_t"],
        gigaflop=None if small else GIGAFLOP["vit_t"],
        least_ratios={"ours": 2.0},
        repeats=2 if small else 5,
    )


def _encoder_case(
    title: str, reference: Callable[[], Any], config: SamConfig, *, gigaflop: float | None, **limits: Any
) -> Case:
    image = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))

    @cache
    def ours() -> Sam:
        return build_sam(config).eval()

    def alike() -> None:
        ours().image_encoder.load_state_dict(reference().image_encoder.state_dict(), strict=True)

    ways: dict[str, Callable[[], Way]] = {
        "reference": lambda: partial(_without_gradients, reference().image_encoder, image),
        "ours": lambda: partial(_without_gradients, ours().image_encoder, image),
    }
    if gigaflop is not None:
        ways |= {ARITHMETIC: lambda: _convolutions(gigaflop), PRODUCTS: lambda: _products(gigaflop)}
    return Case(
        title=title,
        ways=ways,
        alike=alike,
        baseline="reference",
        check=lambda results: equal({way: results[way] for way in ("reference", "ours")}),
        **limits,
    )


def _convolutions(gigaflop: float) -> Way:
    """As many operations in 3x3 convolutions of 256 channels, the fastest thing that torch does on a CPU."""
    side, channels = 128, 256
    image, weight = torch.ones(1, channels, side, side), torch.ones(channels, channels, 3, 3)
    return _repeated(partial(F.conv2d, image, weight, padding=1), gigaflop / (2e-9 * 9 * (side * channels) ** 2))


def _products(gigaflop: float) -> Way:
    """As many operations in products of two matrices of 1024 x 1024."""
    a = torch.ones(1024, 1024)
    return _repeated(partial(torch.mm, a, a), gigaflop / (2e-9 * 1024**3))


def _repeated(step: Callable[[], object], count: float) -> Way:
    def run() -> None:
        with torch.inference_mode():
            for _ in range(round(count)):
                step()

    return run


def _without_gradients(network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = network(image)
    return out


def equal(results: dict[str, Any]) -> None:
    expected, *others = results.values()
    for other in others:
        torch.testing.assert_close(other, expected, rtol=0, atol=TOLERANCE)
