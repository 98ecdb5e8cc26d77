"""Downloads: verified before they get their name, resumed, mirrored, bundled; and what is said when they fail."""

from __future__ import annotations

import functools
import hashlib
import io
import socket

import numpy as np
import pytest
import xxhash
from tiny_checkpoints import entry_for, file_names, running_server

from napari_sam.errors import CheckpointError, DownloadError
from napari_sam.model import downloads, registry
from napari_sam.model.downloads import download_checkpoint, download_urls
from napari_sam.model.storage import cache_dir, checkpoint_cache_dir, file_hashes, find_checkpoint, verify_checkpoint

CONTENT = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)


@pytest.fixture
def server():
    with running_server() as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("NAPARI_SAM_BUNDLE", raising=False)
    monkeypatch.delenv("NAPARI_SAM_MIRROR", raising=False)
    return tmp_path / "cache"


def publish(monkeypatch, *urls, content=CONTENT, **changes):
    entry = entry_for(content, *urls, **changes)
    monkeypatch.setattr(registry, "REGISTRY", {entry.name: entry})
    return entry


def half_arrived(content=CONTENT):
    """Leave a part file, as an interrupted download does."""
    part = checkpoint_cache_dir() / "tiny.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    return part


def test_a_good_file_is_downloaded_under_its_name_and_nothing_else_is_left(server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    path = download_checkpoint("vit_b")
    assert path.read_bytes() == CONTENT
    assert cache in path.parents
    assert file_names(cache) == ["tiny.pth"]


def test_what_is_in_the_cache_is_not_downloaded_again(server, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    assert download_checkpoint("vit_b") == download_checkpoint("vit_b")
    assert server.log == [("/tiny.pth", None)]


def test_a_damaged_file_in_the_cache_is_replaced(server, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    download_checkpoint("vit_b").write_bytes(CONTENT[:-1])
    assert download_checkpoint("vit_b").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "digest"),
    [("md5", hashlib.md5(CONTENT).hexdigest()), ("xxh128", xxhash.xxh128(CONTENT).hexdigest())],
    ids=["md5", "xxh128"],
)
def test_other_kinds_of_hashes_are_verified_as_well(kind, digest, server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT), hash_kind=kind, digest=digest)
    assert download_checkpoint("vit_b").read_bytes() == CONTENT
    publish(monkeypatch, server.serve("/tiny.pth", OTHER), hash_kind=kind, digest=digest, file_name="second.pth")
    with pytest.raises(DownloadError, match=f"expected {kind} {digest}, got "):
        download_checkpoint("vit_b")
    assert file_names(cache) == ["tiny.pth"]


def test_a_file_with_the_wrong_hash_is_refused_and_not_kept(server, cache, monkeypatch):
    entry = publish(monkeypatch, server.serve("/tiny.pth", OTHER))
    with pytest.raises(DownloadError) as caught:
        download_checkpoint("vit_b")
    message = str(caught.value)
    assert f"vit_b did not arrive as published from {server.address}/tiny.pth" in message
    assert f"expected sha256 {entry.digest}, got {hashlib.sha256(OTHER).hexdigest()}" in message
    assert "(1,000,000 bytes, published are 3,000,000)" in message
    assert (
        "set NAPARI_SAM_MIRROR to the address of a mirror, or NAPARI_SAM_BUNDLE to a folder that holds tiny.pth"
        in message
    )
    assert file_names(cache) == []


def test_a_file_that_was_published_too_short_is_refused_and_not_kept(server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT[:1_500_000]))
    with pytest.raises(DownloadError, match=r"\(1,500,000 bytes, published are 3,000,000\)"):
        download_checkpoint("vit_b")
    assert file_names(cache) == []


