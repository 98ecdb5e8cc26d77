"""What is measured: the pieces that were made fast, beside the plain way or the public reference, with equal results.

All networks have random weights, but for `nano`. `small=True` makes cases that take a second or two, for the tests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.decoder import reference_decoder
from benchmarks.encoder_cases import TOLERANCE, encoder_tiny_case, encoder_vit_case, equal
from benchmarks.measuring import Case, Way
from torch.nn import functional as F

from napari_sam import load_model
from napari_sam.geometry import Box, Mask, ModelFrame, mask_nms
from napari_sam.model.config import SamConfig, VitConfig
from napari_sam.model.fast_decoder import PROMPTS_AT_ONCE, PreparedImage
from napari_sam.model.loading import SamModel
from napari_sam.model.presets import PRESETS
from napari_sam.model.sam import Sam, build_sam
from napari_sam.predict import AutoMaskConfig, LogitUpsampler, embed_image, generate_masks, predict_masks
from napari_sam.predict.filtering import mask_and_stability

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracles.reference import build_reference_preset, import_segment_anything, randomise

NO_ENCODER = SamConfig(encoder=VitConfig(width=16, depth=1, heads=2, global_blocks=()))
"""ViT-B's decoder, with an encoder that takes no time."""


def all_cases(*, small: bool = False, points_per_side: int = 32) -> dict[str, Case]:
    """Name to case; `points_per_side` of the grid of automatic masks."""
    cases = {
        "encoder_vit_b": encoder_vit_case(small=small),
        "encoder_vit_t": encoder_tiny_case(small=small),
        "decoder_vit_b": decoder_case(8 if small else 64),
        "upsampling": upsampling_case(4 if small else 16),
        "mask_nms": nms_case(800 if small else 10_000),
    }
    if not small:
        cases |= {
            "click_nano": click_case("nano", 0.015),
            "click_vit_b": click_case("vit_b", 0.050),
            "help": help_case(),
            "automatic_vit_b": automatic_case(points_per_side),  # last: it takes longest
        }
    return cases


def decoder_case(count: int) -> Case:
    """Single points on one image: all three masks of each, one mask of every third point, the ratings alone."""
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(1, 256, 64, 64, generator=generator)
    points = 1024 * torch.rand(count, 1, 2, generator=generator)

    @cache
    def inputs() -> tuple[Any, Sam, Any]:
        ours: Any = randomise(build_sam(NO_ENCODER), 0)
        with torch.inference_mode():
            labels = torch.ones(count, 1, dtype=torch.long)
            sparse, dense = ours.prompt_encoder(points=(points, labels))
            return reference_decoder(ours), ours, (ours.prompt_encoder.get_dense_pe(), sparse, dense)

    def reference() -> torch.Tensor:
        decoder, _, (pe, sparse, dense) = inputs()
        with torch.inference_mode():
            masks: torch.Tensor = decoder(embedding, pe, sparse, dense, multimask_output=True)[0]
        return masks

    def ours(masks_of: Callable[[int], bool], masks: slice) -> torch.Tensor:
        _, network, (pe, sparse, dense) = inputs()
        made = []
        with torch.inference_mode():
            image = PreparedImage(network.mask_decoder, embedding, pe, dense[:1])
            for start in range(0, count, PROMPTS_AT_ONCE):
                attended = image.attend(sparse[start : start + PROMPTS_AT_ONCE])
                chosen = torch.zeros_like(attended.predicted_iou, dtype=torch.bool)
                for i in range(len(chosen)):
                    chosen[i, masks] = masks_of(start + i)
                made.append(image.decode_masks(attended, chosen))
        return torch.cat(made)

    def check(results: dict[str, Any]) -> None:
        expected = results["reference"]
        equal({"reference": expected.flatten(0, 1), "all masks": results["all masks"]})
        equal({"reference": expected[::3, 0], "one in nine": results["one in nine"]})

    return Case(
        title=f"ViT-B's decoder, {count} points on one image",
        ways={
            "reference": lambda: reference,
            "all masks": lambda: partial(ours, lambda i: True, slice(1, None)),
            "one in nine": lambda: partial(ours, lambda i: i % 3 == 0, slice(1, 2)),
            "ratings only": lambda: partial(ours, lambda i: False, slice(0, 0)),
        },
        baseline="reference",
        least_ratios={"one in nine": 5.0},
        check=check,
    )


