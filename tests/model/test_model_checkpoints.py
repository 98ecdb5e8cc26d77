"""Checkpoint files: round trips, recognising SAM's own layout, and all that is refused."""

from __future__ import annotations

import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import TINY_CONV, TINY_VIT_B, file_names, tiny_sam

from napari_sam.errors import CheckpointError, OutputError
from napari_sam.model import presets
from napari_sam.model.checkpoints import build_from_checkpoint, read_checkpoint, recognise_config, save_checkpoint
from napari_sam.model.presets import PRESETS

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def tiny_presets(monkeypatch):
    """SAM's own layout is tested on a network that is tiny, but otherwise as published."""
    monkeypatch.setattr(presets, "PRESETS", {"vit_b": TINY_VIT_B, "vit_t": PRESETS["vit_t"]})


@pytest.fixture
def state():
    return tiny_sam(TINY_VIT_B).state_dict()


def save(path, content):
    torch.save(content, path)
    return path


def assert_same_state(came, wanted):
    assert list(came) == list(wanted)
    assert all(torch.equal(came[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("config", [TINY_VIT_B, TINY_CONV], ids=["vit", "conv with proposals"])
def test_what_is_saved_in_float32_is_read_back_equal(config, tmp_path):
    sam = tiny_sam(config)
    path = tmp_path / "new folder" / "mine.safetensors"
    save_checkpoint(path, sam, config, {"pred_iou_thresh": 0.7}, {"data": "made up"}, dtype=torch.float32)
    read = read_checkpoint(path)
    assert read.config == config
    assert read.automatic_defaults == {"pred_iou_thresh": 0.7}
    assert read.metadata == {"data": "made up"}
    assert_same_state(build_from_checkpoint(path, read).state_dict(), sam.state_dict())


@pytest.mark.skipif(os.name != "posix", reason="this system has no permission bits")
def test_others_may_read_a_checkpoint_as_any_other_file(tmp_path):
    path, usual = tmp_path / "a.safetensors", tmp_path / "usual"
    usual.touch()
    save_checkpoint(path, tiny_sam(TINY_CONV), TINY_CONV)
    assert path.stat().st_mode == usual.stat().st_mode


def test_weights_are_stored_in_half_precision_and_read_as_single(tmp_path):
    sam, path = tiny_sam(TINY_CONV), tmp_path / "mine.safetensors"
    save_checkpoint(path, sam, TINY_CONV)
    parameters = dict(sam.named_parameters())
    assert {t.dtype for name, t in load_file(path).items() if name in parameters} == {torch.float16}
    read = read_checkpoint(path)
    assert {t.dtype for t in read.state.values() if t.is_floating_point()} == {torch.float32}
    for name, parameter in parameters.items():
        assert torch.allclose(read.state[name], parameter, rtol=1e-3, atol=1e-6)


def test_buffers_beyond_half_precision_keep_their_values(tmp_path):
    sam, path = tiny_sam(TINY_CONV), tmp_path / "mine.safetensors"
    name = next(name for name in sam.state_dict() if name.endswith("running_var"))
    sam.state_dict()[name].fill_(1e6)
    save_checkpoint(path, sam, TINY_CONV)
    assert torch.equal(read_checkpoint(path).state[name], sam.state_dict()[name])


def test_a_network_is_built_in_evaluation_mode_and_can_be_trained(tmp_path, state):
    path = save(tmp_path / "sam.pth", state)
    sam = build_from_checkpoint(path, read_checkpoint(path))
    assert not sam.training
    assert all(parameter.requires_grad for parameter in sam.parameters())


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors", "misnamed"])
def test_a_checkpoint_of_sams_own_layout_needs_nothing_else(ending, tmp_path, state):
    path = tmp_path / f"sam.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    read = read_checkpoint(path)
    assert read.config == TINY_VIT_B
    assert read.automatic_defaults == {}
    assert_same_state(build_from_checkpoint(path, read).state_dict(), state)


def prefixed(state, prefix):
    return {prefix + name: t for name, t in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state},
        lambda state: {"model_state": prefixed(state, "sam."), "decoder_state": {"w": torch.zeros(1)}, "epoch": 3},
        lambda state: {"state_dict": prefixed(state, "module."), "optimizer_state": {"lr": 1e-3}},
        lambda state: prefixed(state, "module.sam."),
        lambda state: {"model": {"model_state_dict": state}},
    ],
    ids=["model", "micro-sam training", "data parallel", "both prefixes", "nested"],
)
def test_a_wrapped_state_dict_is_unwrapped(wrap, tmp_path, state):
    path = save(tmp_path / "sam.pt", wrap(state))
    assert_same_state(read_checkpoint(path).state, state)


def encoder_of(name):
    """Names and shapes that tell which published network a state dict is of, without its gigabytes."""
    encoder = PRESETS[name].encoder
    blocks = {f"image_encoder.blocks.{i}.norm1.weight": torch.zeros(1) for i in range(encoder.depth)}
    return {"image_encoder.pos_embed": torch.zeros(1, 1, 1, encoder.width), **blocks}


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_published_vision_transformers_are_told_apart_by_depth_and_width(name, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", PRESETS)
    assert recognise_config(tmp_path, encoder_of(name)) == PRESETS[name]


def test_mobile_sam_is_recognised_by_its_layers(tmp_path):
    keys = {"image_encoder.layers.0.blocks.0.conv1.c.weight": torch.zeros(1)}
    assert recognise_config(tmp_path, keys) == PRESETS["vit_t"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["image_encoder.pos_embed", "image_encoder.blocks.0.x"], "a vision transformer with 1 blocks of width 5"),
        (["image_encoder.trunk.patch_embed.proj.weight"], "a network of SAM 2"),
        (["image_encoder.conv.weight"], "an image encoder that is none of the published ones"),
        (["a", "b", "c", "d", "e"], "no image encoder, but a, b, c, d and 1 more"),
    ],
    ids=["other width", "sam 2", "other encoder", "other network"],
)
def test_an_unknown_network_is_described(keys, message, tmp_path):
    path = save(tmp_path / "other.pth", {key: torch.zeros(1, 5) for key in keys})
    with pytest.raises(
        CheckpointError, match=rf"other\.pth is not a checkpoint .*{message}\. Known .*vit_b, vit_t, whole"
    ):
        read_checkpoint(path)