def test_a_lost_connection_is_taken_up_where_it_broke(server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT, cuts=[1_000_000, 700_000]))
    assert download_checkpoint("vit_b").read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked in server.log[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 1_000_000 < starts[1] <= 1_700_000
    assert file_names(cache) == ["tiny.pth"]


def test_a_truncated_download_is_named_and_the_next_one_goes_on_from_there(server, cache, monkeypatch):
    url = server.serve("/tiny.pth", CONTENT, cuts=[2_000_000, 0])
    publish(monkeypatch, url)
    with pytest.raises(
        DownloadError,
        match=r"vit_b from .*/tiny.pth broke off after [\d,]+ bytes .*They are kept: run `napari-sam models",
    ):
        download_checkpoint("vit_b")
    assert file_names(cache) == ["tiny.pth.part"]
    kept = (checkpoint_cache_dir() / "tiny.pth.part").stat().st_size
    assert kept > 1_000_000
    assert download_checkpoint("vit_b").read_bytes() == CONTENT
    assert server.log[-1] == ("/tiny.pth", f"bytes={kept}-")
    assert file_names(cache) == ["tiny.pth"]


def test_an_interrupt_by_the_user_keeps_what_has_arrived_and_leaves_no_other_file(server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))

    def stop(here, in_all):
        if here > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_checkpoint("vit_b", report=stop)
    assert file_names(cache) == ["tiny.pth.part"]
    assert download_checkpoint("vit_b").read_bytes() == CONTENT
    assert server.log[-1][1].startswith("bytes=")


def test_a_server_that_knows_no_ranges_is_asked_for_the_whole(server, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT, ranges=False))
    half_arrived(CONTENT[:1000])
    assert download_checkpoint("vit_b").read_bytes() == CONTENT