def upsampling_case(count: int) -> Case:
    """Masks of small objects from 256 x 256 logits to 1024 x 1024 pixels and their stability scores."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    centres, radii = rng.uniform(20, 236, (count, 2)), rng.uniform(4, 20, count)
    logits = np.stack([r - np.hypot(y - cy, x - cx) for (cy, cx), r in zip(centres, radii, strict=True)])
    logits = logits.astype(np.float32)

    def plain() -> list[tuple[int, float]]:
        full = F.interpolate(torch.from_numpy(logits)[:, None], (1024, 1024), mode="bilinear", align_corners=False)
        full = F.interpolate(full, (1024, 1024), mode="bilinear", align_corners=False)[:, 0]
        inner, outer = ((full > at).sum(dim=(1, 2), dtype=torch.int32) for at in (1.0, -1.0))
        return list(zip((full > 0).sum(dim=(1, 2)).tolist(), (inner / outer).tolist(), strict=True))

    def ours() -> list[tuple[int, float]]:
        upsampler = LogitUpsampler((256, 256), ModelFrame((1024, 1024), 1024))
        found = (mask_and_stability(one, upsampler, threshold=0.0, offset=1.0) for one in logits)
        return [(int(np.count_nonzero(pixels)), stability) for _, pixels, stability in found]

    return Case(
        title=f"upsampling and stability of {count} masks",
        ways={"plain": lambda: plain, "ours": lambda: ours},
        baseline="plain",
        least_ratios={"ours": 5.0},
        check=lambda results: np.testing.assert_allclose(results["ours"], results["plain"], atol=1e-5),
    )


def nms_case(count: int) -> Case:
    """Removal of duplicates among run-length masks, four around each of `count` / 4 places."""
    rng = np.random.default_rng(0)
    side = 2048
    y, x = np.mgrid[-24:25, -24:25]
    centres = np.tile(rng.uniform(30, side - 30, (count // 4, 2)), (4, 1)) + rng.normal(0, 1.5, (count, 2))
    masks = []
    for (cy, cx), radius, flat in zip(
        centres.astype(int), rng.uniform(8, 20, count), rng.uniform(0.7, 1.4, count), strict=True
    ):
        whole = Box(cx - 24, cy - 24, cx + 25, cy + 25)
        window = whole.clipped(Box.of_size((side, side)))
        pixels = flat * y**2 + x**2 < radius**2
        inside = pixels[window.y0 - whole.y0 : window.y1 - whole.y0, window.x0 - whole.x0 : window.x1 - whole.x0]
        masks.append(Mask.from_window(inside, window, (side, side)))

    def plain() -> list[int]:
        kept: list[int] = []
        for i, mask in enumerate(masks):
            if all(_plain_iou(mask, masks[k]) <= 0.5 for k in kept):
                kept.append(i)
        return kept

    ways: dict[str, Callable[[], Way]] = {"ours": lambda: lambda: mask_nms(masks, range(count), 0.5).tolist()}
    if count > 5000:  # the double loop over all of them takes minutes
        return Case(title=f"NMS of {count} run-length masks", ways=ways, most_seconds={"ours": 0.5})
    return Case(
        title=f"NMS of {count} run-length masks",
        ways={"plain": lambda: plain, **ways},
        baseline="plain",
        least_ratios={"ours": 10.0},
        check=lambda results: np.testing.assert_array_equal(results["ours"], results["plain"]),
        repeats=1,
    )


def _plain_iou(a: Mask, b: Mask) -> float:
    both = Box(min(a.box.x0, b.box.x0), min(a.box.y0, b.box.y0), max(a.box.x1, b.box.x1), max(a.box.y1, b.box.y1))
    if both.width >= a.box.width + b.box.width or both.height >= a.box.height + b.box.height:
        return 0.0
    first, second = a.window(both), b.window(both)
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))


AUTOMATIC: dict[str, Any] = {
    "pred_iou_thresh": 0.4,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
}
"""A network with random weights answers with textures; so none is called unstable or a duplicate,
and the threshold lets a tenth of the masks through."""


def automatic_case(points_per_side: int) -> Case:
    """Automatic masks of one image of 1024 x 1024, ViT-B, a grid of points (32 x 32 as published)."""
    settings = AUTOMATIC | {"points_per_side": points_per_side}
    y, x = np.mgrid[:1024, :1024]
    image = np.stack([127 + 120 * np.sin(x / a) * np.cos(y / b) for a, b in ((37, 53), (71, 29), (17, 97))], axis=2)
    image = image.astype(np.uint8)

    @cache
    def reference_network() -> Any:
        return build_reference_preset("vit_b")

    @cache
    def our_network() -> Any:
        return randomise(build_sam(PRESETS["vit_b"]), 0)

    def reference() -> Any:
        generator = import_segment_anything().SamAutomaticMaskGenerator(
            reference_network(), output_mode="uncompressed_rle", **settings
        )
        return generator.generate(image)

    def ours(prompts: Any) -> list[Mask]:
        return generate_masks(
            _wrapped(our_network()), image, AutoMaskConfig(prompts=prompts, max_mask_fraction=1, **settings)
        )

    def check(results: dict[str, Any]) -> None:
        ratings = [sorted(m.predicted_iou for m in results["full grid"])]
        ratings.append(sorted(record["predicted_iou"] for record in results["reference"]))
        np.testing.assert_allclose(*ratings, atol=TOLERANCE)
        print(f"automatic: {len(ratings[0])} masks; adaptive: {len(results['adaptive grid'])}", file=sys.stderr)

    return Case(
        title=f"automatic masks, ViT-B, {points_per_side} x {points_per_side} points, 1024 x 1024",
        ways={
            "reference": lambda: reference,
            "full grid": lambda: partial(ours, "grid"),
            "adaptive grid": lambda: partial(ours, "adaptive"),
        },
        baseline="reference",
        least_ratios={"full grid": 4.0, "adaptive grid": 9.0},
        most_megabytes={"full grid": 1200, "adaptive grid": 1200},
        alike=lambda: our_network().load_state_dict(reference_network().state_dict(), strict=True),
        check=check,
        repeats=1,
    )


def click_case(name: str, limit_s: float) -> Case:
    """One point on an image that is embedded already: its three masks at the image's size."""

    def prepare() -> Way:
        model = load_model("nano", device="cpu") if name == "nano" else _wrapped(randomise(build_sam(NO_ENCODER), 0))
        embedding = embed_image(model, np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8))
        return lambda: predict_masks(model, embedding, [[200, 200]]).masks

    return Case(
        title=f"one click, {name}, embedded already",
        ways={"ours": prepare},
        most_seconds={"ours": limit_s},
        repeats=20,
    )


def help_case() -> Case:
    """From the command to its help."""
    command = [sys.executable, "-m", "napari_sam.cli", "--help"]
    run = partial(subprocess.run, command, stdout=subprocess.DEVNULL, check=True)
    return Case(title="napari-sam --help", ways={"ours": lambda: run}, most_seconds={"ours": 0.5})


def _wrapped(sam: Any) -> SamModel:
    """`sam` as `load_model` would return it."""
    return SamModel(
        sam=sam,
        config=sam.config,
        name="random",
        fingerprint="0" * 64,
        device=torch.device("cpu"),
        automatic_defaults={},
    )
