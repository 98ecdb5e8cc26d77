"""How a device is used: number format and, where memory is short, smaller batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeVar, get_args

import torch

from napari_sam.errors import ConfigError

Precision = Literal["auto", "fp32"]
Result = TypeVar("Result")


class OutOfMemoryWarning(UserWarning):
    """The device's memory was too small for a batch; the work goes on in smaller ones."""


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which the network runs: bf16 (fp16 where the GPU has no bf16) on CUDA for "auto", else fp32.

    CPUs without bf16 units are slower in bf16, and MPS gains nothing that was measured, so both stay at fp32.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}.")
    if precision == "fp32" or device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", dtype=torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)


def iter_batches(total: int, batch_size: int, step: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
    """`step` of consecutive slices of `range(total)`; one too large for the device's memory is halved, with a warning.

    Parameters
    ----------
    total, batch_size : int
        Number of items, and how many `step` gets at most.
    step : callable
        Does the work of one slice; called again with a shorter slice after it ran out of memory.

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
                    "Not even one prompt fits into the device's memory; use a smaller model or device='cpu'."
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
            f"out of memory with {part.stop - part.start} prompts at once: going on with {batch_size}. "
            f"points_per_batch={batch_size} avoids the retry.",
            OutOfMemoryWarning,
            stacklevel=2,
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether `error` is a torch device's way to say that its memory is full (only CUDA has a class for it)."""
    text = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
