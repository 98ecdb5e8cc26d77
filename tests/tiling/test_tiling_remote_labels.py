"""Labels at a URL: the bytes of a folder on the disk, nothing of others touched, and no image before it is whole."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr

from export.scenes import blobs, flattened
from napari_sam.errors import ConfigError, OutputError
from napari_sam.images import open_image, remote
from napari_sam.tiling.labels import check_labels_path, write_labels
from napari_sam.tiling.multiscale import MARKER
from napari_sam.tiling.spread import in_threads
from napari_sam.tiling.writing import write_bytes

SMALL = {"chunk_px": 32, "shard_px": 64}
URL = "memory://labels/out.ome.zarr"


@pytest.fixture(autouse=True)
def fs(monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0.0,))
    made = fsspec.filesystem("memory", use_listings_cache=False)
    yield made
    if made.exists("/labels"):
        made.rm("/labels", recursive=True)


def files_at(fs) -> dict[str, bytes]:
    return {name.removeprefix("/labels/out.ome.zarr/"): fs.cat_file(name) for name in fs.find("/labels")}


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("workers", [1, 3])
def test_labels_at_a_url_are_the_bytes_of_a_folder(fs, tmp_path, workers):
    objects = blobs(n=40)
    write_labels(objects, tmp_path / "out.ome.zarr", **SMALL)
    write_labels(objects, URL, spread=in_threads(workers), **SMALL)
    assert files_at(fs) == files_in(tmp_path / "out.ome.zarr")
    np.testing.assert_array_equal(np.asarray(open_image(URL).levels[0]), flattened(objects))


def test_older_labels_are_replaced_when_asked_for_and_only_then(fs):
    write_labels(blobs(n=40), URL, **SMALL)
    before = files_at(fs)
    with pytest.raises(OutputError, match=rf"{URL} already holds labels; choose another output name, or ask for it"):
        write_labels(blobs(n=3), URL, **SMALL)
    assert files_at(fs) == before
    write_labels(blobs(n=3), URL, overwrite=True, **SMALL)
    after = files_at(fs)
    write_labels(blobs(n=3), "memory://labels2/out.ome.zarr", **SMALL)
    assert after == {name.removeprefix("/labels2/out.ome.zarr/"): fs.cat_file(name) for name in fs.find("/labels2")}
    fs.rm("/labels2", recursive=True)


@pytest.mark.parametrize("content", ["note.txt", "zarr.json", "0/zarr.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_ours_is_never_replaced(fs, content, overwrite):
    fs.pipe_file(f"/labels/out.ome.zarr/{content}", b'{"attributes": {}}')
    with pytest.raises(OutputError, match=r"was not written by napari-sam, so it is not replaced; choose another"):
        write_labels(blobs(n=3), URL, overwrite=overwrite, **SMALL)
    assert list(files_at(fs)) == [content]


def test_unfinished_labels_are_no_ome_zarr_and_the_next_run_replaces_them(fs):
    def stop(done: int, total: int) -> None:
        if done == total - 1:
            assert "ome" not in zarr.open_group(URL, mode="r").attrs
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_labels(blobs(n=40), URL, progress=stop, **SMALL)
    assert MARKER in files_at(fs)
    write_labels(blobs(n=40), URL, **SMALL)
    whole = files_at(fs)
    fs.rm("/labels", recursive=True)
    write_labels(blobs(n=40), URL, **SMALL)
    assert files_at(fs) == whole
    assert MARKER not in whole


def test_asking_whether_labels_can_be_written_leaves_nothing(fs):
    check_labels_path(URL)
    assert not fs.find("/labels")


def refusing(error: Exception):
    def refuse(*_: object, **__: object) -> None:
        raise error

    return refuse


REFUSALS = {
    "permission": (
        PermissionError("Forbidden"),
        r"access was refused \(PermissionError: Forbidden\). Check the name and",
    ),
    "bucket": (FileNotFoundError("no bucket"), r"there is no such place \(FileNotFoundError: no bucket\). Check the"),
    "network": (ConnectionResetError("reset"), r"ConnectionResetError: reset. Check the URL and the network, then run"),
}


@pytest.mark.parametrize(("error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(monkeypatch, error, message):
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", refusing(error))
    with pytest.raises(OutputError, match=rf"labels cannot be written to {URL}: {message}"):
        check_labels_path(URL)


def test_a_place_that_refuses_in_the_middle_is_named_and_the_next_run_goes_on(fs, monkeypatch):
    memory, put = fsspec.get_filesystem_class("memory"), fs.pipe_file

    def until_a_shard(path: str, value: bytes, **settings: object) -> None:
        if "/c/" in path:
            raise OSError("bucket is full")
        put(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(memory, "pipe_file", lambda self, *given, **settings: until_a_shard(*given, **settings))
        with pytest.raises(OutputError, match=rf"{URL}/0/c/0/. cannot be written: OSError: bucket is full. Check"):
            write_labels(blobs(n=10), URL, **SMALL)
    write_labels(blobs(n=10), URL, **SMALL)
    np.testing.assert_array_equal(np.asarray(open_image(URL).levels[0]), flattened(blobs(n=10)))


def test_two_runs_that_write_to_one_url_at_the_same_time_are_noticed(fs):
    def intrude(done: int, total: int) -> None:
        if done == 1:
            write_labels(blobs(n=3), URL, overwrite=True, **SMALL)

    with pytest.raises(
        OutputError, match=rf"another run wrote labels to {URL} at the same time, so these may be a mix"
    ):
        write_labels(blobs(n=40), URL, progress=intrude, **SMALL)
    write_labels(blobs(n=40), URL, overwrite=True, **SMALL)
    np.testing.assert_array_equal(np.asarray(open_image(URL).levels[0]), flattened(blobs(n=40)))


def test_asking_about_labels_that_are_being_written_does_not_disturb_them(fs):
    write_labels(blobs(n=40), URL, progress=lambda done, total: check_labels_path(URL, overwrite=True), **SMALL)
    np.testing.assert_array_equal(np.asarray(open_image(URL).levels[0]), flattened(blobs(n=40)))


def test_web_servers_are_read_only():
    with pytest.raises(
        OutputError, match=r"http://h/a.ome.zarr can be read, but nothing can be written by http; write"
    ):
        check_labels_path("http://h/a.ome.zarr")


def test_a_file_url_is_a_folder_of_this_machine(tmp_path):
    written = write_labels(blobs(n=3), f"file://{tmp_path}/out.ome.zarr", **SMALL)
    assert written == tmp_path / "out.ome.zarr"
    assert zarr.open_group(written, mode="r")["0"].shape == blobs(n=3).image_size


def test_files_that_cannot_go_to_a_url_make_no_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"s3://bucket/t.csv is a URL"):
        write_bytes(Path("s3://bucket/t.csv"), b"")
    assert not list(tmp_path.iterdir())
