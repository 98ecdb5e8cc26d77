"""Merging and painting by the workers of a dask cluster: the bytes of one thread, small records, every fault named."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from distributed import Client
from tiling_clusters import no_workers, start_scheduler, two_workers
from tiling_synthetic import Picture, key_of, obstacles, reprompt, segment

from napari_sam.errors import LedgerError, OutputError, TilingError
from napari_sam.geometry import Box, Mask
from napari_sam.tiling import Ledger, MergedObjects, TilingConfig, cluster_client, merge_tiles, plan_tiles, run_tiles
from napari_sam.tiling.cluster_spread import on_cluster
from napari_sam.tiling.labels import write_labels
from napari_sam.tiling.multiscale import MARKER
from napari_sam.tiling.spread import Job, Spread, in_threads

PICTURE = Picture(obstacles((300, 260)))
CONFIG = TilingConfig(core_px=64, halo_px=12, object_cover_thresh=0.7)
PLAN = plan_tiles(PICTURE.size, CONFIG)
SMALL = {"chunk_px": 16, "shard_px": 64}


@pytest.fixture(scope="module")
def workers():
    with two_workers() as client:
        yield client


@dataclass(frozen=True)
class Does:
    """A job of a test: what it does with an item is said by a name that workers know as well."""

    what: str
    folders: tuple[Path, ...] = ()

    def __call__(self, item: int) -> int:
        if self.what == "slow first":
            time.sleep(0.05 if item % 3 == 0 else 0)
        if self.what == "killed at four" and item == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "full at three" and item == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shard")
        if self.what == "damaged at three" and item == 3:
            raise LedgerError("tile-3 is damaged")
        return item * item


def test_results_come_in_order_and_few_items_are_in_hand_at_once(workers, monkeypatch):
    in_hand: list[int] = []
    sent: set[bytes] = set()
    submit = Client.submit

    def counted(self, function, package, item, **options):
        sent.add(package)
        in_hand.append(len(self.futures))
        return submit(self, function, package, item, **options)

    monkeypatch.setattr(Client, "submit", counted)
    results = on_cluster(workers)(Does("slow first"), iter(range(30)))
    assert next(results) == 0
    assert len(in_hand) <= 4
    assert list(results) == [item * item for item in range(1, 30)]
    assert len(in_hand) == 30
    assert max(in_hand) <= 4
    assert len(sent) == 1
    assert list(on_cluster(workers)(Does("slow first"), [])) == []


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [("full at three", OSError, "No space left"), ("damaged at three", LedgerError, "tile-3 is damaged")],
)
def test_what_a_job_raises_comes_as_it_is_and_at_its_place(workers, what, error, message):
    came: list[int] = []
    with pytest.raises(error, match=message) as raised:
        came.extend(on_cluster(workers)(Does(what), range(1000)))
    assert raised.type is error
    assert getattr(raised.value, "errno", errno.ENOSPC) == errno.ENOSPC
    assert not is_anything_worked_on(workers)


def is_anything_worked_on(client: Client) -> bool:
    return any(future.status == "pending" for future in list(client.futures.values()))


def test_what_kills_every_worker_is_given_up_in_words(workers):
    with pytest.raises(TilingError, match=r"2 workers died while they merged tiles or wrote labels.*want of memory"):
        list(on_cluster(workers)(Does("killed at four"), range(8)))


class Unknown:
    """Something that this process has and workers lack."""

    folders = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("no_such_module",)

    def __call__(self, item: int) -> int:
        return item


def test_what_a_worker_lacks_is_named(workers, tmp_path, monkeypatch):
    with pytest.raises(
        TilingError, match=r"cannot do their part \(ModuleNotFoundError.*need the same napari-sam-tiles"
    ):
        list(on_cluster(workers)(Unknown(), range(3)))
    job = Does("nothing", (tmp_path / "elsewhere",))
    with pytest.raises(
        OutputError, match=r"the worker on .* does not see .*elsewhere; choose .* or go on without these"
    ):
        list(on_cluster(workers)(job, range(3)))
    monkeypatch.setattr(cluster_client, "__version__", "0.0.0")
    with pytest.raises(TilingError, match=r"has napari-sam-tiles .*, this run 0\.0\.0; install the same version"):
        list(on_cluster(workers)(Does("nothing"), range(3)))


def test_a_cluster_without_workers_is_given_up_after_a_while(monkeypatch):
    monkeypatch.setattr(cluster_client, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(cluster_client, "COUNT_SECONDS", 0.1)
    with no_workers() as client, pytest.raises(TilingError, match=r"no worker has been at the dask scheduler .*start"):
        list(on_cluster(client)(Does("nothing"), range(3)))


# The real jobs: a merge with cut objects that are prompted again, coarse tiles and covered objects; then its labels.


def crowded(pixels: np.ndarray) -> list[Mask]:
    """Regions, and of every tile a poor mask that is two of them."""
    found = segment(pixels)
    both = [mask.to_array() for mask in found[:2]]
    return [*found, *(Mask.from_array(np.logical_or(*both), predicted_iou=0.1) for _ in found[1:2])]


def sometimes(pixels: np.ndarray, fragment: Mask) -> Mask | None:
    """No answer for every other fragment: what they belong to is left to coarse tiles."""
    return reprompt(pixels, fragment) if fragment.area % 2 else None


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Path:
    """The folder of a run with all tiles, and nothing merged."""
    folder = tmp_path_factory.mktemp("record") / "run"
    with opened(folder) as ledger:
        assert run_tiles(PICTURE.read, PLAN, crowded, ledger).is_complete
    return folder


def opened(folder: Path) -> Ledger:
    return Ledger.open(folder, key_of(PICTURE, PLAN, CONFIG), PICTURE.size)


def merged(ledger: Ledger, spread: Spread) -> MergedObjects:
    for file in ledger.stage_folder("merge").glob("*"):
        file.unlink()
    return merge_tiles(ledger, PLAN, PICTURE.read, sometimes, CONFIG, spread=spread)


def outcome(record: Path, place: Path, spread: Spread) -> dict[str, bytes]:
    """What a merge and its labels are on the disk; in the merge, only the files that it always makes."""
    with opened(record) as ledger:
        objects = merged(ledger, spread)
        assert objects.summary.reprompted_whole > 0
        assert objects.summary.large > 0
        assert objects.summary.covered > 0
        found = {file.name: file.read_bytes() for file in sorted(ledger.stage_folder("merge").iterdir())}
        # Of a part of the objects as well: of those that a region of interest leaves.
        part = objects.select(range(len(objects) - 1, 0, -2))
        for name, some in ("all", objects), ("part", part):
            found |= files(write_labels(some, place / name / "a.ome.zarr", spread=spread, **SMALL))
    return found


def files(folder: Path) -> dict[str, bytes]:
    parent = folder.parent.parent
    return {str(path.relative_to(parent)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class Disturbed:
    """A job that meets something in the worker, once, before its first item."""

    job: Job[Any, Any]
    mark: Path
    how: str

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.job.folders

    def __call__(self, item: Any) -> Any:
        try:
            self.mark.touch(exist_ok=False)  # of two workers that come here together, one is the first
        except FileExistsError:
            return self.job(item)
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True)
class Disturbing:
    """A spread whose first item of every job is disturbed."""

    spread: Spread
    mark: Path
    how: str
    sends: bool = True

    def __call__(self, job: Job[Any, Any], items: Iterable[Any]) -> Generator[Any]:
        mark = self.mark.with_name(f"{type(job).__name__}-{time.monotonic_ns()}")
        return self.spread(Disturbed(job, mark, self.how), items)


def test_threads_processes_and_processes_that_die_give_the_same_bytes(record, tmp_path, workers):
    alone = outcome(record, tmp_path / "alone", in_threads())
    assert outcome(record, tmp_path / "threads", in_threads(3)) == alone
    assert outcome(record, tmp_path / "cluster", on_cluster(workers)) == alone
    dying = Disturbing(on_cluster(workers), tmp_path / "mark", "killed")
    with opened(record) as ledger:
        objects = merged(ledger, dying)
        assert (ledger.stage_folder("merge") / "objects.npz").read_bytes() == alone["objects.npz"]
        found = files(write_labels(objects, tmp_path / "dying" / "all" / "a.ome.zarr", spread=dying, **SMALL))
    assert found == {name: content for name, content in alone.items() if name.startswith("all/")}
    assert len(list(tmp_path.glob("Look-*"))) == len(list(tmp_path.glob("PaintShard-*"))) == 1


def test_a_full_disk_on_a_worker_is_said_as_ever_and_leaves_nothing(record, tmp_path, workers):
    full = Disturbing(on_cluster(workers), tmp_path / "mark", "full")
    place = tmp_path / "labels" / "a.ome.zarr"
    with opened(record) as ledger:
        objects = merged(ledger, in_threads())
        with pytest.raises(OutputError, match=r"cannot write .*a.ome.zarr: No space left on device. The disk is full"):
            write_labels(objects, place, spread=full, **SMALL)
    assert list(place.parent.iterdir()) == []


def test_a_damaged_tile_is_named_by_the_worker_that_reads_it(record, tmp_path, workers):
    with opened(record) as ledger:
        path = ledger.tiles.path(5)
        whole = path.read_bytes()
        path.write_bytes(whole[:-30] + bytes(30))
        with pytest.raises(LedgerError, match=r"tile-0000005.npz is damaged .*remove it and run the same again"):
            merged(ledger, on_cluster(workers))
        path.write_bytes(whole)


def test_after_a_wish_to_stop_nothing_is_written_any_more(record, tmp_path, workers):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    place = tmp_path / "labels" / "a.ome.zarr"
    with opened(record) as ledger:
        objects = merged(ledger, in_threads())
        with pytest.raises(KeyboardInterrupt):
            write_labels(objects, place, spread=on_cluster(workers), progress=stop, **SMALL)
    assert not is_anything_worked_on(workers)
    assert list(place.parent.iterdir()) == []


def test_a_killed_scheduler_is_named_and_leaves_no_labels(record, tmp_path):
    scheduler, worker, where = start_scheduler(tmp_path)
    place = tmp_path / "labels" / "a.ome.zarr"

    def kill_at_third(done: int, _: int) -> None:
        if done == 3:
            scheduler.kill()
            time.sleep(0.2)

    try:
        with Client(scheduler_file=where, set_as_default=False) as client, opened(record) as ledger:
            objects = merged(ledger, on_cluster(client))
            with pytest.raises(
                TilingError, match=r"dask scheduler at tcp://.* does not answer any more .*goes on from"
            ):
                write_labels(objects, place, spread=on_cluster(client), progress=kill_at_third, **SMALL)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    left = [entry.name for folder in place.parent.iterdir() for entry in folder.iterdir()]
    assert left in ([], [MARKER])


class Weighing:
    """Sends nothing, but to this process: every job and item is pickled."""

    sends = True

    def __init__(self) -> None:
        self.bytes: dict[str, tuple[int, int]] = {}
        """Of each kind of job, and of its largest item."""

    def __call__(self, job: Job[Any, Any], items: Iterable[Any]) -> Generator[Any]:
        job_sent, items_sent = pickle.dumps(job), [pickle.dumps(item) for item in items]
        self.bytes[type(job).__name__] = (len(job_sent), max(map(len, items_sent)))
        yield from map(pickle.loads(job_sent), map(pickle.loads, items_sent))


def test_only_small_records_are_sent_and_a_job_makes_the_same_of_them(record, tmp_path):
    spread = Weighing()
    found = outcome(record, tmp_path / "sent", spread)
    assert found == outcome(record, tmp_path / "here", in_threads())
    assert set(spread.bytes) == {"Look", "PaintShard"}
    # Paths, settings, and for each object in a shard where its mask is.
    assert max(job for job, _ in spread.bytes.values()) < 1500
    assert max(item for _, item in spread.bytes.values()) < 1000 + 20 * 60


def test_a_job_finds_its_files_from_any_folder(record, tmp_path, monkeypatch):
    sent: list[tuple[bytes, list[bytes]]] = []

    class Keeping(Weighing):
        def __call__(self, job: Job[Any, Any], items: Iterable[Any]) -> Generator[Any]:
            items = list(items)
            sent.append((pickle.dumps(job), [pickle.dumps(item) for item in items]))
            yield from map(job, items)

    monkeypatch.chdir(record.parent)
    with Ledger.open(record.name, key_of(PICTURE, PLAN, CONFIG), PICTURE.size) as ledger:
        merged(ledger, Keeping())
    monkeypatch.chdir(tmp_path)
    ((job, items),) = sent
    assert [pickle.loads(job)(pickle.loads(item)).own["areas"].sum() > 0 for item in items] == [True] * len(items)


class Refusing:
    """A cluster that must not be asked."""

    sends = True

    def __call__(self, job: Job[Any, Any], items: Iterable[Any]) -> Generator[Any]:
        raise AssertionError(f"{job} was sent")


def test_labels_that_only_this_process_can_see_are_painted_by_it(record, tmp_path):
    with opened(record) as ledger:
        objects = merged(ledger, in_threads())
        here = files(write_labels(objects, tmp_path / "a" / "x.ome.zarr", **SMALL))
        write_labels(objects, "memory://spread/x.ome.zarr", spread=Refusing(), **SMALL)
    fs = fsspec.filesystem("memory")
    assert sorted(map(fs.cat_file, fs.find("/spread"))) == sorted(here.values())
    fs.rm("/spread", recursive=True)


def test_objects_that_only_this_process_has_are_painted_by_it(tmp_path):
    objects = MergedObjects.from_masks(segment(PICTURE.read(Box.of_size(PICTURE.size))), PICTURE.size)
    here = files(write_labels(objects, tmp_path / "a" / "x.ome.zarr", **SMALL))
    there = files(write_labels(objects, tmp_path / "b" / "x.ome.zarr", spread=Refusing(), **SMALL))
    assert [*here.values()] == [*there.values()]
