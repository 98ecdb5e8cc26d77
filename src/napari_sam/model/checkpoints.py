"""Checkpoint files: what is read from them, what is refused, and how our own are written.

Two layouts. *Ours* is safetensors with two keys in the header: `napari_sam_config`, the network as JSON, and
`napari_sam_automatic`, the settings its automatic masks are best made with. *SAM's own* is a bare state dict, pickled
by torch or in safetensors, with nothing to say which network it is of: that is read off its keys and shapes. Code in
a pickle is never run.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_sam.errors import CheckpointError, ConfigError, OutputError
from napari_sam.model import presets
from napari_sam.model.config import SamConfig, TinyVitConfig, VitConfig
from napari_sam.model.sam import Sam, build_sam

CONFIG_KEY = "napari_sam_config"
AUTOMATIC_KEY = "napari_sam_automatic"

# Under these keys training programs keep the state dict beside optimizer state and the like.
_WRAPPERS = ("model", "model_state", "state_dict", "model_state_dict")
# What they put before each name: data-parallel training, and a trainable module around the network.
_PREFIXES = ("module.", "sam.")
_NAMED_AT_MOST = 4


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds."""

    state: dict[str, Tensor]
    """The state dict under its published names; floating point is float32."""
    config: SamConfig
    """The network it is of: from the header, or recognised."""
    automatic_defaults: Mapping[str, object]
    """Recommended settings for automatic masks; empty where the file names none."""
    metadata: Mapping[str, str]
    """The header's other text; empty for pickles."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of either layout, running no code of the file.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, unsafe, not a checkpoint or of a network we do not have.
    """
    if _is_safetensors(path):
        state, metadata = _read_safetensors(path)
    else:
        state, metadata = _read_pickle(path), {}
    state = {name: t.float() if t.is_floating_point() else t for name, t in _without_prefixes(state).items()}
    broken = [name for name, t in state.items() if not torch.isfinite(t).all()]
    if broken:
        raise CheckpointError(
            f"{path} holds weights that are not finite, in {_some(broken)}: it was damaged or its training diverged; "
            "use an earlier checkpoint."
        )
    config = _config_of_header(path, metadata) if CONFIG_KEY in metadata else recognise_config(path, state)
    automatic = _automatic_of_header(path, metadata)
    others = {key: text for key, text in metadata.items() if key not in (CONFIG_KEY, AUTOMATIC_KEY)}
    return Checkpoint(state, config, automatic, others)


def build_from_checkpoint(path: Path, checkpoint: Checkpoint) -> Sam:
    """The network of `checkpoint` with its weights, in evaluation mode on the CPU; `path` is for messages.

    Raises
    ------
    CheckpointError
        If its keys or shapes are not exactly those of the network; names the first few.
    """
    sam = build_sam(checkpoint.config)
    wanted = {name: tuple(t.shape) for name, t in sam.state_dict().items()}
    came = {name: tuple(t.shape) for name, t in checkpoint.state.items()}
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (
            ("missing", [n for n in wanted if n not in came]),
            ("unexpected", [n for n in came if n not in wanted]),
            (
                "of a wrong shape",
                [f"{n}: {came[n]} for {wanted[n]}" for n in wanted if came.get(n, wanted[n]) != wanted[n]],
            ),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"the weights in {path} do not fit the network they look like: {'; '.join(problems)}. It is the checkpoint "
            "of a changed network or of a part of one; export the whole state dict of an unchanged SAM."
        )
    sam.load_state_dict(checkpoint.state)
    return sam.eval()


def recognise_config(path: Path, state: Mapping[str, Tensor]) -> SamConfig:
    """The published network that a state dict in SAM's own layout is of; `path` is for messages.

    Raises
    ------
    CheckpointError
        If it is of no network we have.
    """
    positions = state.get("image_encoder.pos_embed")
    if positions is not None:
        blocks = {name.split(".")[2] for name in state if name.startswith("image_encoder.blocks.")}
        width, depth = positions.shape[-1], len(blocks)
        for config in presets.PRESETS.values():
            if isinstance(config.encoder, VitConfig) and (config.encoder.width, config.encoder.depth) == (width, depth):
                return config
        found = f"a vision transformer with {depth} blocks of width {width}"
    elif any(name.startswith("image_encoder.layers.") for name in state):
        return next(c for c in presets.PRESETS.values() if isinstance(c.encoder, TinyVitConfig))
    elif any(name.startswith("image_encoder.trunk.") for name in state):
        found = "a network of SAM 2"
    elif any(name.startswith("image_encoder.") for name in state):
        found = "an image encoder that is none of the published ones"
    else:
        found = f"no image encoder, but {_some(list(state)) or 'nothing at all'}"
    raise CheckpointError(
        f"{path} is not a checkpoint this package can use: it holds {found}. Known without a header of ours are the "
        f"networks {', '.join(presets.PRESETS)}, whole; others must be written by napari_sam.model.save_checkpoint."
    )


