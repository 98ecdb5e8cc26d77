"""What `napari-sam models list` and `verify` show."""

from __future__ import annotations

import hashlib

import pytest
import torch
from tiny_checkpoints import TINY_CONV, entry_for, tiny_sam

from napari_sam.errors import CheckpointError
from napari_sam.model import registry, storage
from napari_sam.model.catalogue import format_models, list_models, verify_models
from napari_sam.model.checkpoints import save_checkpoint

torch.set_num_threads(1)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """One model in each place: built in, in the bundle, in the cache, nowhere."""
    folders = {place: tmp_path / place for place in ("package", "bundle", "cache/checkpoints")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    save_checkpoint(folders["package"] / "nano.safetensors", tiny_sam(TINY_CONV), TINY_CONV)
    (folders["bundle"] / "b.pth").write_bytes(b"b")
    (folders["cache/checkpoints"] / "b.pth").write_bytes(b"hidden by the bundle")
    (folders["cache/checkpoints"] / "c.pth").write_bytes(b"cc")
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NAPARI_SAM_BUNDLE", str(folders["bundle"]))
    monkeypatch.setattr(storage, "BUILT_IN_DIR", folders["package"])
    entries = [
        entry_for(b"", name="nano", file_name="nano.safetensors", built_in=True, hash_kind=None, size_bytes=None),
        entry_for(b"b", "https://publisher.invalid/b", name="in_bundle", file_name="b.pth"),
        entry_for(b"cc", name="in_cache", file_name="c.pth"),
        entry_for(b"d" * 2000, name="nowhere", file_name="d.pth", licence="CC-BY-4.0 (declared)"),
        entry_for(b"", name="unsized", file_name="e.pth", size_bytes=None),
    ]
    monkeypatch.setattr(registry, "REGISTRY", {entry.name: entry for entry in entries})
    return tmp_path


def test_each_model_is_listed_with_its_place_and_size(models):
    rows = {row.name: row for row in list_models()}
    assert {name: row.where for name, row in rows.items()} == {
        "nano": "built-in",
        "in_bundle": "bundle",
        "in_cache": "cache",
        "nowhere": "not downloaded",
        "unsized": "not downloaded",
    }
    assert rows["in_cache"].path == models / "cache" / "checkpoints" / "c.pth"
    assert [rows[name].size_bytes for name in ("in_cache", "nowhere", "unsized")] == [2, 2000, None]
    assert rows["nowhere"].path is None


def test_the_table_has_one_line_a_model_and_aligned_columns(models):
    lines = format_models(list_models()).splitlines()
    assert len(lines) == 6
    column = lines[0].index("where")
    assert [line[column:].split("  ")[0] for line in lines[1:3]] == ["built-in", "bundle"]
    assert "2 kB" in lines[4]
    assert "CC-BY-4.0  " in lines[4]
    assert lines[5].split()[1] == "?"
    assert all(line == line.rstrip() for line in lines)


def test_all_that_is_here_is_verified_unless_names_are_given(models):
    rows = verify_models()
    assert [(row.name, row.ok) for row in rows] == [("nano", True), ("in_bundle", True), ("in_cache", True)]
    digest = hashlib.sha256((models / "package" / "nano.safetensors").read_bytes()).hexdigest()
    assert rows[0].message.endswith(f"nano.safetensors: loads; sha256 {digest}")
    assert rows[1].message.endswith("b.pth: sha256 as published")
    assert [row.name for row in verify_models(["in_cache"])] == ["in_cache"]


def test_damaged_files_are_listed_with_the_way_to_mend_them(models):
    (models / "bundle" / "b.pth").write_bytes(b"x")
    (models / "cache" / "checkpoints" / "c.pth").write_bytes(b"x")
    (models / "package" / "nano.safetensors").write_bytes(b"x")
    nano, in_bundle, in_cache = verify_models()
    assert [row.ok for row in (nano, in_bundle, in_cache)] == [False, False, False]
    assert "neither safetensors nor a torch checkpoint" in nano.message
    assert "replace it in the bundle by the file from https://publisher.invalid/b" in in_bundle.message
    assert "run `napari-sam models download in_cache` to replace it" in in_cache.message


def test_a_named_model_that_is_not_here_fails_verification(models):
    (row,) = verify_models(["nowhere"])
    assert not row.ok
    assert "nowhere is not on this machine; run `napari-sam models download nowhere` (2 kB)" in row.message


def test_a_missing_built_in_is_listed_as_such_and_fails_verification_unasked(models):
    (models / "package" / "nano.safetensors").unlink()
    assert list_models()[0].where == "missing"
    assert verify_models()[0].message.startswith("the built-in model nano is missing from this installation")


def test_an_unknown_name_is_refused_and_not_a_row(models):
    with pytest.raises(CheckpointError, match=r"no model called 'in-cache'\. Did you mean in_cache"):
        verify_models(["nowhere", "in-cache"])


def test_the_real_registry_is_listed(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    monkeypatch.delenv("NAPARI_SAM_BUNDLE", raising=False)
    rows = {row.name: row for row in list_models()}
    assert len(rows) == len(registry.REGISTRY)
    assert (rows["vit_b"].where, rows["vit_b"].size_bytes) == ("not downloaded", 375_042_383)
