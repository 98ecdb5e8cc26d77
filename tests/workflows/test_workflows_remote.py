"""The main job by URL: the same labels as with folders, every fault a failed tile, nothing of a password anywhere."""

from __future__ import annotations

import base64
import json
import re

import fsspec
import numpy as np
import pytest
import zarr

from images.images_server import serving
from napari_sam.cli import main
from napari_sam.errors import ConfigError, ImageError, LedgerError, OutputError, RunInterrupted
from napari_sam.images import remote
from napari_sam.images.cache import PieceCache
from napari_sam.tiling import remote_lock
from napari_sam.tiling.lock import Holder
from napari_sam.tiling.remote_lock import Claim
from napari_sam.workflows import SegmentConfig, segment, segmentation
from napari_sam.workflows.annotating.replay import replay_journal
from napari_sam.workflows.batch import segment_batch
from napari_sam.workflows.experiments.boxes import segment_boxes
from napari_sam.workflows.experiments.edges import write_edges
from napari_sam.workflows.exporting import export_objects
from napari_sam.workflows.label_files import save_labels
from napari_sam.workflows.stack import segment_stack
from workflows.workflows_scenes import TILES, digest, squares, stand_in, tiny_checkpoint, tiny_model

IMAGE = squares((160, 192))
OUT = "memory://labels/out.ome.zarr"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0.0,))
    monkeypatch.setattr(remote_lock, "SETTLE_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    zarr.create_array("image.zarr", data=IMAGE, chunks=(64, 64))
    yield tmp_path
    fs = fsspec.filesystem("memory")
    for name in ("/labels", "/image.zarr"):
        if fs.exists(name):
            fs.rm(name, recursive=True)


@pytest.fixture
def here(place, monkeypatch) -> dict[str, bytes]:
    """The labels of the same job with folders, file by file."""
    stand_in(monkeypatch)
    segment("image.zarr", "here/out.ome.zarr", tiny_model(), tiling=TILES)
    folder = place / "here" / "out.ome.zarr"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def files_at(url: str) -> dict[str, bytes]:
    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return {name.removeprefix(f"{root}/"): fs.cat_file(name) for name in fs.find(root)}


def run(image="image.zarr", output=OUT, **options):
    return segment(image, output, tiny_model(), **{"tiling": TILES} | options)


def run_folders(place) -> list[str]:
    return sorted(folder.name for folder in place.glob("*.run"))


def test_image_and_labels_by_url_give_the_bytes_of_a_run_with_folders(place, here, monkeypatch):
    stand_in(monkeypatch)
    with serving(place) as server:
        result = run(f"{server.url}/image.zarr", table="t.csv", overlay="o.png")
    assert result.is_complete
    assert files_at(OUT) == here
    assert int(np.asarray(result.labels).max()) == len(result.objects) > 3
    assert (place / "t.csv").exists()


def test_threads_read_a_url_as_one_worker_does(place, here, monkeypatch):
    stand_in(monkeypatch)
    with serving(place) as server:
        run(f"{server.url}/image.zarr", config=SegmentConfig(workers=3, executor="threads"))
    assert files_at(OUT) == here


def test_the_record_of_labels_at_a_url_lies_in_the_current_folder_one_for_each_url(place, monkeypatch):
    stand_in(monkeypatch)
    run()
    run(output="memory://labels/other/out.ome.zarr")
    names = run_folders(place)
    assert len(names) == 2
    assert all(re.fullmatch(r"out\.ome\.zarr-[0-9a-f]{8}\.run", name) for name in names)


def test_a_run_by_url_that_was_stopped_goes_on_to_the_same_bytes(place, here, monkeypatch):
    calls = stand_in(monkeypatch)
    with serving(place) as server:
        image = f"{server.url}/image.zarr"
        with pytest.raises(RunInterrupted, match=r"what is finished is kept in out.ome.zarr-\S+.run"):
            run(image, should_stop=lambda: calls.segmented >= 3)
        again = run(image)
    assert again.report.tiles_reused == 3
    assert files_at(OUT) == here


def test_the_same_call_again_replaces_its_own_labels_and_another_run_is_refused(place, monkeypatch):
    stand_in(monkeypatch)
    run(run_folder="record")
    before = files_at(OUT)
    assert run(run_folder="record").report.tiles_reused > 0
    assert files_at(OUT) == before
    with pytest.raises(OutputError, match=rf"{OUT} already holds labels"):
        run(run_folder="another")
    run(run_folder="another", restart=True)
    assert files_at(OUT) == before


LOCK = f"{OUT}-napari-sam-lock"
ELSEWHERE = Claim(Holder(7, "elsewhere"), "/there/out.run", "its record", "its token", "then")


def test_while_a_run_writes_to_a_url_one_with_another_record_is_refused_and_leaves_no_record(place, here, monkeypatch):
    stand_in(monkeypatch)
    refused = []

    def second(stage: str, done: int, total: int) -> None:
        if stage in ("tiles", "labels") and done == 1:
            with pytest.raises(OutputError, match=rf"record '{place}/first', since .* writes to {OUT} at this moment"):
                run(run_folder="second", restart=True)
            refused.append(stage)

    run(run_folder="first", progress=second)
    assert refused == ["tiles", "labels"]
    assert files_at(OUT) == here
    assert not (place / "second").exists()
    assert not fsspec.filesystem("memory").exists(LOCK)
    run(run_folder="second", restart=True)
    assert files_at(OUT) == here


def test_the_command_line_says_who_writes_there_and_that_it_refused(place, capfd):
    tiny_checkpoint(place / "tiny.safetensors")
    fsspec.filesystem("memory").pipe_file(LOCK, ELSEWHERE.to_bytes())
    assert main(["segment", "image.zarr", "-o", OUT, "--model", "tiny.safetensors"]) == 2
    told = capfd.readouterr().err
    assert "a run on 'elsewhere' (process 7, record '/there/out.run', since 'then') writes to " + OUT in told
    assert "goes on once it was silent for 10 minutes, or when you remove " + LOCK in told
    assert not run_folders(place)


def test_a_run_that_comes_between_the_check_and_the_record_is_refused_too(place, monkeypatch):
    stand_in(monkeypatch)
    plan = segmentation.plan_segment

    def slow(*given, **named):
        fsspec.filesystem("memory").pipe_file(LOCK, ELSEWHERE.to_bytes())
        return plan(*given, **named)

    monkeypatch.setattr(segmentation, "plan_segment", slow)
    with pytest.raises(OutputError, match=r"a run on 'elsewhere' .* writes to"):
        run()
    assert not files_at(OUT)


@pytest.mark.parametrize("other", [ELSEWHERE.to_bytes(), None], ids=["taken over", "and let go again"])
def test_a_run_whose_lock_another_one_took_over_meanwhile_leaves_the_labels_alone(place, monkeypatch, other):
    stand_in(monkeypatch)
    run(run_folder="record")
    fs, before = fsspec.filesystem("memory"), files_at(OUT)
    zarr.create_array("image.zarr", data=255 - IMAGE, chunks=(64, 64), overwrite=True)

    def take_over(name: str, done: int, total: int) -> None:
        if name == "merge" and fs.exists(LOCK):
            fs.rm_file(LOCK)
            if other is not None:
                fs.pipe_file(LOCK, other)

    with pytest.raises(OutputError, match=rf"{LOCK} is no longer the lock of this run: .* leaves {OUT} alone"):
        run(run_folder="record", restart=True, progress=take_over)
    assert files_at(OUT) == before
    assert fs.exists(LOCK) == (other is not None)
    if other is not None:
        fs.rm_file(LOCK)
    assert run(run_folder="record").report.tiles_reused > 0
    assert files_at(OUT) != before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_lets_the_url_go(place, monkeypatch, error):
    stand_in(monkeypatch)

    def fail(stage: str, done: int, total: int) -> None:
        if stage == "merge":
            assert fsspec.filesystem("memory").exists(LOCK)
            raise error("in the middle")

    with pytest.raises((RuntimeError, RunInterrupted)):
        run(run_folder="first", progress=fail)
    assert not fsspec.filesystem("memory").exists(LOCK)
    assert run(run_folder="second").is_complete


def test_a_url_at_which_no_lock_may_be_written_is_refused_in_the_words_for_labels(place, monkeypatch):
    memory = fsspec.get_filesystem_class("memory")
    put = memory.pipe_file

    def guarded(self, path, value, **settings):
        if "-napari-sam-lock" in path:
            raise PermissionError("Forbidden")
        put(self, path, value, **settings)

    stand_in(monkeypatch)
    monkeypatch.setattr(memory, "pipe_file", guarded)
    with pytest.raises(OutputError, match=rf"labels cannot be written to {OUT}: access was refused .*Check the name"):
        run()
    assert not files_at(OUT)


def test_a_named_run_folder_that_belongs_to_other_labels_does_not_let_these_be_replaced(place, monkeypatch):
    stand_in(monkeypatch)
    run(output="a/out.ome.zarr", run_folder="record")
    run(output="b/out.ome.zarr", run_folder="record2")
    with pytest.raises(OutputError, match="already holds labels"):
        run(output="a/out.ome.zarr", run_folder="record2")
    assert digest(place / "a" / "out.ome.zarr") == digest(place / "b" / "out.ome.zarr")


@pytest.mark.parametrize("fault", ["500", "corrupt"])
def test_a_chunk_that_cannot_be_had_fails_its_tiles_and_the_same_call_mends_them(place, here, monkeypatch, fault):
    stand_in(monkeypatch)
    monkeypatch.setattr(remote, "PieceCache", lambda: PieceCache(0))  # what planning read is fetched again
    chunk, whole = "image.zarr/c/2/2", (place / "image.zarr/c/2/2").read_bytes()
    with serving(place) as server:

        def breaks(stage: str, done: int, total: int) -> None:
            if stage == "tiles" and fault == "500":
                server.status[chunk] = [-500]
            elif stage == "tiles":
                (place / chunk).write_bytes(b"broken")

        image = f"{server.url}/image.zarr"
        result = run(image, progress=breaks)
        assert not result.is_complete
        assert 0 < len(result.report.tiles_failed) < result.report.tiles
        assert all(image in why and "cannot be read" in why for why in result.report.tiles_failed.values())
        server.status.clear()
        (place / chunk).write_bytes(whole)
        assert run(image).is_complete
    assert files_at(OUT) == here


def test_a_url_that_cannot_be_used_is_refused_before_anything_is_written(place):
    refusals = {
        ("memory://none.zarr", "out.ome.zarr"): (ImageError, "there is no zarr array or OME-Zarr image at memory://no"),
        ("image.zarr", "https://h/out.ome.zarr"): (OutputError, "nothing can be written by https; write to s3://"),
        ("image.zarr", "memory://labels/out.tif"): (OutputError, "labels are written to a URL as NAME.ome.zarr only"),
        ("memory://image.zarr", "memory://image.zarr/labels/a.zarr"): (OutputError, "is read by this job and would be"),
        ("ftp://h/a.zarr", "out.ome.zarr"): (ConfigError, "start with ftp:// are not read or written"),
    }
    for (image, output), (kind, message) in refusals.items():
        with pytest.raises(kind, match=message):
            run(image, output)
    assert [path.name for path in place.iterdir()] == ["image.zarr"]


def test_other_results_than_labels_do_not_go_to_a_url(place):
    with pytest.raises(ConfigError, match=r"s3://bucket/t.csv is a URL; .* Give a path of this machine here"):
        run(table="s3://bucket/t.csv")
    assert [path.name for path in place.iterdir()] == ["image.zarr"]


def test_a_cluster_needs_a_run_folder_that_its_workers_see():
    with pytest.raises(ConfigError, match=r"the record of the run needs a folder of its own .* with --run-folder"):
        run(config=SegmentConfig(scheduler="tcp://127.0.0.1:1"))


def test_an_image_in_the_memory_of_this_process_is_not_given_to_worker_processes():
    with pytest.raises(ConfigError, match=r"memory://image.zarr is in the memory of this process.* use threads"):
        run("memory://image.zarr", config=SegmentConfig(workers=2))


def test_another_image_at_the_same_url_is_told_from_the_first(place, monkeypatch):
    stand_in(monkeypatch)
    with serving(place) as server:
        run(f"{server.url}/image.zarr")
        zarr.create_array("image.zarr", data=255 - IMAGE, chunks=(32, 32), overwrite=True)
        with pytest.raises(LedgerError, match=r"is the ledger of another run .*image metadata_sha256"):
            run(f"{server.url}/image.zarr")


def test_a_password_is_used_from_netrc_and_stands_in_no_file_and_no_message(place, monkeypatch, capfd):
    stand_in(monkeypatch)
    tiny_checkpoint(place / "tiny.safetensors")
    (place / "netrc").write_text("machine 127.0.0.1 login me password verysecret\n")
    (place / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(place / "netrc"))
    with serving(place, password=base64.b64encode(b"me:verysecret").decode()) as server:
        job = ["--model", "tiny.safetensors", "--core-px", "64", "--halo-px", "16", "--report", "r.json"]
        assert main(["segment", f"{server.url}/image.zarr", "-o", OUT, *job]) == 0
        inside = server.url.replace("http://", "http://me:verysecret@")
        for flags in (
            [f"{inside}/image.zarr", "-o", "out.ome.zarr"],
            ["image.zarr", "-o", f"{inside}/out.ome.zarr"],
            ["image.zarr", "-o", "out.ome.zarr", "--table", f"{inside}/t.csv"],
            ["image.zarr", "-o", "out.ome.zarr", "--roi", f"{inside}/roi.zarr"],
            [f"{inside}/image.zarr", "-o", "out.ome.zarr", "--dry-run"],
        ):
            assert main(["segment", *flags, *job]) == 2
    told = "".join(capfd.readouterr())
    assert "put them where fsspec looks for them" in told
    assert f"objects in {OUT} (" in told
    written = b"".join(file.read_bytes() for file in place.rglob("*") if file.is_file() and file.name != "netrc")
    assert server.url.encode() in written  # the record names the image
    assert "verysecret" not in told
    assert b"verysecret" not in written + b"".join(files_at(OUT).values())


def test_the_report_of_a_run_by_url_is_that_of_any_run(place, monkeypatch):
    stand_in(monkeypatch)
    with serving(place) as server:
        report = run(f"{server.url}/image.zarr", report="r.json").report
    assert json.loads((place / "r.json").read_text())["objects"] == report.objects


OTHER_JOBS = {
    "batch into a bucket": lambda: segment_batch(["image.zarr"], "s3://bucket/out"),
    "batch from a bucket": lambda: segment_batch(["s3://bucket/image.zarr"], "out"),
    "boxes": lambda: segment_boxes("image.zarr", "boxes.csv", "s3://bucket/out.ome.zarr"),
    "stack": lambda: segment_stack("image.zarr", "s3://bucket/out.ome.zarr"),
    "export": lambda: export_objects("image.zarr", ["s3://bucket/out.geojson"]),
    "edges": lambda: write_edges("image.zarr", "s3://bucket/out.tif"),
    "replay": lambda: replay_journal("a.journal", "s3://bucket/out.ome.zarr"),
    "a layer": lambda: save_labels(np.zeros((4, 4), np.uint8), "s3://bucket/out.ome.zarr", "ome-zarr"),
}


@pytest.mark.parametrize("job", OTHER_JOBS.values(), ids=OTHER_JOBS)
def test_jobs_that_take_no_url_say_so_and_make_no_folder_of_its_name(place, job):
    with pytest.raises(ConfigError, match=r"s3://bucket/\S+ is a URL; these are taken for a zarr image to read and"):
        job()
    assert [path.name for path in place.iterdir()] == ["image.zarr"]