def save_checkpoint(
    path: Path,
    sam: Sam,
    config: SamConfig,
    automatic_defaults: Mapping[str, object] | None = None,
    metadata: Mapping[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a checkpoint of our own format; a file that was there stays until the new one is whole.

    Parameters
    ----------
    path : Path
        Ends in `.safetensors`; its folder is made if it is missing.
    sam, config : Sam, SamConfig
        The network and its description.
    automatic_defaults : mapping, optional
        Recommended settings for automatic masks under their names in `AutoMaskConfig`; must be JSON.
    metadata : mapping of str to str, optional
        Further text for the header: training data, scores, licence.
    dtype : torch.dtype
        Of the stored parameters. Buffers keep theirs: they are small, and statistics such as a running variance may
        lie outside the range of float16.

    Raises
    ------
    CheckpointError
        If a weight is not finite in `dtype`.
    OutputError
        If the file has another ending or cannot be written.
    """
    if path.suffix != ".safetensors":
        raise OutputError(f"a checkpoint is written as .safetensors, got {path.name!r}; change the ending.")
    parameters = {name for name, _ in sam.named_parameters()}
    tensors = {
        name: t.detach().to("cpu", dtype if name in parameters else t.dtype, copy=True).contiguous()
        for name, t in sam.state_dict().items()
    }
    broken = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    if broken:
        raise CheckpointError(
            f"these weights are not finite as {str(dtype).removeprefix('torch.')}: {_some(broken)}; the training "
            "diverged, or pass dtype=torch.float32."
        )
    header = {
        **(metadata or {}),
        CONFIG_KEY: config.to_json(),
        AUTOMATIC_KEY: json.dumps(dict(automatic_defaults or {}), sort_keys=True),
    }
    _write_atomically(path, tensors, header)


def _write_atomically(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        usual = part.stat().st_mode
        save_file(tensors, part, header)
        part.chmod(usual)  # safetensors makes a file that nobody else may read
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write the checkpoint {path}: {error}; choose another folder or free some space."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _is_safetensors(path: Path) -> bool:
    """Tell by the content, since endings are not to be trusted; refuse what is no checkpoint at all."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the checkpoint file in it.")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there is no file {path}; check the path, or name a model (`napari-sam models list`)."
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; check its permissions.") from error
    if start[8:] == b"{":
        return True
    # A zip archive, or the first byte of a bare pickle.
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return False
    what = f"begins with {start!r}" if start else "is empty"
    raise CheckpointError(
        f"{path} is neither safetensors nor a torch checkpoint: it {what}. A download may have left a web page or an "
        "empty file in its place; fetch it again."
    )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # torch comments on odd files before it refuses them; our message is enough.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except Exception as error:  # torch raises whatever its archive reader happens to meet in damaged bytes
        raise (_refused if "TorchScript" in str(error) else _damaged)(path, error) from error
    return _unwrapped(path, content)


def _refused(path: Path, error: Exception) -> CheckpointError:
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if asked:
        what = f"it would run code: it asks for {asked[1]}"
    elif "TorchScript" in str(error):
        what = "it is a TorchScript archive, which is a program"
    else:
        what = "it is damaged, or a pickle of something else than tensors, which could run code"
    return CheckpointError(
        f"{path} is refused: {what}. Weights are read, nothing is run; ask whoever made it for the bare state dict, "
        "torch.save(model.state_dict(), ...), or for safetensors."
    )


def _unwrapped(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                return _unwrapped(path, content[key])
        if content and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in content.items()):
            return dict(content)
        what = f"a dictionary with {_some([str(key) for key in content])}" if content else "an empty dictionary"
    else:
        what = f"an object of type {type(content).__name__}"
    raise CheckpointError(
        f"{path} holds no state dict but {what}; expected is a dictionary of tensors, by itself or under one of "
        f"{', '.join(_WRAPPERS)}."
    )


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return _without_prefixes({name.removeprefix(prefix): t for name, t in state.items()})
    return dict(state)


def _config_of_header(path: Path, metadata: Mapping[str, str]) -> SamConfig:
    try:
        return SamConfig.from_json(metadata[CONFIG_KEY])
    except ConfigError as error:
        raise CheckpointError(
            f"the header of {path} describes a network this version does not know ({error}); "
            "it may be of a newer version: update napari-sam-tiles."
        ) from error


def _automatic_of_header(path: Path, metadata: Mapping[str, str]) -> dict[str, object]:
    text = metadata.get(AUTOMATIC_KEY, "{}")
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{AUTOMATIC_KEY} in the header of {path} must be a JSON object, got {text[:80]!r}; write the file again "
            "with napari_sam.model.save_checkpoint."
        )
    return settings


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return CheckpointError(
        f"{path} ({path.stat().st_size:,} bytes) is damaged or cut short ({reason}); copy or download it again."
    )


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
