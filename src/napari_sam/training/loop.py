"""The training algorithm: dense supervision first, then prompts in interactive rounds (paper, appendix A)."""

from __future__ import annotations

import copy
import csv
import math
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.errors import ConfigError, TrainingError
from napari_sam.model.conv_encoder import ConvEncoder
from napari_sam.model.sam import Sam
from napari_sam.training.augment import AugmentConfig, random_crop
from napari_sam.training.data import Sample
from napari_sam.training.dense import DenseHead, dense_loss
from napari_sam.training.losses import mask_iou, mask_loss
from napari_sam.training.prompts import PromptBatch, first_prompts
from napari_sam.training.targets import DenseTargets, ObjectPlaces, dense_targets, object_places


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a network is trained. Time is counted over all resumed runs."""

    minutes: float = 60.0
    """Training time; learning rate and phases follow its share that has passed."""
    steps: int | None = None
    """Train for so many steps instead, however long they take."""
    crop_px: int = 128
    """Side of the usual training crop, in pixels of the model's frame. Small crops hold many objects for their cost."""
    crops: int = 20
    """Crops of that side in a step; every fourth step has fewer of twice the side, every sixteenth of four times."""
    prompts_per_crop: int = 5
    """Objects prompted in each usual crop; more in a larger one."""
    background_points: int = 2
    """Points on background in each exhaustively labelled crop; their masks' IoU target is 0."""
    rounds: int = 3
    """Interactive rounds: a first prompt, then error points with the former mask as a prompt."""
    dense_share: float = 0.25
    """Share of the time with dense supervision alone."""
    balance_share: float = 0.1
    """Share of the time, after that, in which balanced cross-entropy hands over to focal loss."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.02
    """AdamW's weight decay."""
    warmup_steps: int = 150
    """Steps of linear warm-up."""
    ema: float = 0.998
    """Decay of the averaged weights, which are the result."""
    seed: int = 0
    """Of crops, augmentations and prompts."""
    save_minutes: float = 3.0
    """Time between two saved states."""
    bf16: bool = False
    """Compute in bfloat16 where that is safe; faster on GPUs and on CPUs with AVX-512."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How crops vary."""

    def __post_init__(self) -> None:
        for name, least in (("crop_px", 32), ("crops", 1), ("prompts_per_crop", 1), ("rounds", 1), ("warmup_steps", 1)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if self.crop_px % 8:
            raise ConfigError(f"crop_px must be a multiple of 8, got {self.crop_px}; 128 is usual.")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}; leave it out to train for some minutes.")
        for name in ("minutes", "learning_rate", "balance_share"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}.")


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's crops with all their targets."""

    images: Tensor
    labels: Tensor
    origins_px: Tensor
    places: list[ObjectPlaces]
    targets: list[DenseTargets]
    exhaustive: list[bool]


EMA_EVERY = 8
"""Steps between two updates of the averaged weights; an update reads all weights, which costs memory traffic."""

STATISTICS_BATCHES = 32
"""Latest batches from which the statistics of the averaged weights are measured at the end."""
LOG_EVERY = 20
"""Steps between two rows of the log."""
BATCHES_AHEAD = 3
"""Batches made in advance while the network learns."""

Progress = Callable[[float, float, dict[str, float]], None]
"""(minutes so far, minutes in all, losses by name)."""
Draw = Callable[[np.random.Generator], tuple[Sample, bool]]
"""Draws a training sample, and says whether all its objects are labelled."""