def test_a_part_of_another_file_is_thrown_away_and_the_download_begins_anew(server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    half_arrived(OTHER)
    assert download_checkpoint("vit_b").read_bytes() == CONTENT
    assert [asked for _, asked in server.log] == ["bytes=1000000-", None]
    assert file_names(cache) == ["tiny.pth"]


def test_a_part_that_is_whole_only_needs_its_name(server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    half_arrived(CONTENT)
    assert download_checkpoint("vit_b").read_bytes() == CONTENT
    assert file_names(cache) == ["tiny.pth"]


def test_progress_is_reported_from_the_resumed_place_to_the_end(server, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    half_arrived(CONTENT[:1_000_000])
    seen = []
    download_checkpoint("vit_b", report=lambda here, in_all: seen.append((here, in_all)))
    assert seen[0][0] > 1_000_000
    assert seen == sorted(seen)
    assert seen[-1] == (3_000_000, 3_000_000)


def test_a_terminal_shows_a_bar_with_the_models_name(server, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    half_arrived(OTHER)  # so that the bar also goes back once
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(downloads, "tqdm", functools.partial(downloads.tqdm, file=terminal))
    download_checkpoint("vit_b")
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("vit_b: 100%")
    assert "3.00M/3.00M" in last


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusing_server_is_quoted(status, server, cache, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT, status=status))
    with pytest.raises(
        DownloadError, match=f"/tiny.pth answered {status} .* for vit_b; try again later, or set NAPARI_SAM"
    ):
        download_checkpoint("vit_b")
    assert file_names(cache) == []


def test_an_unreachable_server_is_named_with_what_to_do(cache, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/tiny.pth"
        publish(monkeypatch, url)
        with pytest.raises(
            DownloadError, match=f"cannot reach {url} .*Check the network and proxy, or set NAPARI_SAM_MIRROR"
        ):
            download_checkpoint("vit_b")
    assert file_names(cache) == []


def test_the_second_address_is_tried_when_the_first_fails(server, monkeypatch):
    publish(monkeypatch, server.address + "/gone", server.serve("/tiny.pth", CONTENT))
    assert download_checkpoint("vit_b").read_bytes() == CONTENT


def test_when_all_addresses_fail_all_are_named(server, monkeypatch):
    publish(monkeypatch, server.address + "/gone", server.serve("/tiny.pth", OTHER))
    with pytest.raises(DownloadError, match=r"(?s)/gone answered 404.*did not arrive as published from .*/tiny\.pth"):
        download_checkpoint("vit_b")


def test_the_mirror_is_asked_instead_of_the_publisher(server, monkeypatch):
    publish(monkeypatch, "https://publisher.invalid/files/published_name.pth")
    server.serve("/models/tiny.pth", CONTENT)
    monkeypatch.setenv("NAPARI_SAM_MIRROR", server.address + "/models/")
    assert download_checkpoint("vit_b").read_bytes() == CONTENT
    assert server.log == [("/models/tiny.pth", None)]


def test_a_mirror_that_is_no_web_address_is_refused(monkeypatch):
    entry = publish(monkeypatch, "https://publisher.invalid/tiny.pth")
    monkeypatch.setenv("NAPARI_SAM_MIRROR", "/mnt/models")
    with pytest.raises(DownloadError, match=r"NAPARI_SAM_MIRROR is set to '/mnt/models'.*http.*set NAPARI_SAM_BUNDLE"):
        download_urls(entry)


def test_the_bundle_is_used_first_without_the_network_and_left_as_it_is(server, cache, tmp_path, monkeypatch):
    entry = publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    download_checkpoint("vit_b")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "tiny.pth").write_bytes(CONTENT)
    monkeypatch.setenv("NAPARI_SAM_BUNDLE", str(bundle))
    assert download_checkpoint("vit_b") == bundle / "tiny.pth"
    assert find_checkpoint(entry).place == "bundle"
    assert len(server.log) == 1


def test_a_wrong_file_in_the_bundle_is_refused_and_not_silently_replaced(server, tmp_path, monkeypatch):
    url = server.serve("/tiny.pth", CONTENT)
    publish(monkeypatch, url)
    (tmp_path / "tiny.pth").write_bytes(OTHER)
    monkeypatch.setenv("NAPARI_SAM_BUNDLE", str(tmp_path))
    with pytest.raises(
        CheckpointError, match=f"is not vit_b as published: expected sha256 .* replace it in .* from {url}"
    ):
        download_checkpoint("vit_b")
    assert server.log == []


def test_a_file_the_bundle_lacks_comes_from_the_network(server, tmp_path, monkeypatch):
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    (tmp_path / "bundle").mkdir()
    monkeypatch.setenv("NAPARI_SAM_BUNDLE", str(tmp_path / "bundle"))
    assert download_checkpoint("vit_b").read_bytes() == CONTENT


def test_a_bundle_that_is_no_folder_is_named(tmp_path, monkeypatch):
    publish(monkeypatch, "https://publisher.invalid/tiny.pth")
    monkeypatch.setenv("NAPARI_SAM_BUNDLE", str(tmp_path / "absent"))
    with pytest.raises(CheckpointError, match=r"NAPARI_SAM_BUNDLE is set to '.*absent', which is not a folder"):
        download_checkpoint("vit_b")


def test_one_variable_moves_the_cache(cache, monkeypatch):
    assert cache_dir() == cache
    assert checkpoint_cache_dir().parent == cache
    monkeypatch.delenv("NAPARI_SAM_CACHE")
    assert "napari-sam-tiles" in str(cache_dir())


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "file"))
    publish(monkeypatch, server.serve("/tiny.pth", CONTENT))
    with pytest.raises(
        DownloadError, match=r"cannot write vit_b to .*file.checkpoints.*or set NAPARI_SAM_CACHE to a folder"
    ):
        download_checkpoint("vit_b")


def test_a_built_in_is_never_downloaded(monkeypatch):
    publish(monkeypatch, built_in=True, hash_kind=None, digest=None, file_name="absent.safetensors")
    with pytest.raises(DownloadError, match="built-in model vit_b is missing from this installation; install"):
        download_checkpoint("vit_b")


def test_verifying_gives_the_sha256_whichever_hash_is_pinned(server, monkeypatch):
    digest = xxhash.xxh128(CONTENT).hexdigest()
    entry = publish(monkeypatch, server.serve("/tiny.pth", CONTENT), hash_kind="xxh128", digest=digest)
    path = download_checkpoint("vit_b")
    assert verify_checkpoint(entry, find_checkpoint(entry)) == hashlib.sha256(CONTENT).hexdigest()
    path.write_bytes(OTHER)
    with pytest.raises(
        CheckpointError, match=r"expected xxh128 .*run `napari-sam models download vit_b` to replace it"
    ):
        verify_checkpoint(entry, find_checkpoint(entry))


def test_hashes_of_a_file_equal_those_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    assert file_hashes(tmp_path / "file", ["sha256", "md5", "xxh128"]) == {
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "md5": hashlib.md5(CONTENT).hexdigest(),
        "xxh128": xxhash.xxh128(CONTENT).hexdigest(),
    }
