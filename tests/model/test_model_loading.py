"""From a name or a path to a model on a device."""

from __future__ import annotations

import hashlib
import pickle

import pytest
import torch
from tiny_checkpoints import TINY_CONV, TINY_VIT_B, entry_for, file_names, running_server, tiny_sam

from napari_sam.errors import CheckpointError, ConfigError, DownloadError
from napari_sam.model import presets, registry, storage
from napari_sam.model.checkpoints import save_checkpoint
from napari_sam.model.loading import choose_device, load_model

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("NAPARI_SAM_BUNDLE", raising=False)
    monkeypatch.delenv("NAPARI_SAM_MIRROR", raising=False)
    monkeypatch.setattr(presets, "PRESETS", {"vit_b": TINY_VIT_B})


@pytest.fixture
def published(tmp_path):
    """A checkpoint file in SAM's own layout."""
    path = tmp_path / "tiny.pth"
    torch.save(tiny_sam(TINY_VIT_B).state_dict(), path)
    return path


def publish(monkeypatch, path, *urls, **changes):
    entry = entry_for(path.read_bytes(), *urls, **changes)
    monkeypatch.setattr(registry, "REGISTRY", {entry.name: entry})


def test_a_checkpoint_of_ours_is_loaded_from_its_path_with_all_it_says(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, tiny_sam(TINY_CONV), TINY_CONV, {"pred_iou_thresh": 0.6})
    model = load_model(path, device="cpu")
    assert (model.name, model.config, model.device) == ("mine", TINY_CONV, torch.device("cpu"))
    assert model.automatic_defaults == {"pred_iou_thresh": 0.6}
    assert model.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not model.sam.training
    assert next(model.sam.parameters()).dtype == torch.float32


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_a_checkpoint_of_sams_layout_is_loaded_from_its_path(kind, published):
    model = load_model(kind(published), device="cpu")
    assert (model.name, model.config, dict(model.automatic_defaults)) == ("tiny", TINY_VIT_B, {})


def test_a_loaded_network_computes_what_the_saved_one_does(published):
    wanted, model = tiny_sam(TINY_VIT_B), load_model(published, device="cpu")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.sam.image_encoder(image), wanted.image_encoder(image))


def test_a_model_travels_to_another_process(published):
    model = pickle.loads(pickle.dumps(load_model(published, device="cpu")))
    assert model.name == "tiny"
    assert torch.equal(model.sam.mask_decoder.iou_token.weight, tiny_sam(TINY_VIT_B).mask_decoder.iou_token.weight)


def test_a_named_model_is_loaded_from_the_bundle(published, monkeypatch):
    publish(monkeypatch, published, "https://publisher.invalid/tiny.pth")
    monkeypatch.setenv("NAPARI_SAM_BUNDLE", str(published.parent))
    model = load_model("vit_b", device="cpu")
    assert model.name == "vit_b"
    assert model.fingerprint == hashlib.sha256(published.read_bytes()).hexdigest()


def test_a_built_in_model_is_loaded_from_the_package(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_sam(TINY_CONV), TINY_CONV)
    publish(
        monkeypatch,
        tmp_path / "tiny.safetensors",
        name="nano",
        file_name="tiny.safetensors",
        built_in=True,
        hash_kind=None,
    )
    monkeypatch.setattr(storage, "BUILT_IN_DIR", tmp_path)
    assert load_model("nano", device="cpu").config == TINY_CONV


def test_a_missing_built_in_model_is_named(published, tmp_path, monkeypatch):
    publish(monkeypatch, published, name="nano", built_in=True, hash_kind=None)
    monkeypatch.setattr(storage, "BUILT_IN_DIR", tmp_path / "nowhere")
    with pytest.raises(
        CheckpointError, match="built-in model nano is missing from this installation; install napari-sam"
    ):
        load_model("nano")