class Trainer:
    """Trains one network; everything that changes from step to step lives here and in the saved state."""

    def __init__(
        self, sam: Sam, draw: Draw, config: TrainConfig, folder: Path, progress: Progress | None = None
    ) -> None:
        if not isinstance(sam.image_encoder, ConvEncoder) or sam.proposal_head is None:
            raise TrainingError(
                "this training loop needs a network with the convolutional encoder and a proposal head, such as nano."
            )
        self.sam = sam.train()
        self.encoder = sam.image_encoder
        self.proposals = sam.proposal_head
        self.dense_head = DenseHead(sam.config.prompt_embed_dim)
        self.draw = draw
        self.config = config
        self.folder = folder
        self.progress = progress
        self.step = 0
        self.minutes_before = 0.0
        self.averaged = copy.deepcopy(sam).eval().requires_grad_(False)
        parameters = [*sam.parameters(), *self.dense_head.parameters()]
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        self._started = time.monotonic()

    # -- state ------------------------------------------------------------------------------------------------------

    @property
    def minutes(self) -> float:
        """Training time so far, resumed runs included."""
        return self.minutes_before + (time.monotonic() - self._started) / 60

    @property
    def share(self) -> float:
        """How much of the training is over, from 0 to 1."""
        return self.step / self.config.steps if self.config.steps is not None else self.minutes / self.config.minutes

    def save(self) -> None:
        """Write the state so that a later run continues from this step."""
        state = {
            "sam": self.sam.state_dict(),
            "averaged": self.averaged.state_dict(),
            "dense_head": self.dense_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "minutes": self.minutes,
        }
        path = self.folder / "state.pt"
        torch.save(state, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def resume(self) -> bool:
        """Continue from a saved state, if there is one; says whether there was."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return False
        try:
            state = torch.load(path, weights_only=True)
            self.sam.load_state_dict(state["sam"])
            self.averaged.load_state_dict(state["averaged"])
            self.dense_head.load_state_dict(state["dense_head"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
            self.minutes_before = float(state["minutes"])
        except Exception as error:  # torch's reader meets damaged bytes with errors of any kind
            raise TrainingError(
                f"{path} cannot be gone on with, being damaged or of another network ({type(error).__name__}); "
                "remove its folder to begin anew, or choose another output."
            ) from error
        return True

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until the time is over; saves as it goes and at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._started = time.monotonic()
        saved = self.minutes
        recent: deque[Batch] = deque(maxlen=STATISTICS_BATCHES)
        try:
            for batch in self._batches():
                recent.append(batch)
                values = self._take_step(batch)
                if self.step % LOG_EVERY == 0:
                    self._log(values)
                    if self.progress is not None:
                        self.progress(self.minutes, self.config.minutes, values)
                if self.minutes - saved > self.config.save_minutes:
                    self.save()
                    saved = self.minutes
            self._settle_statistics(recent)
        finally:
            self.save()

    def _batches(self) -> Iterator[Batch]:
        """Batches until the time is over, each made while the one before is being learned."""
        # A process of its own: in a thread, the many small operations would fight with the network's for the cores.
        context = multiprocessing.get_context("spawn")
        start = (self.draw, self.config, self.sam.config.image_size)
        with ProcessPoolExecutor(1, mp_context=context, initializer=_start_maker, initargs=start) as pool:
            ahead = deque(pool.submit(_make_batch, self.step + i) for i in range(BATCHES_AHEAD))
            ahead[0].result()  # starting the process is not training time
            self._started = time.monotonic()
            while self.share < 1:
                ahead.append(pool.submit(_make_batch, self.step + BATCHES_AHEAD))
                yield ahead.popleft().result()
            pool.shutdown(cancel_futures=True)

    def _take_step(self, batch: Batch) -> dict[str, float]:
        share = self.share
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(share)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bf16):
            embedding, offsets = self.encoder.embed(self._preprocessed(batch), origin_px=batch.origins_px)
            loss, values = dense_loss(
                self.dense_head(embedding), offsets, self.proposals(embedding), batch.targets, batch.exhaustive
            )
            if share >= self.config.dense_share:
                prompted, more = self._prompted_loss(batch, embedding, share)
                loss = loss + prompted
                values.update(more)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return values

    def _preprocessed(self, batch: Batch) -> Tensor:
        x = (batch.images - self.sam.pixel_mean) / self.sam.pixel_std
        return x.contiguous(memory_format=torch.channels_last)

    def _learning_rate(self, share: float) -> float:
        """Linear warm-up, then a cosine to 1 % of the peak."""
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return self.config.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))

    @torch.no_grad()
    def _average(self) -> None:
        if self.step % EMA_EVERY:
            return
        decay = min(self.config.ema**EMA_EVERY, (1 + self.step) / (10 + self.step))
        pairs = list(zip(self.averaged.state_dict().values(), self.sam.state_dict().values(), strict=True))
        floats = [(kept, new) for kept, new in pairs if kept.is_floating_point()]
        torch._foreach_lerp_([kept for kept, _ in floats], [new for _, new in floats], 1 - decay)

    @torch.no_grad()
    def _settle_statistics(self, batches: Iterable[Batch]) -> None:
        """Measure the batch norms' statistics of the averaged weights: the average of statistics is something else."""
        norms = [module for module in self.averaged.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        for batch in batches:
            self.averaged.image_encoder(self._preprocessed(batch), origin_px=batch.origins_px)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    # -- prompts ----------------------------------------------------------------------------------------------------

    def _prompted_loss(self, batch: Batch, embedding: Tensor, share: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.config.seed, self.step, 1])
        prompts = first_prompts(
            batch.labels,
            batch.places,
            batch.origins_px,
            per_crop=self.config.prompts_per_crop * _zoom(self.step),
            background_per_crop=tuple(self.config.background_points if whole else 0 for whole in batch.exhaustive),
            use_boxes=bool(rng.random() < 0.3),
            rng=rng,
        )
        if prompts is None:
            return embedding.new_zeros(()), {}
        handed_over = (share - self.config.dense_share) / self.config.balance_share
        balance = float(np.clip(1 - handed_over, 0, 1))
        image = embedding[prompts.crop]  # (P, C, h, w)
        image_pe = self._positions(prompts, embedding.shape[-2:])
        rounds = int(rng.choice(self.config.rounds, p=_round_chances(self.config.rounds))) + 1
        total = embedding.new_zeros((), dtype=torch.float32)
        values: dict[str, float] = {}
        former = None
        for number in range(rounds):
            sparse, dense = self.sam.prompt_encoder(
                (prompts.points, prompts.labels) if prompts.points.shape[1] else None,
                prompts.boxes,
                former,
                grid_size=(embedding.shape[-2], embedding.shape[-1]),
            )
            logits, iou = self.sam.mask_decoder.predict_all(image, image_pe, sparse, dense)
            first = number == 0
            loss, chosen, said = _round_loss(logits.float(), iou.float(), prompts, ambiguous=first, balance=balance)
            total = total + loss / rounds
            values |= {f"{name}{number + 1}": value for name, value in said.items()}
            if number + 1 < rounds:
                prompts = prompts.with_error_points(chosen)
                former = chosen[:, None].clamp(-20, 20)
        return total, values

    def _positions(self, prompts: PromptBatch, grid: Sequence[int]) -> Tensor:
        """Positional encoding (P, C, h, w) of the part of the frame where each prompt's crop lies."""
        whole = self.sam.prompt_encoder.get_dense_pe()[0]  # (C, H, W)
        x, y = (prompts.origin_px / ConvEncoder.stride).long().unbind(1)
        return torch.stack(
            [whole[:, b : b + grid[0], a : a + grid[1]] for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        )

    def _log(self, values: dict[str, float]) -> None:
        row = {"step": self.step, "minutes": round(self.minutes, 2), **{k: round(v, 4) for k, v in values.items()}}
        path = self.folder / "log.csv"
        fields = ["step", "minutes", "offset", "foreground", "border", "heat"]
        fields += [f"{name}{n + 1}" for n in range(self.config.rounds) for name in ("mask", "iou", "iou_error")]
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fields, restval="")
            if new:
                writer.writeheader()
            writer.writerow(row)


_maker: tuple[Draw, TrainConfig, int]
"""What the batch-making process was started with; set there once, since each task would else carry the data set."""


def _start_maker(draw: Draw, config: TrainConfig, image_size: int) -> None:
    global _maker
    # Ctrl-C reaches every process of a terminal; only the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _maker = (draw, config, image_size)


def _zoom(step: int) -> int:
    """How many times the usual side the crops of a step have: most objects are small, large ones must be seen whole."""
    return 4 if step % 16 == 15 else 2 if step % 4 == 3 else 1


def _make_batch(step: int) -> Batch:
    """The batch of one step; the same for the same seed, however often a run was resumed."""
    draw, config, frame = _maker
    rng = np.random.default_rng([config.seed, step])
    zoom = _zoom(step)
    side = min(config.crop_px * zoom, frame)
    samples = [draw(rng) for _ in range(max(2, config.crops // zoom**2))]
    crops = [random_crop(sample, size=side, model_size=frame, config=config.augment, rng=rng) for sample, _ in samples]
    places = [object_places(crop.labels.numpy()) for crop in crops]
    return Batch(
        images=torch.stack([crop.image for crop in crops]),
        labels=torch.stack([crop.labels for crop in crops]),
        origins_px=torch.from_numpy(rng.integers(0, (frame - side) // 8 + 1, (len(crops), 2)) * 8).float(),
        places=places,
        targets=[dense_targets(crop.labels.numpy(), place) for crop, place in zip(crops, places, strict=True)],
        exhaustive=[whole for _, whole in samples],
    )


def _round_chances(rounds: int) -> np.ndarray:
    """Chance of 1, 2, ... rounds: each further one half as likely, since it costs as much as the first."""
    chances = 0.5 ** np.arange(rounds)
    return np.asarray(chances / chances.sum())


def _round_loss(
    logits: Tensor, iou: Tensor, prompts: PromptBatch, *, ambiguous: bool, balance: float
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Loss of one round, the mask logits (P, H, W) the next round starts from, and figures for the log.

    The first prompt is ambiguous: of its three masks only the best is taught (paper, "resolving ambiguity"). The
    single mask is always taught. Background points teach the predicted IoU alone.
    """
    truth = prompts.truth[:, None].expand_as(logits)  # (P, M, H, W)
    actual = mask_iou(logits, truth)  # (P, M)
    iou_loss = F.mse_loss(iou, actual)
    at = prompts.is_object
    single = mask_loss(logits[at, 0], truth[at, 0], balance=balance)
    chosen = logits[:, 0]
    loss = single.mean()
    if ambiguous:
        several = mask_loss(logits[at, 1:], truth[at, 1:], balance=balance)  # (P', 3)
        loss = 0.5 * loss + several.min(1).values.mean()
        best = iou[:, 1:].argmax(1)
        chosen = logits[torch.arange(len(logits)), 1 + best] if prompts.boxes is None else chosen
    figures = {
        "mask": float(loss.detach()),
        "iou": float(mask_iou(chosen[at], prompts.truth[at]).mean()),
        "iou_error": float((iou - actual).detach().abs().mean()),
    }
    return loss + iou_loss, chosen.detach(), figures
