"""What a user gives as an image or an output: a path of this machine, or a URL, which never carries a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.errors import ConfigError
from napari_sam.images.urls import RemotePath, local_path, place_of, without_credentials

URLS = {
    "s3": ("s3://bucket/a/b.ome.zarr", "s3://bucket/a/b.ome.zarr"),
    "slash at the end": ("s3://bucket/a.zarr/", "s3://bucket/a.zarr"),
    "capitals": ("S3://bucket/A.zarr", "s3://bucket/A.zarr"),
    "google": ("gs://bucket/a.zarr", "gs://bucket/a.zarr"),
    "web": ("https://example.org/a.zarr", "https://example.org/a.zarr"),
    "port": ("http://127.0.0.1:8080/a.zarr", "http://127.0.0.1:8080/a.zarr"),
    "IPv6": ("http://[::1]:8080/a.zarr", "http://[::1]:8080/a.zarr"),
    "a path with @": ("https://example.org/a@2x/b.zarr", "https://example.org/a@2x/b.zarr"),
    "access point": ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "s3://arn:aws:s3:eu-west-1:1:accesspoint/x"),
    "memory": ("memory://a.zarr", "memory://a.zarr"),
}


@pytest.mark.parametrize(("given", "expected"), URLS.values(), ids=URLS)
def test_a_url_is_known_as_text_and_after_it_went_through_a_path(given, expected):
    assert str(place_of(given)) == expected
    assert place_of(Path(given)) == place_of(given)
    assert place_of(expected) == place_of(place_of(expected))


@pytest.mark.parametrize("given", ["a/b.tif", "/data/b.zarr", "a:b.tif", "C:/data/b.tif", "slide 1:2.tif"])
def test_everything_else_is_a_path_of_this_machine(given):
    assert place_of(given) == Path(given)


@pytest.mark.parametrize("given", ["file:///data/a.tif", Path("file:///data/a.tif")], ids=["text", "path"])
def test_a_file_url_is_a_path_of_this_machine(given):
    assert place_of(given) == local_path(given) == Path("/data/a.tif")


def test_a_remote_place_has_a_name_and_places_inside():
    place = place_of("s3://bucket/a/b.ome.zarr")
    assert (place.name, place.suffix) == ("b.ome.zarr", ".zarr")
    assert str(place / "0") == "s3://bucket/a/b.ome.zarr/0"
    assert place.holds(place)
    assert place.holds(place / "0")
    assert not place.holds(RemotePath("s3", "bucket/a/b.ome.zarr2"))


def test_a_url_of_another_protocol_is_refused_with_those_that_are_taken():
    with pytest.raises(ConfigError, match=r"start with ftp:// are not read or written; allowed are s3://, gs://, .*"):
        place_of("ftp://example.org/a.zarr")


@pytest.mark.parametrize("url", ["s3://", "https:///", "http://host:port/a.zarr"])
def test_a_url_without_a_host_or_bucket_is_refused(url):
    with pytest.raises(ConfigError, match="names no host or bucket, or it has a user name and password"):
        place_of(url)


def test_a_url_with_a_query_is_refused_without_repeating_it():
    with pytest.raises(ConfigError, match=r"has a query or a fragment .* leave that part out") as caught:
        place_of("https://host/a.zarr?signature=hidden")
    assert "hidden" not in str(caught.value)


def test_where_only_paths_are_taken_a_url_is_refused():
    with pytest.raises(ConfigError, match=r"s3://b/t.csv is a URL; these are taken for a zarr image .* Give a path"):
        local_path(Path("s3://b/t.csv"))


@given(
    protocol=st.sampled_from(["s3", "gs", "http", "https"]),
    user=st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True),
    secret=st.from_regex(r"[A-Za-z0-9+/=:]{3,20}", fullmatch=True).map(lambda text: f"Q{text}Q"),
    as_path=st.booleans(),
)
def test_a_password_in_a_url_is_refused_and_never_repeated(protocol, user, secret, as_path):
    url = f"{protocol}://{user}:{secret}@host/a.zarr"
    with pytest.raises(ConfigError, match=r"leave them out and put them where fsspec looks for them") as caught:
        place_of(Path(url) if as_path else url)
    assert secret not in str(caught.value)


def test_credentials_in_texts_of_others_become_stars():
    text = "<FsspecStore(HTTPFileSystem, https://me:se/cr@et@host/a.zarr)> and s3:/key:pw@b"
    assert without_credentials(text) == "<FsspecStore(HTTPFileSystem, https://***@host/a.zarr)> and s3:/***@b"