def test_a_model_that_is_not_here_is_not_fetched_unasked(published, tmp_path, monkeypatch):
    with running_server() as server:
        publish(monkeypatch, published, server.serve("/tiny.pth", published.read_bytes()), size_bytes=375_042_383)
        with pytest.raises(
            CheckpointError,
            match=r"vit_b is not on this machine; run `napari-sam models download vit_b` \(375 MB\) or set "
            r"NAPARI_SAM_BUNDLE to a folder that holds tiny\.pth",
        ):
            load_model("vit_b")
        assert server.log == []
        assert load_model("vit_b", device="cpu", download=True).config == TINY_VIT_B
        assert load_model("vit_b", device="cpu").name == "vit_b"
        assert len(server.log) == 1


def test_a_size_that_is_not_known_is_not_made_up(published, monkeypatch):
    publish(monkeypatch, published, size_bytes=None)
    with pytest.raises(CheckpointError, match="models download vit_b` or set NAPARI_SAM_BUNDLE"):
        load_model("vit_b")


def test_a_download_on_loading_that_fails_says_so(published, tmp_path, monkeypatch):
    with running_server() as server:
        publish(monkeypatch, published, server.address + "/gone")
        with pytest.raises(DownloadError, match="/gone answered 404"):
            load_model("vit_b", download=True)


def test_a_damaged_file_in_the_cache_is_not_used(published, monkeypatch):
    publish(monkeypatch, published, "https://publisher.invalid/tiny.pth")
    folder = storage.checkpoint_cache_dir()
    folder.mkdir(parents=True)
    (folder / "tiny.pth").write_bytes(published.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"is not vit_b as published: expected sha256 .*run `napari-sam models download"
    ):
        load_model("vit_b")
    assert file_names(folder) == ["tiny.pth"]


@pytest.mark.parametrize("name", ["vit_bb", "VIT_B"])
def test_an_unknown_name_is_answered_with_near_ones(name):
    with pytest.raises(
        CheckpointError, match=rf"no model called '{name}'\. Did you mean vit_b.* Known models: nano, vit_b, "
    ):
        load_model(name)


@pytest.mark.parametrize("path", ["absent.pth", "folder/absent", "absent.safetensors"])
def test_what_looks_like_a_path_is_one(path):
    with pytest.raises(CheckpointError, match=r"there is no file .*absent"):
        load_model(path)


def test_a_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(CheckpointError, match="models is a folder; name the checkpoint file in it"):
        load_model("models")


def test_a_name_is_a_name_even_where_a_file_is_called_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit_b").mkdir()
    with pytest.raises(CheckpointError, match="vit_b is not on this machine"):
        load_model("vit_b")


@pytest.fixture
def devices(monkeypatch):
    """Pretend that this machine has so many CUDA devices and MPS or not."""

    def pretend(gpus, mps):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("gpus", "mps", "chosen"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")], ids=["cuda", "mps", "cpu"]
)
def test_auto_takes_the_best_device(gpus, mps, chosen, devices):
    devices(gpus, mps)
    assert choose_device("auto") == torch.device(chosen)


@pytest.mark.parametrize("asked", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_device_that_is_here_is_used(asked, devices):
    devices(2, True)
    assert choose_device(asked) == torch.device(asked)
    assert choose_device(torch.device(asked)) == torch.device(asked)


@pytest.mark.parametrize(
    ("asked", "gpus", "message"),
    [
        ("cuda", 0, r"'cuda' is not on this machine, which has cpu\. This torch .* Ask for one of these or for 'auto'"),
        ("cuda:2", 2, r"'cuda:2' is not on this machine, which has cpu, cuda:0, cuda:1\. Ask for"),
        ("mps", 0, r"'mps' is not on this machine"),
        ("gpu", 0, r"'gpu' is not on this machine, which has cpu\."),
        ("meta", 0, r"'meta' is not on this machine"),
    ],
    ids=["no cuda", "no such index", "no mps", "no such word", "not a place to compute"],
)
def test_a_device_that_is_not_here_is_refused_and_never_replaced(asked, gpus, message, devices):
    devices(gpus, False)
    with pytest.raises(ConfigError, match=message):
        choose_device(asked)


def test_the_device_is_checked_before_the_checkpoint_is_read(published, devices):
    devices(0, False)
    with pytest.raises(ConfigError, match="'cuda' is not on this machine"):
        load_model("absent.pth", device="cuda")
