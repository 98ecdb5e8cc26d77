"""The main job with several workers: the bytes of a single process, however the workers are had."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import tifffile
import torch
from distributed import LocalCluster

from napari_sam.errors import ConfigError
from napari_sam.predict import EncoderBatches
from napari_sam.tiling.neighbourhoods import Look
from napari_sam.tiling.pyramid import LabelPlace
from napari_sam.workflows import SegmentConfig, segment
from napari_sam.workflows.cluster import LOOPBACK, kept_cluster, open_cluster, segment_maker
from napari_sam.workflows.planning import torch_threads
from napari_sam.workflows.stack import segment_stack
from workflows.workflows_scenes import KEEP_ALL, TILES, digest, scene, tiny_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    tifffile.imwrite(folder / "image.tif", scene((150, 170)), photometric="rgb")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


def outcome(place, name: str, **settings):
    output = place / name / "out.ome.zarr"
    table = output.with_name("t.csv")
    result = segment(
        place / "image.tif",
        output,
        place / "tiny.safetensors",
        tiling=TILES,
        config=SegmentConfig(**settings),
        table=table,
    )
    assert result.is_complete
    assert len(result.objects) > 3
    return digest(output), digest(table)


def test_threads_and_processes_give_the_same_bytes_as_one_process(place, monkeypatch):
    alone = outcome(place, "alone")
    assert outcome(place, "threads", workers=2, executor="threads") == alone
    with open_cluster(SegmentConfig(workers=2)) as cluster:  # as for workers=2 and nothing else
        with monkeypatch.context() as patch:  # workers look at neighbourhoods and write labels, not this process
            patch.setattr(LabelPlace, "write", never)
            patch.setattr(Look, "__call__", never)
            assert outcome(place, "cluster", scheduler=cluster.scheduler.address) == alone
        assert listening_addresses() <= {"127.0.0.1", "::1"}  # open to this machine only
        planes = stack_outcome(place, "cluster planes", scheduler=cluster.scheduler.address)
    assert planes == stack_outcome(place, "planes")


def test_batches_of_tiles_give_the_bytes_of_any_company(place, monkeypatch):
    batches = EncoderBatches._encode_all
    sizes: list[int] = []

    def noted(self, pixels):
        sizes.append(len(pixels))
        return batches(self, pixels)

    alone = outcome(place, "one by one")
    monkeypatch.setattr(EncoderBatches, "_encode_all", noted)
    together = outcome(place, "batches", tiles_per_batch=3)
    assert set(sizes) == {3}
    assert outcome(place, "batches again", tiles_per_batch=3, workers=4, executor="threads") == together
    assert outcome(place, "batches by a process", tiles_per_batch=3, workers=2) == together
    assert together[0] == alone[0]  # of the table, ratings differ in their last bits


def test_a_worker_that_never_fills_a_batch_is_refused(place):
    here = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:0", "worker_dashboard_address": f"{LOOPBACK}:0"}
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", **here) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(ConfigError, match=r"2 threads never has tiles_per_batch = 3 .* --nthreads 6, or leave"):
            outcome(place, "too few threads", scheduler=address, tiles_per_batch=3)


def never(*_: object) -> None:
    raise AssertionError("this was not done by a worker")


def test_no_processes_are_begun_to_merge_tiles_that_are_all_finished(place, monkeypatch):
    before = outcome(place, "resumed")
    (outcome_of_merge,) = (place / "resumed").rglob("objects.npz")
    outcome_of_merge.unlink()
    monkeypatch.setattr("napari_sam.workflows.cluster._local_cluster", never)
    assert outcome(place, "resumed", workers=2) == before


def stack_outcome(place, name: str, **settings):
    """Of two planes in memory, which go to the workers as files."""
    output = place / name / "out.ome.zarr"
    result = segment_stack(
        np.stack([scene((90, 100)), scene((90, 100))[::-1]]),
        output,
        place / "tiny.safetensors",
        tiling=TILES,
        config=SegmentConfig(axes="ZYXS", **settings),
    )
    assert result.is_complete
    assert not list(place.rglob("*.npy"))
    return digest(output), digest(output.with_name("out.csv"))


def test_several_runs_share_the_worker_processes(monkeypatch):
    begun = []

    @contextmanager
    def local(config):
        begun.append(config.workers)
        yield SimpleNamespace(scheduler_info=lambda: {"address": "tcp://here:1"})

    monkeypatch.setattr("napari_sam.workflows.cluster._local_cluster", local)
    with kept_cluster(SegmentConfig(workers=3, z=4)) as shared:
        assert shared == SegmentConfig(scheduler="tcp://here:1", z=4)
    for config in (SegmentConfig(), SegmentConfig(workers=2, executor="threads"), SegmentConfig(scheduler="a:1")):
        with kept_cluster(config) as same:
            assert same is config
    assert begun == [3]


def listening_addresses() -> set[str]:
    """Of this process and its children."""
    mine = psutil.Process()
    connections = [c for p in (mine, *mine.children(recursive=True)) for c in p.net_connections(kind="inet")]
    found = [connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN]
    assert len(found) >= 3
    return set(found)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ("tcp://127.0.0.1:1", r"no dask scheduler answers at tcp://127.0.0.1:1 within 0.2 s .*tcp://HOST:8786"),
        ("none.json", r"there is no scheduler file none.json; start the scheduler first"),
        ("nowhere:what", r"no dask scheduler answers at nowhere:what"),
    ],
    ids=["nobody", "no file", "no address"],
)
def test_a_scheduler_that_is_not_there_is_named(monkeypatch, scheduler, message):
    monkeypatch.setattr("napari_sam.workflows.cluster.CONNECT_SECONDS", 0.2)
    with pytest.raises(ConfigError, match=message), open_cluster(SegmentConfig(scheduler=scheduler)):
        pass


def test_workers_are_told_where_a_checkpoint_lies_and_with_how_many_threads_to_run(place, monkeypatch):
    monkeypatch.chdir(place)
    with torch_threads(3):
        made = segment_maker("tiny.safetensors", "cpu", KEEP_ALL)
    assert made.args == (str(place / "tiny.safetensors"), "cpu", KEEP_ALL, "auto", 3, 1)
    assert segment_maker("nano", "cpu", KEEP_ALL).args[0] == "nano"


@pytest.mark.parametrize(("trim", "stays"), [("65536", False), ("1000", True)], ids=["of dask", "of the user"])
def test_a_worker_keeps_freed_memory_unless_the_user_says_otherwise(place, monkeypatch, trim, stays):
    seen: list[dict[str, str]] = []
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", trim)
    monkeypatch.setattr("napari_sam.workflows.cluster._worker_name", lambda: 0)
    monkeypatch.setattr("napari_sam.workflows.cluster.keep_freed_memory", seen.append)
    with torch_threads(None):
        segment_maker(place / "tiny.safetensors", "cpu", KEEP_ALL)()
    assert [environment.get("MALLOC_TRIM_THRESHOLD_") for environment in seen] == [trim if stays else None]


def test_threads_of_torch_are_as_before_afterwards():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with torch_threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
