"""Checkpoints of the user's own: remembered once they have proved to be checkpoints, never touched."""

from __future__ import annotations

import pytest
from tiny_checkpoints import TINY_CONV, tiny_sam

from napari_sam.errors import CheckpointError
from napari_sam.model import save_checkpoint
from napari_sam.model.catalogue import list_own_models
from napari_sam.model.own_models import add_own_model, forget_own_model, own_models
from napari_sam.workflows.models import usable_models, verify_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAM_BUNDLE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, tiny_sam(TINY_CONV), TINY_CONV)
    return path


def test_nothing_is_listed_before_something_was_added(cache):
    assert own_models() == ()
    assert not cache.exists()


def test_an_added_checkpoint_is_listed_once_with_what_it_is(mine):
    first, again = add_own_model(mine), add_own_model(str(mine))
    assert own_models() == (first,) == (again,)
    assert "Conv encoder" in first.about
    (row,) = list_own_models()
    assert (row.name, row.where, row.path, row.size_bytes) == ("mine", "own file", mine, mine.stat().st_size)
    assert usable_models()[-1] == str(mine)


def test_a_forgotten_checkpoint_is_off_the_list_and_on_the_disk(mine):
    add_own_model(mine)
    forget_own_model(mine)
    assert own_models() == ()
    assert mine.is_file()


def test_a_file_that_has_gone_is_listed_as_missing_and_not_usable(mine):
    add_own_model(mine)
    mine.unlink()
    (row,) = list_own_models()
    assert (row.where, row.size_bytes) == ("missing", None)
    assert str(mine) not in usable_models()


def test_what_is_no_checkpoint_is_refused_and_not_listed(tmp_path):
    (tmp_path / "notes.safetensors").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"notes\.safetensors"):
        add_own_model(tmp_path / "notes.safetensors")
    assert own_models() == ()


def test_verifying_ones_own_loads_it(mine):
    add_own_model(mine)
    (row,) = list_own_models()
    assert verify_model(row).ok
    mine.write_bytes(mine.read_bytes()[:500])
    verdict = verify_model(row)
    assert not verdict.ok
    assert "mine.safetensors" in verdict.message


@pytest.mark.parametrize("content", ["{", "[1]", '{"path": 3}', '[{"path": "x"}]'])
def test_a_damaged_list_is_named_with_what_to_do(cache, content):
    cache.mkdir()
    (cache / "own_models.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"own_models\.json, cannot be read .*delete it and add them again"):
        own_models()


def test_a_list_that_cannot_be_written_says_where_it_would_be(cache, mine):
    cache.write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=r"own_models\.json"):
        add_own_model(mine)