def test_a_file_without_any_weights_is_described(tmp_path):
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(
        CheckpointError, match=r"empty\.safetensors is not .* holds no image encoder, but nothing at all"
    ):
        read_checkpoint(tmp_path / "empty.safetensors")


def test_missing_unexpected_and_misshapen_weights_are_named(tmp_path, state):
    state.pop("mask_decoder.iou_token.weight")
    state["mask_decoder.hf_token.weight"] = torch.zeros(1, 16)
    state["image_encoder.pos_embed"] = torch.zeros(1, 2, 2, 8)
    path = save(tmp_path / "changed.pth", state)
    with pytest.raises(CheckpointError) as caught:
        build_from_checkpoint(path, read_checkpoint(path))
    message = str(caught.value)
    assert "1 missing (mask_decoder.iou_token.weight)" in message
    assert "1 unexpected (mask_decoder.hf_token.weight)" in message
    assert "1 of a wrong shape (image_encoder.pos_embed: (1, 2, 2, 8) for (1, 4, 4, 8))" in message
    assert message.endswith("export the whole state dict of an unchanged SAM.")


def test_only_the_first_few_of_many_missing_weights_are_named(tmp_path, state):
    path = save(tmp_path / "encoder.pth", {n: t for n, t in state.items() if n.startswith("image_encoder.")})
    with pytest.raises(
        CheckpointError, match=r"\d\d missing \((prompt_encoder[\w.]+, ){3}prompt_encoder[\w.]+ and \d+ more\)"
    ):
        build_from_checkpoint(path, read_checkpoint(path))


