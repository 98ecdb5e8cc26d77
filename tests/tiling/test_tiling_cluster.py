"""Tiles on a dask cluster: the same bytes as in one process, whatever happens to workers and scheduler."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from tiling_clusters import no_workers, start_scheduler, two_workers
from tiling_synthetic import Picture, blobs, key_of, make_segment, reprompt, segment

from napari_sam.errors import CheckpointError, OutputError, TilingError
from napari_sam.tiling import (
    Ledger,
    TilePlan,
    TilingConfig,
    cluster,
    cluster_client,
    merge_tiles,
    plan_tiles,
    run_tiles,
)

PICTURE = Picture(blobs((120, 150), 5, n=60, radius=(2, 12)))
CONFIG = TilingConfig(core_px=40, halo_px=8)
PLAN = plan_tiles(PICTURE.size, CONFIG)


@pytest.fixture(scope="module")
def workers():
    with two_workers() as client:
        yield client


def opened(folder: Path, plan: TilePlan = PLAN) -> Ledger:
    return Ledger.open(folder, key_of(PICTURE, plan, CONFIG), PICTURE.size)


def run(folder: Path, client: Client, **settings):
    """A whole run on a cluster; its summary and what is on the disk."""
    with opened(folder) as ledger:
        given = {"make_segment": make_segment, "read": PICTURE.read, **settings}
        summary = run_tiles(plan=PLAN, segment=None, ledger=ledger, cluster=client, **given)
        merge_tiles(ledger, PLAN, PICTURE.read, reprompt, CONFIG)
    return summary, files(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with opened(folder) as ledger:
        run_tiles(PICTURE.read, PLAN, segment, ledger)
        merge_tiles(ledger, PLAN, PICTURE.read, reprompt, CONFIG)
    return files(folder)


def test_workers_give_the_same_bytes_as_this_process(tmp_path, workers, undisturbed):
    summary, found = run(tmp_path, workers)
    assert summary.is_complete
    assert found == undisturbed


def load_slowly(count: Path):
    """Notes that a model was loaded."""
    (count / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return segment


def test_the_model_is_loaded_once_a_worker(tmp_path, workers):
    (tmp_path / "loads").mkdir()
    summary, _ = run(tmp_path / "run", workers, make_segment=functools.partial(load_slowly, tmp_path / "loads"))
    assert summary.is_complete
    loads = [path.name.split("-")[0] for path in (tmp_path / "loads").iterdir()]
    assert 1 <= len(loads) == len(set(loads)) <= 2


def test_few_tiles_are_given_away_at_once_and_small_records_travel(tmp_path, workers, monkeypatch):
    sent, in_flight = [], []
    submit = Client.submit

    def counted(self, function, package, tile, **options):
        sent.append(len(package))
        in_flight.append(len(self.futures))
        return submit(self, function, package, tile, **options)

    monkeypatch.setattr(Client, "submit", counted)
    assert run(tmp_path, workers)[0].is_complete
    assert len(sent) == len(PLAN.tiles)
    assert max(in_flight) <= 3
    assert max(sent) < PICTURE.values.nbytes + 2000


@dataclass(frozen=True)
class DiesOnce:
    """Ends its process without a word at the first tile, as the system does when memory runs out."""

    mark: Path

    def __call__(self):
        return self.segment

    def segment(self, pixels):
        try:
            self.mark.touch(exist_ok=False)  # of two workers that come here together, one is the first
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
        return segment(pixels)


def test_a_killed_worker_costs_its_tile_only_and_another_one_does_it(tmp_path, workers, undisturbed):
    summary, found = run(tmp_path / "run", workers, make_segment=DiesOnce(tmp_path / "died"))
    assert (tmp_path / "died").exists()
    assert (summary.is_complete, summary.failed) == (True, {})
    assert found == undisturbed


@dataclass(frozen=True)
class DiesOnBright:
    """Ends its process at every tile that shows a certain value."""

    value: int

    def __call__(self):
        return self.segment

    def segment(self, pixels):
        if pixels[0, 0, 0] == self.value:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)
        return segment(pixels)


def corner(tile) -> int:
    return int(PICTURE.values[tile.read.y0, tile.read.x0])


def test_a_tile_that_takes_workers_with_it_fails_and_the_others_go_on(tmp_path, workers, undisturbed):
    deadly = next(tile for tile in PLAN.fine if [corner(t) for t in PLAN.tiles].count(corner(tile)) == 1)
    summary, _ = run(tmp_path, workers, make_segment=DiesOnBright(corner(deadly)))
    assert deadly.index in summary.failed
    assert "2 workers died on this tile, perhaps for want of memory; try fewer workers" in summary.failed[deadly.index]
    assert summary.finished >= len(PLAN.tiles) - 3
    again, found = run(tmp_path, workers)
    assert again.is_complete
    # Cut objects that the missing tile would have shown whole were asked about meanwhile: these answers stay.
    assert {name: found[name] for name in undisturbed} == undisturbed


def fails_to_load():
    raise CheckpointError("there is no model called 'vit_bb'.")


def lacks_a_module():
    import no_such_module  # noqa: F401


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (fails_to_load, CheckpointError, "there is no model called 'vit_bb'"),
        (lacks_a_module, TilingError, r"ModuleNotFoundError.*need the same napari-sam-tiles.*Finished tiles are kept"),
    ],
    ids=["no model", "no module"],
)
def test_what_a_worker_meets_before_its_first_tile_reaches_the_user(tmp_path, workers, make, error, message):
    with opened(tmp_path) as ledger, pytest.raises(error, match=message):
        run_tiles(PICTURE.read, PLAN, None, ledger, make_segment=make, cluster=workers)


def test_another_version_on_a_worker_is_named(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(cluster_client, "__version__", "0.0.0")
    with opened(tmp_path) as ledger, pytest.raises(TilingError, match=r"has napari-sam-tiles .*, this run 0\.0\.0"):
        run_tiles(PICTURE.read, PLAN, None, ledger, make_segment=make_segment, cluster=workers)


def test_a_folder_that_workers_do_not_see_is_named(tmp_path, workers):
    with opened(tmp_path) as ledger:
        ledger.tiles.folder.rmdir()
        with pytest.raises(OutputError, match=r"does not see .*; choose an output on a file system that all workers"):
            cluster.run_on_cluster(
                workers,
                cluster.TileJob(PICTURE.read, ledger.tiles),
                make_segment,
                PLAN.tiles,
                lambda *_: None,
                lambda: False,
            )


def test_a_tile_that_was_written_elsewhere_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "SEEN_SECONDS", 0.0)
    with opened(tmp_path) as ledger, pytest.raises(OutputError, match=r"a worker wrote .*, but it is not there for"):
        cluster._wait_until_seen(ledger.tiles, PLAN.tiles[0])


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (threading.Lock(), "this image cannot be sent to workers .* save it as a file"),
        (np.zeros(9 << 20, np.uint8), "in memory of 9 MB would be sent with each tile; save it as a file"),
    ],
    ids=["not to be pickled", "too large"],
)
def test_images_that_cannot_travel_are_refused(tmp_path, workers, read, message):
    with opened(tmp_path) as ledger, pytest.raises(TilingError, match=message):
        run_tiles(read, PLAN, None, ledger, make_segment=make_segment, cluster=workers)


def slowly(pixels):
    time.sleep(0.1)
    return segment(pixels)


def make_slow():
    return slowly


def test_a_wish_to_stop_saves_what_was_given_away(tmp_path, workers):
    done = []
    with opened(tmp_path) as ledger:
        summary = run_tiles(
            PICTURE.read,
            PLAN,
            None,
            ledger,
            make_segment=make_slow,
            cluster=workers,
            progress=lambda n, _: done.append(n),
            should_stop=lambda: len(done) >= 2,
        )
        on_disk = sum(ledger.tiles.is_finished(tile.index) for tile in PLAN.tiles)
    assert summary.interrupted
    assert 2 <= summary.finished == on_disk <= 5


def test_a_killed_scheduler_is_named_and_the_run_goes_on_elsewhere(tmp_path, workers, undisturbed):
    scheduler, worker, where = start_scheduler(tmp_path)
    done = []

    def kill_at_third(finished: int, _: int) -> None:
        done.append(finished)
        if finished == 3:
            scheduler.kill()

    try:
        with (
            Client(scheduler_file=where, set_as_default=False) as client,
            opened(tmp_path / "run") as ledger,
            pytest.raises(TilingError, match=r"dask scheduler at tcp://.* does not answer any more .*goes on from"),
        ):
            run_tiles(PICTURE.read, PLAN, None, ledger, make_segment=make_slow, cluster=client, progress=kill_at_third)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    assert len(done) >= 3
    summary, found = run(tmp_path / "run", workers)
    assert summary.reused >= 3
    assert found == undisturbed


def test_a_cluster_without_workers_is_given_up_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_client, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(cluster_client, "COUNT_SECONDS", 0.1)
    with (
        no_workers() as client,
        opened(tmp_path) as ledger,
        pytest.raises(TilingError, match=r"no worker has been at the dask scheduler .*start workers there"),
    ):
        run_tiles(PICTURE.read, PLAN, None, ledger, make_segment=make_segment, cluster=client)
