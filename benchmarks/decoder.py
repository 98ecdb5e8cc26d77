"""Decoding many prompts on one image: the shared-work decoder, the plain one and the public reference, in one run.

    python benchmarks/decoder.py [--models nano vit_b] [--prompts 64] [--repeats 5] [--threads 1] [--json FILE]

Single points on one random embedding. All ways have the same weights and must agree within 1e-4. Repetitions are
interleaved, so that a busy machine is busy for all; trust the ratios (to the reference), not the times. "plain" and
"reference" answer all prompts as one batch, as the published generator does; "plain, by 4" is as many at once as
"shared" takes. "ratings only" is what a prompt costs whose predicted IoU is too low, "best mask" one that keeps one.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from napari_sam.model.config import SamConfig, VitConfig
from napari_sam.model.fast_decoder import PROMPTS_AT_ONCE, PreparedImage
from napari_sam.model.presets import NANO
from napari_sam.model.sam import Sam, build_sam

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracles.reference import import_segment_anything, randomise

# The decoder is the same for every published encoder; a small one saves time.
NETWORKS = {"nano": NANO, "vit_b": SamConfig(encoder=VitConfig(width=16, depth=1, heads=2, global_blocks=()))}
TOLERANCE = 1e-4


def reference_decoder(sam: Sam) -> torch.nn.Module:
    """The public reference's mask decoder with the weights of `sam`."""
    modeling, config = import_segment_anything().modeling, sam.config
    decoder = modeling.MaskDecoder(
        transformer_dim=config.prompt_embed_dim,
        transformer=modeling.TwoWayTransformer(
            depth=config.decoder_depth,
            embedding_dim=config.prompt_embed_dim,
            num_heads=config.decoder_heads,
            mlp_dim=config.decoder_mlp_dim,
        ),
        iou_head_hidden_dim=config.iou_head_hidden_dim,
    )
    decoder.load_state_dict(sam.mask_decoder.state_dict(), strict=True)
    return decoder.eval()


def ways(sam: Sam, count: int) -> dict[str, Callable[[], torch.Tensor | None]]:
    """Name to function that answers `count` single points; it returns the three masks of each where it makes them."""
    config = sam.config
    generator = torch.Generator().manual_seed(0)
    size = config.embedding_size
    embedding = torch.randn(1, config.prompt_embed_dim, size, size, generator=generator)
    points = config.image_size * torch.rand(count, 1, 2, generator=generator)
    image_pe = sam.prompt_encoder.get_dense_pe()
    sparse, dense = sam.prompt_encoder(points=(points, torch.ones(count, 1, dtype=torch.long)))
    reference, decoder = reference_decoder(sam), sam.mask_decoder
    portions = [slice(i, i + PROMPTS_AT_ONCE) for i in range(0, count, PROMPTS_AT_ONCE)]

    def plain(part: slice) -> torch.Tensor:
        return decoder(embedding, image_pe, sparse[part], dense[part], multimask_output=True)[0]

    def shared(masks: str) -> torch.Tensor | None:
        image = PreparedImage(decoder, embedding, image_pe, dense[:1])
        made = []
        for part in portions:
            attended = image.attend(sparse[part])
            if masks != "none":
                chosen = torch.zeros_like(attended.predicted_iou, dtype=torch.bool)
                chosen[:, 1 : 2 if masks == "best" else None] = True
                made.append(image.decode_masks(attended, chosen))
        return torch.cat(made).unflatten(0, (count, 3)) if masks == "all" else None

    return {
        "reference": lambda: reference(embedding, image_pe, sparse, dense, multimask_output=True)[0],
        "plain": lambda: plain(slice(None)),
        f"plain, by {PROMPTS_AT_ONCE}": lambda: torch.cat([plain(part) for part in portions]),
        "shared, all three masks": lambda: shared("all"),
        "shared, best mask": lambda: shared("best"),
        "shared, ratings only": lambda: shared("none"),
    }


def measure(
    functions: dict[str, Callable[[], torch.Tensor | None]], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """(wall, processor) seconds of each repetition; raises where the ways disagree."""
    expected = functions["reference"]()
    for name, function in functions.items():
        answer = function()
        if answer is not None and (answer - expected).abs().max() > TOLERANCE:
            raise SystemExit(f"{name} differs from the reference by {(answer - expected).abs().max():.1e}.")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            wall, processor = time.perf_counter(), time.process_time()
            function()
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def table(times: dict[str, list[tuple[float, float]]], count: int) -> list[dict[str, float | str]]:
    """A row a way: milliseconds a prompt (least and median), and how many times faster than the reference."""
    rows: list[dict[str, float | str]] = []
    for name, pairs in times.items():
        row: dict[str, float | str] = {"way": name}
        for i, kind in enumerate(("wall", "cpu")):
            values = [1000 * pair[i] / count for pair in pairs]
            base = [1000 * pair[i] / count for pair in times["reference"]]
            row[f"{kind}_ms_min"], row[f"{kind}_ms_median"] = min(values), statistics.median(values)
            row[f"{kind}_ratio_min"] = min(base) / min(values)
            row[f"{kind}_ratio_median"] = statistics.median(base) / statistics.median(values)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {arguments.threads} threads, "
        f"{arguments.prompts} prompts, {arguments.repeats} repetitions; ms a prompt, ratio to the reference"
    )
    results = {}
    for name in arguments.models:
        with torch.inference_mode():
            sam = randomise(build_sam(NETWORKS[name]), seed=0)
            rows = table(measure(ways(sam, arguments.prompts), arguments.repeats), arguments.prompts)
        results[name] = rows
        print(f"\n| {name} | wall min | median | ratio of min | cpu min | median | ratio of min |")
        print("|---|---|---|---|---|---|---|")
        for row in rows:
            print(
                f"| {row['way']} "
                f"| {row['wall_ms_min']:.1f} | {row['wall_ms_median']:.1f} | {row['wall_ratio_min']:.1f} "
                f"| {row['cpu_ms_min']:.1f} | {row['cpu_ms_median']:.1f} | {row['cpu_ratio_min']:.1f} |"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