class _RunsCode:
    """Makes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path, state):
    target = tmp_path / "made by the pickle"
    path = save(tmp_path / "evil.pth", {"model": state, "extra": _RunsCode(target)})
    with pytest.raises(
        CheckpointError, match=r"evil\.pth is refused: it would run code: it asks for \w+\.mkdir\..*nothing is run"
    ):
        read_checkpoint(path)
    assert not target.exists()


def test_a_bare_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path):
    target = tmp_path / "made by the pickle"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(_RunsCode(target)))
    with pytest.raises(CheckpointError, match="is refused: it is damaged, or a pickle of something else than tensors"):
        read_checkpoint(path)
    assert not target.exists()


def test_a_pickled_module_is_refused_with_the_way_to_save_it(tmp_path):
    path = save(tmp_path / "module.pth", torch.nn.Linear(2, 2))
    with pytest.raises(
        CheckpointError, match=r"asks for torch\.nn\.modules\.linear\.Linear\..*torch\.save\(model\.state_dict"
    ):
        read_checkpoint(path)


def test_a_pickled_numpy_array_is_refused(tmp_path):
    path = save(tmp_path / "numpy.pth", {"image_encoder.pos_embed": np.zeros(3)})
    with pytest.raises(CheckpointError, match=r"refused: it would run code: it asks for numpy\."):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_refused(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(CheckpointError, match="refused: it is a TorchScript archive, which is a program"):
        read_checkpoint(tmp_path / "script.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "model": 4}, "holds no state dict but a dictionary with epoch, model; expected"),
        ({}, "holds no state dict but an empty dictionary"),
        ([torch.zeros(1)], "holds no state dict but an object of type list"),
    ],
    ids=["other things", "nothing", "a list"],
)
def test_a_file_without_a_state_dict_is_described(content, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(save(tmp_path / "x.pth", content))


@pytest.mark.parametrize("keep", [0.001, 0.5, 0.999], ids=str)
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_truncated_file_is_called_damaged(kind, keep, tmp_path, state):
    path = tmp_path / "sam.pth"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CheckpointError, match=r"sam\.pth .*damaged"):
        read_checkpoint(path)


def test_a_legacy_torch_file_is_read(tmp_path, state):
    path = tmp_path / "sam.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert_same_state(read_checkpoint(path).state, state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html>", r"it begins with b'<!DOCTYPE'\. A download may have left a web page"),
        (bytes(50), "neither safetensors nor a torch checkpoint"),
    ],
    ids=["empty", "web page", "zeros"],
)
def test_a_file_that_is_no_checkpoint_is_described(content, message, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "start", [b"PK\x03\x04", b"\x80\x02", struct.pack("<Q", 1 << 60) + b"{"], ids=["zip", "pickle", "st"]
)
def test_garbage_after_a_good_start_is_called_damaged(start, tmp_path):
    (tmp_path / "x.pth").write_bytes(start + b"garbage" * 20)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*absent\.pth; check the path, or name a model"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="is a folder; name the checkpoint file in it"):
        read_checkpoint(tmp_path)


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    with pytest.raises(CheckpointError, match=r"cannot read .*loop\.pth: .*; check its permissions"):
        read_checkpoint(tmp_path / "loop.pth")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"napari_sam_config": "{}"}, "describes a network this version does not know .*update napari-sam-tiles"),
        (
            {"napari_sam_config": TINY_VIT_B.to_json(), "napari_sam_automatic": "[1]"},
            r"napari_sam_automatic in the header of .* must be a JSON object, got '\[1\]'",
        ),
        (
            {"napari_sam_config": TINY_VIT_B.to_json(), "napari_sam_automatic": "{pred"},
            r"must be a JSON object, got '\{pred'; write the file again",
        ),
    ],
    ids=["network", "settings not an object", "settings not JSON"],
)
def test_a_header_that_cannot_be_understood_is_named(header, message, tmp_path, state):
    save_file(state, tmp_path / "x.safetensors", header)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "x.safetensors")


def test_weights_that_are_not_finite_are_neither_read_nor_written(tmp_path, state):
    state["no_mask"] = torch.tensor([torch.nan])
    with pytest.raises(
        CheckpointError, match="weights that are not finite, in no_mask: it was damaged or its training diverged"
    ):
        read_checkpoint(save(tmp_path / "x.pth", state))
    sam = tiny_sam(TINY_VIT_B)
    sam.mask_decoder.iou_token.weight.data.fill_(1e6)
    with pytest.raises(
        CheckpointError, match=r"not finite as float16: mask_decoder\.iou_token\.weight; .*dtype=torch\.float32"
    ):
        save_checkpoint(tmp_path / "x.safetensors", sam, TINY_VIT_B)
    assert file_names(tmp_path) == ["x.pth"]


def test_the_header_is_readable_json_text(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, tiny_sam(TINY_VIT_B), TINY_VIT_B, {"min_area_px": 10})
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]
    assert json.loads(header["napari_sam_config"])["image_size"] == 64
    assert json.loads(header["napari_sam_automatic"]) == {"min_area_px": 10}


def test_a_failed_save_leaves_the_earlier_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, tiny_sam(TINY_VIT_B), TINY_VIT_B)
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(
        OutputError, match=r"cannot write the checkpoint .*No space left.*choose another folder or free"
    ):
        save_checkpoint(path, tiny_sam(TINY_CONV), TINY_CONV)
    assert path.read_bytes() == before
    assert file_names(tmp_path) == ["mine.safetensors"]


def test_a_checkpoint_is_not_written_where_there_can_be_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write the checkpoint .*file.x\.safetensors"):
        save_checkpoint(tmp_path / "file" / "x.safetensors", tiny_sam(TINY_VIT_B), TINY_VIT_B)


def test_a_checkpoint_is_written_as_safetensors_only(tmp_path):
    with pytest.raises(OutputError, match=r"written as \.safetensors, got 'x\.pth'; change the ending"):
        save_checkpoint(tmp_path / "x.pth", tiny_sam(TINY_VIT_B), TINY_VIT_B)
