"""The main job on an S3 server of this machine: the workers of a cluster read the image there, the labels go there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import s3fs
import zarr
from moto.server import ThreadedMotoServer

from napari_sam.errors import ImageError, OutputError, RunInterrupted
from napari_sam.images import open_image, remote
from napari_sam.tiling import remote_lock
from napari_sam.tiling.labels import check_labels_path
from napari_sam.workflows import SegmentConfig, segment
from napari_sam.workflows.cluster import open_cluster
from workflows.workflows_scenes import TILES, squares, tiny_checkpoint

IMAGE = squares((160, 192))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an image and a model; the image is in a bucket as well."""
    folder = tmp_path_factory.mktemp("s3")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr(remote_lock, "SETTLE_SECONDS", 0.05)
        s3fs.S3FileSystem.clear_instance_cache()
        tiny_checkpoint(folder / "tiny.safetensors")
        zarr.create_array(folder / "image.zarr", data=IMAGE, chunks=(32, 32), shards=(64, 64))
        fs = fsspec.filesystem("s3")
        fs.mkdir("bucket")
        fs.put(str(folder / "image.zarr"), "bucket/in/image.zarr", recursive=True)
        yield folder
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def run(place, image, output, **options):
    return segment(image, output, place / "tiny.safetensors", tiling=TILES, **options)


def test_a_cluster_reads_from_and_writes_to_a_bucket_and_a_stopped_run_goes_on_to_the_same_bytes(place):
    labels, tiles = "s3://bucket/out/labels.ome.zarr", []
    here = run(place, place / "image.zarr", place / "labels.ome.zarr")
    with open_cluster(SegmentConfig(workers=2)) as cluster:  # as for workers=2 and nothing else
        job = {
            "config": SegmentConfig(scheduler=cluster.scheduler.address),
            "run_folder": place / "record",
            "progress": lambda stage, done, total: tiles.append(done) if stage == "tiles" else None,
        }
        with pytest.raises(RunInterrupted, match=r"what is finished is kept in .*record"):
            run(place, "s3://bucket/in/image.zarr", labels, should_stop=lambda: len(tiles) >= 2, **job)
        result = run(place, "s3://bucket/in/image.zarr", labels, **job)
    assert result.is_complete
    assert result.report.tiles_reused >= 2
    assert np.array_equal(np.asarray(result.labels), np.asarray(here.labels))
    fs, folder = fsspec.filesystem("s3", use_listings_cache=False), place / "labels.ome.zarr"
    there = {name.removeprefix("bucket/out/labels.ome.zarr/"): fs.cat_file(name) for name in fs.find("bucket/out")}
    assert there == {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    record = b"".join(file.read_bytes() for file in (place / "record").rglob("*") if file.is_file())
    assert b"s3://bucket/in/image.zarr" in record
    assert b"verysecret" not in record


HALF_A_RUN = """
import sys
from pathlib import Path
from workflows.test_workflows_remote_s3 import run

def wait(stage, done, total):
    if stage == "tiles" and done == 2:
        print("working", flush=True)
        sys.stdin.read()

run(Path(sys.argv[1]), Path(sys.argv[1]) / "image.zarr", sys.argv[2], run_folder=sys.argv[3], progress=wait)
"""


def test_a_second_run_to_a_bucket_is_refused_while_the_first_lives_and_goes_on_at_once_when_it_is_killed(place):
    labels, folder = "s3://bucket/locked/labels.ome.zarr", place / "first"
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    first = subprocess.Popen(
        [sys.executable, "-c", HALF_A_RUN, place, labels, folder],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), *sys.path]))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert first.stdout.readline() == b"working\n"
        told = (
            rf"process {first.pid}, record '{folder}', since .* writes to {labels} at this moment; wait for it or stop"
        )
        with pytest.raises(OutputError, match=told):
            run(place, place / "image.zarr", labels, run_folder=place / "second")
        assert not (place / "second").exists()
    finally:
        first.kill()
        first.communicate()
    assert fs.find("bucket/locked") == ["bucket/locked/labels.ome.zarr-napari-sam-lock"]
    assert run(place, place / "image.zarr", labels, run_folder=place / "second").is_complete
    assert not fs.exists(f"{labels}-napari-sam-lock")


def test_a_bucket_or_an_image_that_is_not_there_is_named(place):
    with pytest.raises(ImageError, match=r"there is no zarr array or OME-Zarr image at s3://nowhere/image.zarr; check"):
        open_image("s3://nowhere/image.zarr")
    with pytest.raises(
        ImageError, match=r"there is no zarr array or OME-Zarr image at s3://bucket/in/other.zarr; check"
    ):
        open_image("s3://bucket/in/other.zarr")
    with pytest.raises(OutputError, match=r"s3://nowhere/a.ome.zarr: there is no such place .*bucket does not exist"):
        check_labels_path("s3://nowhere/a.ome.zarr")


def test_without_credentials_it_is_said_where_they_belong(place, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    message = r"access was refused \(NoCredentialsError.*credentials in the environment \(.* FSSPEC_S3_ANON=true\)"
    with pytest.raises(ImageError, match=message):
        open_image("s3://bucket/in/image.zarr")
    with pytest.raises(OutputError, match=message):
        check_labels_path("s3://bucket/a.ome.zarr")
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_endpoint_that_is_not_there_is_named(place, monkeypatch):
    monkeypatch.setattr(remote, "WAITS", ())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ImageError, match=r"cannot be read: EndpointConnectionError.* Check the URL and the network"):
        open_image("s3://bucket/in/image.zarr")
    s3fs.S3FileSystem.clear_instance_cache()
