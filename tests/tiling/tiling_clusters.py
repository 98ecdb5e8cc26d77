"""Small dask clusters for tests: of this machine, and as processes that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster

HERE = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": "CRITICAL"}


@contextmanager
def two_workers() -> Iterator[Client]:
    """Two processes with a thread each; what takes two of them with it is given up."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=1, worker_dashboard_address="127.0.0.1:0", **HERE) as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def no_workers() -> Iterator[Client]:
    """A scheduler alone."""
    with LocalCluster(n_workers=0, **HERE) as empty, Client(empty, set_as_default=False) as client:
        yield client


def start_scheduler(folder: Path) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes], str]:
    """A scheduler and one worker as processes of their own; the address."""
    where = folder / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    common = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask_command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = subprocess.Popen(
        [*dask_command, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", where], **common
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", where, "--nthreads", "1",
         "--no-dashboard", "--no-nanny", "--death-timeout", "60"],
        **common,
    )  # fmt: skip
    while not where.exists() or not where.read_text():
        time.sleep(0.05)
    return scheduler, worker, str(where)
