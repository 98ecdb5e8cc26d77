"""The crops of each step with all their targets, made in other processes while the network learns."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from napari_sam.errors import TrainingError
from napari_sam.model.sam import Sam
from napari_sam.training.augment import random_crop
from napari_sam.training.config import TrainConfig
from napari_sam.training.data import Sample
from napari_sam.training.schedule import zoom_of
from napari_sam.training.targets import DenseTargets, ObjectPlaces, dense_targets, object_places

BATCHES_AHEAD = 3
"""Batches that each process makes in advance."""

Draw = Callable[[np.random.Generator], tuple[Sample, bool]]
"""Draws a training sample, and says whether all its objects are labelled."""


@runtime_checkable
class CropEncoder(Protocol):
    """An image encoder that can be shown a part of its frame, and says where the objects' centres are."""

    def embed(self, x: Tensor, *, origin_px: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class CropPlan:
    """What crops a network can be taught with."""

    frame_px: int
    stride_px: int
    whole_frames: bool
    """Whether its encoder takes nothing but whole frames."""
    dense: bool
    """Whether dense targets are needed: for centre offsets and the proposal head."""

    @classmethod
    def of(cls, sam: Sam) -> Self:
        """What the encoder's and the network's abilities allow."""
        by_parts = isinstance(sam.image_encoder, CropEncoder)
        return cls(
            frame_px=sam.config.image_size,
            stride_px=sam.config.embedding_stride,
            whole_frames=not by_parts,
            dense=by_parts and sam.proposal_head is not None,
        )

    @property
    def mask_step_px(self) -> int:
        """Pixels of the frame per pixel of the decoder's masks, which are four times finer than the embedding."""
        return self.stride_px // 4

    def crops_of(self, config: TrainConfig, step: int) -> tuple[int, int, int]:
        """Number and side of a step's crops, and how many times the usual prompts each of them gets."""
        if self.whole_frames:
            zoom = max(1, self.frame_px // config.crop_px)
            return max(1, config.crops // zoom**2), self.frame_px, min(zoom, 4)
        zoom = zoom_of(step)
        return max(2, config.crops // zoom**2), min(config.crop_px * zoom, self.frame_px), zoom


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's crops with all their targets."""

    images: Tensor
    """(B, 3, S, S) float32 in 0 to 255."""
    labels: Tensor
    """(B, S, S) int64."""
    origins_px: Tensor
    """(B, 2), (x, y): where in the model's frame each crop lies."""
    places: list[ObjectPlaces]
    targets: list[DenseTargets]
    """Empty for a network without dense outputs."""
    exhaustive: list[bool]

    def to(self, device: torch.device) -> Batch:
        """The same with what the network sees on `device`; `labels` stay, prompts are drawn from them on the CPU."""
        targets = [replace(t, **{f.name: getattr(t, f.name).to(device) for f in fields(t)}) for t in self.targets]
        return replace(self, images=self.images.to(device), origins_px=self.origins_px.to(device), targets=targets)


def make_batch(step: int, draw: Draw, config: TrainConfig, plan: CropPlan) -> Batch:
    """The batch of one step; the same for the same seed, however often a run was resumed."""
    rng = np.random.default_rng([config.seed, step])
    count, side, _ = plan.crops_of(config, step)
    samples = [draw(rng) for _ in range(count)]
    frame, stride = plan.frame_px, plan.stride_px
    crops = [random_crop(sample, size=side, model_size=frame, config=config.augment, rng=rng) for sample, _ in samples]
    places = [object_places(crop.labels.numpy()) for crop in crops]
    origins = rng.integers(0, (frame - side) // stride + 1, (count, 2)) * stride
    targets = [dense_targets(c.labels.numpy(), p) for c, p in zip(crops, places, strict=True)] if plan.dense else []
    return Batch(
        images=torch.stack([crop.image for crop in crops]),
        labels=torch.stack([crop.labels for crop in crops]),
        origins_px=torch.from_numpy(origins).float(),
        places=places,
        targets=targets,
        exhaustive=[whole for _, whole in samples],
    )


class BatchMaker:
    """Makes the batches of given steps, in processes of its own (`workers`) or, without any, when they are asked for.

    In threads, the many small operations would fight with the network's for the cores.
    """

    def __init__(self, draw: Draw, config: TrainConfig, plan: CropPlan) -> None:
        self._work = (draw, config, plan)
        self._workers = config.workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._workers:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=context, initializer=_start_process, initargs=self._work
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def batches(self, steps: Iterable[int]) -> Iterator[Batch]:
        """The batches of `steps`, in their order, some of them made ahead."""
        if self._pool is None:
            yield from (make_batch(step, *self._work) for step in steps)
            return
        ahead: deque[Future[Batch]] = deque()
        for step in steps:
            ahead.append(self._pool.submit(_make_in_process, step))
            if len(ahead) > BATCHES_AHEAD * self._workers:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())


def _result(future: Future[Batch]) -> Batch:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise TrainingError(
            "the process that makes the training crops has died. If you call train in a script, put the call under "
            "`if __name__ == '__main__':`; if memory was short, make smaller crops; workers = 0 needs no such process."
        ) from error


_work: tuple[Draw, TrainConfig, CropPlan]
"""What a batch-making process was started with; set there once, since each task would else carry the data set."""


def _start_process(draw: Draw, config: TrainConfig, plan: CropPlan) -> None:
    global _work
    # Ctrl-C reaches every process of a terminal; only the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _work = (draw, config, plan)


def _make_in_process(step: int) -> Batch:
    return make_batch(step, *_work)
