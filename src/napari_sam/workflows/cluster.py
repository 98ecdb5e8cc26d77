"""The workers of a run: processes of this machine, or of any dask cluster that is already there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_sam.errors import ConfigError
from napari_sam.model import load_model
from napari_sam.model.registry import REGISTRY
from napari_sam.predict import AutoMaskConfig, Precision
from napari_sam.tiling import Segment
from napari_sam.workflows.allocator import keep_freed_memory
from napari_sam.workflows.planning import tile_segmenter
from napari_sam.workflows.settings import SegmentConfig

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 20
LOOPBACK = "127.0.0.1"
DASK_TRIM_THRESHOLD = "65536"
"""What dask itself sets for its workers; any other value of MALLOC_TRIM_THRESHOLD_ is the user's."""
_LOCAL_SETTINGS = {
    # A worker keeps no results, so there is nothing to move to the disk; paused it would only stand still.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
}
_PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Threads of several workers on few cores must not wait by spinning."""


@contextmanager
def open_cluster(config: SegmentConfig) -> Iterator[Client | None]:
    """The cluster that a configuration asks for, closed at the end if it was begun here; None to work in this process.

    Raises
    ------
    ConfigError
        If no scheduler answers at the address.
    """
    if config.scheduler is not None:
        with _connected(config.scheduler) as client:
            yield client
    elif config.uses_local_cluster:
        with _local_cluster(config) as client:
            yield client
    else:
        yield None


@contextmanager
def kept_cluster(config: SegmentConfig) -> Iterator[SegmentConfig]:
    """A configuration for several runs one after the other, which share the workers that `config` asks for."""
    if not config.uses_local_cluster:
        yield config
        return
    with _local_cluster(config) as client:
        yield replace(config, workers=None, scheduler=client.scheduler_info()["address"])


@contextmanager
def _local_cluster(config: SegmentConfig) -> Iterator[Client]:
    """Processes of this machine, each with one tile at a time or, for batches, some; ports are open to it only."""
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_LOCAL_SETTINGS))
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=config.n_workers,
                threads_per_worker=config.threads_per_process,
                processes=True,
                host=LOOPBACK,
                # Without a dashboard dask still opens a small web server; left to itself, to all networks.
                dashboard_address=f"{LOOPBACK}:0",
                worker_dashboard_address=f"{LOOPBACK}:0",
                silence_logs="ERROR",
                env=_PATIENT_THREADS,
            )
        )
        client = stack.enter_context(Client(cluster, set_as_default=False))
        # Ctrl-C reaches every process of a terminal; only this one decides, the workers finish their tiles.
        client.register_plugin(_deaf_to_interrupts(), name="napari-sam-interrupts")
        yield client


def _deaf_to_interrupts() -> Any:
    from distributed import WorkerPlugin

    class DeafToInterrupts(WorkerPlugin):
        def setup(self, worker: object) -> None:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return DeafToInterrupts()


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    from distributed import Client

    where = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
    if "scheduler_file" in where and not Path(scheduler).is_file():
        raise ConfigError(f"there is no scheduler file {scheduler}; start the scheduler first, or check the name.")
    try:
        client = Client(**where, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"no dask scheduler answers at {scheduler} within {CONNECT_SECONDS} s ({error}); "
            "give an address such as tcp://HOST:8786, or the file that `dask scheduler --scheduler-file` wrote."
        ) from error
    with client:
        yield client


def segment_maker(
    model: str | os.PathLike[str],
    device: str,
    automatic: AutoMaskConfig,
    *,
    precision: Precision = "auto",
    tiles_per_batch: int = 1,
) -> partial[Segment]:
    """A function without arguments that loads the model, for workers anywhere; a value that can be sent to them."""
    is_file = str(model) not in REGISTRY and Path(model).expanduser().exists()
    where = str(Path(model).expanduser().resolve()) if is_file else str(model)
    return partial(_segment_of_worker, where, device, automatic, precision, torch.get_num_threads(), tiles_per_batch)


def _segment_of_worker(
    model: str, device: str, automatic: AutoMaskConfig, precision: Precision, torch_threads: int, tiles_per_batch: int
) -> Segment:
    """Runs in a worker, once."""
    if tiles_per_batch > 1:
        _check_fills(tiles_per_batch, _worker_threads())
    # dask has its workers give freed memory back at once; merging and writing took twice the time by that.
    keep_freed_memory({name: value for name, value in os.environ.items() if value != DASK_TRIM_THRESHOLD})
    # Sums of floats depend on how many threads share them: as many everywhere, and all workers give the same bytes.
    torch.set_num_threads(torch_threads)
    loaded = load_model(model, device=device_of_worker(device, _worker_name(), torch.cuda.device_count()))
    return tile_segmenter(loaded, automatic, precision, tiles_per_batch)


def _check_fills(tiles_per_batch: int, threads: int) -> None:
    """Refuse batches that a worker never fills."""
    if threads < tiles_per_batch:
        raise ConfigError(
            f"a worker with {threads} threads never has tiles_per_batch = {tiles_per_batch} tiles to encode; start the "
            f"cluster's workers with --nthreads {2 * tiles_per_batch}, or leave tiles_per_batch out."
        )


def device_of_worker(device: str, name: object, n_gpus: int) -> str:
    """Worker number `name` of one machine takes its own GPU; workers that are told a GPU, or have names, take that.

    Examples
    --------
    >>> [device_of_worker("auto", name, 2) for name in (0, 1, 2)]
    ['cuda:0', 'cuda:1', 'cuda:0']
    >>> device_of_worker("cuda:1", 0, 2), device_of_worker("auto", 3, 0), device_of_worker("cuda", "tcp://h:1", 2)
    ('cuda:1', 'auto', 'cuda')
    """
    if device in ("auto", "cuda") and n_gpus > 1 and isinstance(name, int):
        return f"cuda:{name % n_gpus}"
    return device


def _worker_name() -> object:
    from distributed import get_worker

    return get_worker().name


def _worker_threads() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)
