"""What a user says of a run besides masks and tiles: which part of the image, by whom, and where results go."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from napari_sam.errors import ConfigError, OutputError
from napari_sam.predict.config import Precision, check_precision

ExecutorName = Literal["processes", "threads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentConfig:
    """Which part of the image is segmented, and by how many workers."""

    t: int = 0
    """Time point."""
    z: int = 0
    """Plane of the stack."""
    channels: tuple[int | str, ...] | None = None
    """One to three channels, by index or name; by default what can only be meant."""
    axes: str | None = None
    """One letter an axis of the stored array (TCZYX, S for colour samples), where the file does not say."""
    series: int = 0
    """Which image of a file that holds several."""
    pixel_size_um: float | None = None
    """Side of a pixel in micrometres, where the file is wrong or does not say."""
    workers: int | None = None
    """Tiles segmented at the same time, each by a process of this machine with a model of its own; one a GPU. By
    default this process alone, with several threads where that is faster (the built-in model on a CPU)."""
    scheduler: str | None = None
    """Address of a dask scheduler (tcp://HOST:8786), or the file it wrote (NAME.json), whose workers are taken."""
    executor: ExecutorName = "processes"
    """Whether several workers are processes, or threads that share one model."""
    torch_threads: int | None = None
    """CPU threads with which the network runs in each worker; by default one for many tiles of the built-in model, else
    as many as torch takes here. With several workers on one machine, its cores divided by the workers is fastest. The
    same number gives the same bytes."""
    precision: Precision = "auto"
    """Number format of the network: "auto" is 16 bits where that is faster (CUDA, and the built-in model on CPUs with
    instructions for bfloat16), "fp32" 32 bits everywhere. The same one on the same kind of processor gives the same
    bytes."""
    tiles_per_batch: int = 1
    """Tiles that the encoder sees at once, for a GPU that one alone does not fill. Each process then has twice as many
    tiles in hand, in threads that share a model."""
    intensities: bool = False
    """Add the mean, minimum and maximum of every channel of the image in each object to the table."""
    shapes: bool = False
    """Add axes, diameter, perimeter, eccentricity, orientation and concavity of each object to the table."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}; one a CPU core or GPU is usual.")
        if self.executor not in get_args(ExecutorName):
            raise ConfigError(f"executor must be one of {', '.join(get_args(ExecutorName))}, got {self.executor!r}.")
        if self.torch_threads is not None and self.torch_threads < 1:
            raise ConfigError(f"torch_threads must be at least 1, got {self.torch_threads}; one a core is usual.")
        check_precision(self.precision)
        if self.tiles_per_batch < 1:
            raise ConfigError(f"tiles_per_batch must be at least 1, got {self.tiles_per_batch}; 4 is usual on a GPU.")
        in_one_process = self.scheduler is None and not self.uses_local_cluster
        if in_one_process and self.workers is not None and self.workers < self.tiles_per_batch:
            raise ConfigError(
                f"workers = {self.workers} in one process never have tiles_per_batch = {self.tiles_per_batch} tiles to "
                "encode; leave out workers, or give twice as many as tiles a batch."
            )
        if self.scheduler is not None and (self.n_workers > 1 or self.executor == "threads"):
            raise ConfigError(
                f"the cluster at {self.scheduler} has workers of its own; leave out workers = {self.workers} and "
                f"executor = {self.executor!r}, or leave out the scheduler."
            )

    @property
    def n_workers(self) -> int:
        """`workers`, one where it is left open."""
        return 1 if self.workers is None else self.workers

    @property
    def threads_per_process(self) -> int:
        """Tiles that a process has in hand where batches of them are encoded: while half of them are in the encoder,
        masks are made of the others."""
        return 1 if self.tiles_per_batch == 1 else 2 * self.tiles_per_batch

    @property
    def uses_local_cluster(self) -> bool:
        """Whether processes of this machine segment the tiles."""
        return self.scheduler is None and self.n_workers > 1 and self.executor == "processes"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPaths:
    """Where results go besides the label image; what is None is not written."""

    table: Path | None = None
    """One row an object: NAME.csv or NAME.parquet."""
    sa1b: Path | None = None
    """All masks in SA-1B's format: NAME.json."""
    geojson: Path | None = None
    """Outlines for QuPath and GIS programs: NAME.geojson."""
    overlay: Path | None = None
    """Outlines over the image, reduced to a quick look: NAME.png."""
    report: Path | None = None
    """Counts, times and settings: NAME.json."""

    def given(self) -> list[Path]:
        """The paths that are set."""
        return [path for path in (getattr(self, f.name) for f in fields(self)) if path is not None]

    def check(self, output: Path | None, inputs: list[Path]) -> None:
        """Refuse names that could not be written, or that would cost something else; asked before the work begins.

        Parameters
        ----------
        output : Path or None
            The label image; None where it goes to a URL.
        inputs : list of Path
            Files the job reads.

        Raises
        ------
        OutputError, ConfigError
        """
        # Not at the head: the settings alone are read without what writes and reads files.
        from napari_sam.export import check_overlay_path, check_table_path
        from napari_sam.images.urls import local_path

        labels = [] if output is None else [output]
        for path in self.given():
            local_path(path)
        if self.table is not None:
            check_table_path(self.table)
        if self.overlay is not None:
            check_overlay_path(self.overlay)
        for path in self.given():
            if path.is_dir():
                raise OutputError(f"{path} is a folder; give the name of a file to write.")
            if any(label.resolve() in path.resolve().parents for label in labels):
                raise OutputError(f"{path} lies inside the label image {output}; write it elsewhere.")
        results = [path.resolve() for path in (*labels, *self.given())]
        if len(set(results)) < len(results):
            named = ", ".join(map(str, results))
            raise OutputError(f"two results go to the same file: {named}; give each its own name.")
        for path in inputs:
            if path.resolve() in results or any(label.resolve() in path.resolve().parents for label in labels):
                raise OutputError(f"{path} is read by this job and would be overwritten; give the result another name.")
        for path in (*labels, *self.given()):
            _check_can_be_made(path)


def _check_can_be_made(path: Path) -> None:
    """Refuse a path below a file or in a folder that may not be written to."""
    there = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
    if not there.is_dir():
        raise OutputError(f"cannot write {path}: {there} is a file, not a folder. Choose another path.")
    if not os.access(there, os.W_OK):
        raise OutputError(f"cannot write {path}: {there} is read-only. Choose a folder you may write to.")
