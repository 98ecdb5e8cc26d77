"""Zarr by URL: read chunk by chunk, equal to the same files on the disk, and every failure in our words."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.images_server import serving
from napari_sam.errors import ConfigError, ImageError
from napari_sam.geometry import Box
from napari_sam.images import open_image, remote
from napari_sam.images.arrays import array_identity

PIXELS = np.random.default_rng(5).integers(0, 4000, (90, 130), dtype=np.uint16)
ALL = Box(0, 0, 130, 90)
CORNER = Box(0, 0, 30, 30)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0.01, 0.01))


def pixels_of(source, box=ALL) -> np.ndarray:
    return source.plane().read_raw(box)[..., 0]


def write_pyramid(folder: Path, **layout) -> Path:
    """An OME-Zarr 0.5 image of two levels, made by zarr alone."""
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [0.5 * 2**k, 0.5 * 2**k]}]}
        for k in range(2)
    ]
    group = zarr.create_group(folder, attributes={"ome": {"multiscales": [{"axes": axes, "datasets": datasets}]}})
    group.create_array("0", data=PIXELS, **{"chunks": (32, 32)} | layout)
    group.create_array("1", data=PIXELS[::2, ::2], **{"chunks": (32, 32)} | layout)
    return folder


LAYOUTS = {
    "version 3": {"chunks": (32, 32)},
    "version 2": {"chunks": (32, 32), "zarr_format": 2},
    "shards": {"chunks": (16, 16), "shards": (64, 64)},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_an_array_on_a_web_server_equals_the_one_on_the_disk(tmp_path, layout):
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS, **layout)
    with serving(tmp_path) as server:
        source = open_image(f"{server.url}/a.zarr")
        assert np.array_equal(pixels_of(source), PIXELS)
        assert np.array_equal(pixels_of(source, Box(5, 70, 40, 80)), PIXELS[70:80, 5:40])


def test_a_pyramid_on_a_web_server_has_its_levels_and_its_pixel_size(tmp_path):
    write_pyramid(tmp_path / "a.ome.zarr")
    with serving(tmp_path) as server:
        source = open_image(f"{server.url}/a.ome.zarr")
        assert source.name == source.identity["path"] == f"{server.url}/a.ome.zarr"
        assert source.pixel_size_um == (0.5, 0.5)
        assert source.level_factors == (1, 2)
        assert np.array_equal(source.plane().read_raw(ALL, 2)[..., 0], PIXELS[::2, ::2])


def test_series_of_a_group_are_found_without_listing_folders(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr", attributes={"ome": {"bioformats2raw.layout": 3}})
    del group
    write_pyramid(tmp_path / "a.zarr" / "1")
    with serving(tmp_path) as server:
        assert np.array_equal(pixels_of(open_image(f"{server.url}/a.zarr", series=1)), PIXELS)


def test_only_the_chunks_in_question_are_fetched_and_each_of_them_once(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS, chunks=(32, 32))
    with serving(tmp_path) as server:
        source = open_image(f"{server.url}/a.zarr")
        assert not [path for path in server.asked if "/c/" in path]
        for _ in range(2):
            pixels_of(source, Box(0, 0, 40, 20))
        assert sorted(path for path in server.asked if "/c/" in path) == ["a.zarr/c/0/0", "a.zarr/c/0/1"]


def test_an_image_by_url_can_be_sent_to_another_process(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS, chunks=(32, 32))
    with serving(tmp_path) as server:
        source = open_image(f"{server.url}/a.zarr")
        sent = pickle.dumps(source)
        assert len(sent) < 1000
        assert np.array_equal(pixels_of(pickle.loads(sent)), PIXELS)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    chunk=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["uint8", ">i2", "float32", "bool"]),
    version=st.sampled_from([2, 3]),
)
def test_in_memory_any_array_equals_itself(shape, chunk, dtype, version):
    pixels = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 200, shape).astype(dtype)
    store = zarr.storage.FsspecStore.from_url("memory://fuzz.zarr")
    chunks = tuple(min(pair) for pair in zip(chunk, shape, strict=True))
    zarr.create_array(store, data=pixels, chunks=chunks, zarr_format=version, overwrite=True)
    source = open_image("memory://fuzz.zarr")
    assert np.array_equal(pixels_of(source, Box.of_size(shape)), pixels)


def test_a_changed_image_is_told_from_the_earlier_one(tmp_path):
    fs = fsspec.filesystem("memory")
    identities = []
    for size in (64, 32):
        store = zarr.storage.FsspecStore.from_url("memory://changed.zarr")
        zarr.create_array(store, data=PIXELS, chunks=(size, size), overwrite=True)
        identities.append([open_image("memory://changed.zarr").identity for _ in range(2)])
    fs.rm("/changed.zarr", recursive=True)
    assert identities[0][0] == identities[0][1] != identities[1][0] == identities[1][1]


def test_a_chunk_that_is_not_there_is_the_fill_value(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS, chunks=(32, 32), fill_value=7)
    (tmp_path / "a.zarr/c/1/2").unlink()
    with serving(tmp_path) as server:
        read = pixels_of(open_image(f"{server.url}/a.zarr"))
    expected = PIXELS.copy()
    expected[32:64, 64:96] = 7
    assert np.array_equal(read, expected)


def test_an_image_that_vanished_is_not_read_as_empty(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS, chunks=(32, 32))
    with serving(tmp_path) as server:
        source = open_image(f"{server.url}/a.zarr")
        (tmp_path / "a.zarr").rename(tmp_path / "b.zarr")
        with pytest.raises(ImageError, match=r"a.zarr is not there any more \(neither c/\S+ nor zarr.json is found\)"):
            pixels_of(source)


def reading(server, name="a.zarr", box=CORNER):
    return pixels_of(open_image(f"{server.url}/{name}"), box)


@pytest.fixture
def folder(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS, chunks=(32, 32))
    return tmp_path


CHUNK = "a.zarr/c/0/0"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_stumbles_is_asked_again(folder, status):
    with serving(folder, status={CHUNK: [status, status]}) as server:
        assert np.array_equal(reading(server), PIXELS[:30, :30])
        assert server.asked.count(CHUNK) == 3


def test_a_server_that_goes_on_failing_is_named_with_the_chunk_and_the_cause(folder):
    with serving(folder, status={CHUNK: [-500]}) as server:
        message = rf"{server.url}/{CHUNK} cannot be read: ClientResponseError: 500.* then run the same again"
        with pytest.raises(ImageError, match=message):
            reading(server)
        assert server.asked.count(CHUNK) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_not_repeated_and_says_where_credentials_belong(folder, status):
    with serving(folder, status={CHUNK: [-status]}) as server:
        with pytest.raises(
            ImageError, match=rf"access was refused \(ClientResponseError: {status}.*in the environment"
        ):
            reading(server)
        assert server.asked.count(CHUNK) == 1


@pytest.mark.parametrize("version", [2, 3])
def test_a_bucket_that_may_not_be_listed_refuses_what_is_not_there_and_is_read_all_the_same(tmp_path, version):
    image = {"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "0"}]}
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=version, attributes={"multiscales": [image]})
    group.create_array("0", data=PIXELS, chunks=(32, 32))
    names = [f"a.zarr/{level}{name}" for level in ("", "0/") for name in (*remote.METADATA_FILES, ".zmetadata")]
    absent = [name for name in names if not (tmp_path / name).exists()]
    with serving(tmp_path, status={name: [-403] for name in absent}) as server:
        assert np.array_equal(pixels_of(open_image(f"{server.url}/a.zarr")), PIXELS)


def test_an_image_of_which_nothing_may_be_read_is_refused_with_the_reason(folder):
    with serving(folder, password="nobody's") as server, pytest.raises(ImageError, match=r"access was refused .* 401"):
        open_image(f"{server.url}/a.zarr")


def test_a_chunk_that_does_not_come_ends_in_an_error_after_a_while(folder, monkeypatch):
    with serving(folder, seconds={CHUNK: 2.0}) as server:
        source = open_image(f"{server.url}/a.zarr")
        monkeypatch.setattr(remote, "ANSWER_SECONDS", 1.0)
        with pytest.raises(ImageError, match=r"there was no answer within 1 s. Check the network, then run"):
            pixels_of(source, Box(0, 0, 30, 30))


def test_a_connection_that_breaks_off_is_named(folder):
    with serving(folder, cut={CHUNK}) as server, pytest.raises(ImageError, match=r"cannot be read: ClientPayloadError"):
        reading(server)


def test_a_corrupt_chunk_is_named_as_on_the_disk(folder):
    (folder / CHUNK).write_bytes(b"no chunk at all")
    with serving(folder) as server, pytest.raises(ImageError, match=r"a part of http\S+ cannot be read \(0:30, 0:30"):
        reading(server)


def test_a_server_that_cannot_send_parts_is_named_where_parts_are_needed(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS, chunks=(16, 16), shards=(64, 64))
    message = r"cannot send parts of files \(HTTP ranges\).* Copy the image"
    with serving(tmp_path, sends_ranges=False) as server, pytest.raises(ImageError, match=message):
        reading(server, box=Box(0, 0, 10, 10))


def test_damaged_metadata_are_named(folder):
    (folder / "a.zarr/zarr.json").write_text("{")
    with serving(folder) as server, pytest.raises(ImageError, match=r"the zarr metadata of http\S+ cannot be read"):
        reading(server)


@pytest.mark.parametrize("path", ["../secret.zarr", "..", "{server}/secret.zarr", "//secret.zarr"])
def test_metadata_lead_to_nothing_outside_the_image(folder, path):
    zarr.create_array(folder / "secret.zarr", data=PIXELS, chunks=(32, 32))
    with serving(folder) as server, serving(folder) as other:
        image = {"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": path.format(server=other.url)}]}
        zarr.create_group(folder / "bad.zarr", attributes={"ome": {"multiscales": [image]}})
        with pytest.raises(ImageError, match=r"bad.zarr (lists the level .* but has no such array|cannot be read: )"):
            open_image(f"{server.url}/bad.zarr")
        assert not other.asked
        assert all(asked.startswith("bad.zarr/") for asked in server.asked)


@pytest.mark.parametrize("url", ["{server}/none.zarr", "memory://none.zarr"], ids=["web", "memory"])
def test_where_there_is_no_zarr_it_is_said_what_can_be_done(folder, url):
    message = r"there is no zarr array or OME-Zarr image at .*copy the file to this machine"
    with serving(folder) as server, pytest.raises(ImageError, match=message):
        open_image(url.format(server=server.url))


def test_a_host_that_is_not_there_is_named():
    with pytest.raises(ImageError, match=r"127.0.0.1:9/a.zarr/\S+ cannot be read: ClientConnectorError.*Check the URL"):
        open_image("http://127.0.0.1:9/a.zarr")


def test_a_protocol_whose_package_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setattr(remote, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package s3fs.*pip install 'napari-sam-tiles\[remote\]'"):
        open_image("s3://bucket/a.zarr")
    with pytest.raises(ConfigError, match=r"needs the package gcsfs.*pip install 'napari-sam-tiles\[gs\]'"):
        open_image("gs://bucket/a.zarr")


def test_a_password_is_taken_from_netrc_and_lands_nowhere(folder, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password verysecret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving(folder, password=base64.b64encode(b"me:verysecret").decode()) as server:
        source = open_image(f"{server.url}/a.zarr")
        assert np.array_equal(pixels_of(source), PIXELS)
    written = f"{source!r} {source.identity} {pickle.dumps(source)!r} {source.levels[0].store!r}"
    assert "verysecret" not in written


def test_a_zarr_array_that_the_user_opened_with_a_password_is_recorded_without_it(folder):
    with serving(folder) as server:
        host = server.url.removeprefix("http://")
        store = zarr.storage.FsspecStore.from_url(f"http://me:verysecret@{host}/a.zarr", read_only=True)
        recorded = str(array_identity([zarr.open_array(store, mode="r")]))
    assert "a.zarr" in recorded
    assert "verysecret" not in recorded
