"""How a device is used: number format and, where memory is short, smaller batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import nn

from napari_sam.model.conv_encoder import ConvEncoder
from napari_sam.predict.config import Precision, check_precision

Result = TypeVar("Result")


class OutOfMemoryWarning(UserWarning):
    """The device's memory was too small for a batch; the work goes on in smaller ones."""


def has_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bfloat16; those without imitate it and take longer than with float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not there before torch 2.5
    return asked is not None and bool(asked())


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which the network runs: bf16 (fp16 where the GPU has no bf16) on CUDA for "auto", else fp32.

    On CPUs only convolutions gain, see :func:`encoder_autocast`; on MPS nothing that was measured.
    """
    check_precision(precision)
    if precision == "fp32" or device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", dtype=torch.bfloat16 if has_bf16(device) else torch.float16)


def encoder_autocast(encoder: nn.Module, device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """:func:`autocast` for an image encoder: a convolutional one runs in bf16 on CPUs with instructions for it, too.

    There the encoder of `nano` is twice as fast, and no figure of its validation moves by more than 0.01. Those of
    the paper have a way of their own in fp32 (:mod:`napari_sam.model.products`) that is no slower.
    """
    if precision == "auto" and device.type == "cpu" and isinstance(encoder, ConvEncoder) and has_bf16(device):
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return autocast(device, precision)


def iter_batches(
    total: int,
    batch_size: int,
    step: Callable[[slice], Result],
    *,
    what: str = "prompt",
    setting: str = "points_per_batch",
) -> Iterator[tuple[slice, Result]]:
    """`step` of consecutive slices of `range(total)`; one too large for the device's memory is halved, with a warning.

    Parameters
    ----------
    total, batch_size : int
        Number of items, and how many `step` gets at most.
    step : callable
        Does the work of one slice; called again with a shorter slice after it ran out of memory.
    what, setting : str
        What an item is, and the setting that says how many are done at once, for the warning.

    Yields
    ------
    slice, result
        In order; together the slices cover each item once.

    Raises
    ------
    RuntimeError
        What `step` raised, where a single item does not fit or something else went wrong.
    """
    start = 0
    while start < total:
        part = slice(start, min(start + batch_size, total))
        try:
            result = step(part)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if part.stop - part.start == 1:
                error.add_note(
                    f"Not even one {what} fits into the device's memory; use a smaller model or device='cpu'."
                )
                raise
            batch_size = (part.stop - part.start) // 2
        else:
            start = part.stop
            yield part, result
            continue
        # After the handler: while the error lives, its traceback holds the tensors of the failed batch.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        warnings.warn(
            f"out of memory with {part.stop - part.start} {what}s at once: going on with {batch_size}. "
            f"{setting}={batch_size} avoids the retry.",
            OutOfMemoryWarning,
            stacklevel=2,
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether `error` is a torch device's way to say that its memory is full (only CUDA has a class for it)."""
    text = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
